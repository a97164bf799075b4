//! Totals over the whole catalog, counted anew each time.

use rusqlite::{Connection, OptionalExtension};

use super::model::Statistics;
use super::rfc3339::rfc3339;

const MOST_USED_TRIGGER: &str =
    "SELECT t.name FROM automation_triggers u JOIN trigger_types t ON t.id = u.type_id
    GROUP BY t.id ORDER BY COUNT(*) DESC, t.name LIMIT 1";
const MOST_USED_ACTION: &str =
    "SELECT t.name FROM automation_actions u JOIN action_types t ON t.id = u.type_id
    GROUP BY t.id ORDER BY COUNT(*) DESC, t.name LIMIT 1";

pub(super) fn statistics(transaction: &Connection, now_ms: u64) -> rusqlite::Result<Statistics> {
    let number = |sql| transaction.prepare_cached(sql)?.query_row([], |row| row.get::<_, u32>(0));
    let name = |sql| transaction.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional();
    Ok(Statistics {
        repositories: number("SELECT COUNT(*) FROM repositories")?,
        automations: number("SELECT COUNT(*) FROM automations")?,
        triggers: number("SELECT COUNT(DISTINCT type_id) FROM automation_triggers")?,
        actions: number("SELECT COUNT(DISTINCT type_id) FROM automation_actions")?,
        blueprints: number("SELECT COUNT(DISTINCT blueprint_path) FROM automations")?,
        stars: stars(transaction)?,
        most_used_trigger: name(MOST_USED_TRIGGER)?,
        most_used_action: name(MOST_USED_ACTION)?,
        last_updated: rfc3339(now_ms),
    })
}

fn stars(transaction: &Connection) -> rusqlite::Result<u64> {
    let sum: i64 =
        transaction.query_row("SELECT COALESCE(SUM(stars), 0) FROM repositories", [], |row| row.get(0))?;
    u64::try_from(sum).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, sum))
}
