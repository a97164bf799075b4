//! Waiting for a token: until this node's log has come as far.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Driver;
use crate::log::Epoch;
use crate::remote::{Head, Link, RemoteError};
use crate::runtime::within;

/// Has this node come as far as a token?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a node that has not arrived may serve what the token has invalidated"]
pub enum Arrival {
    /// Yes: what is read from here on is as new as the token.
    Arrived,
    /// Not yet, and the wait is over: go past the cache.
    Late,
    /// The log has no such position: lost by its server, or made up.
    Unknown,
}

/// The last look at the log on behalf of those who wait, and its number.
pub(super) struct Peeked {
    number: u64,
    head: Result<Option<Head>, RemoteError>,
}

impl Default for Peeked {
    fn default() -> Self {
        Peeked { number: 0, head: Ok(None) }
    }
}

impl Driver {
    /// Waits until this node's log has reached `token`, for `limit` at the most, and not at all while the log is out of
    /// reach.
    ///
    /// Cancel safe.
    pub(crate) async fn arrive(&self, token: Epoch, limit: Duration) -> Arrival {
        if self.node.reached(token) {
            return Arrival::Arrived;
        }
        if !matches!(*self.remote.log_link().borrow(), Link::Up { .. }) {
            return Arrival::Late;
        }
        let arrived = async {
            let head = tokio::select! {
                biased;
                () = self.until_reached(token) => return Arrival::Arrived,
                // Begun after the token was asked for: a log that has the position shows it.
                head = self.peek() => head,
            };
            match head {
                Ok(Some(head)) if !has(&head, token) => {
                    // Perhaps the log has lost it, and this node has not heard of that yet: what it holds from before the
                    // loss may be older than the token. Once it stands where the log does, it holds nothing of the kind.
                    self.until_reached(head.epoch).await;
                    match self.node.reached(token) {
                        true => Arrival::Arrived,
                        false => Arrival::Unknown,
                    }
                }
                // No answer, or a log without its state, of which nobody can say what it had.
                Ok(Some(_) | None) | Err(_) => {
                    self.until_reached(token).await;
                    Arrival::Arrived
                }
            }
        };
        within(&*self.runtime, limit, arrived).await.unwrap_or(Arrival::Late)
    }

    /// Where the log stands, by a look that began after this call. All who wait at the same time share one.
    async fn peek(&self) -> Result<Option<Head>, RemoteError> {
        let begun = self.peeks.load(Ordering::Acquire);
        let mut last = self.peeked.lock().await;
        if last.number <= begun {
            let number = self.peeks.fetch_add(1, Ordering::AcqRel) + 1;
            let head = self.call(self.remote.head()).await;
            *last = Peeked { number, head };
        }
        last.head.clone()
    }
}

/// Is `token` part of the log that stands at `head`?
fn has(head: &Head, token: Epoch) -> bool {
    match head.epoch.line == token.line {
        true => token.at <= head.epoch.at,
        false => head.lineage.holds(head.epoch.line, token),
    }
}
