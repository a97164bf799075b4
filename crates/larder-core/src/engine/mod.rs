//! Everything handles share: tiers, flights, log, counters. Knows no value types.

mod explain;
mod gates;
mod invalidate;
mod leases;
mod push_back;
mod remembered;
mod remote_side;
mod stores;
mod sweep;
mod tokens;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use self::explain::{Culprit, Explained, Explanation};
pub(crate) use self::gates::{Gate, Gates, Permit};
pub use self::invalidate::{Delivery, Invalidated};
pub(crate) use self::leases::{Lease, Leases, Waiting};
use self::remembered::Remembered;
pub(crate) use self::remote_side::{Fetched, RemoteSide, STORE_LIMIT};
pub(crate) use self::stores::Storage;
use self::stores::Stores;
pub use self::sweep::Swept;
use crate::accounts::{AllAccounts, Part};
use crate::entry::{Entry, Freshness};
use crate::event::{Event, Events};
use crate::flight::{Flight, Flights};
use crate::health::LogHealth;
use crate::key::{Key, Probe};
use crate::log::{Arrival, Epoch, Mode, Node, Verdict};
use crate::memory::{Glance, Memory};
use crate::outcome::SkipReason;
use crate::policy::defaults;
use crate::runtime::{BoxFuture, CoarseClock, Moment, Runtime};
use crate::stats::{Counters, InvalidationCounters, Stats};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// By so much two processes may differ about when something was stored: each reckons with the server's clock.
pub(crate) const CLOCKS_DIFFER: Duration = Duration::from_millis(250);

pub(crate) struct Engine {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) clock: CoarseClock,
    pub(crate) memory: Memory,
    pub(crate) flights: Flights,
    pub(crate) node: Arc<Node>,
    pub(crate) remote: Option<RemoteSide>,
    pub(crate) events: Arc<Events>,
    pub(crate) enabled: bool,
    closing: AtomicBool,
    namespaces: Mutex<BTreeMap<String, Arc<Counters>>>,
    /// Refreshes in the background.
    refreshes: AtomicUsize,
    stores: Stores,
    /// Keys whose answers are not for sharing, so that requests for them do not wait for each other.
    pub(crate) uncacheable: Remembered,
    /// Keys whose load has failed, and is not tried again yet while there is something stale to serve.
    pub(crate) resting: Remembered,
    pub(crate) gates: Gates,
    pub(crate) accounts: AllAccounts,
    pub(crate) leases: Leases,
    watching: AtomicBool,
    pub(crate) registry: Mutex<HashMap<String, crate::namespace::Registered>>,
    pub(crate) occasions: crate::occasion::Occasions,
    pub(crate) reloads: crate::namespace::Reloads,
    invalidations: InvalidationCounters,
    pushed_back: AtomicU64,
    tokens_ignored: AtomicU64,
    /// One sweep at a time.
    sweeping: Semaphore,
}

/// What an entry may take the place of in memory.
pub(crate) enum Over<'a> {
    /// A load, or a value put by hand (no flight): of anything but a fresh entry of a later load. If something was put
    /// while the load ran, it stores nothing.
    Older(Option<&'a Flight>),
    /// Read from the remote tier: of nothing that was stored here since.
    Promoted,
    /// Made from this very entry.
    Just(&'a Entry),
}

/// What memory has under a key.
pub(crate) enum InMemory {
    Fresh(Entry),
    Stale(Entry),
    /// Its time is over. It is not served, but what was learned from it is of use to the next load.
    Expired(Entry),
    Nothing,
}

impl Engine {
    pub(crate) fn new(
        runtime: Arc<dyn Runtime>,
        memory: u64,
        node: Arc<Node>,
        remote: Option<RemoteSide>,
        events: Arc<Events>,
        enabled: bool,
    ) -> Self {
        let leases = Leases::new(runtime.random());
        Engine {
            clock: runtime.coarse_clock(),
            runtime,
            memory: Memory::new(memory),
            flights: Flights::new(),
            node,
            remote,
            events,
            enabled,
            closing: AtomicBool::new(false),
            namespaces: Mutex::default(),
            refreshes: AtomicUsize::new(0),
            stores: Stores::default(),
            uncacheable: Remembered::default(),
            resting: Remembered::default(),
            gates: Gates::default(),
            accounts: AllAccounts::default(),
            leases,
            watching: AtomicBool::new(false),
            registry: Mutex::default(),
            occasions: crate::occasion::Occasions::default(),
            reloads: crate::namespace::Reloads::default(),
            invalidations: InvalidationCounters::default(),
            pushed_back: AtomicU64::new(0),
            tokens_ignored: AtomicU64::new(0),
            sweeping: Semaphore::new(1),
        }
    }

    pub(crate) fn counters(&self, namespace: &str) -> Arc<Counters> {
        self.namespaces.lock().entry(namespace.to_owned()).or_default().clone()
    }

    pub(crate) fn is_closing(&self) -> bool {
        // In one order with the count of flights, for `shutdown`: a flight that it does not count sees this.
        self.closing.load(Ordering::SeqCst)
    }

    /// What memory has under a key, if it is fresh and nothing that was applied since it was last checked concerns it.
    /// Everything else is for [`in_memory`](Self::in_memory).
    #[inline(always)]
    pub(crate) fn fresh_in_memory(&self, key: &Probe<'_>, now: Moment) -> Option<Glance> {
        if !self.node.serves_any(now) {
            return None;
        }
        let n = self.node.n();
        self.memory
            .fresh(key, n, now, |entry| self.node.is_untouched(&key.bytes(), entry.tags(), entry.seen()))
    }

    /// Looks a key up in memory and decides whether what is there may be served.
    pub(crate) fn in_memory(&self, key: &Probe<'_>, now: Moment) -> InMemory {
        let n = self.node.n();
        let Some(entry) = self.memory.get(key) else { return InMemory::Nothing };
        if entry.seen() < n && !self.still_valid(key, &entry, n, now) {
            return InMemory::Nothing;
        }
        match entry.freshness(now) {
            // Nothing is wrong with it that could be known; but this node has heard of the log too long ago to know.
            _ if !self.node.serves(entry.loaded(), now) => InMemory::Nothing,
            Freshness::Fresh => InMemory::Fresh(entry),
            Freshness::Stale => InMemory::Stale(entry),
            Freshness::Expired => {
                self.memory.discard(key, &entry);
                InMemory::Expired(entry)
            }
        }
    }

    /// Something was applied since the entry was last checked: look its selectors up, and date it up or drop it.
    fn still_valid(&self, probe: &Probe<'_>, entry: &Entry, n: u64, now: Moment) -> bool {
        let key = &*probe.bytes();
        match self.node.check_since(key, entry.tags(), entry.seen()) {
            Verdict::Dead => {
                self.memory.discard(probe, entry);
                return false;
            }
            Verdict::Stale => {
                // Marked stale before it is dated up, or it would be fresh again.
                let expired = self.expired_at(key, entry, now);
                entry.age_at(expired);
                self.memory.change(probe, entry, |there| {
                    there.age_at(expired);
                    there.date_up(n);
                });
            }
            Verdict::Valid => self.memory.change(probe, entry, |there| there.date_up(n)),
        }
        true
    }

    /// When an entry was expired softly, and its stale window began: not when somebody first looks.
    pub(crate) fn expired_at(&self, key: &[u8], entry: &Entry, now: Moment) -> Moment {
        self.node.last(Mode::Soft, key, entry.tags()).min(now)
    }

    /// Puts an entry into memory, unless it is too heavy or what is there may not be replaced by it.
    pub(crate) fn admit(
        &self,
        key: &Key,
        entry: Entry,
        part: Option<&Part<'_>>,
        over: &Over<'_>,
        now: Moment,
    ) -> bool {
        let valid = |there: &Entry| {
            self.node.check_since(key.as_bytes(), there.tags(), there.seen()) == Verdict::Valid
                && self.node.serves(there.loaded(), now)
        };
        let new = entry.clone();
        self.memory.admit(key, entry, part, |there| match (over, there) {
            (Over::Older(Some(flight)), _) if flight.is_superseded() => false,
            (Over::Just(old), there) => there.is_some_and(|there| there.is(old)),
            (_, None) => true,
            (Over::Older(_), Some(there)) => {
                !(there.newer_than(&new) && there.freshness(now) == Freshness::Fresh && valid(there))
            }
            (Over::Promoted, Some(there)) => {
                let since = match there.freshness(now) {
                    Freshness::Fresh => there.stored >= new.stored,
                    // The same load, perhaps, which memory was to serve no longer without asking.
                    Freshness::Stale => there.stored.since(new.stored) > CLOCKS_DIFFER,
                    Freshness::Expired => false,
                };
                new.newer_than(there) || !(since && valid(there))
            }
        })
    }

    /// Runs a refresh in the background, or says, here too with false, that too many are running.
    pub(crate) fn spawn_refresh(self: &Arc<Self>, key: &Key, refresh: BoxFuture<'static, ()>) -> bool {
        if self.refreshes.fetch_add(1, Ordering::AcqRel) >= defaults::BACKGROUND_REFRESHES {
            self.refreshes.fetch_sub(1, Ordering::AcqRel);
            let key = key.to_string();
            self.events.emit(|| Event::Skip { key, reason: SkipReason::RefreshesBusy });
            return false;
        }
        let one = Refreshing(self.clone());
        self.runtime.spawn(Box::pin(async move {
            let _one = one;
            refresh.await;
        }));
        true
    }

    /// Loads no more, waits until flights, stores and invalidations under way are done or `deadline` has passed, lets go of
    /// the connection. True if everything was done in time, and nothing is left in the queue.
    pub(crate) async fn shutdown(&self, deadline: Duration) -> bool {
        self.closing.store(true, Ordering::SeqCst);
        let drained = async {
            self.flights.drained().await;
            self.stores_drained().await;
            if let Some(remote) = &self.remote {
                remote.driver.until_sent().await;
            }
        };
        let in_time = crate::runtime::within(&*self.runtime, deadline, drained).await.is_ok();
        // Loads that were not done in time will not be: others need not wait for their leases to run out.
        self.release_all().await;
        if let Some(remote) = &self.remote {
            remote.close();
        }
        in_time && self.node.pending() == 0
    }

    /// Waits until this node's log has come as far as `token`, for `limit` at the most.
    pub(crate) async fn arrive(&self, token: Epoch, limit: Duration) -> Arrival {
        match &self.remote {
            Some(remote) => remote.driver.arrive(token, limit).await,
            None => Arrival::Unknown,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let namespaces = self.namespaces.lock();
        Stats {
            namespaces: namespaces.iter().map(|(name, c)| (name.clone(), c.snapshot())).collect(),
            memory_entries: self.memory.entries(),
            memory_bytes: self.memory.bytes(),
            memory_bound: self.memory.bound(),
            flights: self.flights.len(),
            hung_loads: self.hung_loads(),
            leases: self.leases.held(),
            stamps: self.node.rows(),
            invalidations: self.invalidations.snapshot(),
            pending_invalidations: self.node.pending(),
            log: LogHealth::of(self),
            share_partitions: self.accounts.partitions(),
            pushed_back: self.pushed_back.load(Ordering::Relaxed),
            handler_failures: self.occasions.failures(),
            tokens_ignored: self.tokens_ignored.load(Ordering::Relaxed),
        }
    }
}

/// One refresh in the background, until it ends: done, or dropped with its runtime before it ever ran.
struct Refreshing(Arc<Engine>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.refreshes.fetch_sub(1, Ordering::AcqRel);
    }
}
