//! Keeps reads away from a remote tier that does not answer: after some failures in a row nobody asks it for a while,
//! then exactly one call may try.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::policy::defaults;
use crate::runtime::Moment;

/// When the breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Failures in a row that open it; at least 1. Default: 5.
    pub failures: u32,
    /// How long it stays open before one call may try. Default: 30 s.
    pub open_for: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        BreakerOptions { failures: defaults::BREAKER_FAILURES, open_for: defaults::BREAKER_OPEN }
    }
}

/// What the breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// One call.
    HalfOpen,
}

impl BreakerState {
    /// The name in events, metrics and health.
    pub const fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

type OnChange = Box<dyn Fn(BreakerState, BreakerState) + Send + Sync>;

/// The breaker. While it is closed a call costs one atomic load; while it is open, one more.
pub(crate) struct Breaker {
    options: BreakerOptions,
    /// Zero: closed. Else the moment from which one call may try.
    open_until: AtomicU64,
    inner: Mutex<Inner>,
    on_change: OnChange,
}

#[derive(Default)]
struct Inner {
    failures: u32,
    probing: bool,
}

/// Leave to make one call. Say how it went; dropped without a word it counts as neither.
pub(crate) struct Permit<'a> {
    breaker: &'a Breaker,
    probe: bool,
    told: bool,
}

impl Breaker {
    pub(crate) fn new(
        options: BreakerOptions,
        on_change: impl Fn(BreakerState, BreakerState) + Send + Sync + 'static,
    ) -> Self {
        Breaker {
            options,
            open_until: AtomicU64::new(0),
            inner: Mutex::default(),
            on_change: Box::new(on_change),
        }
    }

    /// May a call be made now?
    pub(crate) fn permit(&self, now: Moment) -> Option<Permit<'_>> {
        let until = self.open_until.load(Ordering::Acquire);
        if until == 0 {
            return Some(Permit { breaker: self, probe: false, told: false });
        }
        if now.as_nanos() < until {
            return None;
        }
        let mut inner = self.inner.lock();
        if self.open_until.load(Ordering::Acquire) == 0 {
            return Some(Permit { breaker: self, probe: false, told: false });
        }
        if inner.probing {
            return None;
        }
        inner.probing = true;
        drop(inner);
        (self.on_change)(BreakerState::Open, BreakerState::HalfOpen);
        Some(Permit { breaker: self, probe: true, told: false })
    }

    pub(crate) fn state(&self) -> BreakerState {
        let inner = self.inner.lock();
        match (self.open_until.load(Ordering::Acquire), inner.probing) {
            (0, _) => BreakerState::Closed,
            (_, true) => BreakerState::HalfOpen,
            (_, false) => BreakerState::Open,
        }
    }

    /// A new connection is a reason not to wait for the end of the pause.
    pub(crate) fn probe_now(&self) {
        let _ = self
            .open_until
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |until| (until != 0).then_some(1));
    }

    /// A call has gone well: closes the breaker.
    pub(crate) fn succeeded(&self) {
        // The usual case takes no lock that matters: nothing to reset.
        let mut inner = self.inner.lock();
        inner.failures = 0;
        let was_probing = std::mem::take(&mut inner.probing);
        let was = self.open_until.swap(0, Ordering::AcqRel);
        drop(inner);
        if was != 0 {
            let from = if was_probing { BreakerState::HalfOpen } else { BreakerState::Open };
            (self.on_change)(from, BreakerState::Closed);
        }
    }

    fn failed(&self, probe: bool, now: Moment) {
        let mut inner = self.inner.lock();
        inner.failures = inner.failures.saturating_add(1);
        let open = self.open_until.load(Ordering::Acquire) != 0;
        let opens = if probe { true } else { !open && inner.failures >= self.options.failures };
        if !opens {
            return;
        }
        if probe {
            inner.probing = false;
        }
        let until = now.plus(self.options.open_for).as_nanos().max(1);
        self.open_until.store(until, Ordering::Release);
        drop(inner);
        let from = if probe { BreakerState::HalfOpen } else { BreakerState::Closed };
        (self.on_change)(from, BreakerState::Open);
    }
}

impl Permit<'_> {
    pub(crate) fn succeeded(mut self) {
        self.told = true;
        self.breaker.succeeded();
    }

    pub(crate) fn failed(mut self, now: Moment) {
        self.told = true;
        self.breaker.failed(self.probe, now);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.told && self.probe {
            // The caller went away mid-call: the next one may try.
            self.breaker.inner.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn breaker() -> (Breaker, Arc<Mutex<Vec<BreakerState>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let options = BreakerOptions { failures: 3, open_for: Duration::from_secs(30) };
        let log = seen.clone();
        (Breaker::new(options, move |_, to| log.lock().push(to)), seen)
    }

    const T0: Moment = Moment::ORIGIN;

    fn fail(breaker: &Breaker, now: Moment) {
        breaker.permit(now).unwrap().failed(now);
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_not_before() {
        let (breaker, seen) = breaker();
        fail(&breaker, T0);
        fail(&breaker, T0);
        breaker.permit(T0).unwrap().succeeded();
        fail(&breaker, T0);
        fail(&breaker, T0);
        assert_eq!(breaker.state(), BreakerState::Closed);
        fail(&breaker, T0);
        assert!(breaker.permit(T0).is_none());
        assert_eq!(*seen.lock(), [BreakerState::Open]);
    }

    #[test]
    fn after_the_pause_exactly_one_call_may_try_and_its_outcome_decides() {
        let (breaker, seen) = breaker();
        (0..3).for_each(|_| fail(&breaker, T0));
        let later = T0.plus(Duration::from_secs(30));
        let probe = breaker.permit(later).unwrap();
        assert!(breaker.permit(later).is_none());
        probe.failed(later);
        assert!(breaker.permit(later).is_none());
        let later = later.plus(Duration::from_secs(30));
        breaker.permit(later).unwrap().succeeded();
        assert!(breaker.permit(later).is_some());
        use BreakerState::{Closed, HalfOpen, Open};
        assert_eq!(*seen.lock(), [Open, HalfOpen, Open, HalfOpen, Closed]);
    }

    #[test]
    fn a_probe_whose_caller_goes_away_leaves_its_place_to_the_next() {
        let (breaker, _) = breaker();
        (0..3).for_each(|_| fail(&breaker, T0));
        let later = T0.plus(Duration::from_secs(30));
        drop(breaker.permit(later).unwrap());
        assert!(breaker.permit(later).is_some());
    }
}
