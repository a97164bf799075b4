//! Pages of `docs/` that name what the code has: they say all of it, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::collections::BTreeSet;
use std::path::Path;

const CRATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const EVENTS: &str = include_str!("../../../docs/reference/events.md");
const OUTAGES: &str = include_str!("../../../docs/guide/outages.md");

/// The text of every Rust file below a folder.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// What the crates have in their folder of this name.
fn of_crates(folder: &str) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(CRATES).unwrap() {
        let folder = entry.unwrap().path().join(folder);
        if folder.is_dir() {
            sources(&folder, &mut text);
        }
    }
    text
}

/// What stands between `before` and the next `after`, each time.
fn between<'t>(text: &'t str, before: &'t str, after: char) -> impl Iterator<Item = &'t str> {
    text.split(before).skip(1).map(move |rest| rest.split(after).next().unwrap())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[test]
fn the_reference_page_has_every_event_and_no_other() {
    let code = of_crates("src");
    let said: BTreeSet<_> = between(&code, "\"cache_", '"').filter(|name| is_name(name)).collect();
    let first_cells = EVENTS.lines().filter(|line| line.starts_with("| `cache_"));
    let first_cells: Vec<_> = first_cells.map(|row| row.split('|').nth(1).unwrap()).collect();
    let rows: BTreeSet<_> = first_cells.iter().flat_map(|cell| between(cell, "`cache_", '`')).collect();
    assert!(said.len() > 20);
    assert_eq!(said, rows);
}

#[test]
fn the_reference_page_has_every_reason_of_a_gap_and_no_other() {
    let code = of_crates("src");
    let mut said: BTreeSet<_> = between(&code, "Gap(\"", '"').collect();
    said.extend(between(&code, "Gap { reason: \"", '"'));
    let listed = EVENTS.lines().skip_while(|line| !line.starts_with("| reason of `cache_gap`")).skip(2);
    let rows: BTreeSet<_> =
        listed.take_while(|line| line.starts_with('|')).flat_map(|row| between(row, "| `", '`')).collect();
    assert!(said.len() > 5);
    assert_eq!(said, rows);
}

/// The rows of the page about outages: what shows each in health, and what proves it.
fn outages() -> Vec<(&'static str, &'static str)> {
    let rows = OUTAGES.lines().filter(|line| line.starts_with("| **"));
    let cells = rows.map(|row| row.split('|').collect::<Vec<_>>());
    cells.map(|cells| (cells[5], cells[6])).collect()
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_row_of_the_page_about_outages_names_tests_that_exist() {
    let tests = of_crates("tests");
    assert!(outages().len() > 10);
    for (_, proof) in outages() {
        assert!(quoted(proof).next().is_some(), "nothing proves it: {proof}");
        for name in quoted(proof) {
            assert!(is_name(name) && tests.contains(&format!("fn {name}(")), "no test is called {name}");
        }
    }
}

#[test]
fn the_page_about_outages_names_fields_of_health_that_exist() {
    let health = include_str!("../src/health.rs");
    for (shows, _) in outages() {
        let fields = quoted(shows).filter_map(|text| text.split_once('.'));
        for (place, field) in fields {
            assert!(matches!(place, "remote" | "log"), "{place}");
            assert!(health.contains(&format!("pub {field}: ")), "health has no {field}");
        }
    }
}
