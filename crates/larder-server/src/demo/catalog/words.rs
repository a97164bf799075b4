//! The words the sample data is made of, most popular first where a list has ranks.

/// What can start an automation.
pub(super) const TRIGGERS: &[&str] = &[
    "state",
    "time",
    "numeric_state",
    "sun",
    "event",
    "mqtt",
    "template",
    "zone",
    "device",
    "time_pattern",
    "webhook",
    "homeassistant",
    "calendar",
    "tag",
    "conversation",
    "persistent_notification",
    "geo_location",
];

/// What an automation can do.
pub(super) const ACTIONS: &[&str] = &[
    "light.turn_on",
    "notify.mobile_app",
    "light.turn_off",
    "switch.turn_on",
    "switch.turn_off",
    "scene.turn_on",
    "script.turn_on",
    "climate.set_temperature",
    "media_player.play_media",
    "cover.close_cover",
    "cover.open_cover",
    "input_boolean.turn_on",
    "tts.speak",
    "persistent_notification.create",
    "fan.turn_on",
    "fan.turn_off",
    "lock.lock",
    "vacuum.start",
    "mqtt.publish",
    "camera.snapshot",
    "backup.create",
    "siren.turn_on",
    "valve.close_valve",
    "alarm_control_panel.alarm_arm_away",
    "media_player.volume_set",
    "rest_command.call",
    "logbook.log",
    "homeassistant.restart",
];

/// Where things happen.
pub(super) const AREAS: &[&str] = &[
    "hallway",
    "kitchen",
    "living room",
    "bedroom",
    "bathroom",
    "garage",
    "garden",
    "front porch",
    "attic",
    "basement",
    "laundry",
    "office",
    "nursery",
    "staircase",
    "guest room",
    "workshop",
    "balcony",
    "pantry",
    "driveway",
    "greenhouse",
];

/// What may follow an alias.
pub(super) const ALIAS_ENDINGS: &[&str] = &[
    "at night",
    "on weekdays",
    "on weekends",
    "when nobody is home",
    "after sunset",
    "before breakfast",
    "in winter",
    "in summer",
    "for guests",
    "while on holiday",
    "with a short delay",
    "during quiet hours",
    "v2",
    "(simple)",
    "(tested)",
];

/// What may follow a description.
pub(super) const REMARKS: &[&str] = &[
    "Waits two minutes first so that a short blip changes nothing.",
    "Skipped while the holiday switch is on.",
    "Uses one helper for the timeout and one for the threshold.",
    "Runs in restart mode, so a second event starts the wait again.",
    "Works with any Zigbee sensor that reports a battery level.",
    "The brightness comes from a helper, which makes it easy to tune per room.",
    "Only between ten in the evening and six in the morning.",
    "Sends a message to every phone in the family group.",
    "Keeps the old state in a scene and puts it back afterwards.",
    "Needs a door contact and a presence sensor.",
    "Tries three times and then writes a line to the logbook.",
    "Set the area and the entity before use; everything else has a default.",
    "Does nothing while the guest mode is active.",
    "Moved here from a long script that nobody dared to touch.",
    "Checked with two years of daily use.",
    "The light level is read once, at the start.",
];

/// First parts of an owner's name.
pub(super) const OWNER_FIRST: &[&str] = &[
    "amber", "brave", "calm", "copper", "dusty", "early", "faint", "gentle", "green", "hidden", "icy",
    "jolly", "keen", "little", "lone", "lucky", "mellow", "misty", "modern", "noble", "north", "odd", "old",
    "pale", "plain", "proud", "quick", "quiet", "rainy", "rustic", "silver", "slow", "snowy", "south",
    "spare", "steady", "stray", "sunny", "tidy", "tiny", "warm", "wild", "wooden", "young",
];

/// Second parts of an owner's name.
pub(super) const OWNER_SECOND: &[&str] = &[
    "acorn", "anvil", "badger", "barn", "beacon", "birch", "bridge", "brook", "cabin", "cedar", "cliff",
    "comet", "cottage", "crane", "ember", "falcon", "fern", "field", "finch", "forge", "fox", "grove",
    "harbor", "hedge", "heron", "hill", "lantern", "larch", "lark", "meadow", "mill", "moss", "otter", "owl",
    "pebble", "pine", "quarry", "raven", "reed", "ridge", "river", "robin", "sparrow", "spruce", "stone",
    "thistle", "willow", "wren",
];

/// First parts of a repository's name.
pub(super) const REPOSITORY_FIRST: &[&str] = &[
    "home",
    "house",
    "hass",
    "flat",
    "smart-home",
    "cabin",
    "family",
    "my-house",
    "zigbee",
    "esp",
    "solar",
    "studio",
    "farm",
    "loft",
];

/// Second parts of a repository's name.
pub(super) const REPOSITORY_SECOND: &[&str] = &[
    "automations",
    "config",
    "blueprints",
    "yaml",
    "setup",
    "recipes",
    "packages",
    "rules",
    "routines",
    "scripts",
    "collection",
    "notebook",
];

/// What a repository says about itself.
pub(super) const REPOSITORY_STORIES: &[&str] = &[
    "The full configuration of a small flat with far too many sensors.",
    "Automations for a family house, one package per room.",
    "Blueprints that grew out of questions asked by friends.",
    "Everything that runs on one small computer in a cupboard.",
    "Energy, heating and light for an old farmhouse.",
    "Tested pieces to copy, each with a short explanation.",
    "A tidy start for people who are new to home automation.",
    "Mostly lights and blinds, with a few experiments.",
    "Safety first: leaks, smoke, doors and a nightly backup.",
    "Two flats, one configuration, many secrets left out.",
    "Rules for solar surplus, car charging and the heat pump.",
    "Work in progress, changed whenever it rains.",
];
