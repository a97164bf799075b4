//! A remote tier whose answers to GET can be held up: the bytes are read, and on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder_core::testing::TestRemote;
use larder_core::{
    Append, BoxFuture, Cursor, Epoch, Head, Link, Opened, Page, Record, Remote, RemoteError, Round, Stamp,
    Stored,
};
use tokio::sync::watch;

use super::Gate;

pub(crate) struct GatedRemote {
    inner: Arc<TestRemote>,
    /// Shut: a GET has read its bytes and does not answer.
    pub(crate) gets: Gate,
    /// Shut: an append is written and not answered.
    pub(crate) appends: Gate,
    /// Shut: what a look at the log brings is held up.
    pub(crate) rounds: Gate,
    /// Shut: appends are refused at once.
    pub(crate) accepting: AtomicBool,
    /// Shut: the append that [`hold_append`](Self::hold_append) names is not even written.
    pub(crate) held: Gate,
    read: AtomicUsize,
    appended: AtomicUsize,
    hold: AtomicUsize,
}

impl GatedRemote {
    pub(crate) fn new(inner: Arc<TestRemote>) -> Arc<Self> {
        let (gets, appends, held, rounds) = (Gate::open(), Gate::open(), Gate::open(), Gate::open());
        let accepting = AtomicBool::new(true);
        let (read, appended, hold) = Default::default();
        Arc::new(GatedRemote { inner, gets, appends, rounds, accepting, held, read, appended, hold })
    }

    /// Holds up the append after so many more.
    pub(crate) fn hold_append(&self, after: usize) {
        self.hold.store(self.appended.load(Ordering::SeqCst) + after + 1, Ordering::SeqCst);
        self.held.set(false);
    }

    /// How many GETs have read their bytes.
    pub(crate) fn read_so_far(&self) -> usize {
        self.read.load(Ordering::SeqCst)
    }
}

impl Remote for GatedRemote {
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(async move {
            let answer = self.inner.get(key).await;
            self.read.fetch_add(1, Ordering::SeqCst);
            self.gets.pass().await;
            answer
        })
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
        Box::pin(async move {
            if self.appended.fetch_add(1, Ordering::SeqCst) + 1 == self.hold.load(Ordering::SeqCst) {
                self.held.pass().await;
            }
            if !self.accepting.load(Ordering::SeqCst) {
                return Err(RemoteError::refused("no appends now"));
            }
            let answer = self.inner.append(record, position, nonce).await;
            self.appends.pass().await;
            answer
        })
    }

    fn scan(&self) -> BoxFuture<'_, Result<Vec<Stamp>, RemoteError>> {
        self.inner.scan()
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, RemoteError>> {
        self.inner.head()
    }

    fn follow(
        &self,
        position: Epoch,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Round, RemoteError>> {
        Box::pin(async move {
            let round = self.inner.follow(position, limit, wait).await;
            self.rounds.pass().await;
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
