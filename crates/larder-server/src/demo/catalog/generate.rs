//! Writing made-up data into the tables.

use rusqlite::{CachedStatement, Connection, params};

use super::draft::{self, AutomationDraft, AutomationMaker, RepositoryDraft};
use super::random::Random;
use super::{Level, schema, words};

/// How many automations a repository added later comes with: this many, or up to `ADDED_SPREAD - 1` more.
const ADDED_AT_LEAST: u64 = 3;
const ADDED_SPREAD: u64 = 4;

/// Fills a new catalog. The same level and time give the same rows.
pub(super) fn fill(transaction: &Connection, level: Level, now_ms: u64) -> rusqlite::Result<()> {
    schema::create(transaction, level, now_ms)?;
    insert_types(transaction, "INSERT INTO trigger_types (id, name) VALUES (?1, ?2)", words::TRIGGERS)?;
    insert_types(transaction, "INSERT INTO action_types (id, name) VALUES (?1, ?2)", words::ACTIONS)?;

    let mut random = Random::new(u64::from(level.number()));
    let maker = AutomationMaker::new();
    let mut inserts = AutomationInserts::new(transaction)?;
    for repository in draft::repositories(&mut random, level.repositories(), level.automations(), now_ms) {
        let id = insert_repository(transaction, &repository)?;
        for _ in 0..repository.automations {
            inserts.insert(id, &maker.draft(&mut random))?;
        }
    }
    Ok(())
}

/// Gives a repository that was just added a few automations, chosen by its name.
pub(super) fn add_automations(
    transaction: &Connection,
    repository_id: i64,
    name: &str,
) -> rusqlite::Result<()> {
    let mut random = Random::from_text(name);
    let maker = AutomationMaker::new();
    let mut inserts = AutomationInserts::new(transaction)?;
    for _ in 0..ADDED_AT_LEAST + random.below(ADDED_SPREAD) {
        inserts.insert(repository_id, &maker.draft(&mut random))?;
    }
    Ok(())
}

/// The number of a type is its place in the list, counted from 1.
fn insert_types(transaction: &Connection, sql: &str, names: &[&str]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare(sql)?;
    for (place, name) in names.iter().enumerate() {
        insert.execute(params![type_id(place), name])?;
    }
    Ok(())
}

fn type_id(place: usize) -> i64 {
    i64::try_from(place).expect("the lists of types are short") + 1
}

fn insert_repository(transaction: &Connection, draft: &RepositoryDraft) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached(
            "INSERT INTO repositories (owner, name, description, stars, updated_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .insert(params![draft.owner, draft.name, draft.description, draft.stars, stored_ms(draft.updated_ms)])
}

/// A time as SQLite keeps it. Its integers are signed; times past the year 292 million are kept as the last one.
pub(super) fn stored_ms(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms).unwrap_or(i64::MAX)
}

struct AutomationInserts<'t> {
    automation: CachedStatement<'t>,
    trigger: CachedStatement<'t>,
    action: CachedStatement<'t>,
}

impl<'t> AutomationInserts<'t> {
    fn new(transaction: &'t Connection) -> rusqlite::Result<AutomationInserts<'t>> {
        Ok(AutomationInserts {
            automation: transaction.prepare_cached(
                "INSERT INTO automations (repository_id, alias, description, source_path, blueprint_path)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            trigger: transaction
                .prepare_cached("INSERT INTO automation_triggers (automation_id, type_id) VALUES (?1, ?2)")?,
            action: transaction
                .prepare_cached("INSERT INTO automation_actions (automation_id, type_id) VALUES (?1, ?2)")?,
        })
    }

    fn insert(&mut self, repository_id: i64, draft: &AutomationDraft) -> rusqlite::Result<()> {
        let id = self.automation.insert(params![
            repository_id,
            draft.alias,
            draft.description,
            draft.source_path,
            draft.blueprint_path
        ])?;
        for &place in &draft.triggers {
            self.trigger.execute([id, type_id(place)])?;
        }
        for &place in &draft.actions {
            self.action.execute([id, type_id(place)])?;
        }
        Ok(())
    }
}
