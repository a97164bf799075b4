//! The tables, and how a file is recognised as a catalog.

use std::path::Path;

use rusqlite::Connection;

use super::{CatalogError, Level};

/// Written into the file's header ("LRDR"), so that another program's database is never taken for ours.
const APPLICATION_ID: i32 = 0x4c52_4452;
/// Counted up whenever the tables or the generated data change.
const SCHEMA_VERSION: i32 = 1;

/// `automation_triggers` and `automation_actions` have an index both ways, because filters walk from a type to its
/// automations and results walk from an automation to its types. There is none for the text search: a `LIKE` that
/// starts with a wildcard reads every row, and that cost is what the demo is about.
const TABLES: &str = "
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE repositories (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        owner TEXT NOT NULL COLLATE NOCASE,
        name TEXT NOT NULL COLLATE NOCASE,
        description TEXT NOT NULL,
        stars INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL,
        UNIQUE (owner, name)
    );

    CREATE TABLE automations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        repository_id INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
        alias TEXT NOT NULL,
        description TEXT NOT NULL,
        source_path TEXT NOT NULL,
        blueprint_path TEXT
    );
    CREATE INDEX automations_by_repository ON automations (repository_id);
    CREATE INDEX automations_by_blueprint ON automations (blueprint_path);

    CREATE TABLE trigger_types (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    );
    CREATE TABLE automation_triggers (
        automation_id INTEGER NOT NULL REFERENCES automations (id) ON DELETE CASCADE,
        type_id INTEGER NOT NULL REFERENCES trigger_types (id),
        PRIMARY KEY (automation_id, type_id)
    ) WITHOUT ROWID;
    CREATE INDEX automation_triggers_by_type ON automation_triggers (type_id, automation_id);

    CREATE TABLE action_types (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    );
    CREATE TABLE automation_actions (
        automation_id INTEGER NOT NULL REFERENCES automations (id) ON DELETE CASCADE,
        type_id INTEGER NOT NULL REFERENCES action_types (id),
        PRIMARY KEY (automation_id, type_id)
    ) WITHOUT ROWID;
    CREATE INDEX automation_actions_by_type ON automation_actions (type_id, automation_id);
";

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Contents {
    /// Nothing at all: a new file, or one whose generation was interrupted and rolled back.
    Empty,
    /// A catalog of this level.
    Catalog(Level),
    /// Something that must be left alone, and what it is.
    Other(&'static str),
}

impl Contents {
    /// Looks, without changing anything. The caller must hold a transaction: the answers below have to be about one
    /// moment, or a catalog just being finished by someone else would look like a stranger's database.
    pub(super) fn of(transaction: &Connection) -> rusqlite::Result<Contents> {
        let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let version = pragma("user_version")?;
        if pragma("application_id")? != APPLICATION_ID {
            let tables: u32 =
                transaction.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))?;
            return Ok(if tables == 0 {
                Contents::Empty
            } else {
                Contents::Other("it is another SQLite database")
            });
        }
        if version != SCHEMA_VERSION {
            return Ok(Contents::Other("it was made by another version of larder"));
        }
        let level: String =
            transaction.query_row("SELECT value FROM meta WHERE key = 'level'", [], |row| row.get(0))?;
        Ok(level.parse().map_or(Contents::Other("its level is unknown"), Contents::Catalog))
    }

    /// Agrees to a catalog of the wanted level and to nothing else.
    pub(super) fn must_be(self, wanted: Level, path: &Path) -> Result<(), CatalogError> {
        let path = || path.to_path_buf();
        match self {
            Contents::Catalog(found) if found == wanted => Ok(()),
            Contents::Catalog(found) => Err(CatalogError::WrongLevel { path: path(), found, wanted }),
            Contents::Empty => Err(CatalogError::NotACatalog { path: path(), reason: "it is empty" }),
            Contents::Other(reason) => Err(CatalogError::NotACatalog { path: path(), reason }),
        }
    }
}

/// Makes the tables and marks the file as a catalog. Undone as a whole if the transaction is rolled back.
pub(super) fn create(transaction: &Connection, level: Level, now_ms: u64) -> rusqlite::Result<()> {
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO meta (key, value) VALUES ('level', ?1), ('made', ?2)",
        [level.to_string(), now_ms.to_string()],
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)
}

/// When the catalog was made, as text.
pub(super) fn made(transaction: &Connection) -> rusqlite::Result<String> {
    transaction.query_row("SELECT value FROM meta WHERE key = 'made'", [], |row| row.get(0))
}
