//! How a cache is, for people and for probes.

use std::time::Duration;

use serde::Serialize;

use crate::engine::Engine;
use crate::log::LogState;
use crate::remote::{BreakerState, Link};
use crate::runtime::Moment;

/// An invalidation that waits for longer than this degrades the cache: several attempts have failed by then, and other
/// nodes still serve what it names.
const QUEUED_TOO_LONG: Duration = Duration::from_secs(5);

/// How a cache is.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// `ok`, `degraded` (the remote tier is out of reach: reads go on from memory and loaders; an invalidation has waited
    /// for it for more than 5 s; or a load hangs) or `off`.
    pub status: &'static str,
    /// The remote tier, if there is one.
    pub remote: Option<RemoteHealth>,
    /// Entries in memory.
    pub memory_entries: usize,
    /// What they weigh, in bytes.
    pub memory_bytes: u64,
    /// The bound on that.
    pub memory_bound: u64,
    /// Loads that are past their deadline and still run, because they block their thread.
    pub hung_loads: usize,
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
    /// The invalidation log.
    pub log: LogHealth,
}

/// How this node stands to the invalidation log.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LogHealth {
    /// Following it, catching up, or cut off.
    pub state: LogState,
    /// Where this node stands. `None` before it has opened the log for the first time: until then nothing is stored
    /// remotely.
    pub position: Option<String>,
    /// How long ago it was last known to be caught up, in milliseconds. About a second when all is well.
    pub lag_ms: Option<u64>,
    /// Why it does not do as asked: the last error of reading it or of adding to it. `None` when all is well.
    pub reason: Option<String>,
    /// How often part of the log went by unseen.
    pub gaps: u64,
    /// Invalidations made here that have not come back through the log.
    pub pending_invalidations: usize,
    /// How long the oldest of these has been on its way, in milliseconds; `None` if there is none. A few milliseconds when
    /// all is well.
    pub oldest_pending_ms: Option<u64>,
    /// How far back this node knows every invalidation, in milliseconds: older entries in the remote tier are misses.
    pub horizon_ms: Option<u64>,
}

impl LogHealth {
    pub(crate) fn of(engine: &Engine) -> Option<Self> {
        let (driver, node) = (&engine.remote.as_ref()?.driver, &engine.node);
        let now = engine.runtime.now();
        let ago = |moment: Moment| u64::try_from(now.since(moment).as_millis()).unwrap_or(u64::MAX);
        Some(LogHealth {
            state: driver.state(),
            position: node.position().map(|p| p.to_string()),
            lag_ms: node.synced().map(ago),
            reason: driver.trouble(),
            gaps: driver.gaps(),
            pending_invalidations: node.pending(),
            oldest_pending_ms: node.oldest_pending().map(ago),
            horizon_ms: node.horizon_us().map(|us| us / 1000),
        })
    }
}

impl Health {
    pub(crate) fn of(engine: &Engine) -> Self {
        let remote = engine.remote.as_ref().and_then(|side| {
            let (connected, reason) = match &*side.remote.link().borrow() {
                Link::Up { .. } => (true, None),
                Link::Down { reason } if reason.is_empty() => (false, Some("connecting".to_owned())),
                Link::Down { reason } => (false, Some(reason.clone())),
                Link::Closed => (false, Some("closed".to_owned())),
            };
            Some(RemoteHealth {
                address: side.remote.describe(),
                connected,
                reason,
                breaker: side.breaker.state(),
                log: LogHealth::of(engine)?,
            })
        });
        let hung_loads = engine.hung_loads();
        let reached = remote.as_ref().is_none_or(|r| {
            let log = r.log.position.is_some() && r.log.state != LogState::Disconnected;
            let waits = r.log.oldest_pending_ms.is_some_and(|ms| Duration::from_millis(ms) > QUEUED_TOO_LONG);
            r.connected && log && !waits && r.breaker == BreakerState::Closed
        });
        let status = match (engine.enabled, reached && hung_loads == 0) {
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
            hung_loads,
        }
    }
}
