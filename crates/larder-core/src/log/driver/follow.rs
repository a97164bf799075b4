//! Reading the log: rounds, and the snapshot where a round shows a gap.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::trouble::Asked;
use super::{CALL_LIMIT, Driver, ROUND, SILENCE, pause};
use crate::event::Event;
use crate::log::Epoch;
use crate::log::node::Looked;
use crate::remote::{Link, RemoteError};
use crate::runtime::Moment;

/// Records read at one time.
const RECORDS: usize = 1000;
/// Attempts to read the snapshot before giving up until later: a log that moves faster than it can be read.
const ATTEMPTS: usize = 20;
/// How long reading all stamps may take: 130 steps, one after the other, at the most. A connection that breaks meanwhile ends
/// it sooner.
const SCAN_LIMIT: Duration = Duration::from_secs(30);
/// Pauses after failures: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How often a node opens the log although nothing is wrong: it learns the server's time, should its clock have been
/// stepped, and the keys of a log that nobody opens run out.
const RENEWAL: Duration = Duration::from_secs(60);
/// How soon it tries again where that was refused: a server that takes no writes can still be read.
const RENEWAL_AGAIN: Duration = Duration::from_secs(10);

/// What the loop knows between two rounds.
struct Standing {
    /// When the log is to be opened although nothing is wrong.
    renewal: Moment,
    /// Did the last round show no gap? After one the next does not wait: it would be late to tell what the log has lost.
    settled: bool,
    /// Gaps, one right after the other.
    gaps: u32,
}

impl Standing {
    fn opened(&mut self, at: Moment) {
        self.renewal = at.plus(RENEWAL);
    }
}

impl Driver {
    /// Follows the log for as long as the cache lives.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut link = self.remote.log_link();
        let mut wait = BACKOFF.0;
        let mut at = Standing { renewal: self.runtime.now().plus(RENEWAL), settled: false, gaps: 0 };
        loop {
            self.say_state();
            let up = match &*link.borrow_and_update() {
                Link::Closed => return,
                Link::Down { .. } => false,
                Link::Up { .. } => true,
            };
            if !up {
                tokio::select! {
                    biased;
                    () = self.until_stopped() => return,
                    changed = link.changed() => if changed.is_err() { return },
                }
                continue;
            }
            let round = tokio::select! {
                biased;
                () = self.until_stopped() => return,
                round = self.round(&mut at) => round,
            };
            self.note(Asked::Round, round.as_ref().err());
            match round {
                Ok(()) if at.gaps <= 1 => {
                    wait = BACKOFF.0;
                    continue;
                }
                // A gap that was there right after the snapshot may be there again: what stands in the log cannot be read.
                Ok(()) => {}
                Err(_) => {
                    self.say_state();
                }
            }
            if pause(&self, wait, &mut link).await {
                return;
            }
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    /// One look at the log, which waits for something to come.
    async fn round(&self, at: &mut Standing) -> Result<(), RemoteError> {
        let now = self.runtime.now();
        let Some(start) = self.node.round(now) else {
            at.opened(now);
            return self.synchronise().await;
        };
        if now >= at.renewal {
            self.renew(start.position, now, at).await;
        }
        let wait = if at.settled { ROUND } else { Duration::ZERO };
        let round = self.call_within(SILENCE, self.remote.follow(start.position, RECORDS, wait)).await?;
        let looked = self.node.look(&start, &round, self.runtime.now());
        at.settled = matches!(looked, Looked::Well { .. });
        at.gaps = if at.settled { 0 } else { at.gaps + 1 };
        match looked {
            Looked::Well { moved, lost } => {
                if moved {
                    self.moved.notify_waiters();
                }
                if lost {
                    self.events.emit(|| Event::Gap { reason: "the log has lost invalidations made here" });
                    self.wake.notify_one();
                }
            }
            Looked::Gap(reason) => {
                self.gaps.fetch_add(1, Ordering::Relaxed);
                self.events.emit(|| Event::Gap { reason });
                at.opened(now);
                self.synchronise().await?;
            }
        }
        Ok(())
    }

    /// Opens the log although nothing is wrong. If it cannot be opened it is followed all the same: a server that is full, or
    /// has lost its replicas, takes no writes, and still shows what was written.
    async fn renew(&self, position: Epoch, now: Moment, at: &mut Standing) {
        at.renewal = now.plus(RENEWAL_AGAIN);
        let opened = self.call(self.remote.open(Some(position), self.runtime.random())).await;
        let answered = self.runtime.now();
        match opened {
            Ok(opened) if answered.since(now) <= CALL_LIMIT => {
                at.opened(now);
                self.learn_server_time(opened.server_ms, answered);
            }
            // This process was stopped in between: too old to learn from.
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(target: "larder", %error, "the log cannot be renewed; following it on");
            }
        }
    }

    /// Reads the snapshot again and goes on from there. The answer to everything irregular.
    async fn synchronise(&self) -> Result<(), RemoteError> {
        for _ in 0..ATTEMPTS {
            let (nonce, asked) = (self.runtime.random(), self.runtime.now());
            let before = self.node.position();
            let opened = self.call(self.remote.open(before, nonce)).await?;
            // Taken here: reading the stamps may take its time.
            let now = self.runtime.now();
            if now.since(asked) > CALL_LIMIT {
                // This process was stopped in between. The server's time that came with the answer is too old to learn from.
                continue;
            }
            let stamps = self.call_within(SCAN_LIMIT, self.remote.scan()).await?;
            let head = self.call(self.remote.head()).await?;
            let still = head.is_some_and(|head| {
                head.epoch.line == opened.head.line
                    && head.since == opened.since
                    && head.epoch.at >= opened.head.at
            });
            if !still {
                continue;
            }
            self.node.synchronise(&opened, &stamps, asked, now);
            self.learn_server_time(opened.server_ms, now);
            self.moved.notify_waiters();
            let first = !self.opened.send_replace(true);
            if first && !opened.server_known {
                // A lost end of the log could go unnoticed: said once, at the start.
                self.events.emit(|| Event::Gap { reason: "server_unknown" });
            }
            if before.is_some_and(|before| before.line != opened.head.line) {
                self.emptied.store(true, Ordering::Release);
                self.returned.send_modify(|times| *times += 1);
            }
            return Ok(());
        }
        Err(RemoteError::refused("the stamps change faster than they can be read"))
    }
}
