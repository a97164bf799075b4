//! What reaches the source behind the cache when it is slow, when it fails, and when everybody comes at once.

mod cold;
mod failing;
mod hot;

use std::time::Duration;

pub use self::cold::{WORD, read, run as cold};
pub use self::failing::run as failing;
pub use self::hot::run as hot;

/// Between two requests of a stream of 500 a second.
const PACE: Duration = Duration::from_millis(2);

/// A runtime as services have one.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Calls `request` 500 times a second for so long, each in a task of its own, and waits for the last one.
async fn stream<Fut>(lasts: Duration, request: impl Fn() -> Fut) -> Vec<Fut::Output>
where
    Fut: Future + Send + 'static,
    Fut::Output: Send,
{
    let mut pace = tokio::time::interval(PACE);
    // Behind time, it catches up: the rate is kept on average.
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let requests = lasts.as_millis() / PACE.as_millis();
    let mut under_way = Vec::new();
    for _ in 0..requests {
        pace.tick().await;
        under_way.push(tokio::spawn(request()));
    }
    let mut answers = Vec::with_capacity(under_way.len());
    for request in under_way {
        answers.push(request.await.expect("a request does not panic"));
    }
    answers
}
