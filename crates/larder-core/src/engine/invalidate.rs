//! Invalidations: here at once, then in the log.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Engine;
use crate::event::Event;
use crate::log::{Batch, Epoch, Mode};
use crate::policy::defaults;
use crate::runtime::within;
use crate::selector::Selector;

/// What became of an invalidation. Whatever it says, it holds in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a queued invalidation is not known to other nodes yet"]
pub struct Invalidated {
    /// Its position in the log; `None` without a remote tier, or while queued.
    pub token: Option<Epoch>,
    /// Is it in the log?
    pub state: Delivery,
}

/// How far an invalidation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the log, or there is no log to be in.
    Delivered,
    /// The remote tier is away or slow: it is sent again until it arrives, and never if this process ends before.
    Queued,
}

impl Engine {
    /// Invalidates, and waits until the record is in the log and this node has reached it; at most a second.
    ///
    /// Cancel safe: dropped half-way, the invalidation holds here and goes on to the log.
    pub(crate) async fn invalidate(self: &Arc<Self>, mode: Mode, selectors: Vec<Selector>) -> Invalidated {
        for selector in selectors.iter().filter(|s| s.folded()) {
            self.events.emit(|| Event::Folded { pattern: selector.to_string() });
        }
        let patterns: Vec<String> = selectors.iter().map(ToString::to_string).collect();
        let token = if selectors.is_empty() { Some(None) } else { self.publish(mode, selectors).await };
        self.events.emit(|| Event::Invalidated { mode, patterns, delivered: token.is_some() });
        match token {
            Some(token) => Invalidated { token, state: Delivery::Delivered },
            None => Invalidated { token: None, state: Delivery::Queued },
        }
    }

    /// `None`: queued.
    async fn publish(self: &Arc<Self>, mode: Mode, selectors: Vec<Selector>) -> Option<Option<Epoch>> {
        // The local step first: from here on no read of this process sees what is invalidated.
        let batches = Batch::of(mode, selectors, || self.runtime.random());
        for batch in &batches {
            self.node.invalidate(batch, self.remote.is_some(), self.runtime.now());
        }
        let Some(remote) = &self.remote else { return Some(None) };
        let (done, answer) = oneshot::channel();
        let driver = remote.driver.clone();
        self.runtime.spawn(Box::pin(async move {
            // The caller may be gone; the record is written all the same.
            let author = driver.author();
            let _ = done.send(driver.publish(&batches, &author).await);
        }));
        match within(&*self.runtime, defaults::INVALIDATE_WAIT, answer).await {
            Ok(Ok(Ok(token))) => Some(Some(token)),
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => None,
        }
    }
}
