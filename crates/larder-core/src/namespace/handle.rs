//! What all clones of a handle share, and the tiers as it sees them: typed look-ups and stores.

use std::hash::Hasher;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::{Found, Hit};
use crate::codec::{Codec, pack, unpack};
use crate::engine::{Engine, Fetched, InMemory, Invalidated, Over, Storage};
use crate::entry::{AnyValue, ENTRY_OVERHEAD, Entry, Freshness, Home, Tags};
use crate::envelope::{Envelope, Reject};
use crate::event::Event;
use crate::key::{Key, KeyWriter, Prefix, Probe, ToKey, is_plain};
use crate::log::{Mark, Mode, Verdict};
use crate::outcome::{Outcome, SkipReason, Tier};
use crate::policy::{Lifetime, Policy};
use crate::remote::{Store, StoreLease, Stored};
use crate::runtime::Moment;
use crate::selector::Selector;
use crate::stats::{Count, Counters};

pub(crate) type Weigh<V> = Arc<dyn Fn(&V) -> usize + Send + Sync>;

pub(crate) struct Handle<V> {
    engine: Arc<Engine>,
    pub(crate) counters: Arc<Counters>,
    prefix: Prefix,
    sub: Box<[u8]>,
    pub(crate) policy: Policy,
    /// `None`: values never leave this process.
    pub(crate) codec: Option<Arc<dyn Codec<V>>>,
    pub(crate) weigh: Weigh<V>,
    pub(crate) schema: u64,
    use_memory: bool,
}

impl<V> Clone for Handle<V> {
    fn clone(&self) -> Self {
        Handle {
            engine: self.engine.clone(),
            counters: self.counters.clone(),
            prefix: self.prefix.clone(),
            sub: self.sub.clone(),
            policy: self.policy.clone(),
            codec: self.codec.clone(),
            weigh: self.weigh.clone(),
            schema: self.schema,
            use_memory: self.use_memory,
        }
    }
}

/// A schema's name as entries carry it.
pub(crate) fn schema_tag(schema: &str) -> u64 {
    let mut hash = Xxh3::new();
    hash.write(schema.as_bytes());
    hash.finish()
}

/// How a value came to be stored: when its load began, how long it took, what the caller says of it.
pub(crate) struct Loaded<'a> {
    pub(crate) mark: Mark,
    /// When it ended.
    pub(crate) now: Moment,
    pub(crate) life: Lifetime,
    pub(crate) tags: Tags,
    /// Tags that cannot be kept: then the value is not kept either.
    pub(crate) tags_fit: bool,
    pub(crate) cost: Duration,
    /// What it may take the place of.
    pub(crate) over: Over<'a>,
}

impl<V: Send + Sync + 'static> Handle<V> {
    pub(crate) fn new(
        engine: Arc<Engine>,
        resource: &super::Resource,
        policy: Policy,
        codec: Option<Arc<dyn Codec<V>>>,
        weigh: Weigh<V>,
    ) -> Self {
        Handle {
            counters: engine.counters(&resource.namespace),
            prefix: Prefix::new(&resource.namespace),
            sub: resource.sub.as_bytes().into(),
            use_memory: engine.enabled && engine.memory.is_on() && policy.memory,
            policy,
            codec,
            weigh,
            schema: schema_tag(std::any::type_name::<V>()),
            engine,
        }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn namespace(&self) -> &[u8] {
        self.prefix.namespace()
    }

    pub(crate) fn sub(&self) -> &[u8] {
        &self.sub
    }

    #[inline(always)]
    pub(crate) fn writer(&self) -> KeyWriter<'_> {
        KeyWriter::within(self.prefix.namespace(), &self.sub)
    }

    // Always inlined: as a call it would copy the whole writer to its caller.
    #[inline(always)]
    pub(crate) fn key(&self, key: &(impl ToKey + ?Sized)) -> KeyWriter<'_> {
        let mut writer = self.writer();
        key.write_key(&mut writer);
        writer.finish();
        writer
    }

    pub(crate) fn uses_memory(&self) -> bool {
        self.use_memory
    }

    /// The fast path: a fresh value in memory. Anything else is left to [`load`](Self::load).
    #[inline]
    pub(crate) fn hit(&self, key: &(impl ToKey + ?Sized)) -> Option<Arc<V>> {
        if !self.use_memory {
            return None;
        }
        let now = self.engine.clock.now();
        let glance = match key.as_text() {
            // Plain text is looked up where it lies: written out first, it would be read before it has settled.
            Some(text) if self.sub.is_empty() && is_plain(text) => {
                self.engine.fresh_in_memory(&self.prefix.probe(text), now)
            }
            _ => self.engine.fresh_in_memory(&Probe::of(self.key(key).as_bytes()), now),
        }?;
        let (stored, value) = (glance.stored, glance.value.downcast::<V>().ok()?);
        self.counters.hit(Tier::Memory);
        self.engine.events.read(|| Event::Read {
            key: self.key(key).to_key(),
            outcome: Outcome::Hit,
            tier: Some(Tier::Memory),
            age: now.since(stored),
        });
        Some(value)
    }

    /// As [`hit`](Self::hit), for the bytes of a key, and with what there is to say of the value.
    #[inline]
    pub(crate) fn found_at_once(&self, key: &Probe<'_>) -> Option<Found<V>> {
        if !self.use_memory || self.engine.is_closing() {
            return None;
        }
        let now = self.engine.clock.now();
        let glance = self.engine.fresh_in_memory(key, now)?;
        let found = Found {
            value: glance.value.downcast::<V>().ok()?,
            outcome: Outcome::Hit,
            tier: Some(Tier::Memory),
            age: now.since(glance.stored),
            ttl: glance.fresh_until.since(now),
            epoch: None,
            stored: true,
        };
        self.answered(&key.bytes(), &found);
        Some(found)
    }

    /// An entry as its reader sees it; `None` if it is of another type.
    pub(crate) fn found(&self, entry: &Entry, tier: Option<Tier>, now: Moment) -> Option<Found<V>> {
        let value = entry.value.clone().downcast::<V>().ok()?;
        let outcome = if entry.freshness(now) == Freshness::Fresh { Outcome::Hit } else { Outcome::Stale };
        Some(Found {
            value,
            outcome,
            tier,
            age: now.since(entry.stored),
            ttl: entry.ttl(now),
            epoch: entry.epoch(),
            stored: true,
        })
    }

    /// Notes how a read was answered.
    pub(crate) fn answered(&self, key: &[u8], found: &Found<V>) {
        match (found.outcome, found.tier) {
            (Outcome::Hit, Some(tier)) => self.counters.hit(tier),
            (outcome, _) => self.counters.read(outcome),
        }
        self.engine.events.read(|| Event::Read {
            key: Key::from_bytes(key),
            outcome: found.outcome,
            tier: found.tier,
            age: found.age,
        });
    }

    pub(crate) fn describe(&self, key: Key, found: Found<V>) -> Hit<V> {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(self.engine.runtime.wall_millis());
        Hit {
            stored_at: wall.checked_sub(found.age).unwrap_or(SystemTime::UNIX_EPOCH),
            value: found.value,
            outcome: found.outcome,
            tier: found.tier,
            age: found.age,
            ttl: found.ttl,
            key,
            epoch: found.epoch,
        }
    }

    /// Whatever a tier has, fresh or stale, without loading.
    pub(crate) async fn look_up(self: &Arc<Self>, key: &Key) -> Option<Found<V>> {
        let now = self.engine.clock.now();
        let mut found = None;
        if self.use_memory
            && let InMemory::Fresh(entry) | InMemory::Stale(entry) =
                self.engine.in_memory(&Probe::from(key), now)
        {
            found = self.found(&entry, Some(Tier::Memory), now);
        }
        if found.is_none() {
            found = self.fetch(key).await.and_then(|entry| self.found(&entry, Some(Tier::Remote), now));
        }
        match &found {
            Some(found) => self.answered(key.as_bytes(), found),
            None => self.counters.read(Outcome::Miss),
        }
        found
    }

    pub(crate) async fn has(self: &Arc<Self>, key: &Key) -> bool {
        let now = self.engine.clock.now();
        let in_memory =
            self.use_memory && !matches!(self.engine.in_memory(&Probe::from(key), now), InMemory::Nothing);
        in_memory || self.fetch(key).await.is_some()
    }

    /// Does this handle read and write the remote tier?
    pub(crate) fn uses_remote(&self) -> bool {
        self.engine.enabled && self.policy.remote && self.codec.is_some() && self.engine.remote.is_some()
    }

    /// The entry of `key` in the remote tier, if it is valid and not expired. It enters memory on the way.
    pub(crate) async fn fetch(self: &Arc<Self>, key: &Key) -> Option<Entry> {
        let (Some(remote), Some(codec)) = (&self.engine.remote, &self.codec) else { return None };
        // A node that has heard of the log too long ago cannot tell what is valid of what others have loaded.
        let serves = || self.engine.node.serves_any(self.engine.clock.now());
        if !self.engine.enabled || !self.policy.remote || !serves() {
            return None;
        }
        let rejected = |reject: Reject| {
            self.counters.count(Count::Rejected);
            self.engine.events.emit(|| Event::Rejected { key: key.clone(), reason: reject.as_str() });
            // A store that is under way will overwrite it.
            if reject.is_damage() && !self.engine.is_storing(key) {
                self.remove_remotely(key);
            }
        };
        let envelope = match remote.fetch(&*self.engine.runtime, key.as_bytes()).await {
            Fetched::Envelope(envelope) => envelope,
            Fetched::Rejected(reject) => {
                rejected(reject);
                return None;
            }
            Fetched::Nothing => return None,
        };
        if envelope.schema != self.schema || envelope.codec != codec.id() {
            rejected(Reject::Schema);
            return None;
        }
        let (verdict, n) = remote.verdict(&envelope);
        if verdict == Verdict::Dead {
            self.counters.count(Count::Unverified);
            return None;
        }
        let payload = match unpack(envelope.compression, &envelope.payload, self.policy.max_stored_size) {
            Ok(payload) => payload,
            Err(reject) => {
                rejected(reject);
                return None;
            }
        };
        let Ok(value) = codec.decode(&payload) else {
            rejected(Reject::Decode);
            return None;
        };
        // Both ages by the server's time: what the calendar of this machine does is of no matter.
        let now = self.engine.runtime.now();
        let age = remote.driver.server_millis(now).saturating_sub(envelope.stored_at_ms);
        let stored = now.minus(Duration::from_millis(age));
        let mark = Mark { n, epoch: Some(envelope.epoch), loaded: Moment::default() };
        let weight = weight(key, (self.weigh)(&value), &envelope.tags);
        let value: AnyValue = Arc::new(value);
        let mut entry = Entry::new(value, envelope.tags.clone(), mark, stored, envelope.life, self.home());
        entry.found_in_remote();
        entry.weight = weight;
        if verdict == Verdict::Stale {
            // By the clock that readers go by: it is a little behind, and what has just expired would be fresh by it.
            entry.age_at(self.engine.expired_at(key.as_bytes(), &entry, self.engine.clock.now()));
        }
        if entry.freshness(now) == Freshness::Expired {
            return None;
        }
        if self.use_memory {
            self.engine.admit(key, entry.clone(), &Over::Promoted, now);
        }
        Some(entry)
    }

    /// Removes what the remote tier has, in the background.
    fn remove_remotely(&self, key: &Key) {
        let (engine, removed) = (self.engine.clone(), key.clone());
        let remove = async move {
            if let Some(remote) = &engine.remote {
                remote.remove(&*engine.runtime, &engine.events, removed).await;
            }
        };
        self.engine.spawn_store(key, 0, || false, Box::pin(remove));
    }

    /// How long a value that is stored now lives: by the policy, or for a ttl of its own.
    pub(crate) fn life(&self, ttl: Option<Duration>) -> Lifetime {
        let policy = &self.policy;
        let ttl = ttl.unwrap_or(policy.ttl).min(Policy::MAX_TTL);
        Lifetime::new(ttl, policy.stale_while_revalidate, policy.jitter, self.engine.runtime.random())
    }

    /// A load that began within the lag of the replicas after an invalidation may have read what that had replaced: what it
    /// brought is kept only until they have caught up.
    fn life_after_lag(&self, key: &Key, loaded: &Loaded<'_>) -> Lifetime {
        let (lag, life) = (self.policy.replica_lag, loaded.life);
        if lag.is_zero() {
            return life;
        }
        let tags = loaded.tags.as_deref().unwrap_or_default();
        let last = |mode| self.engine.node.last(mode, key.as_bytes(), tags);
        let last = last(Mode::Soft).max(last(Mode::Hard));
        let began = loaded.now.minus(loaded.cost);
        match last > Moment::default() && began <= last.plus(lag) {
            true => Lifetime { fresh_for: life.fresh_for.min(lag), stale_for: Duration::ZERO },
            false => life,
        }
    }

    /// Stores a value that was just loaded: memory now, the remote tier in the background. Answers the entry, and whether
    /// a tier has it.
    pub(crate) fn store(self: &Arc<Self>, key: &Key, value: Arc<V>, loaded: Loaded<'_>) -> (Entry, bool) {
        let (engine, now) = (&self.engine, loaded.now);
        let size = (self.weigh)(&value);
        let weight = weight(key, size, &loaded.tags);
        let any: AnyValue = value.clone();
        let life = self.life_after_lag(key, &loaded);
        let mut entry = Entry::new(any, loaded.tags, loaded.mark, now, life, self.home());
        entry.weight = weight;
        let skip = |reason| {
            engine.events.emit(|| Event::Skip { key: key.to_string(), reason });
        };
        let superseded = matches!(&loaded.over, Over::Older(Some(flight)) if flight.is_superseded());
        if !engine.enabled || superseded {
            return (entry, false);
        }
        let too_large = size > self.policy.max_stored_size;
        if too_large || !loaded.tags_fit {
            skip(if too_large { SkipReason::TooLarge } else { SkipReason::Tags });
            self.drop_older(key);
            return (entry, false);
        }
        let verdict = match loaded.mark.n == engine.node.n() {
            true => Verdict::Valid,
            false => engine.node.check_since(key.as_bytes(), entry.tags(), loaded.mark.n),
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
        let mut stored = self.use_memory && engine.admit(key, entry.clone(), &loaded.over, now);
        if self.use_memory && !stored {
            if !engine.memory.fits(weight) {
                skip(SkipReason::TooLarge);
            } else if matches!(loaded.over, Over::Just(_)) {
                return (entry, false);
            }
        }
        if self.uses_remote() {
            let in_memory = stored;
            let overtaken = || {
                matches!(&loaded.over, Over::Older(Some(flight)) if flight.is_superseded())
                    || (in_memory && engine.memory.has_other(&Probe::from(key), &entry))
            };
            stored |= self.store_remotely(key, value, &entry, loaded.cost, now, overtaken);
        }
        let stored = stored && entry.freshness(now) != Freshness::Expired;
        (entry, stored)
    }

    /// The new value is kept nowhere: neither is the old one, or it would be served on as if nothing had happened.
    fn drop_older(&self, key: &Key) {
        self.engine.memory.remove(&Probe::from(key));
        if self.uses_remote() {
            self.remove_remotely(key);
        }
    }

    /// True if the store is under way.
    fn store_remotely(
        self: &Arc<Self>,
        key: &Key,
        value: Arc<V>,
        entry: &Entry,
        cost: Duration,
        now: Moment,
        overtaken: impl FnOnce() -> bool,
    ) -> bool {
        let (engine, life, left) = (&self.engine, entry.life(), entry.left(now));
        let Some(epoch) = entry.epoch() else { return false };
        if left < Duration::from_millis(1) || engine.node.is_pending(key.as_bytes(), entry.tags()) {
            return false;
        }
        let (shared, handle, key) = (key, self.clone(), key.clone());
        let (tags, stored, entry_of) = (entry.shared_tags(), entry.stored, entry.clone());
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
                cost,
                payload,
            };
            let Some(bytes) = envelope.encode() else {
                return failed("the entry is larger than its format can hold".to_owned());
            };
            let runtime = &*handle.engine.runtime;
            let store = Store { bytes, life: left, epoch, lease: StoreLease::Apart, measured: false };
            match remote.store(runtime, key.as_bytes(), store).await {
                Ok(stored) => {
                    entry_of.found_in_remote();
                    handle.counters.count(match stored {
                        Stored::Stored | Stored::Replaced { .. } => Count::Stores,
                        Stored::Overtaken => Count::StoresRefused,
                    });
                }
                Err(error) => failed(error.to_string()),
            }
        };
        let storage = engine.spawn_store(shared, entry.weight as usize, overtaken, Box::pin(store));
        if storage == Storage::Busy {
            self.counters.count(Count::StoreErrors);
        }
        storage == Storage::UnderWay
    }

    /// Who can put an entry of this handle into the remote tier later.
    fn home(self: &Arc<Self>) -> Option<Weak<dyn Home>> {
        // Weakly: handles hold the engine, which holds the entries.
        self.uses_remote().then(|| {
            let home: Weak<Self> = Arc::downgrade(self);
            home as Weak<dyn Home>
        })
    }

    /// Removes from every tier, and invalidates.
    pub(crate) async fn remove(self: &Arc<Self>, key: &Key) -> Invalidated {
        let engine = &self.engine;
        let mut writer = KeyWriter::new();
        writer.raw(key.name());
        let invalidated = engine.invalidate(Mode::Hard, vec![Selector::of_key(&writer)], "", "").await;
        engine.memory.remove(&Probe::from(key));
        if let (true, Some(remote)) = (self.uses_remote(), &engine.remote) {
            remote.remove(&*engine.runtime, &engine.events, key.clone()).await;
        }
        invalidated
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
        self.store_remotely(key, value, entry, Duration::ZERO, now, overtaken)
    }
}

/// Key, tags, a value of `size` and what an entry takes besides, in bytes.
fn weight(key: &Key, size: usize, tags: &Tags) -> u32 {
    let tags: usize = tags.iter().flat_map(|tags| tags.iter()).map(|tag| tag.len() + 32).sum();
    let bytes = size.saturating_add(key.as_bytes().len() + tags + ENTRY_OVERHEAD);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
