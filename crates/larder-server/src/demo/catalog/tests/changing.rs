//! Adding, describing and deleting repositories, and who sees it.

use super::super::CatalogError;
use super::*;

const LATER_MS: u64 = NOW_MS + 60_000;

#[test]
fn a_write_by_one_catalog_is_seen_by_another_on_the_same_file() {
    let place = Place::new();
    let (writer, reader) = (place.open(Level::One), place.open(Level::One));
    let before = reader.facets(&no_filters()).unwrap();

    let added = writer.add_repository(&new_repository("someone", "new-house"), LATER_MS).unwrap();
    assert_eq!(reader.repository(added.id).unwrap().unwrap(), added);
    assert_ne!(reader.facets(&no_filters()).unwrap(), before, "its automations count");

    writer.describe_repository(added.id, "Now with a garden.", LATER_MS).unwrap();
    assert_eq!(reader.repository(added.id).unwrap().unwrap().description, "Now with a garden.");

    assert!(writer.delete_repository(added.id).unwrap());
    assert_eq!(reader.repository(added.id).unwrap(), None);
    assert_eq!(reader.facets(&no_filters()).unwrap(), before, "its automations and their parts went with it");
}

#[test]
fn a_new_repository_comes_with_a_few_automations() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    let added = catalog.add_repository(&new_repository("someone", "new-house"), NOW_MS).unwrap();
    assert!((3..=6).contains(&added.automations));
    assert!(!added.top_triggers.is_empty());
    assert_eq!((added.stars, added.updated.as_str()), (0, "2023-11-14T22:13:20Z"));
    assert_eq!(catalog.statistics(NOW_MS).unwrap().automations, 500 + added.automations);
}

#[test]
fn a_taken_name_is_refused_in_any_case_and_changes_nothing() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    catalog.add_repository(&new_repository("someone", "new-house"), NOW_MS).unwrap();
    let before = catalog.statistics(NOW_MS).unwrap();
    let error = catalog.add_repository(&new_repository("Someone", "New-House"), NOW_MS).unwrap_err();
    assert!(error.is_duplicate());
    assert_eq!(error.to_string(), "repository Someone/New-House exists already");
    assert_eq!(catalog.statistics(NOW_MS).unwrap(), before);
    catalog.add_repository(&new_repository("someone-else", "new-house"), NOW_MS).unwrap();
}

#[test]
fn a_number_is_never_used_twice() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    let first = catalog.add_repository(&new_repository("a", "b"), NOW_MS).unwrap().id;
    catalog.delete_repository(first).unwrap();
    let second = catalog.add_repository(&new_repository("a", "b"), NOW_MS).unwrap().id;
    assert!(second > first);
}

#[test]
fn a_repository_that_is_not_there_is_no_error() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    for id in [0, -1, 51, i64::MAX, i64::MIN] {
        assert_eq!(catalog.repository(id).unwrap(), None);
        assert_eq!(catalog.describe_repository(id, "Text.", NOW_MS).unwrap(), None);
        assert!(!catalog.delete_repository(id).unwrap());
    }
}

#[test]
fn describing_changes_the_text_and_the_time_only() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    let before = catalog.repository(7).unwrap().unwrap();
    let after = catalog.describe_repository(7, "Ünïcode, 'quotes' and all.", NOW_MS).unwrap().unwrap();
    assert_eq!(after.description, "Ünïcode, 'quotes' and all.");
    assert_eq!(after.updated, "2023-11-14T22:13:20Z");
    let restored = super::super::RepositoryDetail {
        description: before.description.clone(),
        updated: before.updated.clone(),
        ..after
    };
    assert_eq!(restored, before);
}

#[test]
fn values_that_break_a_rule_are_refused_by_name() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    let with_description = |description: String| NewRepository { description, ..new_repository("a", "b") };
    let cases = [
        (new_repository("", "b"), "owner must not be empty"),
        (new_repository("a", "  "), "name must not be empty"),
        (new_repository(&"a".repeat(40), "b"), "owner must have at most 39 characters"),
        (new_repository("a", &"b".repeat(101)), "name must have at most 100 characters"),
        (new_repository("a/b", "c"), "owner must consist of letters, digits, '-', '_' and '.'"),
        (with_description(String::new()), "description must not be empty"),
        (with_description("é".repeat(501)), "description must have at most 500 characters"),
    ];
    for (new, message) in cases {
        let error = catalog.add_repository(&new, NOW_MS).unwrap_err();
        assert!(matches!(error, CatalogError::Invalid { .. }));
        assert_eq!(error.to_string(), message);
    }
    assert!(catalog.describe_repository(1, " ", NOW_MS).unwrap_err().is_invalid());
    assert_eq!(catalog.statistics(NOW_MS).unwrap().repositories, 50);
    catalog.add_repository(&with_description("é".repeat(500)), NOW_MS).unwrap();
}

#[test]
fn many_writers_on_many_catalogs_lose_no_write() {
    let place = Place::new();
    let catalogs: Vec<Catalog> = (0..4).map(|_| place.open(Level::One)).collect();
    std::thread::scope(|scope| {
        for (n, catalog) in catalogs.iter().enumerate() {
            scope.spawn(move || {
                for m in 0..10 {
                    catalog
                        .add_repository(&new_repository(&format!("owner{n}"), &format!("r{m}")), NOW_MS)
                        .unwrap();
                }
            });
        }
    });
    for catalog in &catalogs {
        assert_eq!(catalog.statistics(NOW_MS).unwrap().repositories, 90);
    }
}

#[test]
fn a_catalog_emptied_to_the_last_repository_still_answers() {
    let place = Place::new();
    let catalog = place.open(Level::One);
    for id in 1..=50 {
        assert!(catalog.delete_repository(id).unwrap());
    }
    let statistics = catalog.statistics(NOW_MS).unwrap();
    assert_eq!((statistics.repositories, statistics.automations, statistics.stars), (0, 0, 0));
    assert_eq!((statistics.most_used_trigger, statistics.most_used_action), (None, None));
    assert_eq!(catalog.facets(&no_filters()).unwrap().triggers, []);
    assert_eq!(catalog.search(&no_filters(), 1).unwrap().total, 0);
}
