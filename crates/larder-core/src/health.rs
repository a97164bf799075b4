//! How a cache is, for people and for probes.

use serde::Serialize;

use crate::engine::Engine;
use crate::remote::{BreakerState, Link};

/// How a cache is.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// `ok`, `degraded` (the remote tier is out of reach: reads go on from memory and loaders) or `off`.
    pub status: &'static str,
    /// The remote tier, if there is one.
    pub remote: Option<RemoteHealth>,
    /// Entries in memory.
    pub memory_entries: usize,
    /// What they weigh, in bytes.
    pub memory_bytes: u64,
    /// The bound on that.
    pub memory_bound: u64,
}

/// How the remote tier is.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RemoteHealth {
    /// Which: an address without credentials.
    pub address: String,
    /// Is there a connection?
    pub connected: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The breaker.
    pub breaker: BreakerState,
    /// Has this node opened the log? Before, nothing is stored remotely.
    pub synchronised: bool,
    /// Where this node's log stands.
    pub position: Option<String>,
    /// Invalidations that wait to be delivered.
    pub pending_invalidations: usize,
}

impl Health {
    pub(crate) fn of(engine: &Engine) -> Self {
        let remote = engine.remote.as_ref().map(|side| {
            let (connected, reason) = match &*side.remote.link().borrow() {
                Link::Up { .. } => (true, None),
                Link::Down { reason } if reason.is_empty() => (false, Some("connecting".to_owned())),
                Link::Down { reason } => (false, Some(reason.clone())),
                Link::Closed => (false, Some("closed".to_owned())),
            };
            let position = engine.node.position();
            RemoteHealth {
                address: side.remote.describe(),
                connected,
                reason,
                breaker: side.breaker.state(),
                synchronised: position.is_some(),
                position: position.map(|p| p.to_string()),
                pending_invalidations: engine.node.pending(),
            }
        });
        let well = remote
            .as_ref()
            .is_none_or(|r| r.connected && r.synchronised && r.breaker == BreakerState::Closed);
        let status = match (engine.enabled, well) {
            (false, _) => "off",
            (true, true) => "ok",
            (true, false) => "degraded",
        };
        Health {
            status,
            remote,
            memory_entries: engine.memory.entries(),
            memory_bytes: engine.memory.bytes(),
            memory_bound: engine.memory.bound(),
        }
    }
}
