//! A remote tier in this process: the same promises as a real one, and switches to break them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::EPOCH_OFFSET;
use crate::log::{Append, Epoch, Lineage, Mode, Opened, Record, RecordBody, Stamp};
use crate::remote::{Cursor, Head, Link, PEEKED, Page, Remote, RemoteError, Round, Stored};
use crate::runtime::{BoxFuture, Moment, Runtime};

/// What is broken now.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Every call fails at once.
    pub down: bool,
    /// Calls are taken and never answered, until this ends.
    pub hang: bool,
    /// Stores wait until this ends, then go through.
    pub hold_stores: bool,
}

/// A remote tier and its log, on the time of a [`Runtime`].
pub struct TestRemote {
    runtime: Arc<dyn Runtime>,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    changed: Notify,
    appended: Notify,
    link: watch::Sender<Link>,
}

#[derive(Default)]
struct State {
    values: BTreeMap<Vec<u8>, (Bytes, Moment)>,
    log: Option<Log>,
    gets: usize,
}

struct Log {
    last: Epoch,
    lineage: Lineage,
    since: u64,
    stamps: HashMap<(Mode, String), u64>,
    records: Vec<Record>,
}

impl TestRemote {
    /// An empty tier, connected.
    pub fn new(runtime: Arc<dyn Runtime>) -> Arc<Self> {
        Arc::new(TestRemote {
            runtime,
            state: Mutex::default(),
            faults: Mutex::default(),
            changed: Notify::new(),
            appended: Notify::new(),
            link: watch::Sender::new(Link::Up { generation: 1 }),
        })
    }

    /// Changes what is broken.
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = self.faults.lock();
        let was_down = faults.down;
        change(&mut faults);
        if faults.down && !was_down {
            self.link.send_replace(Link::Down { reason: "switched off".into() });
        } else if !faults.down && was_down {
            self.reconnect();
        }
        drop(faults);
        self.changed.notify_waiters();
    }

    /// A new connection, with nothing lost.
    pub fn reconnect(&self) {
        let generation = self.runtime.random();
        self.link.send_replace(Link::Up { generation });
    }

    /// FLUSHALL.
    pub fn flush(&self) {
        *self.state.lock() = State::default();
    }

    /// The log alone is lost: evicted, or deleted by hand.
    pub fn lose_log(&self) {
        self.state.lock().log = None;
    }

    /// The bytes under a key.
    pub fn bytes(&self, key: &str) -> Option<Bytes> {
        self.state.lock().values.get(key.as_bytes()).map(|(bytes, _)| bytes.clone())
    }

    /// Puts bytes under a key, as some other program would.
    pub fn plant(&self, key: &str, bytes: impl Into<Bytes>) {
        let until = self.runtime.now().plus(Duration::from_secs(3600));
        self.state.lock().values.insert(key.as_bytes().to_vec(), (bytes.into(), until));
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.state.lock().values.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many GETs were answered.
    pub fn gets(&self) -> usize {
        self.state.lock().gets
    }

    async fn reach(&self, store: bool) -> Result<(), RemoteError> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let faults = self.faults.lock().clone();
            if faults.down {
                return Err(RemoteError::disconnected("switched off"));
            }
            if !(faults.hang || store && faults.hold_stores) {
                return Ok(());
            }
            changed.await;
        }
    }

    /// The server's time; not that of any node.
    fn now_micros(&self) -> u64 {
        let up: u64 = self.runtime.now().since(Moment::ORIGIN).as_micros().try_into().unwrap_or(u64::MAX);
        up.saturating_add(1_600_000_000_000_000)
    }

    /// The preamble of everything that writes to the log.
    fn enter<'s>(&self, state: &'s mut State, me: Option<Epoch>, nonce: u64) -> &'s mut Log {
        let now = self.now_micros();
        let new = match &state.log {
            None => {
                state.log = Some(Log {
                    last: Epoch { line: nonce, at: 0 },
                    lineage: Lineage::default(),
                    since: 0,
                    stamps: HashMap::new(),
                    records: Vec::new(),
                });
                true
            }
            Some(log) => me.is_some_and(|me| me.line == log.last.line && me.at > log.last.at),
        };
        let log = state.log.as_mut().expect("made just now if there was none");
        let first = log.since == 0 && log.records.is_empty();
        let came_from = (!first).then_some(log.last);
        if new && !first {
            log.lineage.push(log.last);
            log.last.line = nonce;
        }
        let foreign = me.is_some_and(|me| !log.lineage.holds(log.last.line, me));
        if new || foreign {
            record(log, now, came_from, RecordBody::Marker);
            if first {
                log.since = log.last.at;
            }
        }
        log
    }
}

impl Log {
    fn head(&self) -> Head {
        Head { epoch: self.last, lineage: self.lineage.clone(), since: self.since }
    }
}

fn record(log: &mut Log, now: u64, prev: Option<Epoch>, body: RecordBody) {
    log.last.at = now.max(log.last.at + 1);
    log.records.push(Record { epoch: log.last, prev, body });
}

fn epoch_of(bytes: &[u8]) -> Option<Epoch> {
    let line = bytes.get(EPOCH_OFFSET..EPOCH_OFFSET + 8)?.try_into().ok()?;
    let at = bytes.get(EPOCH_OFFSET + 8..EPOCH_OFFSET + 16)?.try_into().ok()?;
    Some(Epoch { line: u64::from_be_bytes(line), at: u64::from_be_bytes(at) })
}

impl Remote for TestRemote {
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(async move {
            self.reach(false).await?;
            let (mut state, now) = (self.state.lock(), self.runtime.now());
            state.gets += 1;
            Ok(state.values.get(key).filter(|(_, until)| now < *until).map(|(bytes, _)| bytes.clone()))
        })
    }

    fn store<'a>(
        &'a self,
        key: &'a [u8],
        bytes: Bytes,
        life: Duration,
        epoch: Epoch,
    ) -> BoxFuture<'a, Result<Stored, RemoteError>> {
        Box::pin(async move {
            self.reach(true).await?;
            let (mut state, until) = (self.state.lock(), self.runtime.now().plus(life));
            let there = state.values.get(key).filter(|(_, until)| self.runtime.now() < *until);
            let there = there.and_then(|(bytes, _)| epoch_of(bytes));
            if there.is_some_and(|there| there.line == epoch.line && there.at > epoch.at) {
                return Ok(Stored::Overtaken);
            }
            state.values.insert(key.to_vec(), (bytes, until));
            Ok(Stored::Stored)
        })
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            self.reach(false).await?;
            self.state.lock().values.remove(key);
            Ok(())
        })
    }

    fn open(&self, position: Option<Epoch>, nonce: u64) -> BoxFuture<'_, Result<Opened, RemoteError>> {
        Box::pin(async move {
            self.reach(false).await?;
            let mut state = self.state.lock();
            let log = self.enter(&mut state, position, nonce);
            let server_ms = self.now_micros() / 1000;
            let Head { epoch: head, lineage, since } = log.head();
            drop(state);
            self.appended.notify_waiters();
            Ok(Opened { head, lineage, since, server_ms, server_known: true })
        })
    }

    fn append<'a>(
        &'a self,
        append: &'a Append,
        position: Option<Epoch>,
        nonce: u64,
    ) -> BoxFuture<'a, Result<Epoch, RemoteError>> {
        Box::pin(async move {
            self.reach(false).await?;
            let mut state = self.state.lock();
            let now = self.now_micros();
            let log = self.enter(&mut state, position, nonce);
            let body = RecordBody::Invalidation(append.clone());
            let prev = Some(log.last);
            record(log, now, prev, body);
            for selector in &append.selectors {
                log.stamps.insert((append.mode, selector.clone()), log.last.at);
            }
            let token = log.last;
            drop(state);
            self.appended.notify_waiters();
            Ok(token)
        })
    }

    fn scan(&self) -> BoxFuture<'_, Result<Vec<Stamp>, RemoteError>> {
        Box::pin(async move {
            self.reach(false).await?;
            let state = self.state.lock();
            let stamps = state.log.iter().flat_map(|log| &log.stamps);
            Ok(stamps
                .map(|((mode, selector), at)| Stamp { mode: *mode, selector: selector.clone(), at: *at })
                .collect())
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, RemoteError>> {
        Box::pin(async move {
            self.reach(false).await?;
            Ok(self.state.lock().log.as_ref().map(Log::head))
        })
    }

    fn follow(
        &self,
        position: Epoch,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Round, RemoteError>> {
        Box::pin(async move {
            let mut over = std::pin::pin!(self.runtime.sleep(wait));
            let mut waited = false;
            let mut head = None;
            loop {
                let mut appended = std::pin::pin!(self.appended.notified());
                appended.as_mut().enable();
                self.reach(false).await?;
                {
                    let state = self.state.lock();
                    // The peek goes before the wait, and is not repeated after it.
                    let head = *head.get_or_insert_with(|| state.log.as_ref().map(|log| log.last));
                    let records = state.log.iter().flat_map(|log| &log.records);
                    let records: Vec<_> =
                        records.filter(|r| r.epoch.at > position.at).take(limit).cloned().collect();
                    if !records.is_empty() || head != Some(position) || waited {
                        return Ok(Round { head, records });
                    }
                }
                tokio::select! {
                    biased;
                    () = appended => {}
                    () = &mut over => waited = true,
                }
            }
        })
    }

    fn history(&self, before: Option<u64>, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, RemoteError>> {
        Box::pin(async move {
            self.reach(false).await?;
            let state = self.state.lock();
            let records = state.log.iter().flat_map(|log| log.records.iter().rev());
            let records = records.filter(|r| before.is_none_or(|before| r.epoch.at < before));
            Ok(records.take(limit).cloned().collect())
        })
    }

    fn page<'a>(
        &'a self,
        under: &'a [u8],
        cursor: Cursor,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, RemoteError>> {
        Box::pin(async move {
            self.reach(false).await?;
            let (state, now) = (self.state.lock(), self.runtime.now());
            // By hash, so that the place of a value does not depend on the others.
            let place = |key: &[u8]| xxhash_rust::xxh3::xxh3_64(key) >> 1;
            let mut ahead: Vec<_> = state.values.iter().filter(|(key, _)| place(key) >= cursor.at).collect();
            ahead.sort_unstable_by_key(|(key, _)| place(key));
            let next = ahead.get(limit.max(1)).map(|(key, _)| Cursor { server: 0, at: place(key) });
            ahead.truncate(limit.max(1));
            let live = ahead.into_iter().filter(|(key, (_, until))| key.starts_with(under) && now < *until);
            let values =
                live.map(|(key, (bytes, _))| (key.clone(), bytes.slice(..bytes.len().min(PEEKED)))).collect();
            Ok(Page { values, next })
        })
    }

    fn discard<'a>(&'a self, values: &'a [(Vec<u8>, Epoch)]) -> BoxFuture<'a, Result<u64, RemoteError>> {
        Box::pin(async move {
            self.reach(false).await?;
            let mut state = self.state.lock();
            let mut discarded = 0;
            for (key, epoch) in values {
                let there = state.values.get(key).and_then(|(bytes, _)| epoch_of(bytes));
                if there == Some(*epoch) {
                    state.values.remove(key);
                    discarded += 1;
                }
            }
            Ok(discarded)
        })
    }

    fn connect(&self) {}

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    fn log_link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    fn close(&self) {
        self.link.send_replace(Link::Closed);
    }

    fn describe(&self) -> String {
        "a tier in this process".to_owned()
    }
}
