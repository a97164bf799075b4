//! The catalog against a model so simple that it is right: every automation in memory, counted by a loop.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::super::{AutomationSummary, FacetCount, Facets};
use super::*;

/// All automations with the stars of their repository, in the order a search lists them.
fn everything(place: &Place) -> Vec<AutomationSummary> {
    let connection = Connection::open(place.path()).unwrap();
    let names = |sql: &str, id: i64| -> Vec<String> {
        let mut names: Vec<String> = connection
            .prepare_cached(sql)
            .unwrap()
            .query_map([id], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        names.sort();
        names
    };
    let mut rows: Vec<(u32, AutomationSummary)> = connection
        .prepare("SELECT id, repository_id, alias, description, blueprint_path FROM automations")
        .unwrap()
        .query_map([], |row| {
            let (id, repository_id): (i64, i64) = (row.get(0)?, row.get(1)?);
            let (owner, name, stars): (String, String, u32) = connection.query_row(
                "SELECT owner, name, stars FROM repositories WHERE id = ?1",
                [repository_id],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )?;
            let automation = AutomationSummary {
                id,
                alias: row.get(2)?,
                description: row.get(3)?,
                repository_id,
                repository: format!("{owner}/{name}"),
                blueprint: row.get(4)?,
                triggers: names(
                    "SELECT name FROM trigger_types, automation_triggers WHERE type_id = id AND automation_id = ?1",
                    id,
                ),
                actions: names(
                    "SELECT name FROM action_types, automation_actions WHERE type_id = id AND automation_id = ?1",
                    id,
                ),
            };
            Ok((stars, automation))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    rows.sort_by_key(|(stars, automation)| (u32::MAX - stars, automation.id));
    rows.into_iter().map(|(_, automation)| automation).collect()
}

fn passes(automation: &AutomationSummary, filters: &Filters) -> bool {
    let contains = |text: &str, q: &str| text.to_ascii_lowercase().contains(&q.to_ascii_lowercase());
    filters.q.as_ref().is_none_or(|q| contains(&automation.alias, q) || contains(&automation.description, q))
        && filters.trigger.as_ref().is_none_or(|trigger| automation.triggers.contains(trigger))
        && filters.action.as_ref().is_none_or(|action| automation.actions.contains(action))
        && filters.blueprint.as_ref().is_none_or(|_| automation.blueprint == filters.blueprint)
}

fn count<'a>(names: impl Iterator<Item = &'a String>) -> Vec<FacetCount> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.clone()).or_insert(0) += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().map(|(name, count)| FacetCount { name, count }).collect();
    // Stable, so that equal counts stay in the order of their names.
    counts.sort_by_key(|facet| u32::MAX - facet.count);
    counts.truncate(50);
    counts
}

fn recount(matching: &[&AutomationSummary]) -> Facets {
    Facets {
        repositories: count(matching.iter().map(|automation| &automation.repository)),
        blueprints: count(matching.iter().filter_map(|automation| automation.blueprint.as_ref())),
        triggers: count(matching.iter().flat_map(|automation| &automation.triggers)),
        actions: count(matching.iter().flat_map(|automation| &automation.actions)),
    }
}

/// Every combination of these values, set or not set.
fn combinations() -> Vec<Filters> {
    let some = |value: &str| Some(value.to_owned());
    let mut all = Vec::new();
    for q in [None, some("Light"), some("backup"), some("no such words")] {
        for trigger in [None, some("state"), some("time"), some("no such trigger")] {
            for action in [None, some("notify.mobile_app"), some("light.turn_on")] {
                for blueprint in
                    [None, some("lighting/motion_light.yaml"), some("maintenance/nightly_backup.yaml")]
                {
                    all.push(Filters {
                        q: q.clone(),
                        trigger: trigger.clone(),
                        action: action.clone(),
                        blueprint,
                    });
                }
            }
        }
    }
    all
}

#[test]
fn facets_and_searches_agree_with_a_count_by_hand() {
    let place = Place::new();
    let catalog = place.open(Level::Two);
    let everything = everything(&place);
    let mut searches_with_results = 0;
    for filters in combinations() {
        let matching: Vec<_> = everything.iter().filter(|automation| passes(automation, &filters)).collect();
        assert_eq!(catalog.facets(&filters).unwrap(), recount(&matching), "{filters:?}");
        let page = catalog.search(&filters, 1).unwrap();
        assert_eq!(page.total as usize, matching.len(), "{filters:?}");
        assert!(page.results.iter().eq(matching.iter().copied().take(20)), "{filters:?}");
        searches_with_results += u32::from(page.total > 0);
    }
    assert!(searches_with_results > 30, "the combinations must not be mostly empty");
}

#[test]
fn statistics_and_details_agree_with_a_count_by_hand() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    let everything = everything(&place);
    let facets = recount(&everything.iter().collect::<Vec<_>>());
    let statistics = catalog.statistics(NOW_MS).unwrap();
    assert_eq!(statistics.triggers as usize, facets.triggers.len());
    assert_eq!(statistics.actions as usize, facets.actions.len());
    assert_eq!(statistics.blueprints as usize, facets.blueprints.len());
    assert_eq!(statistics.most_used_trigger.as_ref(), Some(&facets.triggers[0].name));
    assert_eq!(statistics.most_used_action.as_ref(), Some(&facets.actions[0].name));
    let mut stars = 0;
    for id in 1..=50 {
        let detail = catalog.repository(id).unwrap().unwrap();
        stars += u64::from(detail.stars);
        let own: Vec<_> = everything.iter().filter(|automation| automation.repository_id == id).collect();
        assert_eq!(detail.automations as usize, own.len());
        let mut triggers = recount(&own).triggers;
        triggers.truncate(5);
        assert_eq!(detail.top_triggers, triggers);
    }
    assert_eq!(statistics.stars, stars);
}
