//! Stores in the remote tier that nobody waits for: bounded, and in order for each key.

use std::collections::HashMap;
use std::sync::Arc;

use super::Engine;
use crate::key::{Identity, Key};
use crate::policy::defaults;
use crate::runtime::BoxFuture;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, Notify};

/// Stores in the background, counted so that they stay bounded and can be waited for at the end.
#[derive(Default)]
pub(super) struct Stores {
    count: AtomicUsize,
    bytes: AtomicUsize,
    done: Notify,
    /// The keys that a task stores, one store after another: side by side the older of two could arrive last.
    running: Mutex<HashMap<Key, Option<Next>, Identity>>,
}

/// What is stored under a key once the store that runs has ended. A later one takes its place.
struct Next {
    store: BoxFuture<'static, ()>,
    counted: Counted,
}

/// What became of a store for the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    UnderWay,
    /// Something newer is stored, or will be.
    Overtaken,
    /// Too much is under way.
    Busy,
}

impl Engine {
    /// Runs a store of about `bytes` in the background, after the one of the same key that runs, instead of one that waits.
    ///
    /// Stores of a key run in the order in which they come here, which need not be that of what they store. `overtaken`
    /// says whether something newer has been put; whoever puts does so before he comes here himself. One that `yields` takes
    /// nobody's place: if another store of the key runs or waits, that one is as new, and may do more.
    pub(crate) fn spawn_store(
        self: &Arc<Self>,
        key: &Key,
        bytes: usize,
        yields: bool,
        overtaken: impl FnOnce() -> bool,
        store: BoxFuture<'static, ()>,
    ) -> Storage {
        let count = self.stores.count.fetch_add(1, Ordering::AcqRel);
        let held = self.stores.bytes.fetch_add(bytes, Ordering::AcqRel);
        let counted = Counted { engine: self.clone(), bytes };
        let busy = count >= defaults::BACKGROUND_STORES || held > defaults::BACKGROUND_STORE_BYTES;
        let next = Next { store, counted };
        // Whatever is dropped here is dropped without the lock: it may hold the last of somebody's value.
        let (storage, first, _dropped) = {
            let mut running = self.stores.running.lock();
            // Under the lock: what is put from here on is stored later.
            if overtaken() || yields && running.contains_key(key) {
                (Storage::Overtaken, None, Some(next))
            } else if let Some(place) = running.get_mut(key) {
                match busy {
                    // What waits is older than this, and would stay.
                    true => (Storage::Busy, None, place.take()),
                    false => (Storage::UnderWay, None, place.replace(next)),
                }
            } else if busy {
                (Storage::Busy, None, Some(next))
            } else {
                running.insert(key.clone(), None);
                (Storage::UnderWay, Some(next), None)
            }
        };
        if let Some(first) = first {
            let runner = Runner { engine: self.clone(), key: key.clone(), ended: false };
            self.runtime.spawn(Box::pin(runner.run(first)));
        }
        storage
    }

    /// Is a store of the key waiting or under way?
    pub(crate) fn is_storing(&self, key: &Key) -> bool {
        self.stores.running.lock().contains_key(key)
    }

    pub(super) async fn stores_drained(&self) {
        loop {
            let mut done = std::pin::pin!(self.stores.done.notified());
            done.as_mut().enable();
            if self.stores.count.load(Ordering::Acquire) == 0 {
                return;
            }
            done.await;
        }
    }
}

/// Runs the stores of one key, until none waits.
struct Runner {
    engine: Arc<Engine>,
    key: Key,
    ended: bool,
}

impl Runner {
    async fn run(mut self, first: Next) {
        let mut next = Some(first);
        while let Some(Next { store, counted }) = next {
            store.await;
            drop(counted);
            next = self.next();
        }
    }

    fn next(&mut self) -> Option<Next> {
        let mut running = self.engine.stores.running.lock();
        let next = running.get_mut(&self.key).and_then(Option::take);
        if next.is_none() {
            running.remove(&self.key);
            self.ended = true;
        }
        next
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Dropped with its runtime, or by a panic: what waited goes with it.
        let _dropped = match self.ended {
            true => None,
            false => self.engine.stores.running.lock().remove(&self.key),
        };
    }
}

/// One store, until it ends: done, replaced, or dropped with its runtime before it ever ran.
struct Counted {
    engine: Arc<Engine>,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let stores = &self.engine.stores;
        stores.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if stores.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            stores.done.notify_waiters();
        }
    }
}
