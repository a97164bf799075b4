//! A runtime whose time moves only when told to.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::runtime::{BoxFuture, CoarseClock, Moment, Runtime};

/// How often everything else gets its turn before it counts as waiting: more than any chain of tasks that wake each other has
/// links.
const TURNS: usize = 100;

/// Tasks run on the Tokio runtime of the test; time is [`advance`](Self::advance)d by hand. Numbers are not random: they
/// follow from the seed.
#[derive(Debug)]
pub struct ManualRuntime {
    clock: CoarseClock,
    wall_offset_ms: AtomicU64,
    random: AtomicU64,
    sleepers: Mutex<Vec<(Moment, oneshot::Sender<()>)>>,
}

impl ManualRuntime {
    /// A runtime at [`Moment::ORIGIN`], with random numbers from `seed`.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(ManualRuntime {
            clock: CoarseClock::at(Moment::ORIGIN),
            wall_offset_ms: AtomicU64::new(1_700_000_000_000),
            random: AtomicU64::new(seed),
            sleepers: Mutex::default(),
        })
    }

    /// Moves time on, and wakes whoever slept until then.
    pub fn advance(&self, by: Duration) {
        let now = self.clock.now().plus(by);
        self.clock.set(now);
        let mut sleepers = self.sleepers.lock();
        let mut rest = Vec::new();
        for (until, sleeper) in sleepers.drain(..) {
            if until <= now {
                // A sleeper that was dropped needs no waking.
                let _ = sleeper.send(());
            } else {
                rest.push((until, sleeper));
            }
        }
        *sleepers = rest;
    }

    /// Runs `work` to its end. Whenever it waits and every task does, time moves on to where the next sleeper wakes.
    ///
    /// Needs a Tokio runtime of one thread.
    ///
    /// # Panics
    /// If nobody sleeps and `work` is not done: it never would be.
    pub async fn drive<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = turns() => self.advance_to_next(),
            }
        }
    }

    fn advance_to_next(&self) {
        let next = {
            let mut sleepers = self.sleepers.lock();
            sleepers.retain(|(_, sleeper)| !sleeper.is_closed());
            sleepers.iter().map(|(until, _)| *until).min()
        };
        let next = next.expect("what everything waits for is time");
        self.advance(next.since(self.clock.now()));
    }

    /// Steps the calendar, as an administrator or a bad clock would.
    pub fn step_wall(&self, ms: i64) {
        let _ = self.wall_offset_ms.fetch_update(Ordering::AcqRel, Ordering::Acquire, |offset| {
            Some(offset.saturating_add_signed(ms))
        });
    }

    /// How many sleep now.
    pub fn sleepers(&self) -> usize {
        let mut sleepers = self.sleepers.lock();
        sleepers.retain(|(_, sleeper)| !sleeper.is_closed());
        sleepers.len()
    }
}

/// Lets everything run that can run now.
async fn turns() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

impl Runtime for ManualRuntime {
    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn coarse_clock(&self) -> CoarseClock {
        self.clock.clone()
    }

    fn wall_millis(&self) -> u64 {
        let since = self.clock.now().since(Moment::ORIGIN);
        self.wall_offset_ms.load(Ordering::Acquire) + u64::try_from(since.as_millis()).unwrap_or(0)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (sender, receiver) = oneshot::channel();
        let until = self.clock.now().plus(duration);
        self.sleepers.lock().push((until, sender));
        Box::pin(async move {
            // The other side goes away with the runtime; then nobody sleeps any more.
            let _ = receiver.await;
        })
    }

    #[expect(clippy::disallowed_methods, reason = "the port's far side")]
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn random(&self) -> u64 {
        // SplitMix64: a well-mixed number from a counter.
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::AcqRel);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn driven_time_moves_from_sleeper_to_sleeper_and_no_further_than_the_work_needs() {
        let time = ManualRuntime::new(1);
        let woken = Arc::new(Mutex::new(Vec::new()));
        for seconds in [3, 1, 5] {
            let (sleeper, woken) = (time.clone(), woken.clone());
            time.spawn(Box::pin(async move {
                sleeper.sleep(SECOND * seconds).await;
                woken.lock().push((seconds, sleeper.now()));
            }));
        }
        drop(time.sleep(SECOND * 2));
        let at = |seconds: u32| Moment::ORIGIN.plus(SECOND * seconds);
        time.drive(time.sleep(SECOND * 4)).await;
        assert_eq!(*woken.lock(), [(1, at(1)), (3, at(3))]);
        assert_eq!((time.now(), time.sleepers()), (at(4), 1));
    }
}
