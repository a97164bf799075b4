//! Leases: what a remote tier keeps so that one process at a time loads a key.

use std::time::Duration;

use bytes::Bytes;

use super::RemoteError;
use crate::log::Epoch;

/// What is to be stored under a key.
#[derive(Clone, Debug)]
pub struct Store {
    /// The bytes; they carry the epoch where [`EPOCH_OFFSET`](crate::EPOCH_OFFSET) says.
    pub bytes: Bytes,
    /// How long they stay.
    pub life: Duration,
    /// Where the log stood when their load began.
    pub epoch: Epoch,
    /// What the store has to do with the lease of the key.
    pub lease: StoreLease,
    /// Is the answer to say what was replaced?
    pub measured: bool,
}

/// What a store has to do with the lease of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreLease {
    /// Nothing.
    Apart,
    /// It ends the load that has this lease: refused if the lease has passed to somebody else, or has run out and a value
    /// of no smaller position is there. Stored or not, a lease that is still this one is released, and those who wait for
    /// it are woken.
    Ends(u64),
    /// Nothing; and refused if there is a value already, unless it is of an earlier load of the same line. For what is given
    /// back to a tier that may have lost it: what others have stored meanwhile may be newer, whatever the positions say.
    Yields,
    /// A value put by hand: whoever holds the lease loses it, so that what he loads does not take the place of this.
    Breaks,
}

/// One who would like to load a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Names the lease, if it is granted. Never given out twice.
    pub token: u64,
    /// Where the log stands for the one who asks.
    pub epoch: Epoch,
    /// How long the lease lives, unless it is extended.
    pub life: Duration,
    /// How the value begins that the caller has seen and cannot use: that value is no answer. As many bytes as tell it from
    /// any other ([`REJECTED_BYTES`]); not the epoch alone, because two loads with no invalidation between have the same.
    pub rejected: Option<Bytes>,
    /// The token of a lease whose load is in vain, because what it began to read has been invalidated: it is taken over.
    pub vain: Option<u64>,
    /// Whom to wake: the number under which [`wakes`](super::Remote::wakes) was called.
    pub waiter: u64,
}

/// The bytes at the beginning of a value that tell it from others: the header, in which stand when it was stored, and
/// checksums of key, tags and payload.
pub const REJECTED_BYTES: usize = 88;

/// What became of a [`LeaseRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// The caller loads.
    Granted,
    /// There is a value now.
    Value(Bytes),
    /// Somebody else loads. The caller will be woken, or finds out by asking again.
    Held {
        /// The lease's name.
        token: u64,
        /// Where the log stood for its holder.
        epoch: Epoch,
        /// How long it still lives, unless it is extended.
        left: Duration,
    },
}

/// A lease that somebody waited for has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Of this key.
    pub key: Bytes,
    /// False: its answer was for its first caller alone, and the next one will be too.
    pub shared: bool,
}

/// One answer per key.
pub type Values = Vec<Result<Option<Bytes>, RemoteError>>;
