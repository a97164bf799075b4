//! One entry of the memory tier: a decoded value and what decides whether it may be served.

use std::any::Any;
use std::sync::Arc;
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
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) value: AnyValue,
    pub(crate) tags: Tags,
    /// Where the log stood when the load began; `None`: nowhere known, the entry stays in this process.
    pub(crate) epoch: Option<Epoch>,
    /// The local counter when the entry was last known valid.
    pub(crate) seen: u64,
    pub(crate) stored: Moment,
    pub(crate) fresh_until: Moment,
    pub(crate) usable_until: Moment,
    /// In bytes, with key and overhead.
    pub(crate) weight: u32,
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
            seen: mark.n,
            stored,
            fresh_until,
            usable_until: fresh_until.plus(life.stale_for),
            weight: 0,
        }
    }

    #[inline]
    pub(crate) fn freshness(&self, now: Moment) -> Freshness {
        if now < self.fresh_until {
            Freshness::Fresh
        } else if now < self.usable_until {
            Freshness::Stale
        } else {
            Freshness::Expired
        }
    }

    pub(crate) fn tags(&self) -> &[Box<[u8]>] {
        self.tags.as_deref().unwrap_or_default()
    }

    /// Its fresh life ends now; its stale window begins.
    pub(crate) fn age_now(&mut self, now: Moment) {
        if now < self.fresh_until {
            let window = self.usable_until.since(self.fresh_until);
            self.fresh_until = now;
            self.usable_until = now.plus(window);
        }
    }

    pub(crate) fn life(&self) -> Lifetime {
        Lifetime {
            fresh_for: self.fresh_until.since(self.stored),
            stale_for: self.usable_until.since(self.fresh_until),
        }
    }

    /// Does this entry hold more recent data than `other`, as far as the log can tell?
    pub(crate) fn newer_than(&self, other: &Entry) -> bool {
        matches!((self.epoch, other.epoch), (Some(a), Some(b)) if a.line == b.line && a.at > b.at)
    }

    /// Seconds and less until it is no longer fresh.
    pub(crate) fn ttl(&self, now: Moment) -> Duration {
        self.fresh_until.since(now)
    }
}
