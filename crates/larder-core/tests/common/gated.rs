//! A remote tier whose answers to GET can be held up: the bytes are read, and on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder_core::testing::TestRemote;
use larder_core::{
    Append, BoxFuture, Cursor, Epoch, Head, Opened, Page, Record, RecordBody, Remote, RemoteError, Round,
};

use super::Gate;

pub(crate) struct GatedRemote {
    inner: Arc<TestRemote>,
    /// Shut: a GET has read its bytes and does not answer.
    pub(crate) gets: Gate,
    /// Shut: an append is written and not answered.
    pub(crate) appends: Gate,
    /// Shut: rounds get no answer.
    pub(crate) follows: Gate,
    /// Shut: a look at the head does not answer.
    pub(crate) heads: Gate,
    /// Shut: appends are refused at once.
    pub(crate) accepting: AtomicBool,
    /// Shut: the log cannot be opened, as on a server that takes no writes.
    pub(crate) opening: AtomicBool,
    /// Rounds show a record that fits nowhere.
    pub(crate) garbled: AtomicBool,
    /// Shut: the append that [`hold_append`](Self::hold_append) names is not even written.
    pub(crate) held: Gate,
    read: AtomicUsize,
    appended: AtomicUsize,
    hold: AtomicUsize,
    looked: AtomicUsize,
    opened: AtomicUsize,
    paged: AtomicUsize,
}

impl GatedRemote {
    pub(crate) fn new(inner: Arc<TestRemote>) -> Arc<Self> {
        let (gets, appends, held) = (Gate::open(), Gate::open(), Gate::open());
        let (follows, heads, accepting) = (Gate::open(), Gate::open(), AtomicBool::new(true));
        let (opening, garbled) = (AtomicBool::new(true), AtomicBool::new(false));
        let (read, appended, hold, looked, opened, paged) = Default::default();
        Arc::new(GatedRemote {
            inner,
            gets,
            appends,
            follows,
            heads,
            accepting,
            opening,
            garbled,
            held,
            opened,
            read,
            appended,
            hold,
            looked,
            paged,
        })
    }

    /// Holds up the append after so many more.
    pub(crate) fn hold_append(&self, after: usize) {
        self.hold.store(self.appended.load(Ordering::SeqCst) + after + 1, Ordering::SeqCst);
        self.held.set(false);
    }

    /// How many looks at the head were begun.
    pub(crate) fn looked_so_far(&self) -> usize {
        self.looked.load(Ordering::SeqCst)
    }

    /// How often the log was opened, or was to be.
    pub(crate) fn opened_so_far(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// How many pages of values were asked for.
    pub(crate) fn paged_so_far(&self) -> usize {
        self.paged.load(Ordering::SeqCst)
    }

    /// How many GETs have read their bytes.
    pub(crate) fn read_so_far(&self) -> usize {
        self.read.load(Ordering::SeqCst)
    }
}

impl Remote for GatedRemote {
    larder_core::forward_remote! {
        inner: get_many store lease extend release wakes reserve give_back remove scan history discard connect link log_link close describe
    }

    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(async move {
            let answer = self.inner.get(key).await;
            self.read.fetch_add(1, Ordering::SeqCst);
            self.gets.pass().await;
            answer
        })
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

    fn open(&self, position: Option<Epoch>, nonce: u64) -> BoxFuture<'_, Result<Opened, RemoteError>> {
        Box::pin(async move {
            self.opened.fetch_add(1, Ordering::SeqCst);
            match self.opening.load(Ordering::SeqCst) {
                true => self.inner.open(position, nonce).await,
                false => Err(RemoteError::refused("MISCONF no writes now")),
            }
        })
    }

    fn page<'a>(
        &'a self,
        under: &'a [&'a [u8]],
        cursor: Cursor,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, RemoteError>> {
        self.paged.fetch_add(1, Ordering::SeqCst);
        self.inner.page(under, cursor, limit)
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, RemoteError>> {
        Box::pin(async move {
            self.looked.fetch_add(1, Ordering::SeqCst);
            self.heads.pass().await;
            self.inner.head().await
        })
    }

    fn follow(
        &self,
        position: Epoch,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Round, RemoteError>> {
        Box::pin(async move {
            let mut round = self.inner.follow(position, limit, wait).await?;
            self.follows.pass().await;
            if self.garbled.load(Ordering::SeqCst) {
                let epoch = Epoch { at: position.at + 1, ..position };
                round.records = vec![Record { epoch, prev: None, body: RecordBody::Unknown }];
            }
            Ok(round)
        })
    }
}
