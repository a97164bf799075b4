//! A handful of connections, shared by all clones of a catalog.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::CatalogError;

/// Connections for reading. More would only queue for the processor: every query here is work, not waiting.
const READERS: usize = 4;

/// How long a caller waits for a connection. The slowest query takes a fraction of a second, so this is dozens of
/// callers deep.
const TURN_WAIT: Duration = Duration::from_secs(10);

pub(super) struct Pool {
    readers: [Mutex<Connection>; READERS],
    /// Whose turn it is when no reader is free.
    turn: AtomicUsize,
    /// One writer, because SQLite lets one write at a time anyway; here the wait is fair.
    writer: Mutex<Connection>,
}

impl Pool {
    pub(super) fn open(connect: impl Fn() -> rusqlite::Result<Connection>) -> rusqlite::Result<Pool> {
        let reader = || -> rusqlite::Result<Mutex<Connection>> {
            let connection = connect()?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(Mutex::new(connection))
        };
        Ok(Pool {
            readers: [reader()?, reader()?, reader()?, reader()?],
            turn: AtomicUsize::new(0),
            writer: Mutex::new(connect()?),
        })
    }

    /// Runs a read. All its queries see the same moment, whatever is written meanwhile.
    pub(super) fn read<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        let mut reader = self.reader().ok_or(CatalogError::Busy { doing, waited: TURN_WAIT })?;
        let run = || work(&reader.transaction()?);
        run().map_err(|source| CatalogError::Database { doing, source })
    }

    /// Runs a change: all of it, or after an error nothing of it.
    pub(super) fn write<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        let mut writer =
            self.writer.try_lock_for(TURN_WAIT).ok_or(CatalogError::Busy { doing, waited: TURN_WAIT })?;
        let run = || {
            // Immediate: a transaction that reads first and writes later could not wait for another process.
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        run().map_err(|source| CatalogError::Database { doing, source })
    }

    /// A free reader; if there is none, callers queue at the readers in turn. One may then wait a little although
    /// another reader has become free, which costs at most one query.
    fn reader(&self) -> Option<MutexGuard<'_, Connection>> {
        self.readers.iter().find_map(Mutex::try_lock).or_else(|| {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % READERS;
            self.readers[turn].try_lock_for(TURN_WAIT)
        })
    }
}
