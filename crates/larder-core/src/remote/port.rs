//! What the engine asks of a remote tier. `larder-redis` implements it; so does the one in `testing`.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, watch};

use super::lease::{LeaseAnswer, LeaseRequest, Store, Values, Wake};
use crate::log::{Append, Epoch, Lineage, Opened, Record, Stamp};
use crate::runtime::BoxFuture;

/// A remote tier: values, and the invalidation log beside them.
///
/// Every call is one round trip or a few, is never retried behind the caller's back, and may be dropped at any point:
/// what was sent may or may not have been done. Deadlines are the caller's.
pub trait Remote: Send + Sync + 'static {
    /// The bytes under a key. [`RemoteError::is_wrong_type`] if it is no string; one that is read at the same moment as others
    /// may be told as absent then.
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>>;

    /// The bytes under each of these keys, in their order, in one trip to each server that has some. What is no string
    /// may be told as absent.
    fn get_many<'a>(&'a self, keys: &'a [&'a [u8]]) -> BoxFuture<'a, Values>;

    /// Stores bytes, unless the value there has the same line and a greater position, or the lease of this load has
    /// passed to somebody else: see [`StoreLease`](super::StoreLease).
    fn store<'a>(&'a self, key: &'a [u8], store: Store) -> BoxFuture<'a, Result<Stored, RemoteError>>;

    /// Asks for leave to load a key.
    fn lease<'a>(
        &'a self,
        key: &'a [u8],
        request: &'a LeaseRequest,
    ) -> BoxFuture<'a, Result<LeaseAnswer, RemoteError>>;

    /// Has a lease live for `life` from now. False: it is somebody else's, or nobody's.
    fn extend<'a>(
        &'a self,
        key: &'a [u8],
        token: u64,
        life: Duration,
    ) -> BoxFuture<'a, Result<bool, RemoteError>>;

    /// Gives a lease back, and wakes those who wait for it; nothing happens if it is somebody else's by now. `shared`: see
    /// [`Wake::shared`].
    fn release<'a>(
        &'a self,
        key: &'a [u8],
        token: u64,
        shared: bool,
    ) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// The ends of leases that `waiter` was refused. Some may be lost, on the way or because the receiver is slow: whoever
    /// waits asks again every now and then.
    fn wakes(&self, waiter: u64) -> broadcast::Receiver<Wake>;

    /// Counts `bytes` that live for `life` to a share, unless it would hold more than `limit` then: false.
    fn reserve<'a>(
        &'a self,
        share: &'a [u8],
        bytes: u64,
        life: Duration,
        limit: u64,
    ) -> BoxFuture<'a, Result<bool, RemoteError>>;

    /// Takes back what [`reserve`](Self::reserve) has counted, for bytes that would have lived for `left` more.
    fn give_back<'a>(
        &'a self,
        share: &'a [u8],
        bytes: u64,
        left: Duration,
    ) -> BoxFuture<'a, Result<(), RemoteError>>;

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

    /// The records behind `position`, at most `limit`, and where the log stood just before they were read. Answers at
    /// once if there are any or the log stands elsewhere, else when the first one comes, else after `wait`.
    ///
    /// Travels on a connection of its own: nothing else waits for it. Not answered well after `wait`, that connection is
    /// taken for dead: the call fails, and [`log_link`](Self::log_link) goes down.
    fn follow(
        &self,
        position: Epoch,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Round, RemoteError>>;

    /// The records from before `before` (from the last one on if `None`), newest first, at most `limit`: as far back as
    /// the log still has them.
    fn history(&self, before: Option<u64>, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, RemoteError>>;

    /// Some values whose keys begin with one of `under`, and where to go on: see [`Page`]. Every value that exists during the
    /// whole walk is seen, perhaps more than once; values of other keys may be among them. A walk goes by all values of the
    /// server, whatever is asked for: ask for everything in one.
    fn page<'a>(
        &'a self,
        under: &'a [&'a [u8]],
        cursor: Cursor,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, RemoteError>>;

    /// Removes each of these values that still carries the epoch it was seen with. Answers how many that were.
    fn discard<'a>(&'a self, values: &'a [(Vec<u8>, Epoch)]) -> BoxFuture<'a, Result<u64, RemoteError>>;

    /// Begins to connect, if it has not yet; goes on trying until [`close`](Self::close).
    fn connect(&self);

    /// The state of the connection to the values; up if any of them can be reached.
    fn link(&self) -> watch::Receiver<Link>;

    /// The state of the connection to the log. The two may differ: they are other connections, perhaps to other servers.
    fn log_link(&self) -> watch::Receiver<Link>;

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
    /// Yes, and another value has gone; told only to those who [ask](super::Store::measured).
    Replaced {
        /// Its bytes.
        bytes: u64,
        /// How long it would have stayed.
        left: Duration,
    },
    /// No: a value of a later load was there, or the load had lost its lease.
    Overtaken,
}

/// Where a log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last position.
    pub epoch: Epoch,
    /// Where older lines were cut.
    pub lineage: Lineage,
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

/// How far a walk through the values has come. The default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Which server, where there are several.
    pub server: u32,
    /// The server's own cursor.
    pub at: u64,
}

/// Some values, on a walk through all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Name and first bytes of each; as many as [`PEEKED`] at least, if the value has so many.
    pub values: Vec<(Vec<u8>, Bytes)>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// The bytes of a value that a [`Page`] shows: enough for key, epoch and tags of all but odd entries.
pub const PEEKED: usize = 4096;

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

    /// Has the server answered? Then it is known that it did not do as asked.
    pub fn is_answer(&self) -> bool {
        matches!(self.kind, Kind::Refused | Kind::WrongType)
    }

    /// Was there no answer in time?
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::Timeout
    }
}
