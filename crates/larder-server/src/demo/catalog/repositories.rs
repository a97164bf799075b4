//! Looking at single repositories, and changing them.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::CatalogError;
use super::facets::facet_count;
use super::generate::{add_automations, stored_ms};
use super::model::{NewRepository, RepositoryDetail};
use super::rfc3339::rfc3339;

/// The longest owner, name and description, in characters.
const MAX_OWNER_CHARS: usize = 39;
const MAX_NAME_CHARS: usize = 100;
const MAX_DESCRIPTION_CHARS: usize = 500;

/// Up to five trigger types: see [`RepositoryDetail::top_triggers`].
const TOP_TRIGGERS: &str = "SELECT t.name, COUNT(*) AS automations
    FROM automations a
    JOIN automation_triggers u ON u.automation_id = a.id
    JOIN trigger_types t ON t.id = u.type_id
    WHERE a.repository_id = ?1
    GROUP BY t.id ORDER BY automations DESC, t.name LIMIT 5";

pub(super) fn detail(transaction: &Connection, id: i64) -> rusqlite::Result<Option<RepositoryDetail>> {
    let found = transaction
        .prepare_cached(
            "SELECT id, owner, name, description, stars, updated_ms,
                (SELECT COUNT(*) FROM automations WHERE repository_id = ?1)
             FROM repositories WHERE id = ?1",
        )?
        .query_row([id], without_triggers)
        .optional()?;
    let Some(mut detail) = found else { return Ok(None) };
    detail.top_triggers = transaction
        .prepare_cached(TOP_TRIGGERS)?
        .query_map([id], facet_count)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(detail))
}

fn without_triggers(row: &Row<'_>) -> rusqlite::Result<RepositoryDetail> {
    let updated_ms: i64 = row.get(5)?;
    Ok(RepositoryDetail {
        id: row.get(0)?,
        owner: row.get(1)?,
        name: row.get(2)?,
        description: row.get(3)?,
        stars: row.get(4)?,
        updated: rfc3339(u64::try_from(updated_ms).unwrap_or(0)),
        automations: row.get(6)?,
        top_triggers: Vec::new(),
    })
}

/// The number that the next repository gets, unless another process is faster.
pub(super) fn next_id(transaction: &Connection) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached("SELECT seq + 1 FROM sqlite_sequence WHERE name = 'repositories'")?
        .query_row([], |row| row.get(0))
}

/// Adds a repository with a few automations; none if that owner and name are taken.
pub(super) fn add(
    transaction: &Connection,
    new: &NewRepository,
    now_ms: u64,
) -> rusqlite::Result<Option<RepositoryDetail>> {
    let added = transaction.execute(
        "INSERT INTO repositories (owner, name, description, stars, updated_ms) VALUES (?1, ?2, ?3, 0, ?4)
         ON CONFLICT (owner, name) DO NOTHING",
        params![new.owner, new.name, new.description, stored_ms(now_ms)],
    )?;
    if added == 0 {
        return Ok(None);
    }
    let id = transaction.last_insert_rowid();
    add_automations(transaction, id, &format!("{}/{}", new.owner, new.name))?;
    detail(transaction, id)
}

pub(super) fn describe(
    transaction: &Connection,
    id: i64,
    description: &str,
    now_ms: u64,
) -> rusqlite::Result<Option<RepositoryDetail>> {
    transaction.execute(
        "UPDATE repositories SET description = ?2, updated_ms = ?3 WHERE id = ?1",
        params![id, description, stored_ms(now_ms)],
    )?;
    detail(transaction, id)
}

/// Deletes the repository; its automations and their parts go with it by the tables' own rules.
pub(super) fn delete(transaction: &Connection, id: i64) -> rusqlite::Result<bool> {
    Ok(transaction.execute("DELETE FROM repositories WHERE id = ?1", [id])? > 0)
}

pub(super) fn check_new(new: &NewRepository) -> Result<(), CatalogError> {
    check_slug("owner", &new.owner, MAX_OWNER_CHARS)?;
    check_slug("name", &new.name, MAX_NAME_CHARS)?;
    check_description(&new.description)
}

pub(super) fn check_description(description: &str) -> Result<(), CatalogError> {
    check_length("description", description, MAX_DESCRIPTION_CHARS)
}

/// A slash would make `owner/name` ambiguous, so only signs that are safe in a path are let in.
fn check_slug(field: &'static str, text: &str, limit: usize) -> Result<(), CatalogError> {
    check_length(field, text, limit)?;
    if !text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.')) {
        let rule = "must consist of letters, digits, '-', '_' and '.'".to_owned();
        return Err(CatalogError::Invalid { field, rule });
    }
    Ok(())
}

fn check_length(field: &'static str, text: &str, limit: usize) -> Result<(), CatalogError> {
    if text.trim().is_empty() {
        return Err(CatalogError::Invalid { field, rule: "must not be empty".to_owned() });
    }
    if text.chars().count() > limit {
        return Err(CatalogError::Invalid { field, rule: format!("must have at most {limit} characters") });
    }
    Ok(())
}
