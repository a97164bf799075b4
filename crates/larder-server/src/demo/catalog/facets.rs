//! Counting the matching automations by repository, blueprint, trigger and action.

use rusqlite::{Connection, Row, params_from_iter};

use super::filters::Condition;
use super::model::{FacetCount, Facets};

/// The most values a facet lists.
pub const MAX_FACET_VALUES: u32 = 50;

/// One way to sort automations into groups.
struct Grouping {
    label: &'static str,
    /// What to join to `automations a`.
    join: &'static str,
    /// A further condition on the automations counted.
    only: &'static str,
}

const BY_REPOSITORY: Grouping = Grouping {
    label: "r.owner || '/' || r.name",
    join: "JOIN repositories r ON r.id = a.repository_id",
    only: "TRUE",
};
const BY_BLUEPRINT: Grouping =
    Grouping { label: "a.blueprint_path", join: "", only: "a.blueprint_path IS NOT NULL" };
const BY_TRIGGER: Grouping = Grouping {
    label: "t.name",
    join: "JOIN automation_triggers u ON u.automation_id = a.id JOIN trigger_types t ON t.id = u.type_id",
    only: "TRUE",
};
const BY_ACTION: Grouping = Grouping {
    label: "t.name",
    join: "JOIN automation_actions u ON u.automation_id = a.id JOIN action_types t ON t.id = u.type_id",
    only: "TRUE",
};

pub(super) fn facets(transaction: &Connection, condition: &Condition) -> rusqlite::Result<Facets> {
    Ok(Facets {
        repositories: count(transaction, &BY_REPOSITORY, condition)?,
        blueprints: count(transaction, &BY_BLUEPRINT, condition)?,
        triggers: count(transaction, &BY_TRIGGER, condition)?,
        actions: count(transaction, &BY_ACTION, condition)?,
    })
}

fn count(
    transaction: &Connection,
    Grouping { label, join, only }: &Grouping,
    Condition { sql, values }: &Condition,
) -> rusqlite::Result<Vec<FacetCount>> {
    let sql = format!(
        "SELECT {label} AS label, COUNT(*) AS automations
         FROM automations a {join}
         WHERE {only} AND {sql}
         GROUP BY label
         ORDER BY automations DESC, label
         LIMIT {MAX_FACET_VALUES}"
    );
    transaction.prepare_cached(&sql)?.query_map(params_from_iter(values), facet_count)?.collect()
}

/// Reads a row of a name and a count.
pub(super) fn facet_count(row: &Row<'_>) -> rusqlite::Result<FacetCount> {
    Ok(FacetCount { name: row.get(0)?, count: row.get(1)? })
}
