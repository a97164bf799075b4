//! `GET metrics`: what has been counted, for Prometheus. See `docs/reference/metrics.md`.
//!
//! No label has more values than the code of the service gives it: namespaces are named by code, the rest are closed
//! sets.

mod families;
mod page;

use larder_core::{
    BreakerState, Deliveries, Health, InvalidationStats, LogHealth, LogState, NamespaceStats, Outcome,
    RemoteHealth, Stats, Tier,
};

use self::families::{self as of, Family};
pub(super) use self::page::CONTENT_TYPE;
use self::page::Page;

/// Reads that no tier answered.
const NO_TIER: &str = "none";

/// The page.
pub(super) fn text(stats: &Stats, health: &Health) -> String {
    let mut page = Page::default();
    by_namespace(&mut page, stats);
    page.sample(&of::ENTRIES, &[], stats.memory_entries);
    page.sample(&of::MEMORY, &[], stats.memory_bytes);
    page.sample(&of::MEMORY_LIMIT, &[], stats.memory_bound);
    page.sample(&of::FLIGHTS, &[], stats.flights);
    page.sample(&of::HUNG_LOADS, &[], stats.hung_loads);
    page.sample(&of::LEASES, &[], stats.leases);
    page.sample(&of::STAMPS, &[], stats.stamps);
    page.sample(&of::SHARE_PARTITIONS, &[], stats.share_partitions);
    let InvalidationStats { invalidate, expire, .. } = stats.invalidations;
    for (mode, Deliveries { delivered, queued, .. }) in [("invalidate", invalidate), ("expire", expire)] {
        page.sample(&of::INVALIDATIONS, &[mode, "delivered"], delivered);
        page.sample(&of::INVALIDATIONS, &[mode, "queued"], queued);
    }
    page.sample(&of::HANDLER_FAILURES, &[], stats.handler_failures);
    page.sample(&of::PUSHED_BACK, &[], stats.pushed_back);
    page.sample(&of::TOKENS_IGNORED, &[], stats.tokens_ignored);
    if let Some(remote) = &health.remote {
        of_remote(&mut page, remote);
    }
    page.text()
}

fn by_namespace(page: &mut Page, stats: &Stats) {
    for (name, counted) in &stats.namespaces {
        for (tier, outcome, count) in reads(counted) {
            page.sample(&of::REQUESTS, &[name, tier, outcome.as_str()], count);
        }
    }
    for (name, counted) in &stats.namespaces {
        page.summary(&of::LOADS, &[name], counted.loads, seconds(counted.load_micros, 1_000_000));
    }
    let mut counter = |family: &Family, of: fn(&NamespaceStats) -> u64| {
        for (name, counted) in &stats.namespaces {
            page.sample(family, &[name], of(counted));
        }
    };
    counter(&of::LOAD_FAILURES, |counted| counted.load_failures);
    counter(&of::REFRESHES, |counted| counted.refreshes);
    counter(&of::REJECTED, |counted| counted.rejected);
    counter(&of::UNVERIFIED, |counted| counted.unverified);
    for (name, counted) in &stats.namespaces {
        let results = [
            ("stored", counted.stores),
            ("refused", counted.stores_refused),
            ("error", counted.store_errors),
        ];
        for (result, count) in results {
            page.sample(&of::STORES, &[name, result], count);
        }
    }
    for (name, counted) in &stats.namespaces {
        for (result, count) in [("evicted", counted.share_evicted), ("refused", counted.share_refused)] {
            page.sample(&of::SHARES, &[name, result], count);
        }
    }
}

/// Reads of a namespace: tier, outcome, how many. Every read is in one of them.
fn reads(counted: &NamespaceStats) -> [(&'static str, Outcome, u64); 8] {
    let (memory, remote) = (counted.hits_memory, counted.hits_remote);
    // The counters are read one after the other while they move.
    let elsewhere = counted.hits.saturating_sub(memory + remote);
    [
        (Tier::Memory.as_str(), Outcome::Hit, memory),
        (Tier::Remote.as_str(), Outcome::Hit, remote),
        (NO_TIER, Outcome::Hit, elsewhere),
        (NO_TIER, Outcome::Miss, counted.misses),
        (NO_TIER, Outcome::Stale, counted.stale),
        (NO_TIER, Outcome::Bypass, counted.bypassed),
        (NO_TIER, Outcome::Coalesced, counted.coalesced),
        (NO_TIER, Outcome::Skip, counted.skipped),
    ]
}

fn of_remote(page: &mut Page, remote: &RemoteHealth) {
    page.sample(&of::REMOTE_CONNECTED, &[], u8::from(remote.connected));
    for state in [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen] {
        page.sample(&of::BREAKER, &[state.as_str()], u8::from(state == remote.breaker));
    }
    let LogHealth { state: now, lag_ms, gaps, pending_invalidations, oldest_pending_ms, horizon_ms, .. } =
        &remote.log;
    for state in [LogState::Following, LogState::CatchingUp, LogState::Disconnected] {
        page.sample(&of::LOG_STATE, &[state.as_str()], u8::from(state == *now));
    }
    // Not known before the log was opened for the first time.
    if let Some(lag) = lag_ms {
        page.sample(&of::LOG_LAG, &[], seconds(*lag, 1000));
    }
    page.sample(&of::LOG_GAPS, &[], gaps);
    page.sample(&of::LOG_QUEUED, &[], pending_invalidations);
    page.sample(&of::LOG_OLDEST_QUEUED, &[], seconds(oldest_pending_ms.unwrap_or(0), 1000));
    if let Some(horizon) = horizon_ms {
        page.sample(&of::LOG_HORIZON, &[], seconds(*horizon, 1000));
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds for people and graphs")]
fn seconds(count: u64, in_a_second: u64) -> f64 {
    count as f64 / in_a_second as f64
}
