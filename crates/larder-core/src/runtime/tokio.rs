//! The runtime of real processes.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{BoxFuture, CoarseClock, Moment, Runtime};

/// How often the coarse clock is set. Entries live this much longer than they should, at the most; a hit saves the
/// system call that reading the clock costs.
const TICK: Duration = Duration::from_millis(5);

/// Tokio's tasks and timers, the system's clocks.
#[derive(Debug)]
pub struct TokioRuntime {
    handle: tokio::runtime::Handle,
    clock: Arc<SystemClock>,
}

#[derive(Debug)]
struct SystemClock {
    started: Instant,
    coarse: CoarseClock,
}

impl SystemClock {
    fn now(&self) -> Moment {
        Moment::ORIGIN.plus(self.started.elapsed())
    }
}

impl TokioRuntime {
    /// The runtime this is called in.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the port's far side: the one place that reads the clock"
    )]
    pub fn current() -> Self {
        let clock =
            Arc::new(SystemClock { started: Instant::now(), coarse: CoarseClock::at(Moment::ORIGIN) });
        let weak = Arc::downgrade(&clock);
        // A thread, not a task: a task would stand still whenever the executor is busy, and time with it.
        let ticker = std::thread::Builder::new().name("larder-clock".into()).spawn(move || tick(&weak));
        if let Err(error) = ticker {
            tracing::warn!(%error, "no thread for the coarse clock: entries expire on load only");
        }
        TokioRuntime { handle: tokio::runtime::Handle::current(), clock }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, which does nothing but tick")]
fn tick(clock: &Weak<SystemClock>) {
    while let Some(clock) = clock.upgrade() {
        clock.coarse.set(clock.now());
        drop(clock);
        std::thread::sleep(TICK);
    }
}

impl Runtime for TokioRuntime {
    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn coarse_clock(&self) -> CoarseClock {
        self.clock.coarse.clone()
    }

    #[expect(clippy::disallowed_methods, reason = "the port's far side")]
    fn wall_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "the port's far side")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let _context = self.handle.enter();
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.handle.spawn(task);
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}
