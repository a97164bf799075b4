//! Loads inside loads. A loader that reads the key it is loading would wait for itself; it is told instead.
//!
//! Seen is what happens in the task of the load. Where a loader has another task read for it, the load timeout ends both.

use std::sync::Arc;

use crate::flight::Flight;

/// A load that runs, and the one that it runs in.
struct Link {
    flight: Arc<Flight>,
    around: Option<Arc<Link>>,
}

#[cfg(not(larder_shuttle))]
tokio::task_local! {
    /// The innermost load that this task is at.
    static LOADING: Arc<Link>;
}

/// Is this task at the load of `flight`?
#[cfg(not(larder_shuttle))]
pub(super) fn is_loading(flight: &Arc<Flight>) -> bool {
    let is_in_chain = |link: &Arc<Link>| {
        let mut next = Some(link);
        while let Some(link) = next {
            if Arc::ptr_eq(&link.flight, flight) {
                return true;
            }
            next = link.around.as_ref();
        }
        false
    };
    LOADING.try_with(is_in_chain).unwrap_or(false)
}

/// Is this task at any load that has a flight?
#[cfg(all(feature = "testing", not(larder_shuttle)))]
pub(crate) fn loads_for_others() -> bool {
    LOADING.try_with(|_| ()).is_ok()
}

/// A load, for what it does inside.
pub(super) struct Inside(Arc<Link>);

/// The load of `flight` begins, in whatever load this task is at.
#[cfg(not(larder_shuttle))]
pub(super) fn enter(flight: &Arc<Flight>) -> Inside {
    let around = LOADING.try_with(Arc::clone).ok();
    Inside(Arc::new(Link { flight: flight.clone(), around }))
}

#[cfg(not(larder_shuttle))]
impl Inside {
    pub(super) fn call<T>(&self, work: impl FnOnce() -> T) -> T {
        LOADING.sync_scope(self.0.clone(), work)
    }

    pub(super) async fn run<T>(self, work: impl Future<Output = T>) -> T {
        LOADING.scope(self.0, work).await
    }
}

impl Inside {
    /// The load is one for this flight too.
    pub(super) fn and(self, flight: &Arc<Flight>) -> Self {
        Inside(Arc::new(Link { flight: flight.clone(), around: Some(self.0) }))
    }
}

// Shuttle's threads are one thread to the operating system: what one sets while it polls, another would see.
#[cfg(larder_shuttle)]
pub(super) fn is_loading(_: &Arc<Flight>) -> bool {
    false
}

#[cfg(all(feature = "testing", larder_shuttle))]
pub(crate) fn loads_for_others() -> bool {
    false
}

#[cfg(larder_shuttle)]
pub(super) fn enter(flight: &Arc<Flight>) -> Inside {
    Inside(Arc::new(Link { flight: flight.clone(), around: None }))
}

#[cfg(larder_shuttle)]
impl Inside {
    pub(super) fn call<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    pub(super) async fn run<T>(self, work: impl Future<Output = T>) -> T {
        work.await
    }
}
