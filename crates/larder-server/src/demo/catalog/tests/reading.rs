//! Searching, and what text means in a search.

use std::collections::HashSet;

use rusqlite::Connection;

use super::super::{CatalogError, PER_PAGE};
use super::*;

/// Renames automation number `id`, behind the catalog's back.
fn rename(place: &Place, id: i64, alias: &str) {
    let connection = Connection::open(place.path()).unwrap();
    connection.execute("UPDATE automations SET alias = ?2 WHERE id = ?1", (id, alias)).unwrap();
}

fn found(catalog: &Catalog, q: &str) -> Vec<i64> {
    catalog.search(&containing(q), 1).unwrap().results.iter().map(|automation| automation.id).collect()
}

#[test]
fn common_words_find_something_at_each_level() {
    for level in [Level::One, Level::Two] {
        let place = Place::new();
        let catalog = place.open(level);
        for q in ["backup", "motion", "light", "garage", "heating"] {
            let total = catalog.search(&containing(q), 1).unwrap().total;
            assert!(total >= 5 && total < level.automations() / 2, "{q} finds {total} at level {level}");
        }
    }
}

#[test]
fn the_pages_of_a_search_hold_every_match_once() {
    let place = Place::new();
    let catalog = place.open(Level::Two);
    let total = catalog.search(&containing("light"), 1).unwrap().total;
    let pages = total.div_ceil(PER_PAGE);
    assert!(pages > 3);
    let mut seen = HashSet::new();
    for number in 1..=pages {
        let page = catalog.search(&containing("light"), number).unwrap();
        assert_eq!((page.total, page.page, page.per_page), (total, number, PER_PAGE));
        assert!(page.results.iter().all(|automation| seen.insert(automation.id)));
    }
    assert_eq!(seen.len(), total as usize);
    assert_eq!(catalog.search(&containing("light"), pages + 1).unwrap().results, []);
    assert_eq!(catalog.search(&containing("light"), u32::MAX).unwrap().results, []);
}

#[test]
fn page_zero_is_refused() {
    let place = Place::new();
    let error = place.open(Level::One).search(&no_filters(), 0).unwrap_err();
    assert!(error.is_invalid());
    assert_eq!(error.to_string(), "page must be 1 or more");
}

#[test]
fn letters_match_in_either_case() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    assert_eq!(
        catalog.facets(&containing("BackUp")).unwrap(),
        catalog.facets(&containing("backup")).unwrap()
    );
}

#[test]
fn the_signs_of_a_pattern_are_searched_for_as_they_are() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    for q in ["%", "_", r"\", "a%b"] {
        assert_eq!(found(&catalog, q), [] as [i64; 0], "no sample text contains {q}");
    }
    rename(&place, 7, r"fade to 50% in_steps C:\lamp");
    for q in ["50%", "in_steps", r"C:\", r":\l", "%", "_", r"\", "0% IN_"] {
        assert_eq!(found(&catalog, q), [7], "{q}");
    }
    for q in ["5%0", "in%steps", "inxsteps", "50_", r"\%"] {
        assert_eq!(found(&catalog, q), [] as [i64; 0], "{q}");
    }
}

#[test]
fn a_quote_in_any_filter_is_only_a_quote() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    let quote = || Some("' OR '1'='1".to_owned());
    let filters = [
        Filters { q: quote(), ..no_filters() },
        Filters { trigger: quote(), ..no_filters() },
        Filters { action: quote(), ..no_filters() },
        Filters { blueprint: quote(), ..no_filters() },
    ];
    for filters in filters {
        assert_eq!(catalog.search(&filters, 1).unwrap().total, 0, "{filters:?}");
    }
}

#[test]
fn statistics_are_dated_by_the_caller() {
    let place = Place::new();
    let statistics = place.open(Level::One).statistics(NOW_MS).unwrap();
    assert_eq!(statistics.last_updated, "2023-11-14T22:13:20Z");
}

#[test]
fn a_catalog_can_be_asked_by_more_threads_than_it_has_connections() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    let expected = catalog.facets(&containing("light")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..12 {
            let catalog = catalog.clone();
            let expected = &expected;
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(catalog.facets(&containing("light")).unwrap(), *expected);
                }
            });
        }
    });
}

#[test]
fn a_failure_says_what_was_being_done_and_keeps_the_cause() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    Connection::open(place.path()).unwrap().execute_batch("DROP TABLE automation_triggers").unwrap();
    let error = catalog.facets(&no_filters()).unwrap_err();
    assert!(matches!(error, CatalogError::Database { .. }));
    assert_eq!(error.to_string(), "the catalog failed while counting facets");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("automation_triggers"));
}
