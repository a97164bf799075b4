//! Finding a catalog in a file, or making one there exactly once.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::pool::Pool;
use super::schema::Contents;
use super::{CatalogError, Level, generate};

/// How long SQLite waits for a lock held by someone else. The longest holder is a process that makes a level 3 catalog,
/// which takes a third of a second when built for release; the rest is for debug builds and slow disks.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// Statements kept prepared per connection: 16 combinations of filters for each of 4 facets and 2 searches, and a few
/// that never vary.
const STATEMENTS_KEPT: usize = 128;

/// Opens the catalog in the file, which is made first if there is none.
pub(super) fn open(path: &Path, level: Level, now_ms: u64) -> Result<Pool, CatalogError> {
    // A full path is always a file: by themselves `:memory:` and the empty path mean something else to SQLite.
    let path = &std::path::absolute(path)
        .map_err(|source| CatalogError::Path { path: path.to_path_buf(), source })?;
    let mut contents = look(path)?;
    if contents == Contents::Empty {
        make(path, level, now_ms).map_err(|source| refused(path, source))?;
        contents = look(path)?;
    }
    contents.must_be(level, path)?;
    Pool::open(|| connect(path)).map_err(|source| refused(path, source))
}

/// What the file holds right now; waits for a process that is just making it.
fn look(path: &Path) -> Result<Contents, CatalogError> {
    let look = || {
        let mut connection = connect(path)?;
        let transaction = connection.transaction()?;
        Contents::of(&transaction)
    };
    look().map_err(|source| refused(path, source))
}

/// Makes the catalog, unless another process was faster.
///
/// Everyone who finds the file empty comes here, and the exclusive transaction lets them in one by one: the first
/// generates, the others wait, look again and leave. A crash rolls back to an empty file, so a half-made catalog is
/// never seen.
///
/// Write-ahead logging is switched on afterwards, because SQLite cannot do it inside a transaction. It wants the file
/// to itself and does not wait for that, so the lock is carried over the end of the transaction: a connection in
/// exclusive mode keeps what it holds until it is closed. (Asking for that mode before the transaction would be a
/// mistake: two connections would each keep a read lock and wait for each other.)
fn make(path: &Path, level: Level, now_ms: u64) -> rusqlite::Result<()> {
    let mut connection = connect(path)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    if Contents::of(&transaction)? != Contents::Empty {
        return Ok(());
    }
    generate::fill(&transaction, level, now_ms)?;
    transaction.pragma_update(None, "locking_mode", "exclusive")?;
    transaction.commit()?;
    // Where the file system cannot do it the old journal stays, which is slower and just as correct.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.close().map_err(|(_, source)| source)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // No lock of SQLite's own per connection: each of ours is used by one thread at a time.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCK_WAIT)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(connection)
}

fn refused(path: &Path, source: rusqlite::Error) -> CatalogError {
    let path = path.to_path_buf();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            CatalogError::NotACatalog { path, reason: "it is no SQLite database at all" }
        }
        _ => CatalogError::Open { path, source },
    }
}
