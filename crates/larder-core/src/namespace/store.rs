//! Storing what was loaded: memory now, the remote tier in the background.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::fill::Fill;
use super::handle::Handle;
use crate::codec::pack;
use crate::engine::{Lease, Over, Storage};
use crate::entry::{AnyValue, ENTRY_OVERHEAD, Entry, Freshness, Home, Origin, Tags};
use crate::envelope::Envelope;
use crate::event::Event;
use crate::key::{Key, Probe};
use crate::log::{Mark, Mode, Verdict};
use crate::outcome::SkipReason;
use crate::policy::{Basis, Content, Lifetime, learn};
use crate::remote::{Store, StoreLease, Stored};
use crate::runtime::Moment;
use crate::stats::Count;

/// How a value came to be stored.
pub(crate) struct Loaded<'a> {
    /// When its load began.
    pub(crate) mark: Mark,
    /// When it ended.
    pub(crate) now: Moment,
    /// What is said of it.
    pub(crate) fill: &'a Fill,
    /// How long the load took.
    pub(crate) cost: Duration,
    /// What the last load is remembered by.
    pub(crate) last: Option<Content>,
    /// What it may take the place of.
    pub(crate) over: Over<'a>,
    /// The lease under which it was loaded.
    pub(crate) lease: Option<Lease>,
}

/// An entry to be stored, and how.
pub(crate) struct Storing<'a> {
    pub(crate) entry: Entry,
    pub(crate) now: Moment,
    /// False: it has tags that cannot be kept. Then it is not kept either.
    pub(crate) tags_fit: bool,
    pub(crate) over: Over<'a>,
    pub(crate) lease: Held,
}

/// What a store has to do with the lease of its key.
pub(crate) enum Held {
    /// Nothing.
    Apart,
    /// It ends the load that has this one.
    Lease(Lease),
    /// It takes it away from whoever has one.
    Breaks,
    /// Nothing: the value is given back, and yields to what others have stored.
    Yields,
}

impl<V: Send + Sync + 'static> Handle<V> {
    /// The entry as memory keeps it.
    pub(super) fn for_memory(&self, entry: &Entry, now: Moment) -> Entry {
        match self.policy.memory_ttl {
            Some(cap) => entry.capped(now, cap),
            None => entry.clone(),
        }
    }

    /// Removes what the remote tier has, in the background.
    pub(super) fn remove_remotely(self: &Arc<Self>, key: &Key) {
        let (handle, removed) = (self.clone(), key.clone());
        let remove = async move { handle.take_out(&removed).await };
        self.engine.spawn_store(key, 0, false, || false, Box::pin(remove));
    }

    /// A load that began within the lag of the replicas after an invalidation may have read what that had replaced: what it
    /// brought is kept only until they have caught up.
    fn life_after_lag(&self, key: &Key, tags: &Tags, began: Moment, life: Lifetime) -> Lifetime {
        let lag = self.policy.replica_lag;
        if lag.is_zero() {
            return life;
        }
        let tags = tags.as_deref().unwrap_or_default();
        let last = |mode| self.engine.node.last(mode, key.as_bytes(), tags);
        let last = last(Mode::Soft).max(last(Mode::Hard));
        match last > Moment::default() && began <= last.plus(lag) {
            true => life.behind(lag),
            false => life,
        }
    }

    /// What a load is remembered by, where the policy learns.
    fn content(&self, value: &V, last: Option<Content>) -> Option<Content> {
        let bounds = self.policy.adaptive?;
        let hash = match (&self.content_hash, &self.codec) {
            (Some(hash), _) => hash(value),
            (None, Some(codec)) => {
                let mut bytes = Vec::new();
                // What cannot be encoded is reported when it is to be stored.
                codec.encode(value, &mut bytes).ok()?;
                xxh3_64(&bytes)
            }
            (None, None) => return None,
        };
        Some(learn(last, hash, self.policy.ttl, bounds))
    }

    /// Stores a value that was just loaded: memory now, the remote tier in the background. Answers the entry, and whether
    /// a tier has it.
    pub(crate) fn store_loaded(
        self: &Arc<Self>,
        key: &Key,
        value: Arc<V>,
        loaded: Loaded<'_>,
    ) -> (Entry, bool) {
        let Loaded { mark, now, fill, cost, last, over, lease } = loaded;
        let absent =
            self.policy.negative_ttl.is_some() && self.absent.as_ref().is_some_and(|absent| absent(&value));
        let content = self.content(&value, last);
        let basis = Basis { own: fill.ttl, absent, learned: content.map(|content| content.ttl) };
        let life = self.policy.life(basis, self.engine.runtime.random());
        let tags = fill.stored_tags();
        let life = self.life_after_lag(key, &tags, now.minus(cost), life);
        let origin = Origin { mark, cost, content, home: self.home() };
        let any: AnyValue = value.clone();
        let entry = Entry::new(any, tags, now, life, origin);
        let lease = match (lease, &over) {
            (Some(lease), _) => Held::Lease(lease),
            (None, Over::Older(None)) => Held::Breaks,
            (None, _) => Held::Apart,
        };
        self.store(key, value, Storing { entry, now, tags_fit: fill.tags_fit(), over, lease })
    }

    /// Stores an entry, as [`store_loaded`](Self::store_loaded).
    pub(crate) fn store(self: &Arc<Self>, key: &Key, value: Arc<V>, storing: Storing<'_>) -> (Entry, bool) {
        let Storing { mut entry, now, tags_fit, over, lease } = storing;
        let engine = &self.engine;
        let size = (self.weigh)(&value);
        entry.weight = weight(key, size, &entry.shared_tags());
        let weight = entry.weight;
        let skip = |reason| {
            engine.events.emit(|| Event::Skip { key: key.to_string(), reason });
        };
        let superseded = matches!(&over, Over::Older(Some(flight)) if flight.is_superseded());
        if !engine.enabled || superseded {
            return (entry, false);
        }
        let unfit = if size > self.policy.max_stored_size {
            Some(SkipReason::TooLarge)
        } else if size < self.policy.min_stored_size {
            Some(SkipReason::TooSmall)
        } else {
            (!tags_fit).then_some(SkipReason::Tags)
        };
        if let Some(reason) = unfit {
            skip(reason);
            // Neither is the old one kept, or it would be served on as if nothing had happened.
            self.drop_older(key);
            return (entry, false);
        }
        let verdict = match entry.seen() == engine.node.n() {
            true => Verdict::Valid,
            false => engine.node.check_since(key.as_bytes(), entry.tags(), entry.seen()),
        };
        match verdict {
            Verdict::Valid => {}
            Verdict::Stale => entry.age_at(engine.expired_at(key.as_bytes(), &entry, engine.clock.now())),
            Verdict::Dead => {
                self.counters.count(Count::StoresRefused);
                skip(SkipReason::Overtaken);
                return (entry, false);
            }
        }
        let mut stored = self.use_memory && self.keep(key, &entry, &over, now);
        if self.use_memory && !stored {
            if let Some(reason) = self.refused_by_memory(key, weight) {
                skip(reason);
            } else if matches!(over, Over::Just(_)) {
                return (entry, false);
            }
        }
        if self.uses_remote() {
            let in_memory = stored;
            let overtaken = || {
                matches!(&over, Over::Older(Some(flight)) if flight.is_superseded())
                    || (in_memory && engine.memory.has_other(&Probe::from(key), &entry))
            };
            stored |= self.store_remotely(key, value, &entry, now, lease, overtaken);
        }
        let stored = stored && entry.freshness(now) != Freshness::Expired;
        (entry, stored)
    }

    /// True if the store is under way.
    fn store_remotely(
        self: &Arc<Self>,
        key: &Key,
        value: Arc<V>,
        entry: &Entry,
        now: Moment,
        held: Held,
        overtaken: impl FnOnce() -> bool,
    ) -> bool {
        let (engine, life, left) = (&self.engine, entry.life(), entry.left(now));
        let Some(epoch) = entry.epoch() else { return false };
        if left < Duration::from_millis(1) || engine.node.is_pending(key.as_bytes(), entry.tags()) {
            return false;
        }
        let (shared, handle, key) = (key, self.clone(), key.clone());
        let (tags, stored, entry_of) = (entry.shared_tags(), entry.stored, entry.clone());
        let yields = matches!(held, Held::Yields);
        let store = async move {
            let (Some(remote), Some(codec)) = (&handle.engine.remote, &handle.codec) else { return };
            let mut payload = Vec::new();
            let failed = |error: String| {
                handle.counters.count(Count::StoreErrors);
                handle.engine.events.emit(|| Event::StoreError { key: key.clone(), error });
            };
            if let Err(error) = codec.encode(&value, &mut payload) {
                return failed(error.to_string());
            }
            let policy = &handle.policy;
            let (compression, payload) = pack(payload, policy.compression.as_ref(), policy.max_stored_size);
            let envelope = Envelope {
                key: Bytes::copy_from_slice(key.as_bytes()),
                tags,
                epoch,
                codec: codec.id(),
                compression,
                schema: handle.schema,
                stored_at_ms: remote.driver.server_millis(stored),
                life,
                cost: entry_of.cost(),
                payload,
            };
            let Some(bytes) = envelope.encode() else {
                return failed("the entry is larger than its format can hold".to_owned());
            };
            let of = (epoch, envelope.stored_at_ms);
            let reserved = match handle.reserve(&key, bytes.len(), left, of).await {
                Ok(reserved) => reserved,
                Err(why) => return handle.not_reserved(&key, &why, held),
            };
            let runtime = &*handle.engine.runtime;
            let lease = match &held {
                Held::Apart => StoreLease::Apart,
                Held::Lease(lease) => StoreLease::Ends(lease.token()),
                Held::Breaks => StoreLease::Breaks,
                Held::Yields => StoreLease::Yields,
            };
            let store = Store { bytes, life: left, epoch, lease, measured: reserved.is_some() };
            let answer = remote.store(runtime, key.as_bytes(), store).await;
            let excess = reserved.and_then(|reserved| reserved.excess(&answer));
            match answer {
                Ok(stored) => {
                    if let Held::Lease(lease) = held {
                        lease.ended();
                    }
                    entry_of.found_in_remote();
                    handle.counters.count(match stored {
                        Stored::Stored | Stored::Replaced { .. } => Count::Stores,
                        Stored::Overtaken => {
                            // Others have something later. This node must not go on for a whole ttl with what it has. What
                            // was given back has been here for a while, and is good for as long as it was.
                            if !yields {
                                handle.engine.memory.discard(&Probe::from(&key), &entry_of);
                            }
                            Count::StoresRefused
                        }
                    });
                }
                Err(error) => failed(error.to_string()),
            }
            if let Some(excess) = excess {
                handle.give_back(excess).await;
            }
        };
        let storage = engine.spawn_store(shared, entry.weight as usize, yields, overtaken, Box::pin(store));
        if storage == Storage::Busy {
            self.counters.count(Count::StoreErrors);
        }
        storage == Storage::UnderWay
    }

    /// Who can put an entry of this handle into the remote tier later.
    pub(super) fn home(self: &Arc<Self>) -> Option<Weak<dyn Home>> {
        // Weakly: handles hold the engine, which holds the entries.
        self.uses_remote().then(|| {
            let home: Weak<Self> = Arc::downgrade(self);
            home as Weak<dyn Home>
        })
    }
}

impl<V: Send + Sync + 'static> Home for Handle<V> {
    fn push_back(self: Arc<Self>, key: &Key, entry: &Entry, now: Moment) -> bool {
        let Some(epoch) = entry.epoch() else { return false };
        let verdict = self.engine.node.check_remote(key.as_bytes(), entry.tags(), epoch).0;
        // What is about to end is not worth the way.
        if verdict != Verdict::Valid || entry.ttl(now) < Duration::from_secs(1) {
            return false;
        }
        let Ok(value) = entry.value.clone().downcast::<V>() else { return false };
        let overtaken = || self.engine.memory.has_other(&Probe::from(key), entry);
        self.store_remotely(key, value, entry, now, Held::Yields, overtaken)
    }
}

/// Key, tags, a value of `size` and what an entry takes besides, in bytes.
pub(super) fn weight(key: &Key, size: usize, tags: &Tags) -> u32 {
    let tags: usize = tags.iter().flat_map(|tags| tags.iter()).map(|tag| tag.text().len() + 40).sum();
    let bytes = size.saturating_add(key.as_bytes().len() + tags + ENTRY_OVERHEAD);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
