//! A limit on how long something may take, on the runtime's time.

use std::future::Future;
use std::time::Duration;

use larder_core::Runtime;

/// Runs `work` for `limit` at the most; `None` when that was not enough.
pub(crate) async fn within<T>(
    runtime: &dyn Runtime,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = runtime.sleep(limit) => None,
    }
}
