//! Everything handles share: tiers, flights, log, counters. Knows no value types.

mod explain;
mod invalidate;
mod push_back;
mod remote_side;
mod sweep;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

pub use self::explain::{Culprit, Explained, Explanation};
pub use self::invalidate::{Delivery, Invalidated};
pub(crate) use self::remote_side::{Fetched, RemoteSide};
pub use self::sweep::Swept;
use crate::entry::{Entry, Freshness};
use crate::event::{Event, Events};
use crate::flight::{Flight, Flights};
use crate::health::LogHealth;
use crate::key::{Identity, Key, Probe};
use crate::log::{Arrival, Epoch, Mode, Node, Verdict};
use crate::memory::{Glance, Memory};
use crate::outcome::SkipReason;
use crate::policy::defaults;
use crate::runtime::{BoxFuture, CoarseClock, Moment, Runtime};
use crate::stats::{Counters, Stats};

/// Keys remembered as uncacheable, at the most.
const MOST_UNCACHEABLE: usize = 10_000;

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
    background: Background,
    uncacheable: quick_cache::sync::Cache<Key, Moment>,
    /// Until when any of them counts: most services have none, and ask no further.
    uncacheable_until: AtomicU64,
    pub(crate) registry: Mutex<HashMap<String, crate::namespace::Registered>>,
    pushed_back: AtomicU64,
    /// One sweep at a time.
    sweeping: Semaphore,
}

/// Work nobody waits for, counted so that it stays bounded and can be waited for at the end.
#[derive(Default)]
struct Background {
    refreshes: AtomicUsize,
    stores: AtomicUsize,
    store_bytes: AtomicUsize,
    stores_done: Notify,
    turns: Mutex<Turns>,
}

/// Which store of a key was begun last, as long as it has not ended. Tasks start in any order; a store that finds a
/// later one does nothing, or it would put the older value back.
#[derive(Default)]
struct Turns {
    last: u64,
    of: HashMap<Key, u64, Identity>,
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
            background: Background::default(),
            uncacheable: quick_cache::sync::Cache::new(MOST_UNCACHEABLE),
            uncacheable_until: AtomicU64::new(0),
            registry: Mutex::default(),
            pushed_back: AtomicU64::new(0),
            sweeping: Semaphore::new(1),
        }
    }

    pub(crate) fn counters(&self, namespace: &str) -> Arc<Counters> {
        self.namespaces.lock().entry(namespace.to_owned()).or_default().clone()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// What memory has under a key, if it is fresh and nothing was applied since it was last checked. Everything else is
    /// for [`in_memory`](Self::in_memory).
    #[inline(always)]
    pub(crate) fn fresh_in_memory(&self, key: &Probe<'_>, now: Moment) -> Option<Glance> {
        if !self.node.serves_any(now) {
            return None;
        }
        let n = self.node.n();
        self.memory.fresh(key, n, now)
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
                InMemory::Nothing
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
    pub(crate) fn admit(&self, key: &Key, entry: Entry, over: &Over<'_>, now: Moment) -> bool {
        let valid = |there: &Entry| {
            self.node.check_since(key.as_bytes(), there.tags(), there.seen()) == Verdict::Valid
                && self.node.serves(there.loaded(), now)
        };
        let new = entry.clone();
        self.memory.admit(key, entry, |there| match (over, there) {
            (Over::Older(Some(flight)), _) if flight.is_superseded() => false,
            (Over::Just(old), there) => there.is_some_and(|there| there.is(old)),
            (_, None) => true,
            (Over::Older(_), Some(there)) => {
                !(there.newer_than(&new) && there.freshness(now) == Freshness::Fresh && valid(there))
            }
            (Over::Promoted, Some(there)) => {
                let since = there.stored >= new.stored && there.freshness(now) != Freshness::Expired;
                new.newer_than(there) || !(since && valid(there))
            }
        })
    }

    /// Remembers that the answer to `key` is not for sharing, so that requests for it do not wait for each other.
    pub(crate) fn remember_uncacheable(&self, key: &Key) {
        let until = self.clock.now().plus(defaults::UNCACHEABLE_FOR);
        self.uncacheable.insert(key.clone(), until);
        self.uncacheable_until.fetch_max(until.as_nanos(), Ordering::AcqRel);
    }

    pub(crate) fn forget_uncacheable(&self, key: &Key) {
        if self.may_be_uncacheable(self.clock.now()) {
            self.uncacheable.remove(key);
        }
    }

    fn may_be_uncacheable(&self, now: Moment) -> bool {
        now.as_nanos() < self.uncacheable_until.load(Ordering::Acquire)
    }

    pub(crate) fn is_uncacheable(&self, key: &Probe<'_>, now: Moment) -> bool {
        self.may_be_uncacheable(now) && self.uncacheable.get(key).is_some_and(|until| now < until)
    }

    /// Runs a refresh in the background, or says that too many are running.
    pub(crate) fn spawn_refresh(self: &Arc<Self>, key: &Key, refresh: BoxFuture<'static, ()>) {
        if self.background.refreshes.fetch_add(1, Ordering::AcqRel) >= defaults::BACKGROUND_REFRESHES {
            self.background.refreshes.fetch_sub(1, Ordering::AcqRel);
            let key = key.to_string();
            self.events.emit(|| Event::Skip { key, reason: SkipReason::RefreshesBusy });
            return;
        }
        let one = Refreshing(self.clone());
        self.runtime.spawn(Box::pin(async move {
            let _one = one;
            refresh.await;
        }));
    }

    /// Runs a store of about `bytes` in the background, unless a later one of the key is begun before; false if too much
    /// is under way.
    pub(crate) fn spawn_store(
        self: &Arc<Self>,
        key: &Key,
        bytes: usize,
        store: BoxFuture<'static, ()>,
    ) -> bool {
        let background = &self.background;
        let stores = background.stores.fetch_add(1, Ordering::AcqRel);
        let held = background.store_bytes.fetch_add(bytes, Ordering::AcqRel);
        let turn = {
            let mut turns = background.turns.lock();
            turns.last += 1;
            let turn = turns.last;
            turns.of.insert(key.clone(), turn);
            turn
        };
        let storing = Storing { engine: self.clone(), key: key.clone(), turn, bytes };
        if stores >= defaults::BACKGROUND_STORES || held > defaults::BACKGROUND_STORE_BYTES {
            return false;
        }
        self.runtime.spawn(Box::pin(async move {
            if storing.is_last() {
                store.await;
            }
        }));
        true
    }

    /// Is a store of the key waiting or under way?
    pub(crate) fn is_storing(&self, key: &Key) -> bool {
        self.background.turns.lock().of.contains_key(key)
    }

    async fn stores_drained(&self) {
        loop {
            let mut done = std::pin::pin!(self.background.stores_done.notified());
            done.as_mut().enable();
            if self.background.stores.load(Ordering::Acquire) == 0 {
                return;
            }
            done.await;
        }
    }

    /// Loads no more, waits until flights, stores and invalidations under way are done or `deadline` has passed, lets go of the connection.
    /// True if everything was done in time.
    pub(crate) async fn shutdown(&self, deadline: Duration) -> bool {
        self.closing.store(true, Ordering::Release);
        let drained = async {
            self.flights.drained().await;
            self.stores_drained().await;
            if let Some(remote) = &self.remote {
                remote.driver.until_sent().await;
            }
        };
        let in_time = crate::runtime::within(&*self.runtime, deadline, drained).await.is_ok();
        if let Some(remote) = &self.remote {
            remote.close();
        }
        in_time
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
            stamps: self.node.rows(),
            pending_invalidations: self.node.pending(),
            log: LogHealth::of(self),
            pushed_back: self.pushed_back.load(Ordering::Relaxed),
        }
    }
}

/// One refresh in the background, until it ends: done, or dropped with its runtime before it ever ran.
struct Refreshing(Arc<Engine>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.background.refreshes.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One store in the background, until it ends.
struct Storing {
    engine: Arc<Engine>,
    key: Key,
    turn: u64,
    bytes: usize,
}

impl Storing {
    fn is_last(&self) -> bool {
        self.engine.background.turns.lock().of.get(&self.key) == Some(&self.turn)
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        let background = &self.engine.background;
        {
            let mut turns = background.turns.lock();
            if turns.of.get(&self.key) == Some(&self.turn) {
                turns.of.remove(&self.key);
            }
        }
        background.store_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if background.stores.fetch_sub(1, Ordering::AcqRel) == 1 {
            background.stores_done.notify_waiters();
        }
    }
}
