//! The invalidation log: what it costs those who read, those who invalidate, and in memory.

mod hit;
mod memory;
mod reach;
mod visible;

use std::time::Duration;

use larder_core::{Cache, Delivery, Invalidated};
use larder_redis::Redis;

pub use self::hit::run as hit;
pub use self::memory::{WORD, fill, run as memory};
pub use self::reach::run as reach;
pub use self::visible::run as visible;

/// Where the server runs; the readers have the other core as far as the system leaves it to them.
const SERVER_CORE: usize = 1;

/// A runtime as services have one.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// A node.
async fn node(url: &str) -> Cache {
    let cache = Cache::builder().remote(Redis::at(url)).remote_budget(Duration::from_secs(1)).build().await;
    let cache = cache.expect("the options are good");
    assert!(cache.health().remote.is_some_and(|r| r.log.position.is_some()), "the log is open");
    cache
}

/// What was delivered; anything else is a broken measurement.
fn delivered(done: &Invalidated) -> larder_core::Epoch {
    assert_eq!(done.state, Delivery::Delivered);
    done.token.expect("it was delivered to a log")
}
