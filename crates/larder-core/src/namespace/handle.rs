//! What all clones of a handle share, and the tiers as it sees them: typed look-ups and stores.

use std::hash::Hasher;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::Xxh3;

use super::{Found, Hit};
use crate::accounts::Accounts;
use crate::codec::Codec;
use crate::engine::{Engine, Gate, InMemory, Invalidated};
use crate::entry::{Entry, Freshness};
use crate::event::Event;
use crate::flight::Flight;
use crate::key::{Key, KeyWriter, Prefix, Probe, ToKey, is_plain};
use crate::log::{Mode, Verdict};
use crate::memory::Glance;
use crate::outcome::{Outcome, Tier};
use crate::policy::defaults::UNCACHEABLE_FOR;
use crate::policy::{Policy, window};
use crate::runtime::Moment;
use crate::selector::Selector;
use crate::stats::Counters;

pub(crate) type Weigh<V> = Arc<dyn Fn(&V) -> usize + Send + Sync>;

pub(crate) struct Handle<V> {
    pub(super) engine: Arc<Engine>,
    pub(crate) counters: Arc<Counters>,
    prefix: Prefix,
    sub: Box<[u8]>,
    pub(crate) policy: Policy,
    /// `None`: values never leave this process.
    pub(crate) codec: Option<Arc<dyn Codec<V>>>,
    pub(crate) weigh: Weigh<V>,
    pub(crate) schema: u64,
    /// Does a value say "there is none"? `None`: no value does.
    pub(crate) absent: Option<Judge<V>>,
    /// What tells whether a load has found anything new; `None`: the encoded value.
    pub(crate) content_hash: Option<Hash<V>>,
    /// Bounds the loads.
    pub(super) gate: Option<Arc<Gate>>,
    /// Who has how much of memory, where that is bounded.
    pub(super) accounts: Option<Arc<Accounts>>,
    pub(super) use_memory: bool,
}

/// What a value is known by.
pub(crate) type Hash<V> = Arc<dyn Fn(&V) -> u64 + Send + Sync>;

/// Says something of a value.
pub(crate) type Judge<V> = Arc<dyn Fn(&V) -> bool + Send + Sync>;

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
            absent: self.absent.clone(),
            content_hash: self.content_hash.clone(),
            gate: self.gate.clone(),
            accounts: self.accounts.clone(),
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

impl<V: Send + Sync + 'static> Handle<V> {
    pub(crate) fn new(
        engine: Arc<Engine>,
        resource: &super::Resource,
        policy: Policy,
        codec: Option<Arc<dyn Codec<V>>>,
        weigh: Weigh<V>,
    ) -> Self {
        let counters = engine.counters(&resource.namespace);
        let share = policy.share.as_ref().filter(|share| share.memory.is_some());
        Handle {
            accounts: share.map(|share| engine.accounts.of(&resource.namespace, share, &counters)),
            counters,
            gate: engine.gates.of(&resource.name(), &policy),
            absent: None,
            content_hash: None,
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
        if self.is_nearly_due(&glance, now) {
            return None;
        }
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

    /// May an entry be due for a refresh that is early? Then the read takes the longer way, on which that is decided.
    #[inline]
    fn is_nearly_due(&self, glance: &Glance, now: Moment) -> bool {
        let beta = self.policy.early_refresh;
        beta > 0.0 && glance.fresh_until.since(now) <= window(glance.cost, beta)
    }

    /// As [`hit`](Self::hit), for the bytes of a key, and with what there is to say of the value.
    #[inline]
    pub(crate) fn found_at_once(&self, key: &Probe<'_>) -> Option<Found<V>> {
        if !self.use_memory || self.engine.is_closing() {
            return None;
        }
        let now = self.engine.clock.now();
        let glance =
            self.engine.fresh_in_memory(key, now).filter(|glance| !self.is_nearly_due(glance, now))?;
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
            found = self.served(&entry, Tier::Memory, key, now);
        }
        if found.is_none() {
            let entry = self.fetch(key).await.entry();
            // By the time it is now: it may have been expired, or have run out, on the way.
            let now = self.engine.clock.now();
            found = entry.and_then(|entry| self.served(&entry, Tier::Remote, key, now));
        }
        match &found {
            Some(found) => self.answered(key.as_bytes(), found),
            None => self.counters.read(Outcome::Miss),
        }
        found
    }

    pub(crate) async fn has(self: &Arc<Self>, key: &Key) -> bool {
        let now = self.engine.clock.now();
        if self.use_memory
            && let InMemory::Fresh(entry) | InMemory::Stale(entry) =
                self.engine.in_memory(&Probe::from(key), now)
            && self.served(&entry, Tier::Memory, key, now).is_some()
        {
            return true;
        }
        let entry = self.fetch(key).await.entry();
        let now = self.engine.clock.now();
        entry.is_some_and(|entry| self.served(&entry, Tier::Remote, key, now).is_some())
    }

    /// An entry as its reader sees it, if it is served without a load.
    fn served(&self, entry: &Entry, tier: Tier, key: &Key, now: Moment) -> Option<Found<V>> {
        let serves = entry.is_fresh(now) || self.serves_stale(entry, key, now);
        serves.then(|| self.found(entry, Some(tier), now)).flatten()
    }

    /// Is an entry past its fresh life served at once? Within its window it is, and while its load is not to be tried.
    pub(crate) fn serves_stale(&self, entry: &Entry, key: &Key, now: Moment) -> bool {
        let window = self.policy.stale_while_revalidate;
        now < entry.fresh_until().plus(window) || self.engine.resting.has(&Probe::from(key), now)
    }

    /// The same of an entry in memory: where memory has a ttl of its own the remote tier is asked first.
    pub(crate) fn revalidates(&self, entry: &Entry, now: Moment) -> bool {
        let asks_first = self.policy.memory_ttl.is_some() && self.uses_remote();
        !asks_first && now < entry.fresh_until().plus(self.policy.stale_while_revalidate)
    }

    /// What may be served instead of what a load brings: nothing that has been invalidated since it was looked up.
    pub(crate) fn spare(&self, key: &Key, flight: &Flight) -> Option<Found<V>> {
        let (entry, tier) = flight.spare()?;
        let now = self.engine.clock.now();
        let node = &self.engine.node;
        let verdict = node.check_since(key.as_bytes(), entry.tags(), entry.seen());
        if verdict == Verdict::Stale {
            // It may have been fresh when it was looked up, and have been expired since.
            entry.age_at(self.engine.expired_at(key.as_bytes(), entry, now));
        }
        let serves = verdict != Verdict::Dead
            && entry.freshness(now) != Freshness::Expired
            && node.serves(entry.loaded(), now);
        serves.then(|| self.found(entry, Some(*tier), now)).flatten()
    }

    /// What memory had a moment ago, to be served because nothing can be loaded: unless its time is over. Counts as a read.
    pub(crate) fn still_usable(&self, key: &Key, old: &Entry, now: Moment) -> Option<Found<V>> {
        let usable = old.freshness(now) != Freshness::Expired;
        let found = usable.then(|| self.found(old, Some(Tier::Memory), now)).flatten()?;
        self.answered(key.as_bytes(), &found);
        Some(found)
    }

    /// Ends what the tiers have of a key, here and in the remote tier: a load has found that it is not so any more, and
    /// brought nothing to take its place.
    pub(super) fn drop_older(self: &Arc<Self>, key: &Key) {
        self.engine.memory.remove(&Probe::from(key));
        if self.uses_remote() {
            self.remove_remotely(key);
        }
    }

    /// The next readers of a key load apart: the answer to it, which took so long, is for nobody else. It is remembered for
    /// as long again, so that a slow one is known to be one until those who load it now say so again.
    pub(super) fn remember_apart(&self, key: &Key, now: Moment, took: Duration) {
        self.engine.uncacheable.remember(key, now, UNCACHEABLE_FOR.saturating_add(took));
    }

    /// Does this handle read and write the remote tier?
    pub(crate) fn uses_remote(&self) -> bool {
        self.engine.enabled && self.policy.remote && self.codec.is_some() && self.engine.remote.is_some()
    }

    /// Removes from every tier, and invalidates.
    pub(crate) async fn remove(self: &Arc<Self>, key: &Key) -> Invalidated {
        let engine = &self.engine;
        let mut writer = KeyWriter::new();
        writer.raw(key.name());
        let invalidated = engine.invalidate(Mode::Hard, vec![Selector::of_key(&writer)], "", "").await;
        engine.memory.remove(&Probe::from(key));
        if self.uses_remote() {
            self.take_out(key).await;
        }
        invalidated
    }
}
