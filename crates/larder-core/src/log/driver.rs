//! Keeps a node's view in step with the remote log: publishes invalidations, reads what came, synchronises.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};

use super::node::{Applied, Batch, Node};
use super::{Append, Author, Epoch};
use crate::event::{Event, Events};
use crate::remote::{Breaker, Link, Remote, RemoteError};
use crate::runtime::{Moment, Runtime, within};

/// Records read at one time.
const RECORDS: usize = 1000;
/// Rounds, and attempts to synchronise, before giving up until later: a log that moves faster than it can be read.
const ROUNDS: usize = 200;
/// How long one call of the log may take. Longer than a read's budget: nobody's answer waits for it.
const CALL_LIMIT: Duration = Duration::from_secs(1);
/// Pauses after failures: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What became of an invalidation sent to the log.
type Published = Result<Epoch, RemoteError>;

/// Drives one [`Node`].
pub(crate) struct Driver {
    pub(crate) node: Arc<Node>,
    remote: Arc<dyn Remote>,
    breaker: Arc<Breaker>,
    runtime: Arc<dyn Runtime>,
    events: Arc<Events>,
    name: String,
    /// One permit: whoever holds it reads the log; the others find their work done.
    turn: Semaphore,
    wake: Notify,
    /// The cache is gone.
    stopped: AtomicBool,
    /// Has this node ever synchronised?
    opened: watch::Sender<bool>,
    /// Server time in ms less this process's monotonic time in ms.
    offset_ms: AtomicI64,
}

impl Driver {
    pub(crate) fn new(
        node: Arc<Node>,
        remote: Arc<dyn Remote>,
        breaker: Arc<Breaker>,
        runtime: Arc<dyn Runtime>,
        events: Arc<Events>,
    ) -> Self {
        let name = format!("{:08x}", runtime.random() >> 32);
        let offset_ms = AtomicI64::new(offset(runtime.wall_millis(), runtime.now()));
        let (turn, wake, opened) = (Semaphore::new(1), Notify::new(), watch::Sender::new(false));
        let stopped = AtomicBool::new(false);
        Driver { node, remote, breaker, runtime, events, name, turn, wake, stopped, opened, offset_ms }
    }

    /// Ends [`run`](Self::run): nobody is left to keep in step.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Turns true with the first synchronisation.
    pub(crate) fn opened(&self) -> watch::Receiver<bool> {
        self.opened.subscribe()
    }

    /// The server's time at a moment of this process, by the last synchronisation: steps of the machine's calendar
    /// do not change any entry's age.
    pub(crate) fn server_millis(&self, at: Moment) -> u64 {
        let ms = i64::try_from(at.as_nanos() / 1_000_000).unwrap_or(i64::MAX);
        u64::try_from(ms.saturating_add(self.offset_ms.load(Ordering::Relaxed))).unwrap_or(0)
    }

    /// Writes an invalidation that holds here already, and waits until this node's log has come as far.
    ///
    /// Whatever goes wrong, it stays queued: [`run`](Self::run) tries again.
    pub(crate) async fn publish(&self, batches: &[Batch]) -> Published {
        let sent = self.append_all(batches).await;
        let reached = match sent {
            Ok(token) => self.catch_up_to(token).await.map(|()| token),
            Err(error) => Err(error),
        };
        if reached.is_err() || self.node.has_unsent() {
            self.wake.notify_one();
        }
        reached
    }

    /// Runs as long as the cache: synchronises whenever the connection is new, publishes what is queued.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut link = self.remote.link();
        let (mut synchronised, mut connected, mut said) = (None, None, None);
        let mut pause = BACKOFF.0;
        while !self.stopped.load(Ordering::Acquire) {
            let now = link.borrow_and_update().clone();
            let (work, generation) = match now {
                Link::Closed => return,
                Link::Down { reason } => {
                    if !reason.is_empty() && said.as_ref() != Some(&reason) {
                        let remote = self.remote.describe();
                        let error = reason.clone();
                        self.events.emit(|| Event::RemoteConnectionFailed { remote, error });
                        said = Some(reason);
                    }
                    (Ok(()), None)
                }
                Link::Up { generation } => {
                    if synchronised != Some(generation) {
                        if connected != Some(generation) {
                            (connected, said) = (Some(generation), None);
                            let remote = self.remote.describe();
                            self.events.emit(|| Event::RemoteConnected { remote });
                        }
                        self.breaker.probe_now();
                    }
                    (self.settle(synchronised != Some(generation)).await, Some(generation))
                }
            };
            let retry = match (work, generation) {
                (Ok(()), None) => None,
                (Ok(()), Some(generation)) => {
                    (synchronised, pause) = (Some(generation), BACKOFF.0);
                    (self.node.pending() > 0).then_some(pause)
                }
                (Err(error), _) => {
                    tracing::debug!(target: "larder", %error, "the log is out of reach; trying again");
                    pause = (pause * 2).min(BACKOFF.1);
                    Some(pause)
                }
            };
            let timer = async {
                match retry {
                    Some(pause) => self.runtime.sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = link.changed() => if changed.is_err() { return },
                () = self.wake.notified() => {}
                () = timer => {}
            }
        }
    }

    /// Brings the node up to date and sends what it has queued.
    async fn settle(&self, new_connection: bool) -> Result<(), RemoteError> {
        if new_connection {
            let _turn = self.turn.acquire().await;
            self.synchronise().await?;
            self.breaker.succeeded();
        }
        if self.node.pending() == 0 {
            return Ok(());
        }
        let batches = self.node.take_pending(|| self.runtime.random());
        if !batches.is_empty() {
            let token = self.append_all(&batches).await?;
            self.catch_up_to(token).await?;
            self.breaker.succeeded();
        }
        Ok(())
    }

    /// One record for each batch. The last one's position is the token.
    async fn append_all(&self, batches: &[Batch]) -> Published {
        let mut token = None;
        for Batch { mode, selectors, op } in batches {
            let append = Append {
                mode: *mode,
                selectors: selectors.iter().map(ToString::to_string).collect(),
                op: *op,
                author: Author { node: self.name.clone(), ..Author::default() },
            };
            let nonce = self.runtime.random();
            let at = self.call(self.remote.append(&append, self.node.position(), nonce)).await?;
            self.node.answered(*op, at);
            token = Some(at);
        }
        token.ok_or_else(|| RemoteError::refused("an invalidation without selectors"))
    }

    async fn catch_up_to(&self, token: Epoch) -> Result<(), RemoteError> {
        let _turn = self.turn.acquire().await;
        if self.node.reached(token) { Ok(()) } else { self.read_on(token).await }
    }

    /// Reads records until nothing is left; synchronises where something is missing.
    async fn read_on(&self, token: Epoch) -> Result<(), RemoteError> {
        for _ in 0..ROUNDS {
            let Some(position) = self.node.position() else {
                self.synchronise().await?;
                continue;
            };
            let round = self.call(self.remote.follow(position, RECORDS, Duration::ZERO)).await?;
            let gap = round.records.iter().any(|record| self.node.apply(record) == Applied::Gap);
            if gap || (round.records.is_empty() && round.head != Some(position)) {
                self.events
                    .emit(|| Event::Gap { reason: "records are missing between this node and the log" });
                self.synchronise().await?;
            }
            if self.node.reached(token) {
                return Ok(());
            }
            if round.records.is_empty() && !gap && round.head == Some(position) {
                // Caught up, and the token is not behind us: the server has lost it. It is queued still.
                return Err(RemoteError::refused("the log has lost an acknowledged record"));
            }
        }
        Err(RemoteError::refused("the log moves on faster than it can be read"))
    }

    /// Reads the snapshot again and goes on from there. The answer to everything irregular.
    async fn synchronise(&self) -> Result<(), RemoteError> {
        for _ in 0..ROUNDS {
            let nonce = self.runtime.random();
            let opened = self.call(self.remote.open(self.node.position(), nonce)).await?;
            // Taken here: reading the stamps may take its time.
            let now = self.runtime.now();
            let stamps = self.call(self.remote.scan()).await?;
            let head = self.call(self.remote.head()).await?;
            let still = head.is_some_and(|head| {
                head.epoch.line == opened.head.line
                    && head.since == opened.since
                    && head.epoch.at >= opened.head.at
            });
            if still {
                self.node.synchronise(&opened, &stamps, now);
                let offset = offset(opened.server_ms, now);
                self.offset_ms.store(offset, Ordering::Relaxed);
                self.opened.send_replace(true);
                return Ok(());
            }
        }
        Err(RemoteError::refused("the stamps change faster than they can be read"))
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, RemoteError>>) -> Result<T, RemoteError> {
        within(&*self.runtime, CALL_LIMIT, call).await.unwrap_or(Err(RemoteError::timeout(CALL_LIMIT)))
    }
}

fn offset(wall_ms: u64, now: Moment) -> i64 {
    let wall = i64::try_from(wall_ms).unwrap_or(i64::MAX);
    wall.saturating_sub(i64::try_from(now.as_nanos() / 1_000_000).unwrap_or(i64::MAX))
}
