//! Waiting for a load that somebody else leads, or that has moved to a task.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use super::Found;
use super::claim::GRACE;
use super::handle::Handle;
use crate::entry::Entry;
use crate::flight::{Failure, Flight, Landing};
use crate::key::Key;
use crate::log::Verdict;
use crate::outcome::{Outcome, Tier};
use crate::runtime::{BoxFuture, within};

/// A load that somebody else leads.
pub struct Flying<V: Send + Sync + 'static> {
    pub(super) handle: Arc<Handle<V>>,
    pub(super) key: Key,
    pub(super) flight: Arc<Flight>,
    /// The local counter when this caller came.
    pub(super) arrived: u64,
}

/// How somebody else's load ended, for one who waited.
pub enum Flown<V> {
    /// With a value that is good for this caller; or without one, and this is the stale value that may be served instead.
    Found(Found<V>),
    /// With an answer for its first caller alone: load apart.
    Unshared,
    /// Without anything this caller may have: claim again.
    Again,
    /// With an error.
    Failed(Failure),
}

/// A flight takes longer than it may.
struct Late {
    /// Did the load begin before that?
    has_begun: bool,
}

impl<V: Send + Sync + 'static> Flying<V> {
    /// Waits for the load to end: at most as long as a load may take, and no longer than the policy's soft timeout if there
    /// is something stale to serve.
    ///
    /// Cancel safe.
    pub async fn wait(self) -> Flown<V> {
        self.patiently(self.outcome()).await
    }

    async fn outcome(&self) -> Flown<V> {
        match self.landed().await {
            Ok(landing) => self.take(landing),
            Err(Late { has_begun: true }) => self.failed(Failure::TimedOut),
            Err(Late { has_begun: false }) => {
                // Its leader was stopped on the way to the load: somebody else takes over.
                self.handle.engine().flights.pass_by(&self.key, &self.flight);
                Flown::Again
            }
        }
    }

    /// As [`wait`](Self::wait), for one who wants nothing of it: no read, and counted as none.
    pub(super) async fn over(self) {
        let _ = self.landed().await;
    }

    /// How it landed; an error if it takes longer than it may. The load's own timeout comes first; this is for a load that
    /// blocks its thread, and for a leader who is not polled any more.
    async fn landed(&self) -> Result<&Landing, Late> {
        let runtime = &*self.handle.engine().runtime;
        loop {
            let until = self.flight.until();
            if let Ok(landing) = within(runtime, until.since(runtime.now()), self.flight.landing()).await {
                return Ok(landing);
            }
            // It may have come a step further meanwhile. If to its load, it has a new limit by then.
            let has_begun = self.flight.has_begun();
            if self.flight.until() <= until {
                return Err(Late { has_begun });
            }
        }
    }

    /// What `work` ends with, or after the soft timeout something stale.
    async fn patiently(&self, work: impl Future<Output = Flown<V>>) -> Flown<V> {
        let Some(soft) = self.handle.policy.soft_timeout else { return work.await };
        let mut work = pin!(work);
        if let Ok(flown) = within(&*self.handle.engine().runtime, soft, work.as_mut()).await {
            return flown;
        }
        match self.spare() {
            Some(found) => Flown::Found(found),
            None => work.await,
        }
    }

    /// The leader's part: does the work of the flight until it lands, or has moved to a task and lands there. Answers what
    /// the leader gets: the value as it was found, not as somebody else's.
    pub(crate) async fn carry(self, work: BoxFuture<'static, ()>) -> Flown<V> {
        let carried = async {
            let runtime = &self.handle.engine().runtime;
            tokio::select! {
                biased;
                () = self.flight.carry(runtime, work) => {}
                // Work that has moved to a task wakes this caller only by landing.
                _ = self.flight.landing() => {}
            }
            self.led().await
        };
        self.unless_left(carried).await
    }

    /// The leader's part, where the work is in a task already.
    pub(super) async fn lead(self) -> Flown<V> {
        self.unless_left(self.led()).await
    }

    /// How the flight landed, for its leader: the value as it was found, not as somebody else's.
    async fn led(&self) -> Flown<V> {
        match self.flight.landing().await {
            Landing::Value { entry, outcome, tier, stored, .. } => {
                self.seen_by(entry, *outcome, *tier, *stored)
            }
            // The work has counted its end.
            Landing::Failed(failure) => match self.handle.spare(&self.key, &self.flight) {
                Some(found) => Flown::Found(found),
                None => Flown::Failed(failure.clone()),
            },
            Landing::Unshared => Flown::Unshared,
            Landing::Abandoned => Flown::Again,
        }
    }

    /// The leader waits for `carried`, or leaves with something stale.
    async fn unless_left(&self, carried: impl Future<Output = Flown<V>>) -> Flown<V> {
        if self.handle.policy.soft_timeout.is_none() {
            return carried.await;
        }
        let flown = self.patiently(carried).await;
        if self.flight.landed().is_none() {
            // Gone with something stale; the work goes on in a task.
            self.flight.leave();
        }
        flown
    }

    /// The leader's part, for one who hands his load to a task and hears of it by `answer`: waits for that, but no longer
    /// than the policy's soft timeout if there is something stale to serve, and no longer than a load may take. What the load
    /// brings then is for others.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// No answer in time; what may be served instead, if anything may.
    pub async fn beside<T>(self, answer: impl Future<Output = T>) -> Result<T, Option<Found<V>>> {
        let engine = self.handle.engine();
        engine.watch();
        let mut answer = pin!(answer);
        if let Some(soft) = self.handle.policy.soft_timeout {
            if let Ok(answer) = within(&*engine.runtime, soft, answer.as_mut()).await {
                return Ok(answer);
            }
            if let Some(found) = self.left_with() {
                return Err(Some(found));
            }
        }
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            () = self.overdue() => Err(self.left_with()),
        }
    }

    /// Something stale, with which the leader leaves.
    fn left_with(&self) -> Option<Found<V>> {
        let found = self.spare()?;
        self.flight.leave();
        Some(found)
    }

    /// Ends when the load has taken longer than it may.
    async fn overdue(&self) {
        match self.landed().await {
            Err(_) => {}
            // Its end follows at once, unless others were let go because it blocks its thread.
            Ok(Landing::Failed(Failure::TimedOut)) => self.handle.engine().runtime.sleep(GRACE).await,
            Ok(_) => pending().await,
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
            Landing::Failed(failure) => self.failed(failure.clone()),
            Landing::Unshared => Flown::Unshared,
            Landing::Abandoned => Flown::Again,
        }
    }

    fn failed(&self, failure: Failure) -> Flown<V> {
        match self.spare() {
            Some(found) => Flown::Found(found),
            None => Flown::Failed(failure),
        }
    }

    /// Something stale to serve instead of what the load brings, if there is any that still may be served. Counts as a read.
    pub fn spare(&self) -> Option<Found<V>> {
        let found = self.handle.spare(&self.key, &self.flight)?;
        self.handle.answered(self.key.as_bytes(), &found);
        Some(found)
    }

    fn seen_by(&self, entry: &Entry, outcome: Outcome, tier: Option<Tier>, stored: bool) -> Flown<V> {
        let now = self.handle.engine().clock.now();
        match self.handle.found(entry, tier, now) {
            Some(found) => Flown::Found(Found { outcome, stored, ..found }),
            None => Flown::Again,
        }
    }
}
