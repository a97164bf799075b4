//! Publishing: every handler once, here; what they answer as one append of each mode.

use std::collections::HashSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::{Occasion, Reaction, check_name, refresh};
use crate::cache::Cache;
use crate::engine::{Delivery, Invalidated};
use crate::event::Event;
use crate::log::{Epoch, Node};
use crate::selector::Selector;

/// The largest payload, as compact JSON.
const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// What a published occasion has led to.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "handlers may have failed, and what is queued is not known to other nodes yet"]
pub struct Published {
    /// Handlers that ran. Zero: nobody listens to this name.
    pub handlers: usize,
    /// What they failed to do. Everything else was done.
    pub failures: Vec<HandlerFailure>,
    /// What was invalidated; `None`: nothing.
    pub dropped: Option<Effect>,
    /// What was expired, refreshes included; `None`: nothing that was not dropped.
    pub expired: Option<Effect>,
    /// Refreshes that have begun in the background. One that finds a newer value than this occasion loads nothing.
    pub refreshes: usize,
    /// Keys that are left to their next read, because too much was named or is under way. Of the entries in memory no
    /// more than 100,000 are looked at, so there may be more.
    pub left: usize,
    /// See [`token`](Self::token).
    token: Option<Epoch>,
}

/// Selectors, and what became of them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Effect {
    /// What all handlers together named, each once.
    pub selectors: Vec<Selector>,
    /// How far it has come.
    pub invalidated: Invalidated,
}

/// Something that a handler has not done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerFailure {
    /// Which handler of this name, counted from 1 in the order in which they came.
    pub handler: usize,
    /// `panicked`, or what it said.
    pub reason: String,
}

impl Published {
    /// For reads that must see nothing older, on any node: see [`Namespace::at_least`](crate::Namespace::at_least).
    /// `None`: nothing was named, there is no remote tier, or any of it is queued: a token promises all of it.
    pub fn token(&self) -> Option<Epoch> {
        self.token
    }

    /// Is everything that was named in the log, or is there no log to be in?
    pub fn is_delivered(&self) -> bool {
        let mut effects = [&self.dropped, &self.expired].into_iter().flatten();
        effects.all(|effect| effect.invalidated.state == Delivery::Delivered)
    }
}

/// Why nothing was published: no handler has run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Nobody can listen to this name.
    #[error("{name:?} is no name of an event: 1 to 64 letters, digits, `_`, `-` or `.`")]
    Name {
        /// The name.
        name: String,
    },
    /// A payload names what has changed; it does not carry it.
    #[error("the payload is larger than {MAX_PAYLOAD_BYTES} bytes")]
    TooLarge,
}

impl Cache {
    /// Says that something has happened: `publish("points_changed", json!({ "user_id": 7 }))`. Runs every handler of
    /// this name once, here and now, in the order in which they came; a handler that fails takes nothing from the
    /// others. What they answer is joined: one invalidation, one expiry, then the refreshes. Publish after the change is
    /// committed.
    ///
    /// A name without handlers is no error: see [`Published::handlers`].
    ///
    /// Cancel safe: handlers run at the first poll, and what they named holds in this process from there on and goes on
    /// to the log. Refreshes begin after that; dropped before, the entries wait for their next read.
    ///
    /// # Errors
    /// A name that is none, a payload of more than 64 KiB. Then no handler has run.
    pub async fn publish(&self, name: &str, payload: Value) -> Result<Published, PublishError> {
        if check_name(name).is_err() {
            return Err(PublishError::Name { name: name.chars().take(80).collect() });
        }
        if !fits(&payload) {
            return Err(PublishError::TooLarge);
        }
        let (handlers, reaction, failures) = self.ask(&Occasion { name, payload: &payload });
        let refresh = unique(reaction.refresh);
        let drop = unique(reaction.drop);
        let dead: HashSet<&Selector> = drop.iter().collect();
        let stale = reaction.expire.into_iter().chain(refresh.iter().cloned());
        let expire = unique(stale.filter(|selector| !dead.contains(selector)));
        let told = match self.reason.is_empty() {
            true => self.because(&format!("event {name}")),
            false => self.clone(),
        };
        // Together: both hold here from the first poll on.
        let (dropped, expired) = tokio::join!(
            async { if drop.is_empty() { None } else { Some(told.invalidate(drop.iter().cloned()).await) } },
            async { if expire.is_empty() { None } else { Some(told.expire(expire.iter().cloned()).await) } },
        );
        // Not before the log has them: a load that began earlier is too old for it.
        let (refreshes, left) = refresh::refresh(&self.engine, &refresh).await;
        self.engine.events.emit(|| Event::Published {
            occasion: name.to_owned(),
            handlers,
            failures: failures.len(),
            refreshes,
            left,
        });
        let effect = |selectors| move |invalidated| Effect { selectors, invalidated };
        let token = token_of([&dropped, &expired].into_iter().flatten(), &self.engine.node);
        let (dropped, expired) = (dropped.map(effect(drop.clone())), expired.map(effect(expire)));
        Ok(Published { handlers, failures, dropped, expired, refreshes, left, token })
    }

    /// Runs the handlers; answers how many they are, what they want, and what they failed to do.
    fn ask(&self, occasion: &Occasion<'_>) -> (usize, Reaction, Vec<HandlerFailure>) {
        let occasions = &self.engine.occasions;
        // Not under the lock: a handler may listen to something itself.
        let handlers = occasions.of(occasion.name);
        let (mut all, mut failures) = (Reaction::none(), Vec::new());
        for (handler, run) in (1..).zip(&handlers) {
            let mut reaction = catch_unwind(AssertUnwindSafe(|| run(occasion)))
                // Its message went where the process's panic hook sends it.
                .unwrap_or_else(|_| Reaction::failed("panicked"));
            for reason in reaction.failures.drain(..) {
                occasions.failures.fetch_add(1, Ordering::Relaxed);
                self.engine.events.emit(|| Event::HandlerFailed {
                    occasion: occasion.name.to_owned(),
                    handler,
                    reason: reason.clone(),
                });
                failures.push(HandlerFailure { handler, reason });
            }
            all = all.and(reaction);
        }
        (handlers.len(), all, failures)
    }
}

/// The newest of these, if all are delivered.
fn token_of<'a>(all: impl Iterator<Item = &'a Invalidated> + Clone, node: &Node) -> Option<Epoch> {
    if all.clone().any(|one| one.state == Delivery::Queued) {
        return None;
    }
    all.filter_map(|one| one.token).reduce(|newest, token| node.later(token, newest))
}

fn unique(selectors: impl IntoIterator<Item = Selector>) -> Vec<Selector> {
    let mut seen = HashSet::new();
    selectors.into_iter().filter(|selector| seen.insert(selector.clone())).collect()
}

/// Is it small enough? Written to find out, but nowhere.
fn fits(payload: &Value) -> bool {
    struct Room(usize);
    impl io::Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Room(MAX_PAYLOAD_BYTES), payload).is_ok()
}
