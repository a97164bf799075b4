//! Keys that something is remembered of for a while.

use std::time::Duration;

use quick_cache::sync::Cache;

use crate::key::{Key, Probe};
use crate::policy::defaults::REMEMBERED_KEYS;
use crate::runtime::Moment;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Keys, each until its time has come; the oldest go first when there are too many.
pub(crate) struct Remembered {
    keys: Cache<Key, Moment>,
    /// Until when any of them counts: most services have none, and ask no further.
    until: AtomicU64,
}

impl Default for Remembered {
    fn default() -> Self {
        Remembered { keys: Cache::new(REMEMBERED_KEYS), until: AtomicU64::new(0) }
    }
}

impl Remembered {
    /// Remembers `key` for so long.
    pub(crate) fn remember(&self, key: &Key, now: Moment, time: Duration) {
        let until = now.plus(time);
        self.keys.insert(key.clone(), until);
        self.until.fetch_max(until.as_nanos(), Ordering::AcqRel);
    }

    pub(crate) fn forget(&self, key: &Key, now: Moment) {
        if self.has_any(now) {
            self.keys.remove(key);
        }
    }

    fn has_any(&self, now: Moment) -> bool {
        now.as_nanos() < self.until.load(Ordering::Acquire)
    }

    pub(crate) fn has(&self, key: &Probe<'_>, now: Moment) -> bool {
        self.has_any(now) && self.keys.get(key).is_some_and(|until| now < until)
    }
}
