//! What the engine asks of a remote tier. `larder-redis` implements it; so does the one in `testing`.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::log::{Append, Epoch, Opened, Record, Stamp};
use crate::runtime::BoxFuture;

/// A remote tier: values, and the invalidation log beside them.
///
/// Every call is one round trip or a few, is never retried behind the caller's back, and may be dropped at any point:
/// what was sent may or may not have been done. Deadlines are the caller's.
pub trait Remote: Send + Sync + 'static {
    /// The bytes under a key. [`RemoteError::is_wrong_type`] if it is no string.
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>>;

    /// Stores bytes for `life`, unless the value there has the same line and a greater position. The bytes carry the
    /// epoch where [`EPOCH_OFFSET`](crate::EPOCH_OFFSET) says.
    fn store<'a>(
        &'a self,
        key: &'a [u8],
        bytes: Bytes,
        life: Duration,
        epoch: Epoch,
    ) -> BoxFuture<'a, Result<Stored, RemoteError>>;

    /// Removes a value.
    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Opens the log for a node that stands at `position`. Begins a line named `nonce` where the protocol wants one.
    fn open(&self, position: Option<Epoch>, nonce: u64) -> BoxFuture<'_, Result<Opened, RemoteError>>;

    /// Appends a record and answers its position.
    fn append<'a>(
        &'a self,
        record: &'a Append,
        position: Option<Epoch>,
        nonce: u64,
    ) -> BoxFuture<'a, Result<Epoch, RemoteError>>;

    /// Reads the stamps: at least every one that exists during the whole call.
    fn scan(&self) -> BoxFuture<'_, Result<Vec<Stamp>, RemoteError>>;

    /// Where the log stands; `None` if it has no state.
    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, RemoteError>>;

    /// The records behind `position`, at most `limit`, and where the log stands.
    fn read(&self, position: Epoch, limit: usize) -> BoxFuture<'_, Result<Round, RemoteError>>;

    /// Begins to connect, if it has not yet; goes on trying until [`close`](Self::close).
    fn connect(&self);

    /// The state of the connection.
    fn link(&self) -> watch::Receiver<Link>;

    /// Lets go of the connection for good.
    fn close(&self);

    /// What to call it in logs and health: never with a password.
    fn describe(&self) -> String;
}

/// Was a value stored?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Yes.
    Stored,
    /// No: a value of a later load was there.
    Overtaken,
}

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last position.
    pub epoch: Epoch,
    /// How far back the stamps reach.
    pub since: u64,
}

/// One look at the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Where it stands; taken before `records` were read.
    pub head: Option<Epoch>,
    /// What came behind the position asked for, in order.
    pub records: Vec<Record>,
}

/// The connection to a remote tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// No connection now.
    Down {
        /// Why; for people. Empty before the first attempt has ended.
        reason: String,
    },
    /// Connected.
    Up {
        /// Differs from one connection to the next.
        generation: u64,
    },
    /// Closed by [`Remote::close`].
    Closed,
}

/// Why a remote tier did not do as asked. No read fails because of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct RemoteError {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Kind {
    #[error("not connected")]
    Disconnected,
    #[error("no answer in time")]
    Timeout,
    #[error("refused")]
    Refused,
    #[error("another type of value")]
    WrongType,
}

impl RemoteError {
    /// There is no connection, or it broke.
    pub fn disconnected(message: impl Into<String>) -> Self {
        RemoteError { kind: Kind::Disconnected, message: message.into() }
    }

    /// No answer within `limit`.
    pub fn timeout(limit: Duration) -> Self {
        RemoteError { kind: Kind::Timeout, message: format!("waited {limit:?}") }
    }

    /// The server answered with an error, or with something that makes no sense.
    pub fn refused(message: impl Into<String>) -> Self {
        RemoteError { kind: Kind::Refused, message: message.into() }
    }

    /// The key holds a list, a hash or the like.
    pub fn wrong_type(message: impl Into<String>) -> Self {
        RemoteError { kind: Kind::WrongType, message: message.into() }
    }

    /// Does the key hold another type of value? That says nothing bad of the server.
    pub fn is_wrong_type(&self) -> bool {
        self.kind == Kind::WrongType
    }

    /// Was there no answer in time?
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::Timeout
    }
}
