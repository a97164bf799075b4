//! What happens on the simulated servers, for whoever watches them.

use std::sync::Arc;

use crate::log::{Append, Epoch, Record, RecordBody};
use crate::remote::{LeaseRequest, StoreLease};

/// Something a watcher of the server may want to know, told while it happens.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A record was appended.
    Appended {
        /// By whom: [`TestRemote::id`](super::TestRemote::id).
        by: u64,
        /// On the primary? Else on one that was deposed and does not know.
        primary: bool,
        /// The record.
        record: Arc<Record>,
    },
    /// A value was stored.
    Stored {
        /// By whom.
        by: u64,
        /// Under this key.
        key: Vec<u8>,
        /// The epoch of the value it took the place of.
        over: Option<Epoch>,
        /// Its own epoch.
        epoch: Epoch,
        /// What the store said of the lease.
        lease: StoreLease,
        /// The lease that lived then.
        held: Option<u64>,
    },
    /// A lease was granted.
    Leased {
        /// To whom.
        by: u64,
        /// On the primary?
        primary: bool,
        /// Of this key.
        key: Vec<u8>,
        /// What was asked for.
        request: LeaseRequest,
        /// The lease that lived then.
        held: Option<u64>,
    },
    /// A lease was refused: somebody else has it.
    Refused {
        /// To whom.
        by: u64,
        /// By this server.
        server: u64,
        /// Of this key.
        key: Vec<u8>,
        /// What was asked for.
        request: LeaseRequest,
        /// Which one lives.
        held: u64,
    },
    /// A lease lives on, from now for as long as when it was granted.
    Extended {
        /// Its name.
        token: u64,
    },
    /// A lease has ended.
    Ended {
        /// On this server.
        server: u64,
        /// Its name.
        token: u64,
        /// How.
        how: LeaseEnd,
    },
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// With the store of what was loaded.
    Stored,
    /// A value put by hand took it away.
    Broken,
    /// It was given back.
    Released {
        /// False: others need not wait for what it was for.
        shared: bool,
    },
}

/// Is told what happens on the servers.
pub type Watcher = Box<dyn Fn(&Happening) + Send + Sync>;

impl Happening {
    /// The invalidation, if this is one that was appended to the primary's log.
    pub fn invalidation(&self) -> Option<(u64, &Append)> {
        match self {
            Happening::Appended { by, primary: true, record } => match &record.body {
                RecordBody::Invalidation(append) => Some((*by, append)),
                RecordBody::Marker | RecordBody::Unknown => None,
            },
            _ => None,
        }
    }
}
