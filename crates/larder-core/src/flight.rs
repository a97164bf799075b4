//! One load that many callers wait for.
//!
//! A flight leaves the table *before* its result is handed out, so nobody joins a load that has ended. Whoever leads
//! holds a [`Lead`](crate::Lead); however that ends (a value, an error, a panic, dropped by a caller that went away),
//! the flight lands and everybody is woken.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::entry::Entry;
use crate::key::{Identity, Key};
use crate::outcome::{Outcome, Tier};

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
    /// The cache is being shut down.
    ShuttingDown,
}

/// One load.
#[derive(Default)]
pub(crate) struct Flight {
    landing: OnceLock<Landing>,
    landed: Notify,
    /// A newer value was put: what this load brings is for those who wait, and stored nowhere.
    superseded: AtomicBool,
}

impl Flight {
    /// How it ended, once it has.
    pub(crate) async fn landing(&self) -> &Landing {
        loop {
            let mut notified = std::pin::pin!(self.landed.notified());
            notified.as_mut().enable();
            if let Some(landing) = self.landing.get() {
                return landing;
            }
            notified.await;
        }
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
        }
    }

    fn shard(&self, key: &Key) -> &Shard {
        // Bits that the maps inside look at last.
        &self.shards[usize::try_from(key.hash_bits() >> 40).unwrap_or_default() % SHARDS]
    }

    /// Joins the flight of `key`, or begins one.
    pub(crate) fn board(&self, key: &Key) -> Boarding {
        let mut shard = self.shard(key).lock();
        if let Some(flight) = shard.get(key) {
            return Boarding::Join(flight.clone());
        }
        if self.open.fetch_add(1, Ordering::AcqRel) >= MOST_FLIGHTS {
            self.open.fetch_sub(1, Ordering::AcqRel);
            return Boarding::Full;
        }
        let flight = Arc::new(Flight::default());
        shard.insert(key.clone(), flight.clone());
        Boarding::Lead(flight)
    }

    /// Ends a flight: it leaves the table, then its callers hear.
    pub(crate) fn land(&self, key: &Key, flight: &Arc<Flight>, landing: Landing) {
        {
            let mut shard = self.shard(key).lock();
            if shard.get(key).is_some_and(|there| Arc::ptr_eq(there, flight)) {
                shard.remove(key);
            }
        }
        let first = flight.landing.set(landing).is_ok();
        flight.landed.notify_waiters();
        if first && self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.empty.notify_waiters();
        }
    }

    /// Nobody joins the load of `key` from now on, and it stores nothing.
    pub(crate) fn supersede(&self, key: &Key) {
        if let Some(flight) = self.shard(key).lock().remove(key) {
            flight.superseded.store(true, Ordering::Release);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.load(Ordering::Acquire)
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
        let flights = Flights::new();
        let Boarding::Lead(first) = flights.board(&key(0)) else { panic!("nothing is under way") };
        for i in 1..MOST_FLIGHTS {
            assert!(matches!(flights.board(&key(i)), Boarding::Lead(_)));
        }
        assert!(matches!(flights.board(&key(MOST_FLIGHTS)), Boarding::Full));
        assert!(matches!(flights.board(&key(0)), Boarding::Join(_)));
        // Out of the table it still is under way.
        flights.supersede(&key(0));
        assert!(matches!(flights.board(&key(0)), Boarding::Full));
        flights.land(&key(0), &first, Landing::Abandoned);
        flights.land(&key(0), &first, Landing::Abandoned);
        assert_eq!(flights.len(), MOST_FLIGHTS - 1, "counted once");
        assert!(matches!(flights.board(&key(0)), Boarding::Lead(_)));
        assert!(matches!(flights.board(&key(MOST_FLIGHTS)), Boarding::Full));
    }
}
