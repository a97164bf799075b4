//! One entry of the memory tier: a decoded value and what decides whether it may be served.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::log::{Epoch, Mark};
use crate::policy::Lifetime;
use crate::runtime::Moment;

/// Any value, shared.
pub(crate) type AnyValue = Arc<dyn Any + Send + Sync>;

/// Tags as stored: escaped.
pub(crate) type Tags = Option<Arc<[Box<[u8]>]>>;

/// What an entry takes beside its key and value: its slot in the map, two reference counts, the map's own links.
pub(crate) const ENTRY_OVERHEAD: usize = 200;

/// A clone costs one reference count: the times are copied, so a hit touches no memory that another hit writes to.
/// `seen` and the times change while the entry lies in the map; that is why they are atomic, nothing hangs on their
/// order.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) value: AnyValue,
    pub(crate) tags: Tags,
    /// Where the log stood when the load began; `None`: nowhere known, the entry stays in this process.
    pub(crate) epoch: Option<Epoch>,
    seen: Cell,
    pub(crate) stored: Moment,
    fresh_until: Cell,
    usable_until: Cell,
    /// In bytes, with key and overhead.
    pub(crate) weight: u32,
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
    /// An entry stored at `stored` by a load that began at `mark`.
    pub(crate) fn new(value: AnyValue, tags: Tags, mark: Mark, stored: Moment, life: Lifetime) -> Self {
        let fresh_until = stored.plus(life.fresh_for);
        Entry {
            value,
            tags,
            epoch: mark.epoch,
            seen: Cell::new(mark.n),
            stored,
            fresh_until: Cell::new(fresh_until.as_nanos()),
            usable_until: Cell::new(fresh_until.plus(life.stale_for).as_nanos()),
            weight: 0,
        }
    }

    #[inline]
    pub(crate) fn freshness(&self, now: Moment) -> Freshness {
        if now.as_nanos() < self.fresh_until.get() {
            Freshness::Fresh
        } else if now.as_nanos() < self.usable_until.get() {
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

    pub(crate) fn tags(&self) -> &[Box<[u8]>] {
        self.tags.as_deref().unwrap_or_default()
    }

    /// Its fresh life ended at `at`, if it lasted so long; its stale window began there.
    pub(crate) fn age_at(&self, at: Moment) {
        if at.as_nanos() < self.fresh_until.get() {
            let window = self.usable_until.get().saturating_sub(self.fresh_until.get());
            self.fresh_until.set(at.as_nanos());
            self.usable_until.set(at.as_nanos().saturating_add(window));
        }
    }

    /// How long it lives from when it was stored.
    pub(crate) fn life(&self) -> Lifetime {
        let fresh_until = Moment::from_nanos(self.fresh_until.get());
        Lifetime {
            fresh_for: fresh_until.since(self.stored),
            stale_for: Moment::from_nanos(self.usable_until.get()).since(fresh_until),
        }
    }

    /// Does this entry hold more recent data than `other`, as far as the log can tell?
    pub(crate) fn newer_than(&self, other: &Entry) -> bool {
        matches!((self.epoch, other.epoch), (Some(a), Some(b)) if a.line == b.line && a.at > b.at)
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
