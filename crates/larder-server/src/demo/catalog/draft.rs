//! Making up repositories and automations. Pure: it draws from a seeded generator and touches no database.

use std::collections::HashSet;

use super::random::{Popularity, Random};
use super::scenarios::{SCENARIOS, Scenario};
use super::words;

/// How many times each further part (second trigger, third action, ...) is tried.
const EXTRA_PARTS: u32 = 3;
const EXTRA_TRIGGER_PERCENT: u64 = 25;
const EXTRA_ACTION_PERCENT: u64 = 45;
/// How many automations come from the blueprint of their subject, and how many from one of another subject.
const OWN_BLUEPRINT_PERCENT: u64 = 38;
const OTHER_BLUEPRINT_PERCENT: u64 = 5;
/// The stars of the repository with most of them.
const MOST_STARS: u64 = 9_500;
/// Repositories changed at some time in the two years before the catalog was made.
const OLDEST_UPDATE_MS: u64 = 2 * 365 * 24 * 60 * 60 * 1000;

/// A repository that is not in a database yet.
pub(super) struct RepositoryDraft {
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) description: &'static str,
    pub(super) stars: u32,
    pub(super) updated_ms: u64,
    /// How many automations it is to have.
    pub(super) automations: u32,
}

/// An automation that is not in a database yet.
pub(super) struct AutomationDraft {
    pub(super) alias: String,
    pub(super) description: String,
    pub(super) source_path: String,
    pub(super) blueprint_path: Option<&'static str>,
    /// Places in [`words::TRIGGERS`], each at most once.
    pub(super) triggers: Vec<usize>,
    /// Places in [`words::ACTIONS`], each at most once.
    pub(super) actions: Vec<usize>,
}

/// The repositories of a new catalog, which share out `automations` unevenly; each has at least one.
pub(super) fn repositories(
    random: &mut Random,
    repositories: u32,
    automations: u32,
    now_ms: u64,
) -> Vec<RepositoryDraft> {
    let mut taken = HashSet::new();
    let mut drafts: Vec<RepositoryDraft> = (1..=u64::from(repositories))
        .map(|rank| {
            let (owner, name) = unused_name(random, &mut taken);
            let stars = MOST_STARS / rank + random.below(25);
            RepositoryDraft {
                owner,
                name,
                description: random.pick(words::REPOSITORY_STORIES),
                stars: u32::try_from(stars).unwrap_or(u32::MAX),
                updated_ms: now_ms.saturating_sub(random.below(OLDEST_UPDATE_MS)),
                automations: 1,
            }
        })
        .collect();
    let size = Popularity::gentle(drafts.len());
    for _ in repositories..automations {
        drafts[size.draw(random)].automations += 1;
    }
    // Popular repositories are not the oldest ones: spread them over the numbers.
    random.shuffle(&mut drafts);
    drafts
}

fn unused_name(random: &mut Random, taken: &mut HashSet<(String, String)>) -> (String, String) {
    let owner = format!("{}{}", random.pick(words::OWNER_FIRST), random.pick(words::OWNER_SECOND));
    let name = format!("{}-{}", random.pick(words::REPOSITORY_FIRST), random.pick(words::REPOSITORY_SECOND));
    let mut pair = (owner, name);
    let mut copy = 2;
    let plain = pair.1.clone();
    while !taken.insert(pair.clone()) {
        pair.1 = format!("{plain}-{copy}");
        copy += 1;
    }
    pair
}

/// Makes up automations, subject by subject, by popularity.
pub(super) struct AutomationMaker {
    scenarios: Popularity,
    triggers: Popularity,
    actions: Popularity,
}

impl AutomationMaker {
    pub(super) fn new() -> AutomationMaker {
        AutomationMaker {
            scenarios: Popularity::zipf(SCENARIOS.len()),
            triggers: Popularity::zipf(words::TRIGGERS.len()),
            actions: Popularity::zipf(words::ACTIONS.len()),
        }
    }

    pub(super) fn draft(&self, random: &mut Random) -> AutomationDraft {
        let scenario = &SCENARIOS[self.scenarios.draw(random)];
        let area = random.pick(words::AREAS);
        let alias = alias(random, scenario, area);
        AutomationDraft {
            description: description(random, scenario, area),
            source_path: format!("packages/{}/{}.yaml", scenario.folder, file_name(&alias)),
            blueprint_path: self.blueprint(random, scenario),
            triggers: parts(
                random,
                words::TRIGGERS,
                scenario.triggers,
                &self.triggers,
                EXTRA_TRIGGER_PERCENT,
            ),
            actions: parts(random, words::ACTIONS, scenario.actions, &self.actions, EXTRA_ACTION_PERCENT),
            alias,
        }
    }

    fn blueprint(&self, random: &mut Random, scenario: &Scenario) -> Option<&'static str> {
        if random.chance(OWN_BLUEPRINT_PERCENT) {
            Some(scenario.blueprint)
        } else if random.chance(OTHER_BLUEPRINT_PERCENT) {
            Some(SCENARIOS[self.scenarios.draw(random)].blueprint)
        } else {
            None
        }
    }
}

fn alias(random: &mut Random, scenario: &Scenario, area: &str) -> String {
    let mut alias = capitalized(&random.pick(scenario.titles).replace("{area}", area));
    if random.chance(50) {
        alias.push(' ');
        alias.push_str(random.pick(words::ALIAS_ENDINGS));
    }
    alias
}

fn description(random: &mut Random, scenario: &Scenario, area: &str) -> String {
    let mut text = random.pick(scenario.stories).replace("{area}", area);
    while text.len() < 160 && random.chance(70) {
        text.push(' ');
        text.push_str(random.pick(words::REMARKS));
    }
    text
}

/// One usual part of the subject, then some more: half of them usual, half by general popularity.
fn parts(
    random: &mut Random,
    all: &[&str],
    usual: &[&str],
    popularity: &Popularity,
    extra_percent: u64,
) -> Vec<usize> {
    let mut chosen = vec![place(all, random.pick(usual))];
    for _ in 0..EXTRA_PARTS {
        if !random.chance(extra_percent) {
            break;
        }
        let part = if random.chance(50) { place(all, random.pick(usual)) } else { popularity.draw(random) };
        if !chosen.contains(&part) {
            chosen.push(part);
        }
    }
    chosen
}

fn place(all: &[&str], name: &str) -> usize {
    all.iter().position(|&known| known == name).expect("scenarios name known parts only, see the test there")
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

fn file_name(alias: &str) -> String {
    let words: Vec<String> = alias
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_share_out_all_automations_and_none_goes_without() {
        let drafts = repositories(&mut Random::new(1), 50, 500, 1_000_000);
        assert_eq!(drafts.len(), 50);
        assert_eq!(drafts.iter().map(|draft| draft.automations).sum::<u32>(), 500);
        assert!(drafts.iter().all(|draft| draft.automations >= 1));
    }

    #[test]
    fn no_two_repositories_have_the_same_name() {
        let drafts = repositories(&mut Random::new(3), 5_000, 5_000, 0);
        let names: HashSet<_> = drafts.iter().map(|draft| (&draft.owner, &draft.name)).collect();
        assert_eq!(names.len(), 5_000);
    }

    #[test]
    fn an_automation_has_each_part_once_and_no_gap_in_its_text() {
        let mut random = Random::new(2);
        let maker = AutomationMaker::new();
        for _ in 0..2_000 {
            let draft = maker.draft(&mut random);
            for parts in [&draft.triggers, &draft.actions] {
                let unique: HashSet<_> = parts.iter().collect();
                assert!(!parts.is_empty() && unique.len() == parts.len());
            }
            for text in [&draft.alias, &draft.description, &draft.source_path] {
                assert!(!text.is_empty() && !text.contains(['{', '}']), "{text}");
            }
        }
    }
}
