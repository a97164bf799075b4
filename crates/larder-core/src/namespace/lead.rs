//! The duty to load a key, from the look into the remote tier to the end of the load.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Found;
use super::claim::{self, GRACE};
use super::fetch::Fetch;
use super::fill::Fill;
use super::flying::Flying;
use super::handle::Handle;
use super::store::Loaded;
use crate::engine::{CLOCKS_DIFFER, InMemory, Lease, Over, Permit};
use crate::entry::{Entry, Freshness};
use crate::flight::{Failure, Flight, Landing};
use crate::key::{Key, Probe};
use crate::log::Mark;
use crate::outcome::{Outcome, Tier};
use crate::policy::Content;
use crate::runtime::Moment;
use crate::stats::Count;

/// The duty, and the right, to load a key. Dropped, it wakes those who wait: one of them takes over.
pub struct Lead<V: Send + Sync + 'static> {
    pub(super) handle: Arc<Handle<V>>,
    pub(super) key: Key,
    pub(super) flight: Arc<Flight>,
    mark: Mark,
    started: Moment,
    pub(super) refresh: bool,
    landed: bool,
    /// What it has gathered on the way. A load without a remote tier, a past and a bound gathers nothing.
    gathered: Option<Box<Gathered>>,
}

/// What a lead knows and holds.
#[derive(Default)]
pub(super) struct Gathered {
    /// What is to be refreshed is fresh still, and was stored at that moment: as old is no news.
    early: Option<Moment>,
    /// What the last load is remembered by.
    content: Option<Content>,
    /// How the value begins that the remote tier had and that is of no use.
    pub(super) rejected: Option<Bytes>,
    /// When the remote tier was first asked: the budget of a read is for all its calls.
    pub(super) asked: Option<Moment>,
    pub(super) lease: Option<Lease>,
    pub(super) permit: Option<Permit>,
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

impl<V: Send + Sync + 'static> Lead<V> {
    pub(super) fn new(handle: Arc<Handle<V>>, key: Key, flight: Arc<Flight>, now: Moment) -> Self {
        // Until `begin` says better: whoever fills without it has read its data after this, and not before.
        let mark = handle.engine().node.mark(now);
        Lead { handle, key, flight, mark, started: now, refresh: false, landed: false, gathered: None }
    }

    pub(super) fn gathered(&mut self) -> &mut Gathered {
        self.gathered.get_or_insert_default()
    }

    /// When the remote tier was first asked.
    pub(super) fn asked(&self) -> Option<Moment> {
        self.gathered.as_ref().and_then(|gathered| gathered.asked)
    }

    fn take_lease(&mut self) -> Option<Lease> {
        self.gathered.as_mut().and_then(|gathered| gathered.lease.take())
    }

    pub(super) fn for_refresh(mut self) -> Self {
        self.refresh = true;
        self
    }

    /// There is, or was, this of the key: served if the load fails, if it may be then, and of use to the next one.
    pub(super) fn knows(&mut self, old: &Entry, tier: Tier) {
        if self.refresh && old.is_fresh(self.started) {
            self.gathered().early = Some(old.stored);
        }
        if let Some(content) = old.content() {
            self.gathered().content = Some(content);
        }
        if self.handle.policy.stale_window() > Duration::ZERO {
            self.flight.set_spare(old.clone(), tier);
        }
    }

    pub(super) fn landed_meanwhile(&self, now: Moment) -> Option<Entry> {
        if !self.handle.uses_memory() {
            return None;
        }
        match self.handle.engine().in_memory(&Probe::from(&self.key), now) {
            InMemory::Fresh(entry) => Some(entry),
            InMemory::Stale(_) | InMemory::Expired(_) | InMemory::Nothing => None,
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
    pub async fn look_up(mut self) -> LookedUp<V> {
        if !self.has_remote() {
            return LookedUp::Nothing(self);
        }
        self.gathered().asked = Some(self.handle.engine().runtime.now());
        let fetched = self.handle.fetch(&self.key).await;
        self.looked_up(fetched)
    }

    /// What follows from what the remote tier has.
    pub(super) fn looked_up(mut self, fetched: Fetch) -> LookedUp<V> {
        let entry = match fetched {
            Fetch::Entry(entry, head) => {
                self.gathered().rejected = Some(head);
                entry
            }
            Fetch::Rejected(head) => {
                self.gathered().rejected = head;
                return LookedUp::Nothing(self);
            }
        };
        let now = self.handle.engine().clock.now();
        let is_fresh = entry.freshness(now) == Freshness::Fresh;
        if !self.is_news(&entry, now) || !(is_fresh || self.handle.serves_stale(&entry, &self.key, now)) {
            self.knows(&entry, Tier::Remote);
            return LookedUp::Nothing(self);
        }
        let (handle, key) = (self.handle.clone(), self.key.clone());
        match self.share(entry.clone(), Some(Tier::Remote)) {
            Ok(found) if is_fresh => LookedUp::Found(found),
            Ok(found) => {
                let rests = handle.engine().resting.has(&Probe::from(&key), now);
                let lead = if rests { None } else { claim::refresh(&handle, key, &entry, Tier::Remote) };
                LookedUp::Stale(found, lead)
            }
            Err(lead) => LookedUp::Nothing(lead),
        }
    }

    /// Is an entry of the remote tier worth having? To whoever reads it is. For a refresh it has to be fresh; and where what is
    /// to be refreshed is fresh too, of a later load.
    pub(super) fn is_news(&self, entry: &Entry, now: Moment) -> bool {
        if !self.refresh {
            return true;
        }
        let a_little = (entry.life().fresh_for / 10).min(CLOCKS_DIFFER);
        let early = self.gathered.as_ref().and_then(|gathered| gathered.early);
        let is_later = early.is_none_or(|stored| entry.stored.since(stored) > a_little);
        entry.freshness(now) == Freshness::Fresh && is_later
    }

    /// Lands with an entry that a tier had.
    pub(super) fn share(mut self, entry: Entry, tier: Option<Tier>) -> Result<Found<V>, Self> {
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
        let engine = self.handle.engine();
        self.started = engine.runtime.now();
        self.mark = engine.node.mark(self.started);
        let until = self.started.plus(self.handle.policy.load_timeout);
        self.flight.begins(until.plus(GRACE));
        if let Some(lease) = self.gathered.as_ref().and_then(|gathered| gathered.lease.as_ref()) {
            lease.work_until(until.plus(crate::engine::STORE_LIMIT));
        }
    }

    /// Ends the load with a value: stored, and given to those who wait.
    pub fn fill(mut self, value: Arc<V>, fill: &Fill) -> Found<V> {
        let engine = self.handle.engine().clone();
        let (mark, now) = (self.mark, engine.runtime.now());
        let cost = now.since(self.started);
        self.handle.counters.load_ended(cost, true);
        let lease = self.take_lease();
        let loaded = Loaded {
            mark,
            now,
            fill,
            cost,
            last: self.gathered.as_ref().and_then(|gathered| gathered.content),
            over: Over::Older(Some(&self.flight)),
            lease,
        };
        let (entry, stored) = self.handle.store_loaded(&self.key, value.clone(), loaded);
        engine.uncacheable.forget(&self.key, now);
        engine.resting.forget(&self.key, now);
        let found = Found {
            value,
            outcome: Outcome::Miss,
            tier: None,
            age: Duration::ZERO,
            ttl: entry.life().fresh_for,
            epoch: entry.epoch(),
            stored,
        };
        if self.is_for_nobody() {
            self.handle.counters.count(Count::Refreshes);
        } else {
            self.handle.answered(self.key.as_bytes(), &found);
        }
        self.land(Landing::Value { entry, outcome: Outcome::Miss, tier: None, began: mark.n, stored });
        found
    }

    /// Does nobody read the result who is counted with it? A refresh, or its first caller has left with something stale.
    fn is_for_nobody(&self) -> bool {
        self.refresh || self.flight.was_left()
    }

    /// Ends the load with an answer that is for this caller alone: with it ends what was stale, or about to be. With
    /// `remember` the next requests do not wait for each other either, for a few seconds and as long as this load took.
    pub fn unshared(mut self, remember: bool) {
        let now = self.handle.engine().runtime.now();
        let took = now.since(self.started);
        if remember {
            self.handle.remember_apart(&self.key, now, took);
        }
        let had_older = self.refresh || self.flight.spare().is_some();
        if had_older && !self.flight.is_superseded() {
            self.handle.drop_older(&self.key);
        }
        self.handle.counters.load_ended(took, true);
        if !self.is_for_nobody() {
            self.handle.counters.read(Outcome::Miss);
        }
        if let Some(lease) = self.take_lease() {
            lease.apart();
        }
        self.land(Landing::Unshared);
    }

    /// Ends the load with an error. Answers what may be served instead: something stale, if the policy allows it and
    /// nothing has invalidated it.
    pub fn fail(mut self, failure: Failure) -> Option<Found<V>> {
        let engine = self.handle.engine();
        let now = engine.runtime.now();
        if self.flight.has_begun() {
            self.handle.counters.load_ended(now.since(self.started), false);
        }
        let policy = &self.handle.policy;
        if self.refresh || policy.stale_window() > Duration::ZERO {
            engine.resting.remember(&self.key, now, policy.retry_after);
        }
        let spare = self.handle.spare(&self.key, &self.flight);
        if self.refresh {
            // What is stale may be there still: those who wait look again rather than fail with the refresh.
            self.land(Landing::Abandoned);
            return spare;
        }
        if !self.is_for_nobody() {
            match &spare {
                Some(found) => self.handle.answered(self.key.as_bytes(), found),
                None => self.handle.counters.read(Outcome::Miss),
            }
        }
        self.land(Landing::Failed(failure));
        spare
    }

    /// Would it cost nobody the answer if this load [failed](Self::fail)? What a refresh brings nobody reads; else it is so
    /// while there is something stale to serve instead. For loads that have brought an answer, if one that is an error.
    pub fn fails_softly(&self) -> bool {
        self.refresh || self.handle.spare(&self.key, &self.flight).is_some()
    }

    /// The load takes its time, in a task that nobody waits for with a [`seat`](Self::seat): sees to it that it shows in
    /// health when it is past its deadline.
    pub fn watch(&self) {
        self.handle.engine().watch();
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
