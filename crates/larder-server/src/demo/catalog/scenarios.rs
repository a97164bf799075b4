//! What the sample automations are about, most popular first. `{area}` is replaced by a place.

/// One subject, with the words and the parts that go with it.
pub(super) struct Scenario {
    pub(super) titles: &'static [&'static str],
    pub(super) stories: &'static [&'static str],
    /// The folder of the source file.
    pub(super) folder: &'static str,
    /// The blueprint made for this subject.
    pub(super) blueprint: &'static str,
    /// Usual triggers, by name.
    pub(super) triggers: &'static [&'static str],
    /// Usual actions, by name.
    pub(super) actions: &'static [&'static str],
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        titles: &[
            "{area} motion light",
            "Motion turns on the {area} light",
            "Light follows motion in the {area}",
        ],
        stories: &[
            "Switches the {area} light on when motion is seen and off once it has been still for a while.",
            "A motion sensor in the {area} raises the light, dimmed late in the evening.",
        ],
        folder: "lighting",
        blueprint: "lighting/motion_light.yaml",
        triggers: &["state", "mqtt", "device"],
        actions: &["light.turn_on", "light.turn_off"],
    },
    Scenario {
        titles: &["{area} lights at sunset", "Evening light in the {area}", "Dusk scene for the {area}"],
        stories: &[
            "Starts a warm scene in the {area} half an hour before sunset.",
            "Turns the {area} lights on at dusk and lowers them step by step.",
        ],
        folder: "lighting",
        blueprint: "lighting/sunset_scene.yaml",
        triggers: &["sun", "time"],
        actions: &["scene.turn_on", "light.turn_on"],
    },
    Scenario {
        titles: &["{area} door left open", "Warn about an open {area} window", "Forgotten {area} door"],
        stories: &[
            "Sends a message when the {area} door stays open longer than ten minutes.",
            "Reminds everyone about the {area} window before the heating runs for nothing.",
        ],
        folder: "security",
        blueprint: "security/door_left_open.yaml",
        triggers: &["state"],
        actions: &["notify.mobile_app", "tts.speak"],
    },
    Scenario {
        titles: &["Low battery report", "Battery check for the {area} sensors", "Weekly battery list"],
        stories: &[
            "Collects all sensors below fifteen percent and sends one list.",
            "Looks at the battery of each device in the {area} and names those that need a new one.",
        ],
        folder: "maintenance",
        blueprint: "maintenance/low_battery.yaml",
        triggers: &["numeric_state", "time"],
        actions: &["notify.mobile_app", "persistent_notification.create"],
    },
    Scenario {
        titles: &["Nightly backup", "Backup before updates", "Copy the backup to the {area} server"],
        stories: &[
            "Makes a full backup at three in the morning and keeps the last seven.",
            "Takes a backup first, then lets the update go on, and tells you if either fails.",
            "Sends the newest backup to the disk in the {area} and checks its size.",
        ],
        folder: "maintenance",
        blueprint: "maintenance/nightly_backup.yaml",
        triggers: &["time", "event"],
        actions: &["backup.create", "notify.mobile_app"],
    },
    Scenario {
        titles: &["Welcome home", "Arrive after dark", "First one home"],
        stories: &[
            "Lights the way to the {area} when someone comes home after dark.",
            "Sets heating and music to normal when the first person enters the home zone.",
        ],
        folder: "presence",
        blueprint: "presence/welcome_home.yaml",
        triggers: &["zone", "state"],
        actions: &["light.turn_on", "scene.turn_on", "climate.set_temperature"],
    },
    Scenario {
        titles: &["Everyone left", "Leaving home", "Switch the house off"],
        stories: &[
            "Turns lights and sockets off and locks the door once the last phone is gone.",
            "Checks the {area} window, lowers the heating and arms the alarm when nobody is left.",
        ],
        folder: "presence",
        blueprint: "presence/everyone_left.yaml",
        triggers: &["zone", "state"],
        actions: &["light.turn_off", "lock.lock", "alarm_control_panel.alarm_arm_away"],
    },
    Scenario {
        titles: &["{area} night heating", "Lower the {area} heating at night", "Heating plan for the {area}"],
        stories: &[
            "Lowers the {area} to seventeen degrees at night and warms it up before the alarm clock.",
            "Follows a weekly plan for the {area}, except on public holidays.",
        ],
        folder: "climate",
        blueprint: "climate/night_setback.yaml",
        triggers: &["time", "calendar"],
        actions: &["climate.set_temperature"],
    },
    Scenario {
        titles: &["{area} blinds follow the sun", "Close the {area} blinds in the heat", "Morning blinds"],
        stories: &[
            "Closes the {area} blinds while the sun stands on that side and it is hot outside.",
            "Opens the {area} blinds a little after sunrise, later on weekends.",
        ],
        folder: "covers",
        blueprint: "covers/sun_blinds.yaml",
        triggers: &["sun", "numeric_state"],
        actions: &["cover.close_cover", "cover.open_cover"],
    },
    Scenario {
        titles: &["Washing machine finished", "Dryer is done", "Laundry reminder"],
        stories: &[
            "Watches the power meter and says when the machine in the {area} has finished.",
            "Repeats the message every half hour until the {area} door is opened.",
        ],
        folder: "appliances",
        blueprint: "appliances/power_finished.yaml",
        triggers: &["numeric_state"],
        actions: &["notify.mobile_app", "tts.speak"],
    },
    Scenario {
        titles: &["Water leak in the {area}", "{area} leak alarm", "Stop the water"],
        stories: &[
            "Closes the main valve as soon as the {area} sensor gets wet and calls every phone.",
            "Sounds the siren for a leak in the {area} and keeps the pump off.",
        ],
        folder: "safety",
        blueprint: "safety/water_leak.yaml",
        triggers: &["state", "mqtt"],
        actions: &["valve.close_valve", "siren.turn_on", "notify.mobile_app"],
    },
    Scenario {
        titles: &["Close the garage door", "Garage door still open", "Garage opens for the car"],
        stories: &[
            "Closes the garage door at ten if it was forgotten, after one warning.",
            "Opens the garage when the car enters the zone and the driver confirms.",
        ],
        folder: "covers",
        blueprint: "covers/garage_door.yaml",
        triggers: &["time", "zone", "state"],
        actions: &["cover.close_cover", "notify.mobile_app"],
    },
    Scenario {
        titles: &["Vacuum the {area}", "Start the vacuum when away", "Vacuum plan"],
        stories: &[
            "Sends the vacuum to the {area} when the house is empty, once per day at most.",
            "Brings the vacuum back to its dock when someone comes home early.",
        ],
        folder: "appliances",
        blueprint: "appliances/vacuum_when_away.yaml",
        triggers: &["state", "time"],
        actions: &["vacuum.start", "notify.mobile_app"],
    },
    Scenario {
        titles: &["Movie time in the {area}", "Dim the {area} for a film", "Cinema scene"],
        stories: &[
            "Dims the light in the {area} when a film starts and raises it on pause.",
            "Closes the blinds, sets the sound and mutes the door bell while the film runs.",
        ],
        folder: "media",
        blueprint: "media/movie_time.yaml",
        triggers: &["state", "device"],
        actions: &["scene.turn_on", "light.turn_off", "media_player.volume_set"],
    },
    Scenario {
        titles: &["Doorbell message", "Doorbell picture", "Someone is at the door"],
        stories: &[
            "Takes a picture when the bell rings and sends it to the family.",
            "Pauses the music in the {area} and says that someone is at the door.",
        ],
        folder: "security",
        blueprint: "security/doorbell.yaml",
        triggers: &["event", "mqtt", "webhook"],
        actions: &["camera.snapshot", "notify.mobile_app", "tts.speak"],
    },
    Scenario {
        titles: &["Wake up light", "Gentle morning in the {area}", "Alarm clock routine"],
        stories: &[
            "Raises the light in the {area} over twenty minutes before the phone alarm.",
            "Opens the blinds, starts the radio and warms the bathroom at the next alarm.",
        ],
        folder: "routines",
        blueprint: "routines/wake_up_light.yaml",
        triggers: &["time", "event"],
        actions: &["light.turn_on", "media_player.play_media", "cover.open_cover"],
    },
    Scenario {
        titles: &["Water the {area} plants", "Plant is thirsty", "Garden watering"],
        stories: &[
            "Waters the {area} at dawn unless rain is expected or the soil is wet.",
            "Names the plant in the {area} whose soil is too dry.",
        ],
        folder: "garden",
        blueprint: "garden/watering.yaml",
        triggers: &["numeric_state", "sun", "time"],
        actions: &["switch.turn_on", "switch.turn_off"],
    },
    Scenario {
        titles: &["Charge the car at night", "Charge the car with surplus", "Car charging limit"],
        stories: &[
            "Charges the car in the cheap hours and stops at eighty percent.",
            "Gives the car whatever the roof makes beyond the need of the house.",
        ],
        folder: "energy",
        blueprint: "energy/car_charging.yaml",
        triggers: &["numeric_state", "time", "mqtt"],
        actions: &["switch.turn_on", "switch.turn_off", "mqtt.publish"],
    },
    Scenario {
        titles: &["{area} fan by humidity", "Dry the {area} after a shower", "Damp {area}"],
        stories: &[
            "Runs the {area} fan until the air is as dry as before the shower.",
            "Compares the {area} with the rest of the house and airs it when it is damp.",
        ],
        folder: "climate",
        blueprint: "climate/humidity_fan.yaml",
        triggers: &["numeric_state", "template"],
        actions: &["fan.turn_on", "fan.turn_off"],
    },
    Scenario {
        titles: &["Motion alert while away", "Camera picture on motion", "Motion in the {area}"],
        stories: &[
            "Sends a camera picture of the {area} if motion is seen while the alarm is armed.",
            "Flashes every light and sounds the siren on motion in the {area} at night.",
        ],
        folder: "security",
        blueprint: "security/motion_alert.yaml",
        triggers: &["state", "event"],
        actions: &["camera.snapshot", "notify.mobile_app", "siren.turn_on"],
    },
    Scenario {
        titles: &["Update report", "New version available", "Restart after updates"],
        stories: &[
            "Lists the updates that wait, once a week, with a link to the notes.",
            "Restarts at night after an update, if a backup from the same day exists.",
        ],
        folder: "maintenance",
        blueprint: "maintenance/update_report.yaml",
        triggers: &["homeassistant", "time", "event"],
        actions: &["persistent_notification.create", "homeassistant.restart"],
    },
    Scenario {
        titles: &["Stale air in the {area}", "Open a window in the {area}", "Air quality warning"],
        stories: &[
            "Asks for a window when the {area} passes one thousand parts per million.",
            "Shows the air of the {area} by the colour of one light.",
        ],
        folder: "climate",
        blueprint: "climate/air_quality.yaml",
        triggers: &["numeric_state"],
        actions: &["notify.mobile_app", "light.turn_on"],
    },
    Scenario {
        titles: &["Frost warning", "Protect the {area} pipes", "Cold night ahead"],
        stories: &[
            "Warns in the evening when frost is expected and starts the pipe heater.",
            "Keeps the {area} above five degrees and says so when it cannot.",
        ],
        folder: "safety",
        blueprint: "safety/frost_warning.yaml",
        triggers: &["numeric_state", "time"],
        actions: &["notify.mobile_app", "switch.turn_on"],
    },
    Scenario {
        titles: &["Button scenes for the {area}", "{area} remote", "One button, three scenes"],
        stories: &[
            "One press, two presses and a long press each start a scene in the {area}.",
            "Turns a cheap remote into a light switch for the {area}.",
        ],
        folder: "controls",
        blueprint: "controls/button_scenes.yaml",
        triggers: &["device", "event", "mqtt"],
        actions: &["scene.turn_on", "light.turn_on", "light.turn_off"],
    },
    Scenario {
        titles: &["Mail has arrived", "Letter box", "Parcel at the {area}"],
        stories: &[
            "Says once a day that there is mail, and forgets it when the box is emptied.",
            "Counts the lid of the letter box and sends a picture of the {area}.",
        ],
        folder: "presence",
        blueprint: "presence/mail_box.yaml",
        triggers: &["state", "mqtt"],
        actions: &["notify.mobile_app", "input_boolean.turn_on"],
    },
    Scenario {
        titles: &["Internet is down", "Restart the router", "Network watch"],
        stories: &[
            "Cuts the power of the router for ten seconds when the line is dead for five minutes.",
            "Writes down each outage and reports it when the line is back.",
        ],
        folder: "maintenance",
        blueprint: "maintenance/network_watch.yaml",
        triggers: &["state", "time_pattern"],
        actions: &["switch.turn_off", "switch.turn_on", "logbook.log"],
    },
    Scenario {
        titles: &["Scan a tag to start", "Tag in the {area}", "Tap the {area} tag"],
        stories: &[
            "Starts a script when a phone taps the tag in the {area}.",
            "Each family member gets their own music from the same tag.",
        ],
        folder: "controls",
        blueprint: "controls/tag_scan.yaml",
        triggers: &["tag"],
        actions: &["script.turn_on", "media_player.play_media"],
    },
    Scenario {
        titles: &["Bin day", "Calendar reminder", "Tomorrow's events"],
        stories: &[
            "Says the evening before which bin has to go out.",
            "Reads the first event of tomorrow aloud in the {area}.",
        ],
        folder: "routines",
        blueprint: "routines/calendar_reminder.yaml",
        triggers: &["calendar", "time"],
        actions: &["tts.speak", "notify.mobile_app"],
    },
    Scenario {
        titles: &["Ask for the {area}", "Voice answer", "Spoken command"],
        stories: &[
            "Answers a spoken question about the {area} in one sentence.",
            "Runs a script by a phrase of your own choice.",
        ],
        folder: "controls",
        blueprint: "controls/voice_command.yaml",
        triggers: &["conversation"],
        actions: &["tts.speak", "script.turn_on"],
    },
    Scenario {
        titles: &["Call from outside", "Webhook switch", "Remote start"],
        stories: &[
            "Lets another service start a script here, and answers with what was done.",
            "Passes a call on to a machine in the {area}.",
        ],
        folder: "bridges",
        blueprint: "bridges/webhook_call.yaml",
        triggers: &["webhook"],
        actions: &["rest_command.call", "script.turn_on"],
    },
    Scenario {
        titles: &["Storm nearby", "Lightning warning", "Bring the {area} cushions in"],
        stories: &[
            "Pulls the awning in when a storm comes within thirty kilometres.",
            "Warns about wind in the {area} while there is still time.",
        ],
        folder: "safety",
        blueprint: "safety/storm_nearby.yaml",
        triggers: &["geo_location", "numeric_state"],
        actions: &["cover.close_cover", "notify.mobile_app"],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::words::{ACTIONS, TRIGGERS};
    use super::*;

    #[test]
    fn every_part_a_scenario_names_is_in_the_lists() {
        for scenario in SCENARIOS {
            for trigger in scenario.triggers {
                assert!(TRIGGERS.contains(trigger), "{trigger}");
            }
            for action in scenario.actions {
                assert!(ACTIONS.contains(action), "{action}");
            }
            assert!(!scenario.triggers.is_empty() && !scenario.actions.is_empty());
            assert!(!scenario.titles.is_empty() && !scenario.stories.is_empty());
        }
    }

    #[test]
    fn each_scenario_has_its_own_blueprint() {
        let blueprints: HashSet<_> = SCENARIOS.iter().map(|scenario| scenario.blueprint).collect();
        assert_eq!(blueprints.len(), SCENARIOS.len());
    }
}
