//! A remote tier as one node sees it, whose looks at the log can be held up and are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use larder_core::testing::TestRemote;
use larder_core::{BoxFuture, Epoch, Head, Remote, RemoteError, Round};
use tokio::sync::watch;

pub(crate) struct Held {
    inner: Arc<TestRemote>,
    /// Does this node hear of records?
    pub(crate) hears: watch::Sender<bool>,
    /// Is it told where the log stands?
    pub(crate) peeks: watch::Sender<bool>,
    peeked: AtomicUsize,
    peeking: AtomicUsize,
    most: AtomicUsize,
}

impl Held {
    pub(crate) fn new(inner: Arc<TestRemote>) -> Arc<Self> {
        let (peeked, peeking, most) = Default::default();
        let (hears, peeks) = (watch::Sender::new(true), watch::Sender::new(true));
        Arc::new(Held { inner, hears, peeks, peeked, peeking, most })
    }

    /// How many looks at the head there were, and how many at one time.
    pub(crate) fn peeked(&self) -> (usize, usize) {
        (self.peeked.load(Ordering::SeqCst), self.most.load(Ordering::SeqCst))
    }
}

async fn until(open: &watch::Sender<bool>) {
    // The sender lives as long as the test.
    let _ = open.subscribe().wait_for(|open| *open).await;
}

impl Remote for Held {
    larder_core::forward_remote! {
        inner: get get_many store lease extend release wakes reserve give_back remove open append scan history page discard connect link log_link close describe
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, RemoteError>> {
        Box::pin(async move {
            self.peeked.fetch_add(1, Ordering::SeqCst);
            let now = self.peeking.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            until(&self.peeks).await;
            let head = self.inner.head().await;
            self.peeking.fetch_sub(1, Ordering::SeqCst);
            head
        })
    }

    fn follow(
        &self,
        position: Epoch,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Round, RemoteError>> {
        Box::pin(async move {
            let round = self.inner.follow(position, limit, wait).await;
            until(&self.hears).await;
            round
        })
    }
}
