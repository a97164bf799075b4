//! Listing the matching automations, page by page.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::CatalogError;
use super::filters::Condition;
use super::model::{AutomationSummary, SearchPage};

/// How many results a page has.
pub const PER_PAGE: u32 = 20;

/// Refuses page 0: pages are counted from 1.
pub(super) fn check_page(page: u32) -> Result<(), CatalogError> {
    if page == 0 {
        return Err(CatalogError::Invalid { field: "page", rule: "must be 1 or more".to_owned() });
    }
    Ok(())
}

/// A page past the last one is empty.
pub(super) fn search(
    transaction: &Connection,
    condition: &Condition,
    page: u32,
) -> rusqlite::Result<SearchPage> {
    Ok(SearchPage {
        total: total(transaction, condition)?,
        page,
        per_page: PER_PAGE,
        results: results(transaction, condition, page)?,
    })
}

fn total(transaction: &Connection, Condition { sql, values }: &Condition) -> rusqlite::Result<u32> {
    transaction
        .prepare_cached(&format!("SELECT COUNT(*) FROM automations a WHERE {sql}"))?
        .query_row(params_from_iter(values), |row| row.get(0))
}

fn results(
    transaction: &Connection,
    Condition { sql, values }: &Condition,
    page: u32,
) -> rusqlite::Result<Vec<AutomationSummary>> {
    let sql = format!(
        "SELECT a.id, a.alias, a.description, r.id, r.owner || '/' || r.name, a.blueprint_path
         FROM automations a JOIN repositories r ON r.id = a.repository_id
         WHERE {sql}
         ORDER BY r.stars DESC, a.id
         LIMIT {PER_PAGE} OFFSET ?"
    );
    let skipped = Value::Integer(i64::from(PER_PAGE) * (i64::from(page) - 1));
    let mut found: Vec<AutomationSummary> = transaction
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values.iter().chain([&skipped])), summary)?
        .collect::<rusqlite::Result<_>>()?;
    for automation in &mut found {
        automation.triggers = part_names(transaction, TRIGGER_NAMES, automation.id)?;
        automation.actions = part_names(transaction, ACTION_NAMES, automation.id)?;
    }
    Ok(found)
}

/// The parts are filled in later, from tables of their own.
fn summary(row: &Row<'_>) -> rusqlite::Result<AutomationSummary> {
    Ok(AutomationSummary {
        id: row.get(0)?,
        alias: row.get(1)?,
        description: row.get(2)?,
        repository_id: row.get(3)?,
        repository: row.get(4)?,
        blueprint: row.get(5)?,
        triggers: Vec::new(),
        actions: Vec::new(),
    })
}

const TRIGGER_NAMES: &str =
    "SELECT t.name FROM automation_triggers u JOIN trigger_types t ON t.id = u.type_id
    WHERE u.automation_id = ?1 ORDER BY t.name";
const ACTION_NAMES: &str = "SELECT t.name FROM automation_actions u JOIN action_types t ON t.id = u.type_id
    WHERE u.automation_id = ?1 ORDER BY t.name";

fn part_names(transaction: &Connection, sql: &str, automation_id: i64) -> rusqlite::Result<Vec<String>> {
    transaction.prepare_cached(sql)?.query_map([automation_id], |row| row.get(0))?.collect()
}
