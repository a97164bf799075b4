//! Fills by hand: fenced like loads.

use std::sync::Arc;

use super::fill::Fill;
use super::handle::Handle;
use super::store::{Held, Loaded, Storing};
use crate::engine::{InMemory, Over, Permit};
use crate::entry::{Entry, Origin};
use crate::key::{Key, Probe};
use crate::log::Mark;
use crate::policy::Lifetime;
use crate::runtime::Moment;

/// A place for a value that is about to be read from its source. What is invalidated after the slot was taken is not
/// stored.
pub struct Slot<V: Send + Sync + 'static> {
    handle: Arc<Handle<V>>,
    key: Key,
    mark: Mark,
    started: Moment,
    /// Its place among the loads, given back with it.
    _permit: Option<Permit>,
}

impl<V: Send + Sync + 'static> Slot<V> {
    pub(super) fn new(handle: Arc<Handle<V>>, key: Key) -> Self {
        let started = handle.engine().runtime.now();
        let mark = handle.engine().node.mark(started);
        Slot { handle, key, mark, started, _permit: None }
    }

    /// Waits for a place among the loads of this process, for at most as long as a load may take, and keeps it; the value is
    /// about to be read from then on. `None`: too many are under way, or wait.
    ///
    /// Cancel safe.
    pub async fn turn(self) -> Option<Self> {
        let Some(gate) = self.handle.gate.clone() else { return Some(self) };
        let runtime = self.handle.engine().runtime.clone();
        let permit = gate.enter(&*runtime, self.handle.policy.load_timeout).await?;
        Some(Slot { _permit: Some(permit), ..Slot::new(self.handle, self.key) })
    }

    /// There is nothing to store: the answer is for this caller alone. The next readers do not wait for each other either, as
    /// after [`Lead::unshared`](super::Lead::unshared).
    pub fn unshared(self) {
        let now = self.handle.engine().runtime.now();
        self.handle.remember_apart(&self.key, now, now.since(self.started));
    }

    /// Stores the value, and answers whether it was stored. A load of the key that is under way stores nothing.
    pub fn put(self, value: V) -> bool {
        self.put_with(value, &Fill::default())
    }

    /// As [`put`](Self::put), with a ttl or tags of its own.
    pub fn put_with(self, value: V, fill: &Fill) -> bool {
        self.put_shared(Arc::new(value), fill)
    }

    /// As [`put_with`](Self::put_with), for a value that others hold too.
    pub fn put_shared(self, value: Arc<V>, fill: &Fill) -> bool {
        let engine = self.handle.engine();
        engine.flights.supersede(&self.key);
        let now = engine.runtime.now();
        engine.uncacheable.forget(&self.key, now);
        let loaded = Loaded {
            mark: self.mark,
            now,
            fill,
            cost: now.since(self.started),
            last: None,
            over: Over::Older(None),
            lease: None,
        };
        self.handle.store_loaded(&self.key, value, loaded).1
    }
}

/// What became of an update.
#[derive(Debug, PartialEq, Eq)]
pub enum Updated<V> {
    /// The new value is stored.
    Stored(Arc<V>),
    /// No tier had a value.
    Absent,
    /// The change was to leave it.
    Unchanged,
    /// Something else was stored, or it was invalidated, meanwhile: nothing is written.
    Overtaken,
}

pub(super) async fn update<V: Send + Sync + 'static>(
    handle: &Arc<Handle<V>>,
    key: Key,
    change: impl FnOnce(&V) -> Option<V>,
) -> Updated<V> {
    let engine = handle.engine();
    let now = engine.clock.now();
    let in_memory = match handle.uses_memory() {
        true => engine.in_memory(&Probe::from(&key), now),
        false => InMemory::Nothing,
    };
    let old = match in_memory {
        InMemory::Fresh(entry) | InMemory::Stale(entry) => Some(entry),
        InMemory::Expired(_) | InMemory::Nothing => handle.fetch(&key).await.entry(),
    };
    let Some(old) = old else { return Updated::Absent };
    let Ok(value) = old.value.clone().downcast::<V>() else { return Updated::Absent };
    let Some(new) = change(&value) else { return Updated::Unchanged };
    engine.flights.supersede(&key);
    // As old as the value it was made from: the same epoch, what is left of its life. By the clock that readers go by, which
    // is a little behind: what has no fresh life left would be fresh by it.
    let (new, now) = (Arc::new(new), engine.clock.now());
    let origin = Origin {
        mark: Mark { n: old.seen(), epoch: old.epoch(), loaded: old.loaded() },
        cost: old.cost(),
        content: None,
        home: handle.home(),
    };
    // What is stale keeps the moment at which it became so: all its windows begin there.
    let (stored, life) =
        if old.is_fresh(now) { (now, remaining(&old, now)) } else { (old.stored, old.life()) };
    let entry = Entry::new(new.clone(), old.shared_tags(), stored, life, origin);
    let storing = Storing { entry, now, tags_fit: true, over: Over::Just(&old), lease: Held::Breaks };
    let (_, stored) = handle.store(&key, new.clone(), storing);
    if stored { Updated::Stored(new) } else { Updated::Overtaken }
}

/// What is left of the life of an entry that is fresh.
fn remaining(entry: &Entry, now: Moment) -> Lifetime {
    let life = entry.life();
    Lifetime { fresh_for: life.fresh_for.saturating_sub(now.since(entry.stored)), ..life }
}
