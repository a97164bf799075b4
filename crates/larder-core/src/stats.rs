//! Counters, kept in the process so that they work without any metrics system.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::health::LogHealth;
use crate::log::Mode;
use crate::outcome::{Outcome, Tier};

/// Copies of each counter, so that threads do not write to one line of memory.
const STRIPES: usize = 16;

/// What is counted beside the outcomes of reads.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    HitMemory = 6,
    HitRemote,
    Loads,
    LoadFailures,
    LoadMicros,
    Stores,
    StoreErrors,
    StoresRefused,
    Rejected,
    Unverified,
    Refreshes,
    ShareEvicted,
    ShareRefused,
}

const COUNTERS: usize = Count::ShareRefused as usize + 1;

#[derive(Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTERS]);

/// The counters of a namespace.
#[derive(Default)]
pub(crate) struct Counters {
    stripes: [Stripe; STRIPES],
}

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[inline]
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    STRIPE.with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        stripe.get()
    })
}

impl Counters {
    #[inline]
    fn add(&self, counter: usize, amount: u64) {
        self.stripes[stripe()].0[counter].fetch_add(amount, Ordering::Relaxed);
    }

    /// A read has been answered from a tier.
    #[inline]
    pub(crate) fn hit(&self, tier: Tier) {
        // The outcome is the sum of both: one write per hit, not two.
        self.count(match tier {
            Tier::Memory => Count::HitMemory,
            Tier::Remote => Count::HitRemote,
        });
    }

    /// A read has been answered in another way.
    pub(crate) fn read(&self, outcome: Outcome) {
        self.add(outcome as usize, 1);
    }

    #[inline]
    pub(crate) fn count(&self, what: Count) {
        self.add(what as usize, 1);
    }

    pub(crate) fn load_ended(&self, took: Duration, well: bool) {
        self.count(Count::Loads);
        self.add(Count::LoadMicros as usize, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if !well {
            self.count(Count::LoadFailures);
        }
    }

    pub(crate) fn snapshot(&self) -> NamespaceStats {
        let sum = |counter: usize| -> u64 {
            self.stripes.iter().map(|s| s.0[counter].load(Ordering::Relaxed)).sum()
        };
        let of = |what: Count| sum(what as usize);
        let read = |outcome: Outcome| sum(outcome as usize);
        NamespaceStats {
            hits: read(Outcome::Hit) + of(Count::HitMemory) + of(Count::HitRemote),
            hits_memory: of(Count::HitMemory),
            hits_remote: of(Count::HitRemote),
            misses: read(Outcome::Miss),
            stale: read(Outcome::Stale),
            coalesced: read(Outcome::Coalesced),
            bypassed: read(Outcome::Bypass),
            skipped: read(Outcome::Skip),
            loads: of(Count::Loads),
            load_failures: of(Count::LoadFailures),
            load_micros: of(Count::LoadMicros),
            refreshes: of(Count::Refreshes),
            stores: of(Count::Stores),
            store_errors: of(Count::StoreErrors),
            stores_refused: of(Count::StoresRefused),
            rejected: of(Count::Rejected),
            unverified: of(Count::Unverified),
            share_evicted: of(Count::ShareEvicted),
            share_refused: of(Count::ShareRefused),
        }
    }
}

/// What has been counted for a namespace since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NamespaceStats {
    /// Reads answered fresh from a tier.
    pub hits: u64,
    /// Of these, from memory.
    pub hits_memory: u64,
    /// Of these, from the remote tier.
    pub hits_remote: u64,
    /// Reads that had to load.
    pub misses: u64,
    /// Reads answered stale.
    pub stale: u64,
    /// Reads that shared somebody else's load.
    pub coalesced: u64,
    /// Reads that went past the cache at the caller's wish.
    pub bypassed: u64,
    /// Reads that were no matter for the cache.
    pub skipped: u64,
    /// Loads that ended.
    pub loads: u64,
    /// Of these, badly.
    pub load_failures: u64,
    /// The time they took together, in microseconds.
    pub load_micros: u64,
    /// Loads in the background, for stale entries.
    pub refreshes: u64,
    /// Values stored in the remote tier.
    pub stores: u64,
    /// Values that could not be.
    pub store_errors: u64,
    /// Values that were not, because something newer was there or an invalidation had overtaken them.
    pub stores_refused: u64,
    /// Remote bytes that were no entry for this node.
    pub rejected: u64,
    /// Remote entries that were invalidated, or whose validity this node could not verify.
    pub unverified: u64,
    /// Entries that have left memory to make room for others of their [`Share`](crate::Share).
    pub share_evicted: u64,
    /// Values that a tier did not take, because their partition has its share of it already or they are larger than that.
    pub share_refused: u64,
}

impl NamespaceStats {
    /// The part of reads (0 to 1) that did not wait for a load of their own. `None` before the first read.
    pub fn hit_ratio(&self) -> Option<f64> {
        let good = self.hits + self.stale + self.coalesced;
        let all = good + self.misses;
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        (all > 0).then(|| good as f64 / all as f64)
    }
}

/// Invalidations made in this process, counted.
#[derive(Default)]
pub(crate) struct InvalidationCounters([[AtomicU64; 2]; 2]);

impl InvalidationCounters {
    /// One more, whatever number of selectors it names.
    pub(crate) fn count(&self, mode: Mode, delivered: bool) {
        self.0[mode as usize][usize::from(delivered)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> InvalidationStats {
        let of = |mode: Mode| {
            let [queued, delivered] = &self.0[mode as usize];
            Deliveries {
                delivered: delivered.load(Ordering::Relaxed),
                queued: queued.load(Ordering::Relaxed),
            }
        };
        InvalidationStats { invalidate: of(Mode::Hard), expire: of(Mode::Soft) }
    }
}

/// Invalidations made in this process, by their verb; each call counts one, whatever number of selectors it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InvalidationStats {
    /// Hard ones: never served again.
    pub invalidate: Deliveries,
    /// Soft ones: stale from then on.
    pub expire: Deliveries,
}

/// How far calls had come when they answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Deliveries {
    /// Into the log, or there was no log to be in.
    pub delivered: u64,
    /// Not into the log: queued.
    pub queued: u64,
}

/// What has been counted since the process began.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// By namespace.
    pub namespaces: BTreeMap<String, NamespaceStats>,
    /// Entries in memory.
    pub memory_entries: usize,
    /// What they weigh, in bytes.
    pub memory_bytes: u64,
    /// The bound on that.
    pub memory_bound: u64,
    /// Loads under way.
    pub flights: usize,
    /// Loads that are past their deadline and still run, because they block their thread.
    pub hung_loads: usize,
    /// Leases that this process has: keys that others wait for it to load.
    pub leases: usize,
    /// Selectors in the local stamp table.
    pub stamps: usize,
    /// Invalidations made in this process, those of handlers and rules included.
    pub invalidations: InvalidationStats,
    /// Invalidations that wait for the remote tier.
    pub pending_invalidations: usize,
    /// The invalidation log; `None` without a remote tier.
    pub log: Option<LogHealth>,
    /// Partitions (tenants, users) that have something in memory and may have only their [`Share`](crate::Share) of it.
    pub share_partitions: usize,
    /// Entries that memory has given back to a remote tier that had lost them.
    pub pushed_back: u64,
    /// What handlers of published events have failed to do: panics, payloads that lacked a field.
    pub handler_failures: u64,
    /// Tokens of clients that were worth nothing: unreadable, or of no log this cache knows.
    pub tokens_ignored: u64,
}
