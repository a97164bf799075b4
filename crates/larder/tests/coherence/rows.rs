//! What is cached: rows, read through a typed handle with its loader, and pages, which carry tags and are filled as the
//! HTTP layer fills. And what selectors name, said a second time: the oracle does not ask the code under test.

use crate::chance::Chance;

const GROUPS: u64 = 4;
const ROWS: u64 = 6;
const PAGES: u64 = 12;
const TAGS: u64 = 3;

/// All keys.
pub(crate) fn all() -> Vec<String> {
    let rows = (0..GROUPS).flat_map(|group| (0..ROWS).map(move |row| format!("row:{group}:{row}")));
    rows.chain((0..PAGES).map(|page| format!("page:{page}"))).collect()
}

/// The tag of a page.
pub(crate) fn tag(page: u64) -> String {
    format!("t{}", page % TAGS)
}

/// Does `selector` name the entry of `key`?
pub(crate) fn names(selector: &str, key: &str) -> bool {
    if let Some(wanted) = selector.strip_prefix('#') {
        let page = key.strip_prefix("page:").and_then(|page| page.parse().ok());
        page.is_some_and(|page| tag(page) == wanted)
    } else if let Some(above) = selector.strip_suffix(":*") {
        key.strip_prefix(above).is_some_and(|below| below.is_empty() || below.starts_with(':'))
    } else {
        selector == "*" || selector == key
    }
}

/// A selector: mostly of one key, sometimes of many.
pub(crate) fn selector(chance: &Chance) -> String {
    let (group, row) = (chance.below(GROUPS), chance.below(ROWS));
    match chance.below(100) {
        0..45 => format!("row:{group}:{row}"),
        45..65 => format!("page:{}", chance.below(PAGES)),
        65..75 => format!("row:{group}:{row}:*"),
        75..85 => format!("row:{group}:*"),
        85..97 => format!("#t{}", chance.below(TAGS)),
        97 => "page:*".to_owned(),
        98 => "row:*".to_owned(),
        _ => "*".to_owned(),
    }
}

/// A key that nothing reads: what is invalidated by it concerns nobody.
pub(crate) const NOBODY: &str = "row:nobody";

#[test]
fn every_kind_of_selector_names_what_it_says() {
    let named = |selector: &str| all().iter().filter(|key| names(selector, key)).count();
    let counts =
        ["*", "row:*", "row:1:*", "row:1:2:*", "row:1:2", "#t1", "page:*", "page:1", NOBODY].map(named);
    assert_eq!(counts, [36, 24, 6, 1, 1, 4, 12, 1, 0]);
}
