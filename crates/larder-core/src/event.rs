//! What happens, named: every event as a `tracing` event, and to whoever observes.

use std::sync::Arc;
use std::time::Duration;

use crate::key::Key;
use crate::log::{LogState, Mode};
use crate::outcome::{Outcome, SkipReason, Tier};
use crate::remote::BreakerState;

/// Something that happened in the engine. Names are stable; see `docs/reference/events.md`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A read has its answer. Only emitted while somebody listens at debug level.
    Read {
        /// Which key.
        key: Key,
        /// How it was answered.
        outcome: Outcome,
        /// From which tier, if from one.
        tier: Option<Tier>,
        /// How old the answer is.
        age: Duration,
    },
    /// A loaded value was not stored, or a request was not cached at all.
    Skip {
        /// Which key, as far as it is known.
        key: String,
        /// Why.
        reason: SkipReason,
    },
    /// A load failed.
    LoadFailed {
        /// Which key.
        key: Key,
        /// `loader`, `panicked`, `timed_out`, `overloaded`.
        reason: &'static str,
        /// What it said.
        message: String,
    },
    /// A load is past its deadline and still runs: it blocks its thread. Those who waited for it were let go.
    LoadOverdue {
        /// Which key.
        key: Key,
        /// How long past its deadline.
        late: Duration,
    },
    /// A lease has passed to somebody else while its load runs here: that key is loaded twice.
    LeaseLost {
        /// Which key.
        key: Key,
    },
    /// A value could not be stored remotely. The caller has it all the same.
    StoreError {
        /// Which key.
        key: Key,
        /// Why.
        error: String,
    },
    /// Bytes in the remote tier were no entry for this node: a miss.
    Rejected {
        /// Which key.
        key: Key,
        /// [`Reject::as_str`](crate::Reject::as_str).
        reason: &'static str,
    },
    /// An invalidation was made here.
    Invalidated {
        /// Hard or soft.
        mode: Mode,
        /// What it named.
        patterns: Vec<String>,
        /// Is it in the log, or queued?
        delivered: bool,
    },
    /// What was invalidated has been freed, or as much of it as could be.
    Swept {
        /// What the invalidation named.
        patterns: Vec<String>,
        /// Entries freed in this process.
        memory: u64,
        /// Values freed in the remote tier.
        remote: u64,
        /// Why it has stopped half-way; `None`: it came to its end. What is left is dead, and goes with its ttl.
        error: Option<String>,
    },
    /// A pattern was wider than written: it folded to a subtree.
    Folded {
        /// The text.
        written: String,
        /// What it became.
        pattern: String,
    },
    /// More invalidations wait for the log than may: they have become one of everything, which other nodes will hear.
    QueueOverflowed,
    /// The remote tier is connected.
    RemoteConnected {
        /// Which.
        remote: String,
    },
    /// The remote tier is out of reach.
    RemoteConnectionFailed {
        /// Which.
        remote: String,
        /// Why.
        error: String,
    },
    /// The cache starts, or goes on, without its remote tier.
    LocalOnly {
        /// Why.
        reason: String,
    },
    /// The breaker has changed.
    Breaker {
        /// From this.
        from: BreakerState,
        /// To this.
        to: BreakerState,
    },
    /// This node stands otherwise to the log.
    LogState {
        /// From this.
        from: LogState,
        /// To this.
        to: LogState,
    },
    /// The log does not do as asked, or does again. Once when that changes, not once per attempt.
    LogTrouble {
        /// What was asked: `round` (to read it) or `append` (to add an invalidation).
        asked: &'static str,
        /// Why not; `None`: it does again.
        error: Option<String>,
    },
    /// Part of the log went by unseen: what cannot be verified is a miss.
    Gap {
        /// How it was noticed.
        reason: &'static str,
    },
    /// The service has published an occasion.
    Published {
        /// Its name.
        occasion: String,
        /// How many handlers ran.
        handlers: usize,
        /// How much they failed to do.
        failures: usize,
        /// How many loads have begun.
        refreshes: usize,
        /// How many more there were.
        left: usize,
    },
    /// A cached function cannot be cached in this cache: its body runs at every call. Once for each function.
    Misconfigured {
        /// Which, and where it stands.
        function: String,
        /// Why.
        reason: String,
    },
    /// A handler has panicked, or could not do all it should.
    HandlerFailed {
        /// What was published.
        occasion: String,
        /// Its place among the handlers of this name, counted from 1.
        handler: usize,
        /// `panicked`, or what it said.
        reason: String,
    },
}

impl Event {
    /// The event's name.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Read { outcome: Outcome::Hit | Outcome::Coalesced, .. } => "cache_hit",
            Event::Read { outcome: Outcome::Miss, .. } => "cache_miss_stored",
            Event::Read { outcome: Outcome::Stale, .. } => "cache_stale",
            Event::Read { outcome: Outcome::Bypass, .. } => "cache_bypass",
            Event::Read { outcome: Outcome::Skip, .. } | Event::Skip { .. } => "cache_skip",
            Event::LoadFailed { .. } => "cache_load_failed",
            Event::LoadOverdue { .. } => "cache_load_overdue",
            Event::LeaseLost { .. } => "cache_lease_lost",
            Event::StoreError { .. } => "cache_store_error",
            Event::Rejected { .. } => "cache_rejected",
            Event::Invalidated { .. } => "cache_invalidated",
            Event::Swept { .. } => "cache_swept",
            Event::Folded { .. } => "cache_pattern_folded",
            Event::QueueOverflowed => "cache_queue_overflowed",
            Event::RemoteConnected { .. } => "cache_redis_connected",
            Event::RemoteConnectionFailed { .. } => "cache_redis_connection_failed",
            Event::LocalOnly { .. } => "cache_local_only",
            Event::Breaker { .. } => "cache_breaker",
            Event::LogState { .. } => "cache_log_state",
            Event::LogTrouble { .. } => "cache_log_trouble",
            Event::Gap { .. } => "cache_gap",
            Event::Misconfigured { .. } => "cache_misconfigured",
            Event::Published { .. } => "cache_published",
            Event::HandlerFailed { .. } => "cache_handler_failed",
        }
    }
}

/// Is told what happens. Called where it happens: be quick, never block.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn on_event(&self, event: &Event);

    /// Does it want [`Event::Read`], which there is one of per read? Default: no.
    fn wants_reads(&self) -> bool {
        false
    }
}

/// Tells everybody.
#[derive(Default)]
pub(crate) struct Events {
    observers: Vec<Arc<dyn Observer>>,
    reads_wanted: bool,
}

impl Events {
    pub(crate) fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        let reads_wanted = observers.iter().any(|o| o.wants_reads());
        Events { observers, reads_wanted }
    }

    /// A read's event, if anybody listens.
    #[inline]
    pub(crate) fn read(&self, event: impl FnOnce() -> Event) {
        if self.reads_wanted || tracing::enabled!(target: "larder", tracing::Level::DEBUG) {
            self.emit(event);
        }
    }

    #[cold]
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        let event = event();
        trace(&event);
        for observer in &self.observers {
            if !matches!(event, Event::Read { .. }) || observer.wants_reads() {
                observer.on_event(&event);
            }
        }
    }
}

fn trace(event: &Event) {
    macro_rules! say {
        ($level:ident, $($field:tt)*) => { tracing::$level!(target: "larder", event = event.name(), $($field)*) };
    }
    match event {
        Event::Read { key, outcome, tier, age } => {
            let tier = tier.map_or("", Tier::as_str);
            say!(debug, %key, outcome = outcome.as_str(), tier, age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        }
        Event::Skip { key, reason } => {
            if reason.is_mistake() {
                say!(error, key, reason = reason.as_str());
            } else {
                say!(debug, key, reason = reason.as_str());
            }
        }
        // Of these there are as many as requests; they are counted.
        Event::LoadFailed { key, reason: "overloaded", message } => {
            say!(debug, %key, reason = "overloaded", message);
        }
        Event::LoadFailed { key, reason, message } => say!(warn, %key, reason, message),
        Event::LoadOverdue { key, late } => {
            say!(warn, %key, late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX));
        }
        Event::LeaseLost { key } => say!(warn, %key),
        Event::StoreError { key, error } => say!(warn, %key, error),
        Event::Rejected { key, reason } => say!(warn, %key, reason),
        Event::Invalidated { mode, patterns, delivered } => {
            say!(info, mode = mode.as_str(), ?patterns, delivered);
        }
        Event::Swept { patterns, memory, remote, error: None } => {
            say!(info, ?patterns, memory, remote, complete = true);
        }
        Event::Swept { patterns, memory, remote, error: Some(error) } => {
            say!(warn, ?patterns, memory, remote, complete = false, error);
        }
        Event::Folded { written, pattern } => {
            say!(warn, written, pattern, "a `*` inside a pattern widens it to the subtree before");
        }
        Event::QueueOverflowed => {
            say!(warn, "more invalidations wait for the log than may: everything is invalidated instead");
        }
        Event::RemoteConnected { remote } => say!(info, remote),
        Event::RemoteConnectionFailed { remote, error } => say!(warn, remote, error),
        Event::LocalOnly { reason } => say!(warn, reason),
        Event::Breaker { from, to } => say!(warn, from = from.as_str(), to = to.as_str()),
        Event::LogState { from, to } => say!(info, from = from.as_str(), to = to.as_str()),
        Event::LogTrouble { asked, error: Some(error) } => say!(warn, asked, error),
        Event::LogTrouble { asked, error: None } => say!(info, asked, "the log does as asked again"),
        Event::Gap { reason } => say!(warn, reason),
        Event::Misconfigured { function, reason } => say!(error, function, reason),
        Event::Published { occasion, handlers, failures, refreshes, left } => {
            say!(info, occasion, handlers, failures, refreshes, left);
        }
        Event::HandlerFailed { occasion, handler, reason } => say!(warn, occasion, handler, reason),
    }
}
