//! Making a catalog once, finding it again, and leaving other files alone.

use std::fs;
use std::thread;

use rusqlite::Connection;

use super::super::CatalogError;
use super::*;

/// The message of an open that must fail, and proof that the file was left as it was.
fn refusal(place: &Place, level: Level) -> String {
    let before = fs::read(place.path()).unwrap();
    let error = Catalog::open(&place.path(), level, NOW_MS).unwrap_err();
    assert_eq!(fs::read(place.path()).unwrap(), before, "a refused file must not change");
    let message = error.to_string();
    assert!(message.contains(place.path().to_str().unwrap()), "the message names the file: {message}");
    message
}

#[test]
fn a_new_catalog_holds_as_much_as_its_level_says() {
    for level in [Level::One, Level::Two] {
        let place = Place::new();
        let statistics = place.open(level).statistics(NOW_MS).unwrap();
        assert_eq!(statistics.repositories, level.repositories());
        assert_eq!(statistics.automations, level.automations());
    }
}

#[test]
fn the_same_level_twice_gives_the_same_bytes() {
    let answers = |now_ms| {
        let place = Place::new();
        let catalog = Catalog::open(&place.path(), Level::Two, now_ms).unwrap();
        let facets =
            [no_filters(), containing("backup"), containing("light")].map(|f| catalog.facets(&f).unwrap());
        let page = catalog.search(&containing("motion"), 2).unwrap();
        (serde_json::to_vec(&facets).unwrap(), serde_json::to_vec(&page).unwrap())
    };
    assert_eq!(answers(NOW_MS), answers(NOW_MS + 1_000_000), "the time of making shows only in `updated`");
}

#[test]
fn a_catalog_opened_again_is_the_one_made_before() {
    let place = Place::new();
    let id = place.open(Level::One).add_repository(&new_repository("a", "b"), NOW_MS).unwrap().id;
    let again = place.open(Level::One);
    assert_eq!(again.repository(id).unwrap().unwrap().name, "b");
    assert_eq!(again.level(), Level::One);
}

#[test]
fn four_threads_that_open_one_new_file_make_one_catalog() {
    for _ in 0..5 {
        let place = Place::new();
        let path = &place.path();
        // Each brings another time; whoever makes the catalog leaves its own in every row.
        let seen: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (1..=4)
                .map(|n| {
                    scope.spawn(move || {
                        let catalog = Catalog::open(path, Level::One, n * NOW_MS).unwrap();
                        let repositories = (1..=50).map(|id| catalog.repository(id).unwrap().unwrap());
                        (catalog.statistics(NOW_MS).unwrap(), repositories.collect::<Vec<_>>())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|other| *other == seen[0]));
        assert_eq!((seen[0].0.repositories, seen[0].0.automations), (50, 500));
    }
}

#[test]
fn a_catalog_keeps_a_write_ahead_log() {
    let place = Place::new();
    let _catalog = place.open(Level::One);
    let mode: String = Connection::open(place.path())
        .unwrap()
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
}

#[test]
fn an_empty_file_counts_as_a_new_one() {
    let place = Place::new();
    fs::write(place.path(), "").unwrap();
    assert_eq!(place.open(Level::One).statistics(NOW_MS).unwrap().automations, 500);
}

#[test]
fn another_level_is_refused_with_the_ways_out() {
    let place = Place::new();
    drop(place.open(Level::One));
    let message = refusal(&place, Level::Two);
    assert!(message.contains("holds level 1, but level 2 was asked for"), "{message}");
    assert!(message.contains("ask for level 1, give another path, or delete the file"), "{message}");
}

#[test]
fn a_file_that_is_no_database_is_refused_with_the_ways_out() {
    for text in ["note", &"a longer note, ".repeat(1_000)] {
        let place = Place::new();
        fs::write(place.path(), text).unwrap();
        let message = refusal(&place, Level::One);
        assert!(message.contains("(it is no SQLite database at all)"), "{message}");
        assert!(message.contains("give another path, or move the file away"), "{message}");
    }
}

#[test]
fn the_database_of_another_program_is_refused() {
    let place = Place::new();
    Connection::open(place.path()).unwrap().execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    assert!(refusal(&place, Level::One).contains("(it is another SQLite database)"));
}

#[test]
fn a_catalog_of_another_version_is_refused() {
    let place = Place::new();
    drop(place.open(Level::One));
    Connection::open(place.path()).unwrap().pragma_update(None, "user_version", 999).unwrap();
    assert!(refusal(&place, Level::One).contains("(it was made by another version of larder)"));
}

#[test]
fn a_file_that_cannot_be_made_is_refused_with_advice() {
    let place = Place::new();
    let path = place.folder.path().join("no-such-folder").join("catalog.db");
    let error = Catalog::open(&path, Level::One, NOW_MS).unwrap_err();
    assert!(matches!(error, CatalogError::Open { .. }));
    assert!(error.to_string().contains("check that its folder exists"), "{error}");
    assert!(std::error::Error::source(&error).is_some(), "the cause is kept");
}
