//! Waiting for a state, with a deadline, instead of sleeping.

use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Pause between two looks: short against anything a person notices, long enough to leave the processor to the
/// server that is waited for.
const POLL: Duration = Duration::from_millis(3);

/// Waits until `condition` says true, looking every few milliseconds.
///
/// The deadline also ends a look that hangs. Choose it long (seconds): a passing test never waits for it.
///
/// # Panics
/// When `deadline` has passed, with `what`, the time that passed and the place of the call.
///
/// Cancel safe: dropping the future drops the look under way.
#[track_caller]
pub fn wait_for(
    deadline: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    let place = Location::caller();
    async move {
        let start = Instant::now();
        let mut looks = 0_u32;
        let look = async {
            loop {
                looks += 1;
                if condition().await {
                    return;
                }
                sleep(POLL).await;
            }
        };
        if timeout(deadline, look).await.is_err() {
            panic!("waited {:?} in vain for {what} (looked {looks} times), at {place}", start.elapsed());
        }
    }
}

/// [`wait_for`] with a plain closure, for states that can be seen without awaiting.
///
/// # Panics
/// As [`wait_for`].
#[track_caller]
pub fn wait_until(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    wait_for(deadline, what, async move || condition())
}
