//! Sending invalidations: at the call, and again for as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use super::trouble::Asked;
use super::{CALL_LIMIT, Driver, pause};
use crate::event::Event;
use crate::log::node::Batch;
use crate::log::{Append, Author, Epoch};
use crate::remote::{Link, RemoteError};
use crate::runtime::within;

/// Pauses after failures: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

impl Driver {
    /// Writes an invalidation that holds here already, and waits until this node's log has come as far.
    ///
    /// Whatever goes wrong, it stays queued, and is sent again until it arrives.
    pub(crate) async fn publish(&self, batches: &[Batch]) -> Result<Epoch, RemoteError> {
        let sent = self.append_all(batches).await;
        if sent.is_err() || self.node.has_unsent() {
            self.wake.notify_one();
        }
        let token = sent?;
        match within(&*self.runtime, CALL_LIMIT, self.until_reached(token)).await {
            Ok(()) => Ok(token),
            Err(_) => Err(RemoteError::timeout(CALL_LIMIT)),
        }
    }

    pub(super) async fn until_reached(&self, token: Epoch) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.node.reached(token) {
                return;
            }
            moved.await;
        }
    }

    /// Waits until nothing made here is on its way any more, or the link is closed: the log may be out of reach now and back
    /// before its caller's patience ends.
    pub(crate) async fn until_sent(&self) {
        let mut link = self.remote.log_link();
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            let closed = matches!(*link.borrow_and_update(), Link::Closed);
            if closed || self.node.pending() == 0 {
                return;
            }
            tokio::select! {
                biased;
                () = moved => {}
                changed = link.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Sends what is queued, for as long as the cache lives.
    pub(super) async fn send_queued(self: Arc<Self>) {
        let mut link = self.remote.log_link();
        let mut wait = BACKOFF.0;
        loop {
            if matches!(*link.borrow_and_update(), Link::Closed) {
                return;
            }
            if !self.node.has_unsent() {
                wait = BACKOFF.0;
                if self.node.pending() == 0 {
                    self.note(Asked::Append, None);
                }
                tokio::select! {
                    biased;
                    () = self.until_stopped() => return,
                    () = self.wake.notified() => {}
                }
                continue;
            }
            let batches = self.node.take_unsent(|| self.runtime.random());
            match self.append_all(&batches).await {
                Ok(_) => wait = BACKOFF.0,
                Err(_) => {
                    if pause(&self, wait, &mut link).await {
                        return;
                    }
                    wait = (wait * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// One record for each batch. The last one's position is the token.
    async fn append_all(&self, batches: &[Batch]) -> Result<Epoch, RemoteError> {
        let mut token = Err(RemoteError::refused("an invalidation without selectors"));
        for (sent, batch) in batches.iter().enumerate() {
            let append = Append {
                mode: batch.mode,
                selectors: batch.selectors.iter().map(ToString::to_string).collect(),
                op: batch.op,
                author: Author::clone(&batch.author),
            };
            let nonce = self.runtime.random();
            token = self.call(self.remote.append(&append, self.node.position(), nonce)).await;
            self.note(Asked::Append, token.as_ref().err());
            match &token {
                Ok(at) => {
                    self.node.answered(batch.op, *at);
                    // It may have arrived before the answer.
                    self.moved.notify_waiters();
                }
                Err(_) => {
                    // All of them, though the queue may have overflowed at the first.
                    let mut overflowed = false;
                    let now = self.runtime.now();
                    batches[sent..]
                        .iter()
                        .for_each(|batch| overflowed |= self.node.unanswered(batch.op, now));
                    if overflowed {
                        self.events.emit(|| Event::QueueOverflowed);
                    }
                    break;
                }
            }
        }
        token
    }
}
