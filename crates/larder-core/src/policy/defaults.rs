//! Defaults that are no part of a policy; here so that they stand together.

use std::time::Duration;

use crate::units::{DAY, MINUTE, SECOND};

/// How long a read waits for the remote tier, over all its calls.
pub const REMOTE_BUDGET: Duration = Duration::from_millis(100);
/// How many failures in a row open the breaker.
pub const BREAKER_FAILURES: u32 = 5;
/// How long an open breaker stays open before one call may try again.
pub const BREAKER_OPEN: Duration = Duration::from_secs(30);
/// The memory tier's bound, in bytes.
pub const MEMORY: u64 = 256 * 1024 * 1024;
/// How long `invalidate` waits for the remote tier before it answers `Queued`.
pub const INVALIDATE_WAIT: Duration = SECOND;
/// How long `build` waits for the remote tier before it starts without.
pub const START_WAIT: Duration = SECOND;
/// How long a node that hears nothing of the log goes on serving what it cannot verify.
pub const DISCONNECTED_TTL: Duration = Duration::from_secs(60);
/// How long a read that names a token waits for this node to reach it.
pub const ARRIVAL_WAIT: Duration = Duration::from_millis(500);
/// How many selectors one generation of the local stamp table holds.
pub const STAMP_LIMIT: usize = 65_536;
/// How long a key whose answer may not be shared is remembered.
pub const UNCACHEABLE_FOR: Duration = Duration::from_secs(5);
/// Refreshes that run in the background at one time.
pub const BACKGROUND_REFRESHES: usize = 256;
/// Stores to the remote tier under way at one time, and the bytes they may hold.
pub const BACKGROUND_STORES: usize = 1024;
/// See [`BACKGROUND_STORES`].
pub const BACKGROUND_STORE_BYTES: usize = 64 * 1024 * 1024;
/// How long a lease lives that nobody extends: so long may pass before another process loads what a dead one was at.
pub const LEASE_LIFE: Duration = Duration::from_secs(10);
/// Keys remembered for a while at the most: those whose answer may not be shared, those whose load has failed.
pub const REMEMBERED_KEYS: usize = 10_000;
/// How long Redis keeps the state of a log that nobody touches.
pub const LOG_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
const _: () = assert!(LOG_LIFE.as_secs() == 30 * DAY.as_secs() && MINUTE.as_secs() == 60);
