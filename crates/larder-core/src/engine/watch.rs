//! Loads that are past their deadline.
//!
//! A load that waits is cancelled at its timeout by whoever polls it. One that blocks its thread cannot be: it is named in
//! an event, shows in health, and those who wait for it are let go, here and in other processes. What it brings in the end is
//! stored like any other load's, if it is still good.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Engine;
use crate::event::Event;
use crate::sync::atomic::Ordering;

/// How often there is a look, and how far past its deadline a load is before it counts as hung.
const EVERY: Duration = Duration::from_secs(1);

impl Engine {
    /// There is a load under way that may take long: see to it that somebody looks after it.
    pub(crate) fn watch(self: &Arc<Self>) {
        if !self.watching.load(Ordering::Acquire) && !self.watching.swap(true, Ordering::AcqRel) {
            self.runtime.spawn(Box::pin(Engine::watch_flights(Arc::downgrade(self))));
        }
    }

    async fn watch_flights(engine: Weak<Engine>) {
        let Some(runtime) = engine.upgrade().map(|engine| engine.runtime.clone()) else { return };
        loop {
            runtime.sleep(EVERY).await;
            let Some(engine) = engine.upgrade() else { return };
            let now = runtime.now();
            for (key, flight) in engine.flights.overdue(now, EVERY) {
                let late = now.since(flight.until());
                match flight.has_begun() {
                    true => {
                        engine.events.emit(|| Event::LoadOverdue { key: key.clone(), late });
                        engine.flights.hang(&key, &flight);
                        engine.give_back_lease(&key);
                    }
                    // Its leader was stopped on the way to the load: somebody else takes over.
                    false => engine.flights.pass_by(&key, &flight),
                }
            }
            if engine.flights.len() == 0 {
                engine.watching.store(false, Ordering::Release);
                // One that began in between has found somebody watching.
                if engine.flights.len() == 0 || engine.watching.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        }
    }
}

impl Engine {
    /// Loads that are past their deadline and still run.
    pub(crate) fn hung_loads(&self) -> usize {
        self.flights.hung()
    }
}
