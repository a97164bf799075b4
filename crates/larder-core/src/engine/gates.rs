//! How many loads of a namespace run at one time, and how many wait for their turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::policy::Policy;
use crate::runtime::{OnDrop, Runtime, within};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// One load's place.
pub(crate) type Permit = OwnedSemaphorePermit;

/// Bounds the loads of one resource.
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

impl Gate {
    fn new(places: usize, most_waiting: usize) -> Self {
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Gate { places, waiting: AtomicUsize::new(0), most_waiting }
    }

    /// A place, if one is free and nobody waits for it.
    pub(crate) fn enter_at_once(&self) -> Option<Permit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// A place, in the order of asking; `None` if too many wait already, or none became free in time.
    ///
    /// Cancel safe.
    pub(crate) async fn enter(&self, runtime: &dyn Runtime, limit: Duration) -> Option<Permit> {
        if let Some(permit) = self.enter_at_once() {
            return Some(permit);
        }
        let leaves = OnDrop(|| {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        });
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= self.most_waiting {
            return None;
        }
        let entered = within(runtime, limit, self.places.clone().acquire_owned()).await;
        drop(leaves);
        // The semaphore is never closed.
        entered.ok().and_then(Result::ok)
    }
}

/// The gates of all resources that have one. Handles of one resource with one policy share theirs.
#[derive(Default)]
pub(crate) struct Gates(Mutex<HashMap<(String, usize, usize), Arc<Gate>>>);

impl Gates {
    pub(crate) fn of(&self, resource: &str, policy: &Policy) -> Option<Arc<Gate>> {
        let (places, most_waiting) = (policy.max_loads?, policy.load_queue);
        let mut all = self.0.lock();
        let gate = all.entry((resource.to_owned(), places, most_waiting));
        Some(gate.or_insert_with(|| Arc::new(Gate::new(places, most_waiting))).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{BoxFuture, at_once};
    use crate::testing::ManualRuntime;

    fn enter(gate: &Arc<Gate>, runtime: &Arc<ManualRuntime>) -> BoxFuture<'static, Option<Permit>> {
        let (gate, runtime) = (gate.clone(), runtime.clone());
        Box::pin(async move { gate.enter(&*runtime, Duration::from_secs(1)).await })
    }

    #[test]
    fn beyond_its_places_loads_wait_in_a_bounded_queue_and_who_gives_up_leaves_it() {
        let runtime = ManualRuntime::new(1);
        let gate = Arc::new(Gate::new(1, 1));
        let first = at_once(&mut enter(&gate, &runtime)).flatten().expect("the place is free");
        let mut second = enter(&gate, &runtime);
        assert!(at_once(&mut second).is_none(), "it waits");
        assert!(
            at_once(&mut enter(&gate, &runtime)).expect("it does not wait").is_none(),
            "the queue is full"
        );
        drop(second);
        let mut third = enter(&gate, &runtime);
        assert!(at_once(&mut third).is_none(), "its place in the queue is free again");
        drop(first);
        assert!(at_once(&mut third).flatten().is_some());
        // What was given up twice or refused must not have left twice.
        assert_eq!(gate.waiting.load(Ordering::Acquire), 0);
    }
}
