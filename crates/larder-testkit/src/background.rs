//! A runtime of its own for each server we run inside the test process.

use tokio::runtime::{Builder, Runtime};

/// One thread with a runtime, which ends with all its tasks when this is dropped.
///
/// Running on the test's own runtime would let a test that blocks its thread, or pauses its clock, stop the network
/// as well; and aborting a server's accept loop would leave its open connections running.
pub(crate) struct Background(Option<Runtime>);

impl Background {
    /// Starts the thread; `name` is what a debugger shows.
    pub(crate) fn start(name: &str) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()
            .expect("the system gives a test one more thread");
        Self(Some(runtime))
    }

    /// Runs `work` on the thread until it ends or this is dropped.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime().spawn(work);
    }

    /// Runs `work` on the thread and waits for its result.
    ///
    /// # Panics
    /// If `work` panics.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime().spawn(work).await.expect("work on the background thread does not panic")
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("the runtime is taken only in drop")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Does not wait: a runtime must not block the thread of another, and tests drop us inside theirs.
            runtime.shutdown_background();
        }
    }
}
