//! A remote tier as one node sees it, whose looks at the log can be held up and are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder_core::testing::TestRemote;
use larder_core::{
    Append, BoxFuture, Cursor, Epoch, Head, Link, Opened, Page, Record, Remote, RemoteError, Round, Stamp,
    Stored,
};
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
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        self.inner.get(key)
    }

    fn store<'a>(
        &'a self,
        key: &'a [u8],
        bytes: Bytes,
        life: Duration,
        epoch: Epoch,
    ) -> BoxFuture<'a, Result<Stored, RemoteError>> {
        self.inner.store(key, bytes, life, epoch)
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.inner.remove(key)
    }

    fn open(&self, position: Option<Epoch>, nonce: u64) -> BoxFuture<'_, Result<Opened, RemoteError>> {
        self.inner.open(position, nonce)
    }

    fn append<'a>(
        &'a self,
        record: &'a Append,
        position: Option<Epoch>,
        nonce: u64,
    ) -> BoxFuture<'a, Result<Epoch, RemoteError>> {
        self.inner.append(record, position, nonce)
    }

    fn scan(&self) -> BoxFuture<'_, Result<Vec<Stamp>, RemoteError>> {
        self.inner.scan()
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

    fn history(&self, before: Option<u64>, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, RemoteError>> {
        self.inner.history(before, limit)
    }

    fn page<'a>(
        &'a self,
        under: &'a [u8],
        cursor: Cursor,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, RemoteError>> {
        self.inner.page(under, cursor, limit)
    }

    fn discard<'a>(&'a self, values: &'a [(Vec<u8>, Epoch)]) -> BoxFuture<'a, Result<u64, RemoteError>> {
        self.inner.discard(values)
    }

    fn connect(&self) {
        self.inner.connect();
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.inner.link()
    }

    fn log_link(&self) -> watch::Receiver<Link> {
        self.inner.log_link()
    }

    fn close(&self) {
        self.inner.close();
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
