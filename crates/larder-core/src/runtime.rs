//! The one port through which the engine meets time, tasks and chance.
//!
//! Nothing else in this crate reads a clock, sleeps, spawns or draws a random number (`clippy.toml` bans the calls), so
//! a test can run a whole cluster of caches on time of its own.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

mod tokio;

pub use self::tokio::TokioRuntime;

/// A boxed future that may be sent to another thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A point of monotonic time: nanoseconds on a clock of the [`Runtime`] that never goes back.
///
/// Only differences mean anything. The clock starts far from zero, so that "ten hours before the process began" (an
/// entry read from Redis) is a moment like any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Where every runtime's clock starts: a hundred years after zero.
    pub const ORIGIN: Moment = Moment(100 * 365 * 24 * 3600 * 1_000_000_000);

    /// The end of time.
    pub(crate) const MAX: Moment = Moment(u64::MAX);

    /// The moment so many nanoseconds after zero.
    pub const fn from_nanos(nanos: u64) -> Self {
        Moment(nanos)
    }

    /// Nanoseconds after zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Microseconds after zero.
    pub(crate) const fn as_micros(self) -> u64 {
        self.0 / 1000
    }

    /// This moment and `duration` more; saturates.
    pub fn plus(self, duration: Duration) -> Self {
        Moment(self.0.saturating_add(nanos(duration)))
    }

    /// This moment less `duration`; saturates at zero.
    pub fn minus(self, duration: Duration) -> Self {
        Moment(self.0.saturating_sub(nanos(duration)))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A clock that is cheap to read because somebody else keeps it: a hit costs one atomic load, no system call.
#[derive(Clone, Debug)]
pub struct CoarseClock(Arc<AtomicU64>);

impl CoarseClock {
    /// A clock that stands at `now`.
    pub fn at(now: Moment) -> Self {
        CoarseClock(Arc::new(AtomicU64::new(now.0)))
    }

    /// The last moment the clock was set to.
    #[inline]
    pub fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::Relaxed))
    }

    /// Moves the clock on; never back.
    pub fn set(&self, now: Moment) {
        self.0.fetch_max(now.0, Ordering::Relaxed);
    }
}

/// Time, tasks and chance.
pub trait Runtime: Send + Sync + fmt::Debug + 'static {
    /// The time, exactly.
    fn now(&self) -> Moment;

    /// A clock that runs at most a few milliseconds behind [`now`](Self::now). The same clock at every call.
    fn coarse_clock(&self) -> CoarseClock;

    /// Milliseconds since the Unix epoch, by the machine's calendar. Shown to people; nothing is ordered by it.
    fn wall_millis(&self) -> u64;

    /// Completes once `duration` has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Runs `task` to its end, beside everything else.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// 64 random bits.
    fn random(&self) -> u64;
}

/// Polls once: what is done at once needs no task.
///
/// What is not done must be polled again right away, in a task: this poll asks nobody to be woken, so that whoever waits for
/// that task is not woken for what goes on in it.
pub fn at_once<T>(future: &mut BoxFuture<'static, T>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// Does something when it is dropped.
pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Why [`within`] gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Runs `work` for `limit` at the most. The timer starts only when `work` is not done at once.
pub(crate) async fn within<T>(
    runtime: &dyn Runtime,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    let mut work = std::pin::pin!(work);
    let mut timer: Option<BoxFuture<'static, ()>> = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        timer.get_or_insert_with(|| runtime.sleep(limit)).as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}
