//! Keeps a node's view in step with the remote log. Three loops, each in a task of its own: `follow` reads the log,
//! `publish` sends what is queued, `connection` watches the way to the values. `arrive` waits for tokens, `trouble` knows why
//! the log does not do as asked.

mod arrive;
mod connection;
mod follow;
mod publish;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, watch};

pub use self::arrive::Arrival;
use self::arrive::Peeked;
use self::trouble::Troubles;
use super::node::Node;
use crate::event::{Event, Events};
use crate::remote::{Breaker, Link, Remote, RemoteError};
use crate::runtime::{Moment, Runtime, within};

/// How long one call of the log may take. Longer than a read's budget: nobody's answer waits for it.
const CALL_LIMIT: Duration = Duration::from_secs(1);
/// How long a round waits for a record: the longest time in which a log that vanished goes unnoticed.
const ROUND: Duration = Duration::from_secs(1);
/// Without an answer for so long the log counts as out of reach.
const SILENCE: Duration = Duration::from_millis(2500);

/// How this node stands to the log. For people: what is served depends on times, not on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogState {
    /// Caught up a moment ago.
    Following,
    /// Connected; there is more to read, or the snapshot is being read again.
    CatchingUp,
    /// Out of reach for 2.5 s: invalidations made here are queued.
    Disconnected,
}

impl LogState {
    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogState::Following => "following",
            LogState::CatchingUp => "catching_up",
            LogState::Disconnected => "disconnected",
        }
    }
}

/// Drives one [`Node`].
pub(crate) struct Driver {
    pub(crate) node: Arc<Node>,
    remote: Arc<dyn Remote>,
    breaker: Arc<Breaker>,
    runtime: Arc<dyn Runtime>,
    events: Arc<Events>,
    name: String,
    /// There may be something to send.
    wake: Notify,
    /// The position has moved.
    moved: Notify,
    /// The cache is gone.
    stopped: watch::Sender<bool>,
    /// Has this node ever synchronised?
    opened: watch::Sender<bool>,
    /// Server time in ms less this process's monotonic time in ms.
    offset_ms: AtomicI64,
    /// When the log last answered anything.
    heard: AtomicU64,
    gaps: AtomicU64,
    troubles: Troubles,
    said: Mutex<LogState>,
    peeked: tokio::sync::Mutex<Peeked>,
    peeks: AtomicU64,
    /// Counts the times when the remote tier has come back.
    returned: watch::Sender<u64>,
    /// It may have come back without what it was given.
    emptied: AtomicBool,
}

impl Driver {
    pub(crate) fn new(
        node: Arc<Node>,
        remote: Arc<dyn Remote>,
        breaker: Arc<Breaker>,
        runtime: Arc<dyn Runtime>,
        events: Arc<Events>,
    ) -> Self {
        Driver {
            name: format!("{:08x}", runtime.random() >> 32),
            offset_ms: AtomicI64::new(offset(runtime.wall_millis(), runtime.now())),
            node,
            remote,
            breaker,
            runtime,
            events,
            wake: Notify::new(),
            moved: Notify::new(),
            stopped: watch::Sender::new(false),
            opened: watch::Sender::new(false),
            heard: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            troubles: Troubles::default(),
            said: Mutex::new(LogState::Disconnected),
            peeked: tokio::sync::Mutex::default(),
            peeks: AtomicU64::new(0),
            returned: watch::Sender::new(0),
            emptied: AtomicBool::new(false),
        }
    }

    /// Begins: from here on the node is kept in step, until [`stop`](Self::stop).
    pub(crate) fn start(self: &Arc<Self>) {
        self.runtime.spawn(Box::pin(self.clone().follow()));
        self.runtime.spawn(Box::pin(self.clone().send_queued()));
        self.runtime.spawn(Box::pin(self.clone().watch_connection()));
    }

    /// Ends all loops: nobody is left to keep in step.
    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
        // Ends the wait of whoever gives back to a tier that has returned.
        self.returned.send_modify(|times| *times += 1);
    }

    /// Turns true with the first synchronisation.
    pub(crate) fn opened(&self) -> watch::Receiver<bool> {
        self.opened.subscribe()
    }

    /// Changes each time the remote tier has come back.
    pub(crate) fn returned(&self) -> watch::Receiver<u64> {
        self.returned.subscribe()
    }

    /// Since the last time this was asked: may the remote tier have lost what it was given?
    pub(crate) fn take_emptied(&self) -> bool {
        self.emptied.swap(false, Ordering::AcqRel)
    }

    /// What this node calls itself in records.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Gaps in the log so far.
    pub(crate) fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// The server's time at a moment of this process, by the last synchronisation: steps of the machine's calendar
    /// do not change any entry's age.
    pub(crate) fn server_millis(&self, at: Moment) -> u64 {
        let ms = i64::try_from(at.as_nanos() / 1_000_000).unwrap_or(i64::MAX);
        u64::try_from(ms.saturating_add(self.offset_ms.load(Ordering::Relaxed))).unwrap_or(0)
    }

    fn learn_server_time(&self, server_ms: u64, now: Moment) {
        self.offset_ms.store(offset(server_ms, now), Ordering::Relaxed);
        self.node.learn_server_time(server_ms, now);
    }

    /// How this node stands to the log.
    pub(crate) fn state(&self) -> LogState {
        let now = self.runtime.now();
        let recent = |at: Option<Moment>| at.is_some_and(|at| now.since(at) <= SILENCE);
        let heard = Moment::from_nanos(self.heard.load(Ordering::Acquire));
        if !matches!(*self.remote.log_link().borrow(), Link::Up { .. }) {
            LogState::Disconnected
        } else if recent(self.node.synced()) {
            LogState::Following
        } else if recent(Some(heard)) {
            LogState::CatchingUp
        } else {
            LogState::Disconnected
        }
    }

    fn say_state(&self) {
        let to = self.state();
        let from = std::mem::replace(&mut *self.said.lock(), to);
        if from != to {
            self.events.emit(|| Event::LogState { from, to });
        }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, RemoteError>>) -> Result<T, RemoteError> {
        self.call_within(CALL_LIMIT, call).await
    }

    async fn call_within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        let answer = within(&*self.runtime, limit, call).await.unwrap_or(Err(RemoteError::timeout(limit)));
        if answer.is_ok() {
            self.heard.store(self.runtime.now().as_nanos(), Ordering::Release);
        }
        answer
    }

    async fn until_stopped(&self) {
        // The sender lives in `self`.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }
}

/// Waits for what ends a pause: its time, a change of the link, or the end. True at the end.
async fn pause(driver: &Driver, time: Duration, link: &mut watch::Receiver<Link>) -> bool {
    tokio::select! {
        biased;
        () = driver.until_stopped() => true,
        changed = link.changed() => changed.is_err(),
        () = driver.runtime.sleep(time) => false,
    }
}

fn offset(wall_ms: u64, now: Moment) -> i64 {
    let wall = i64::try_from(wall_ms).unwrap_or(i64::MAX);
    wall.saturating_sub(i64::try_from(now.as_nanos() / 1_000_000).unwrap_or(i64::MAX))
}
