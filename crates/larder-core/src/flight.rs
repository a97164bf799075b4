//! One load that many callers wait for.
//!
//! A flight leaves the table *before* its result is handed out, so nobody joins a load that has ended. Whoever leads
//! holds a [`Lead`](crate::Lead); however that ends (a value, an error, a panic, dropped by a caller that went away),
//! the flight lands and everybody is woken.

use std::any::Any;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, atomic as unscheduled};
use std::task::Poll;
use std::time::Duration;

use crate::entry::Entry;
use crate::key::{Identity, Key};
use crate::outcome::{Outcome, Tier};
use crate::runtime::{BoxFuture, Moment, OnDrop, Runtime};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, Notify, OnceLock};

const SHARDS: usize = 32;

/// Loads under way at one time, refreshes included. Callers beyond it are told that the cache is overloaded.
const MOST_FLIGHTS: usize = 100_000;

/// How a flight ended.
pub(crate) enum Landing {
    /// With a value.
    Value {
        entry: Entry,
        /// From the remote tier, or by a load.
        outcome: Outcome,
        tier: Option<Tier>,
        /// The local counter when the load began.
        began: u64,
        /// Has a tier taken it?
        stored: bool,
    },
    /// With an error.
    Failed(Failure),
    /// With an answer that is for its first caller alone.
    Unshared,
    /// Without an answer: the leader went away before it had loaded anything.
    Abandoned,
}

/// An error of a load, whatever its type.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The loader's own error.
    Loader(Arc<dyn Any + Send + Sync>),
    /// The loader panicked.
    Panicked,
    /// The load took too long.
    TimedOut,
    /// Too many loads are under way, or wait for their turn.
    Overloaded,
    /// The cache is being shut down.
    ShuttingDown,
}

/// What is left to do of a load, and who does it.
///
/// A caller that is alone with its load polls it itself, which costs no task. As soon as anybody else depends on it, or
/// the caller goes away, it moves to a task: nobody waits for a load that somebody else has stopped polling.
#[derive(Default)]
enum Work {
    /// Not there to be polled yet: the leader looks into the remote tier, or polls the loader for the first time.
    #[default]
    Ahead,
    /// Done, or in a task.
    Elsewhere,
    /// Between two polls of the leading caller.
    Resting(BoxFuture<'static, ()>),
    /// Being polled by the leading caller.
    Polled,
    /// Ahead or being polled, and somebody has joined: the leading caller is to hand it over.
    Wanted,
}

/// One load.
#[derive(Default)]
pub(crate) struct Flight {
    landing: OnceLock<Landing>,
    landed: Notify,
    work: Mutex<Work>,
    /// A newer value was put: what this load brings is for those who wait, and stored nowhere.
    superseded: AtomicBool,
    /// Something stale, for those who wait if the load fails or takes too long. Whether it may be served is decided then.
    spare: OnceLock<(Entry, Tier)>,
    /// When whoever waits need not wait any longer; and whether the load has begun.
    limit: Limit,
    /// The first caller has his answer: what the load brings is for others.
    left: AtomicBool,
}

/// How long a flight may take. No point of a schedule: nothing but the patience of those who wait depends on it.
#[derive(Default)]
struct Limit {
    until: unscheduled::AtomicU64,
    /// 0 or 1.
    begun: unscheduled::AtomicU64,
    /// 0 or 1.
    hangs: unscheduled::AtomicU64,
}

impl Flight {
    /// How it ended, once it has.
    pub(crate) async fn landing(&self) -> &Landing {
        loop {
            // Most who ask late need not queue to be woken.
            if let Some(landing) = self.landing.get() {
                return landing;
            }
            let mut notified = std::pin::pin!(self.landed.notified());
            notified.as_mut().enable();
            if let Some(landing) = self.landing.get() {
                return landing;
            }
            notified.await;
        }
    }

    /// How it ended, if it has.
    pub(crate) fn landed(&self) -> Option<&Landing> {
        self.landing.get()
    }

    /// Does the work in the caller's task, until it is done or has moved to a task of its own.
    ///
    /// Cancel safe: dropped, the work moves to a task.
    pub(crate) async fn carry(&self, runtime: &Arc<dyn Runtime>, work: BoxFuture<'static, ()>) {
        {
            let mut place = self.work.lock();
            if matches!(*place, Work::Wanted) {
                *place = Work::Elsewhere;
                drop(place);
                return runtime.spawn(work);
            }
            *place = Work::Resting(work);
        }
        // Should the caller go away, somebody else does the work.
        let _moves = OnDrop(|| self.hand_over(runtime));
        poll_fn(|cx| {
            let mut work = {
                let mut place = self.work.lock();
                match std::mem::replace(&mut *place, Work::Polled) {
                    Work::Resting(work) => work,
                    other => {
                        *place = other;
                        return Poll::Ready(());
                    }
                }
            };
            let done = work.as_mut().poll(cx).is_ready();
            let mut place = self.work.lock();
            match (done, std::mem::replace(&mut *place, Work::Elsewhere)) {
                (true, _) => Poll::Ready(()),
                (false, Work::Wanted) => {
                    drop(place);
                    runtime.spawn(work);
                    Poll::Ready(())
                }
                (false, _) => {
                    *place = Work::Resting(work);
                    Poll::Pending
                }
            }
        })
        .await;
    }

    /// Somebody depends on the load who does not poll it: it moves to a task.
    fn hand_over(&self, runtime: &Arc<dyn Runtime>) {
        let mut place = self.work.lock();
        match std::mem::replace(&mut *place, Work::Elsewhere) {
            Work::Resting(work) => {
                drop(place);
                runtime.spawn(work);
            }
            Work::Ahead | Work::Polled | Work::Wanted => *place = Work::Wanted,
            Work::Elsewhere => {}
        }
    }

    /// What could be served if the load fails; the first one that is given stays.
    pub(crate) fn set_spare(&self, entry: Entry, tier: Tier) {
        // A second one is as old as the first, or was seen while that was good enough.
        let _ = self.spare.set((entry, tier));
    }

    pub(crate) fn spare(&self) -> Option<&(Entry, Tier)> {
        self.spare.get()
    }

    /// Whoever waits need not wait longer than until then.
    pub(crate) fn until(&self) -> Moment {
        Moment::from_nanos(self.limit.until.load(Ordering::Acquire))
    }

    /// It is on its way to the load, until then at the most.
    pub(crate) fn prepares(&self, until: Moment) {
        self.limit.until.store(until.as_nanos(), Ordering::Release);
    }

    /// The load begins, and ends until then.
    pub(crate) fn begins(&self, until: Moment) {
        // In this order: whoever sees that it has begun sees this limit.
        self.prepares(until);
        self.limit.begun.store(1, Ordering::Release);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.limit.begun.load(Ordering::Acquire) == 1
    }

    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    pub(crate) fn was_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }
}

type Shard = Mutex<HashMap<Key, Arc<Flight>, Identity>>;

/// The loads under way.
pub(crate) struct Flights {
    shards: [Shard; SHARDS],
    open: AtomicUsize,
    empty: Notify,
    /// Loads that are past their deadline and have not come back.
    hung: AtomicUsize,
}

/// What a caller may do.
pub(crate) enum Boarding {
    Lead(Arc<Flight>),
    Join(Arc<Flight>),
    Full,
}

impl Flights {
    pub(crate) fn new() -> Self {
        Flights {
            shards: std::array::from_fn(|_| Shard::default()),
            open: AtomicUsize::new(0),
            empty: Notify::new(),
            hung: AtomicUsize::new(0),
        }
    }

    fn shard(&self, key: &Key) -> &Shard {
        // Bits that the maps inside look at last.
        &self.shards[usize::try_from(key.hash_bits() >> 40).unwrap_or_default() % SHARDS]
    }

    /// Joins the flight of `key`, or begins one, which is on its way to the load until `until` at the most.
    pub(crate) fn board(&self, key: &Key, runtime: &Arc<dyn Runtime>, until: Moment) -> Boarding {
        let mut shard = self.shard(key).lock();
        if let Some(flight) = shard.get(key) {
            let flight = flight.clone();
            drop(shard);
            flight.hand_over(runtime);
            return Boarding::Join(flight);
        }
        if self.open.fetch_add(1, Ordering::SeqCst) >= MOST_FLIGHTS {
            self.open.fetch_sub(1, Ordering::AcqRel);
            return Boarding::Full;
        }
        let flight = Arc::new(Flight::default());
        flight.prepares(until);
        shard.insert(key.clone(), flight.clone());
        Boarding::Lead(flight)
    }

    /// Nobody joins this flight from now on: its leader has not come as far as the load for too long. He may yet, and then has
    /// his answer, and whoever still waits for it.
    pub(crate) fn pass_by(&self, key: &Key, flight: &Arc<Flight>) {
        let mut shard = self.shard(key).lock();
        if shard.get(key).is_some_and(|there| Arc::ptr_eq(there, flight)) {
            shard.remove(key);
        }
    }

    /// Ends a flight: it leaves the table, then its callers hear.
    pub(crate) fn land(&self, key: &Key, flight: &Arc<Flight>, landing: Landing) {
        self.finish(key, flight, landing);
        self.came_back(flight);
    }

    /// Lets go of those who wait for a load that does not come back.
    pub(crate) fn hang(&self, key: &Key, flight: &Arc<Flight>) {
        self.hung.fetch_add(1, Ordering::AcqRel);
        flight.limit.hangs.store(1, Ordering::Release);
        if !self.finish(key, flight, Landing::Failed(Failure::TimedOut)) {
            // It came back at this moment.
            self.came_back(flight);
        }
    }

    fn came_back(&self, flight: &Flight) {
        let hangs = &flight.limit.hangs;
        if hangs.load(Ordering::Acquire) == 1 && hangs.swap(0, Ordering::AcqRel) == 1 {
            self.hung.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// False: it has ended before.
    fn finish(&self, key: &Key, flight: &Arc<Flight>, landing: Landing) -> bool {
        self.pass_by(key, flight);
        let first = flight.landing.set(landing).is_ok();
        flight.landed.notify_waiters();
        if first && self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.empty.notify_waiters();
        }
        first
    }

    /// How many loads have not come back.
    pub(crate) fn hung(&self) -> usize {
        self.hung.load(Ordering::Acquire)
    }

    /// The flights whose limit has passed by `grace`.
    pub(crate) fn overdue(&self, now: Moment, grace: Duration) -> Vec<(Key, Arc<Flight>)> {
        let is_overdue = |flight: &Flight| flight.until().plus(grace) <= now;
        let mut overdue = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let flights = shard.iter().filter(|(_, flight)| is_overdue(flight));
            overdue.extend(flights.map(|(key, flight)| (key.clone(), flight.clone())));
        }
        overdue
    }

    /// Nobody joins the load of `key` from now on, and it stores nothing.
    pub(crate) fn supersede(&self, key: &Key) {
        if let Some(flight) = self.shard(key).lock().remove(key) {
            flight.superseded.store(true, Ordering::Release);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Waits until no load is under way.
    pub(crate) async fn drained(&self) {
        loop {
            let mut empty = std::pin::pin!(self.empty.notified());
            empty.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            empty.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: usize) -> Key {
        Key::of(("k", i))
    }

    #[test]
    fn beyond_the_most_flights_callers_may_join_but_not_lead_and_a_landing_makes_room() {
        let runtime: Arc<dyn Runtime> = crate::testing::ManualRuntime::new(1);
        let flights = Flights::new();
        let board = |i| flights.board(&key(i), &runtime, Moment::MAX);
        let Boarding::Lead(first) = board(0) else { panic!("nothing is under way") };
        for i in 1..MOST_FLIGHTS {
            assert!(matches!(board(i), Boarding::Lead(_)));
        }
        assert!(matches!(board(MOST_FLIGHTS), Boarding::Full));
        assert!(matches!(board(0), Boarding::Join(_)));
        // Out of the table it still is under way.
        flights.supersede(&key(0));
        assert!(matches!(board(0), Boarding::Full));
        flights.land(&key(0), &first, Landing::Abandoned);
        flights.land(&key(0), &first, Landing::Abandoned);
        assert_eq!(flights.len(), MOST_FLIGHTS - 1, "counted once");
        assert!(matches!(board(0), Boarding::Lead(_)));
        assert!(matches!(board(MOST_FLIGHTS), Boarding::Full));
    }
}
