//! Invalidations: here at once, then in the log.

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Engine;
use crate::event::Event;
use crate::log::{Author, Batch, Epoch, Mode};
use crate::policy::defaults;
use crate::runtime::within;
use crate::selector::Selector;

/// What became of an invalidation. Whatever it says, it holds in this process.
#[derive(Clone)]
#[must_use = "a queued invalidation is not known to other nodes yet"]
pub struct Invalidated {
    /// Its position in the log; `None` without a remote tier, or while queued. A read that names it, on whatever node,
    /// sees nothing older: see [`Namespace::at_least`](crate::Namespace::at_least).
    pub token: Option<Epoch>,
    /// Is it in the log?
    pub state: Delivery,
    pub(super) engine: Arc<Engine>,
    pub(super) selectors: Arc<[Selector]>,
}

impl fmt::Debug for Invalidated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidated")
            .field("token", &self.token)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// How far an invalidation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the log, or there is no log to be in.
    Delivered,
    /// The remote tier is away or slow: it is sent again until it arrives, and never if this process
    /// ends before, or the cache's last handle is dropped: [`shutdown`](crate::Cache::shutdown) waits for it.
    Queued,
}

impl Engine {
    /// Invalidates, and waits until the record is in the log and this node has reached it; at most a second.
    ///
    /// Cancel safe: dropped half-way, the invalidation holds here and goes on to the log.
    pub(crate) async fn invalidate(
        self: &Arc<Self>,
        mode: Mode,
        selectors: Vec<Selector>,
        reason: &str,
        actor: &str,
    ) -> Invalidated {
        for (selector, written) in selectors.iter().filter_map(|s| Some((s, s.folded_from()?))) {
            self.events.emit(|| Event::Folded { written: written.to_owned(), pattern: selector.to_string() });
        }
        let on_its_way = self.sets_out();
        let token = match selectors.is_empty() {
            true => Some(None),
            false => self.publish(mode, &selectors, reason, actor).await,
        };
        if let Some(token) = token {
            on_its_way.has_arrived(token);
        }
        self.invalidations.count(mode, token.is_some());
        let patterns = selectors.iter().map(ToString::to_string).collect();
        self.events.emit(|| Event::Invalidated { mode, patterns, delivered: token.is_some() });
        let (token, state) = match token {
            Some(token) => (token, Delivery::Delivered),
            None => (None, Delivery::Queued),
        };
        Invalidated { token, state, engine: self.clone(), selectors: selectors.into() }
    }

    /// `None`: queued.
    async fn publish(
        self: &Arc<Self>,
        mode: Mode,
        selectors: &[Selector],
        reason: &str,
        actor: &str,
    ) -> Option<Option<Epoch>> {
        // The local step first: from here on no read of this process sees what is invalidated.
        let node = self.remote.as_ref().map_or_else(String::new, |remote| remote.driver.name().into());
        let author = Arc::new(Author { node, reason: reason.into(), actor: actor.into() });
        let batches = Batch::of(mode, selectors.to_vec(), &author, || self.runtime.random());
        let mut overflowed = false;
        for batch in &batches {
            overflowed |= self.node.invalidate(batch, self.remote.is_some(), self.runtime.now());
        }
        if overflowed {
            self.events.emit(|| Event::QueueOverflowed);
        }
        let Some(remote) = &self.remote else { return Some(None) };
        let (done, answer) = oneshot::channel();
        let driver = remote.driver.clone();
        self.runtime.spawn(Box::pin(async move {
            // The caller may be gone; the record is written all the same.
            let _ = done.send(driver.publish(&batches).await);
        }));
        match within(&*self.runtime, defaults::INVALIDATE_WAIT, answer).await {
            Ok(Ok(Ok(token))) => Some(Some(token)),
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => None,
        }
    }
}
