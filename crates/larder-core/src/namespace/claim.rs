//! The read path, step by step. Typed handles and the HTTP layer take the same steps.
//!
//! ```text
//! claim ─ memory fresh ───────────────► Found
//!       ├ memory stale ───────────────► Stale, with a Lead for the refresh
//!       ├ somebody loads already ─────► Join ─ wait ─► Found, or try again
//!       └ nobody does ────────────────► Lead ─ look_up ─ remote fresh ─► Found
//!                                              ├ remote stale ─► Stale
//!                                              └ begin, load, fill
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::Found;
use super::handle::{Handle, Loaded};
use crate::engine::{Engine, InMemory, Over};
use crate::entry::{Entry, Freshness, Tags};
use crate::flight::{Boarding, Failure, Flight, Landing};
use crate::key::{Key, MAX_TAG_BYTES, Probe, escape_tag};
use crate::log::{Mark, Verdict};
use crate::outcome::{Outcome, SkipReason, Tier};
use crate::runtime::{BoxFuture, Moment, within};
use crate::stats::Count;

/// What whoever reads a key has to do.
#[must_use = "a Lead that is dropped sends those who wait for it away empty-handed"]
pub enum Claim<V: Send + Sync + 'static> {
    /// Nothing: here it is, fresh.
    Found(Found<V>),
    /// Serve this stale value, and refresh it with the lead if there is one (else somebody is at it).
    Stale(Found<V>, Option<Lead<V>>),
    /// Load, for everybody.
    Lead(Lead<V>),
    /// Wait for the load that is under way.
    Join(Flying<V>),
    /// Load for yourself, side by side with others, and store nothing.
    Apart(SkipReason),
}

/// The duty, and the right, to load a key. Dropped, it wakes those who wait: one of them takes over.
pub struct Lead<V: Send + Sync + 'static> {
    handle: Arc<Handle<V>>,
    key: Key,
    flight: Arc<Flight>,
    mark: Mark,
    started: Moment,
    refresh: bool,
    landed: bool,
}

/// A load that somebody else leads.
pub struct Flying<V: Send + Sync + 'static> {
    handle: Arc<Handle<V>>,
    key: Key,
    flight: Arc<Flight>,
    /// The local counter when this caller came.
    arrived: u64,
}

/// How somebody else's load ended, for one who waited.
pub enum Flown<V> {
    /// With a value that is good for this caller.
    Found(Found<V>),
    /// With an answer for its first caller alone: load apart.
    Unshared,
    /// Without anything this caller may have: claim again.
    Again,
    /// With an error.
    Failed(Failure),
}

/// What the remote tier had.
pub enum LookedUp<V: Send + Sync + 'static> {
    /// A fresh value; those who wait have it too.
    Found(Found<V>),
    /// A stale one; the lead, if it was to be had, is for the refresh.
    Stale(Found<V>, Option<Lead<V>>),
    /// Nothing: load.
    Nothing(Lead<V>),
}

/// What a loader says of a value, beyond the policy.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Fill {
    /// A ttl of its own. Default: the policy's.
    pub ttl: Option<Duration>,
    /// Its tags. More than 256, or one of more than 1024 bytes, and the value is not stored: what cannot be tagged
    /// could not be invalidated.
    pub tags: Vec<String>,
}

impl Fill {
    /// The policy's ttl, no tags.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the ttl.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the tags.
    pub fn tags(mut self, tags: Vec<String>) -> Self {
        self.tags = tags;
        self
    }

    /// Can these tags be stored?
    pub fn tags_fit(&self) -> bool {
        self.tags.len() <= 256 && self.tags.iter().all(|tag| (1..=MAX_TAG_BYTES).contains(&tag.len()))
    }

    pub(super) fn stored_tags(&self) -> Tags {
        let tags = || self.tags.iter().map(|tag| escape_tag(tag).into_boxed_slice()).collect();
        (!self.tags.is_empty()).then(tags)
    }
}

/// What must not have been invalidated before for a caller who comes now: by the local counter.
///
/// A node that has heard of the log too long ago does not know what was invalidated before this caller came. By the time the
/// load of somebody else ends it may, and then that counts.
fn arrival(engine: &Engine, now: Moment) -> u64 {
    if engine.node.serves_any(now) { engine.node.n() } else { u64::MAX }
}

/// Claims the bytes of a key.
pub(super) fn claim<V: Send + Sync + 'static>(handle: &Arc<Handle<V>>, key: &Probe<'_>) -> Claim<V> {
    let engine = handle.engine();
    if !engine.enabled || engine.is_closing() {
        return Claim::Apart(SkipReason::Off);
    }
    let now = engine.clock.now();
    let arrived = arrival(engine, now);
    if handle.uses_memory() {
        let (entry, fresh) = match engine.in_memory(key, now) {
            InMemory::Fresh(entry) => (Some(entry), true),
            InMemory::Stale(entry) => (Some(entry), false),
            InMemory::Nothing => (None, false),
        };
        if let Some(found) = entry.and_then(|entry| handle.found(&entry, Some(Tier::Memory), now)) {
            handle.answered(&key.bytes(), &found);
            if fresh {
                return Claim::Found(found);
            }
            let lead = refresh(handle, key.to_key());
            return Claim::Stale(found, lead);
        }
    }
    if engine.is_uncacheable(key, now) {
        return Claim::Apart(SkipReason::Uncacheable);
    }
    let key = key.to_key();
    match engine.flights.board(&key, &engine.runtime) {
        Boarding::Full => Claim::Apart(SkipReason::Overloaded),
        Boarding::Join(flight) => Claim::Join(Flying { handle: handle.clone(), key, flight, arrived }),
        Boarding::Lead(flight) => {
            let lead = Lead::new(handle.clone(), key, flight, now);
            // A shutdown that began in between may have found no load under way, and be done.
            if engine.is_closing() {
                return Claim::Apart(SkipReason::Off);
            }
            // A flight may have landed between the look into memory and boarding.
            match lead.landed_meanwhile(now) {
                Some(entry) => lead.share(entry, Some(Tier::Memory)).map_or_else(Claim::Lead, Claim::Found),
                None => Claim::Lead(lead),
            }
        }
    }
}

/// Leave to refresh `key`, unless somebody loads it already.
fn refresh<V: Send + Sync + 'static>(handle: &Arc<Handle<V>>, key: Key) -> Option<Lead<V>> {
    match claim_again(handle, key) {
        Claim::Lead(lead) => Some(lead),
        _ => None,
    }
}

/// Claims a key to load it once more, whatever memory has: a lead for the refresh, or the load that is under way.
pub(super) fn claim_again<V: Send + Sync + 'static>(handle: &Arc<Handle<V>>, key: Key) -> Claim<V> {
    let engine = handle.engine();
    let now = engine.clock.now();
    let arrived = arrival(engine, now);
    match engine.flights.board(&key, &engine.runtime) {
        Boarding::Full => Claim::Apart(SkipReason::Overloaded),
        Boarding::Join(flight) => Claim::Join(Flying { handle: handle.clone(), key, flight, arrived }),
        Boarding::Lead(flight) => {
            let mut lead = Lead::new(handle.clone(), key, flight, now);
            lead.refresh = true;
            // As in `claim`.
            if engine.is_closing() { Claim::Apart(SkipReason::Off) } else { Claim::Lead(lead) }
        }
    }
}

impl<V: Send + Sync + 'static> Lead<V> {
    fn new(handle: Arc<Handle<V>>, key: Key, flight: Arc<Flight>, now: Moment) -> Self {
        // Until `begin` says better: whoever fills without it has read its data after this, and not before.
        let mark = handle.engine().node.mark(now);
        Lead { handle, key, flight, mark, started: now, refresh: false, landed: false }
    }

    fn landed_meanwhile(&self, now: Moment) -> Option<Entry> {
        if !self.handle.uses_memory() {
            return None;
        }
        match self.handle.engine().in_memory(&Probe::from(&self.key), now) {
            InMemory::Fresh(entry) => Some(entry),
            InMemory::Stale(_) | InMemory::Nothing => None,
        }
    }

    pub(super) fn handle(&self) -> &Arc<Handle<V>> {
        &self.handle
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Is there a remote tier to look into? Without one, [`look_up`](Self::look_up) has nothing to do.
    pub fn has_remote(&self) -> bool {
        self.handle.uses_remote()
    }

    /// Looks into the remote tier, within the budget of a read.
    ///
    /// Cancel safe: dropped, the lead passes on to one of those who wait.
    pub async fn look_up(self) -> LookedUp<V> {
        if !self.has_remote() {
            return LookedUp::Nothing(self);
        }
        let Some(entry) = self.handle.fetch(&self.key).await else { return LookedUp::Nothing(self) };
        let now = self.handle.engine().clock.now();
        let fresh = entry.freshness(now) == Freshness::Fresh;
        if self.refresh && !fresh {
            return LookedUp::Nothing(self);
        }
        let (handle, key) = (self.handle.clone(), self.key.clone());
        match self.share(entry, Some(Tier::Remote)) {
            Ok(found) if fresh => LookedUp::Found(found),
            Ok(found) => LookedUp::Stale(found, refresh(&handle, key)),
            Err(lead) => LookedUp::Nothing(lead),
        }
    }

    /// Lands with an entry that a tier had.
    fn share(mut self, entry: Entry, tier: Option<Tier>) -> Result<Found<V>, Self> {
        let now = self.handle.engine().clock.now();
        let Some(found) = self.handle.found(&entry, tier, now) else { return Err(self) };
        if !self.refresh {
            self.handle.answered(self.key.as_bytes(), &found);
        }
        let (outcome, began) = (found.outcome, entry.seen());
        self.land(Landing::Value { entry, outcome, tier, began, stored: true });
        Ok(found)
    }

    /// The load begins now: what is invalidated from here on does not get its result.
    pub fn begin(&mut self) {
        self.started = self.handle.engine().runtime.now();
        self.mark = self.handle.engine().node.mark(self.started);
    }

    /// Ends the load with a value: stored, and given to those who wait.
    pub fn fill(mut self, value: Arc<V>, fill: &Fill) -> Found<V> {
        let engine = self.handle.engine().clone();
        let (mark, now) = (self.mark, engine.runtime.now());
        let cost = now.since(self.started);
        self.handle.counters.load_ended(cost, true);
        let loaded = Loaded {
            mark,
            now,
            life: self.handle.life(fill.ttl),
            tags: fill.stored_tags(),
            tags_fit: fill.tags_fit(),
            cost,
            over: Over::Older(Some(&self.flight)),
        };
        let (entry, stored) = self.handle.store(&self.key, value.clone(), loaded);
        engine.forget_uncacheable(&self.key);
        let found = Found {
            value,
            outcome: Outcome::Miss,
            tier: None,
            age: Duration::ZERO,
            ttl: entry.life().fresh_for,
            epoch: entry.epoch(),
            stored,
        };
        if self.refresh {
            self.handle.counters.count(Count::Refreshes);
        } else {
            self.handle.answered(self.key.as_bytes(), &found);
        }
        self.land(Landing::Value { entry, outcome: Outcome::Miss, tier: None, began: mark.n, stored });
        found
    }

    /// Ends the load with an answer that is for this caller alone. With `remember` the next requests do not wait for
    /// each other either, for a few seconds.
    pub fn unshared(mut self, remember: bool) {
        let engine = self.handle.engine();
        let took = engine.runtime.now().since(self.started);
        if remember {
            engine.remember_uncacheable(&self.key);
        }
        self.handle.counters.load_ended(took, true);
        if !self.refresh {
            self.handle.counters.read(Outcome::Miss);
        }
        self.land(Landing::Unshared);
    }

    /// Ends the load with an error.
    pub fn fail(mut self, failure: Failure) {
        let took = self.handle.engine().runtime.now().since(self.started);
        self.handle.counters.load_ended(took, false);
        if self.refresh {
            // A stale value may be there still: those who wait look again rather than fail with the refresh.
            return self.land(Landing::Abandoned);
        }
        self.handle.counters.read(Outcome::Miss);
        self.land(Landing::Failed(failure));
    }

    /// Another seat on the same flight, for whoever hands the lead to a task.
    pub fn seat(&self) -> Flying<V> {
        Flying {
            handle: self.handle.clone(),
            key: self.key.clone(),
            flight: self.flight.clone(),
            // The load has not begun, or began for this caller.
            arrived: 0,
        }
    }

    fn land(&mut self, landing: Landing) {
        self.landed = true;
        self.handle.engine().flights.land(&self.key, &self.flight, landing);
    }
}

impl<V: Send + Sync + 'static> Drop for Lead<V> {
    fn drop(&mut self) {
        if !self.landed {
            self.land(Landing::Abandoned);
        }
    }
}

impl<V: Send + Sync + 'static> Flying<V> {
    /// Waits for the load to end, at most as long as a load may take.
    ///
    /// Cancel safe.
    pub async fn wait(self) -> Flown<V> {
        match within(&*self.handle.engine().runtime, self.limit(), self.flight.landing()).await {
            Ok(landing) => self.take(landing),
            Err(_) => Flown::Failed(Failure::TimedOut),
        }
    }

    /// As [`wait`](Self::wait), for one who wants nothing of it: no read, and counted as none.
    pub(super) async fn over(self) {
        let _ = within(&*self.handle.engine().runtime, self.limit(), self.flight.landing()).await;
    }

    fn limit(&self) -> Duration {
        // The load's own timeout comes first; this is for a load that blocks its thread.
        let budget = self.handle.engine().remote.as_ref().map_or(Duration::ZERO, |r| r.budget);
        self.handle.policy.load_timeout + budget + Duration::from_millis(20)
    }

    /// The leader's part: does the work of the flight until it lands, or has moved to a task and lands there. Answers what
    /// the leader gets: the value as it was found, not as somebody else's.
    pub(crate) async fn carry(self, work: BoxFuture<'static, ()>) -> Flown<V> {
        let runtime = &self.handle.engine().runtime;
        tokio::select! {
            biased;
            () = self.flight.carry(runtime, work) => {}
            // Work that has moved to a task wakes this caller only by landing.
            _ = self.flight.landing() => {}
        }
        match self.flight.landing().await {
            Landing::Value { entry, outcome, tier, stored, .. } => {
                self.seen_by(entry, *outcome, *tier, *stored)
            }
            other => self.take(other),
        }
    }

    fn take(&self, landing: &Landing) -> Flown<V> {
        match landing {
            Landing::Value { entry, outcome, tier, began, stored } => {
                // Tags are known only now: was the result invalidated between the load's start and this arrival?
                let engine = self.handle.engine();
                let good = *began >= self.arrived
                    || engine.node.check_since(self.key.as_bytes(), entry.tags(), *began) == Verdict::Valid;
                if !good || !engine.node.serves(entry.loaded(), engine.clock.now()) {
                    return Flown::Again;
                }
                let outcome = if *outcome == Outcome::Miss { Outcome::Coalesced } else { *outcome };
                let flown = self.seen_by(entry, outcome, *tier, *stored);
                if let Flown::Found(found) = &flown {
                    self.handle.answered(self.key.as_bytes(), found);
                }
                flown
            }
            Landing::Failed(failure) => Flown::Failed(failure.clone()),
            Landing::Unshared => Flown::Unshared,
            Landing::Abandoned => Flown::Again,
        }
    }

    fn seen_by(&self, entry: &Entry, outcome: Outcome, tier: Option<Tier>, stored: bool) -> Flown<V> {
        let now = self.handle.engine().clock.now();
        match self.handle.found(entry, tier, now) {
            Some(found) => Flown::Found(Found { outcome, stored, ..found }),
            None => Flown::Again,
        }
    }
}
