//! One entry of the memory tier: a decoded value and what decides whether it may be served.

use std::any::Any;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::key::Key;
use crate::log::{Epoch, Mark};
use crate::policy::{Content, Lifetime};
use crate::runtime::Moment;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::tag::Tag;

/// Any value, shared.
pub(crate) type AnyValue = Arc<dyn Any + Send + Sync>;

/// Tags as stored.
pub(crate) type Tags = Option<Arc<[Tag]>>;

/// What an entry takes beside its key and value: its slot in the map, two reference counts, the map's own links.
pub(crate) const ENTRY_OVERHEAD: usize = 200;

/// What every hit looks at, and behind a pointer the rest. `seen` and the times change while the entry lies in the map;
/// that is why they are atomic, nothing hangs on their order.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) value: AnyValue,
    seen: Cell,
    fresh_until: Cell,
    pub(crate) stored: Moment,
    /// `None` only in a [`glance`](Self::glance).
    rest: Option<Arc<Rest>>,
    /// In bytes, with key and overhead.
    pub(crate) weight: u32,
    /// How long its load took, in microseconds.
    cost_us: u32,
}

struct Rest {
    tags: Tags,
    /// How long it may be served stale, in nanoseconds. All copies share this, so it is not the moment but the span: it
    /// stays what it is when one copy's fresh life is cut short.
    stale_for: u64,
    /// Apart, so that a cache without a remote tier does not pay for it.
    shared: Option<Box<Shared>>,
    /// For the next load of the key, where the policy learns from it.
    content: Option<Box<Content>>,
}

/// Where an entry comes from.
pub(crate) struct Origin {
    /// When its load began.
    pub(crate) mark: Mark,
    /// How long that took.
    pub(crate) cost: Duration,
    pub(crate) content: Option<Content>,
    /// Who can put it into the remote tier; `None` if it stays in this process.
    pub(crate) home: Option<Weak<dyn Home>>,
}

/// What matters where there is a remote tier.
struct Shared {
    epoch: Option<Epoch>,
    /// When this node began to load it; zero if another one did.
    loaded: Moment,
    /// Who can put it into the remote tier; `None` if it stays in this process.
    home: Option<Weak<dyn Home>>,
    /// Does the remote tier have it, as far as this node knows?
    in_remote: AtomicBool,
}

/// Puts entries of one type into the remote tier.
pub(crate) trait Home: Send + Sync {
    /// Begins to store an entry that memory has and the remote tier may have lost. False: it is not worth it, or may not
    /// be stored.
    fn push_back(self: Arc<Self>, key: &Key, entry: &Entry, now: Moment) -> bool;
}

/// A number that may change in place.
struct Cell(AtomicU64);

impl Cell {
    fn new(value: u64) -> Self {
        Cell(AtomicU64::new(value))
    }
    #[inline]
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Clone for Cell {
    #[inline]
    fn clone(&self) -> Self {
        Cell::new(self.get())
    }
}

/// What time alone says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    Fresh,
    Stale,
    Expired,
}

impl Entry {
    /// An entry stored at `stored`.
    pub(crate) fn new(value: AnyValue, tags: Tags, stored: Moment, life: Lifetime, origin: Origin) -> Self {
        let Origin { mark, cost, content, home } = origin;
        let fresh_until = stored.plus(life.fresh_for);
        let stale_for = fresh_until.plus(life.stale_for).as_nanos().saturating_sub(fresh_until.as_nanos());
        let of_log = mark.epoch.is_some() || mark.loaded > Moment::default() || home.is_some();
        let shared = of_log.then(|| {
            let (epoch, loaded, in_remote) = (mark.epoch, mark.loaded, AtomicBool::new(false));
            Box::new(Shared { epoch, loaded, home, in_remote })
        });
        Entry {
            value,
            seen: Cell::new(mark.n),
            fresh_until: Cell::new(fresh_until.as_nanos()),
            stored,
            rest: Some(Arc::new(Rest { tags, stale_for, shared, content: content.map(Box::new) })),
            weight: 0,
            cost_us: u32::try_from(cost.as_micros()).unwrap_or(u32::MAX),
        }
    }

    /// A copy without what a fresh hit does not need: one reference count, and one line of memory read.
    #[inline]
    pub(crate) fn glance(&self) -> Entry {
        Entry {
            value: self.value.clone(),
            seen: self.seen.clone(),
            fresh_until: self.fresh_until.clone(),
            stored: self.stored,
            rest: None,
            weight: self.weight,
            cost_us: self.cost_us,
        }
    }

    /// The same entry for memory, which serves it as fresh for `cap` from `now` on at the most.
    pub(crate) fn capped(&self, now: Moment, cap: Duration) -> Entry {
        let entry = self.clone();
        entry.age_at(now.plus(cap));
        entry
    }

    /// How long its load took.
    #[inline]
    pub(crate) fn cost(&self) -> Duration {
        Duration::from_micros(u64::from(self.cost_us))
    }

    /// What its load is remembered by.
    pub(crate) fn content(&self) -> Option<Content> {
        self.rest.as_ref().and_then(|rest| rest.content.as_deref().copied())
    }

    fn shared(&self) -> Option<&Shared> {
        self.rest.as_ref().and_then(|rest| rest.shared.as_deref())
    }

    /// Where the log stood when the load began; `None`: nowhere known, the entry stays in this process.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.shared().and_then(|shared| shared.epoch)
    }

    /// Who can put it into the remote tier, if anybody still can.
    pub(crate) fn home(&self) -> Option<Arc<dyn Home>> {
        self.shared().and_then(|shared| shared.home.as_ref()).and_then(Weak::upgrade)
    }

    /// Does the remote tier have it, as far as this node knows?
    pub(crate) fn is_in_remote(&self) -> bool {
        self.shared().is_some_and(|shared| shared.in_remote.load(Ordering::Relaxed))
    }

    /// The remote tier has it: seen there, or stored.
    pub(crate) fn found_in_remote(&self) {
        if let Some(shared) = self.shared() {
            shared.in_remote.store(true, Ordering::Relaxed);
        }
    }

    /// When this node began to load it; zero if another one did.
    pub(crate) fn loaded(&self) -> Moment {
        self.shared().map_or(Moment::default(), |shared| shared.loaded)
    }

    fn usable_until(&self) -> u64 {
        self.fresh_until.get().saturating_add(self.rest.as_ref().map_or(0, |rest| rest.stale_for))
    }

    #[inline]
    pub(crate) fn is_fresh(&self, now: Moment) -> bool {
        now.as_nanos() < self.fresh_until.get()
    }

    pub(crate) fn freshness(&self, now: Moment) -> Freshness {
        if self.is_fresh(now) {
            Freshness::Fresh
        } else if now.as_nanos() < self.usable_until() {
            Freshness::Stale
        } else {
            Freshness::Expired
        }
    }

    /// The local counter when the entry was last known valid.
    #[inline]
    pub(crate) fn seen(&self) -> u64 {
        self.seen.get()
    }

    /// It was found valid when the counter stood at `n`.
    pub(crate) fn date_up(&self, n: u64) {
        self.seen.set(self.seen.get().max(n));
    }

    pub(crate) fn tags(&self) -> &[Tag] {
        self.rest.as_ref().and_then(|rest| rest.tags.as_deref()).unwrap_or_default()
    }

    pub(crate) fn shared_tags(&self) -> Tags {
        self.rest.as_ref().and_then(|rest| rest.tags.clone())
    }

    /// Its fresh life ended at `at`, if it lasted so long; its stale window began there.
    pub(crate) fn age_at(&self, at: Moment) {
        if at.as_nanos() < self.fresh_until.get() {
            self.fresh_until.set(at.as_nanos());
        }
    }

    /// How long it lives from when it was stored.
    pub(crate) fn life(&self) -> Lifetime {
        let fresh_until = Moment::from_nanos(self.fresh_until.get());
        Lifetime {
            fresh_for: fresh_until.since(self.stored),
            stale_for: Moment::from_nanos(self.usable_until()).since(fresh_until),
        }
    }

    /// Does this entry hold more recent data than `other`, as far as the log can tell?
    pub(crate) fn newer_than(&self, other: &Entry) -> bool {
        matches!((self.epoch(), other.epoch()), (Some(a), Some(b)) if a.line == b.line && a.at > b.at)
    }

    #[inline]
    pub(crate) fn fresh_until(&self) -> Moment {
        Moment::from_nanos(self.fresh_until.get())
    }

    /// How much of its life is left, stale window included.
    pub(crate) fn left(&self, now: Moment) -> Duration {
        Moment::from_nanos(self.usable_until()).since(now)
    }

    /// How long it stays fresh.
    pub(crate) fn ttl(&self, now: Moment) -> Duration {
        Moment::from_nanos(self.fresh_until.get()).since(now)
    }

    /// Is this the very entry that `other` is a copy of?
    pub(crate) fn is(&self, other: &Entry) -> bool {
        Arc::ptr_eq(&self.value, &other.value) && self.stored == other.stored
    }
}
