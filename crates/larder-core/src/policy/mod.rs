//! How long a handle's entries live, and what happens around a load.

mod adaptive;
pub mod defaults;
mod early;
mod lifetime;
mod share;

use std::time::Duration;

pub(crate) use self::adaptive::{Bounds, Content, learn};
pub(crate) use self::early::{is_due, window};
pub(crate) use self::lifetime::Basis;
pub use self::lifetime::Lifetime;
pub use self::share::Share;
pub(crate) use self::share::Whose;
use crate::codec::Compression;

/// How entries are kept. Small, comparable, combined by its setters.
///
/// ```
/// use larder_core::{Policy, units::HOUR};
/// let policy = Policy::ttl(24 * HOUR).stale_while_revalidate(HOUR);
/// assert_eq!(policy.time_to_live(), 24 * HOUR);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(crate) ttl: Duration,
    pub(crate) stale_while_revalidate: Duration,
    pub(crate) stale_if_error: Duration,
    pub(crate) retry_after: Duration,
    pub(crate) jitter: f64,
    pub(crate) early_refresh: f64,
    pub(crate) adaptive: Option<Bounds>,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) load_timeout: Duration,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) memory_ttl: Option<Duration>,
    pub(crate) min_stored_size: usize,
    pub(crate) max_stored_size: usize,
    pub(crate) max_loads: Option<usize>,
    pub(crate) load_queue: usize,
    pub(crate) lease: bool,
    pub(crate) memory: bool,
    pub(crate) remote: bool,
    pub(crate) replica_lag: Duration,
    pub(crate) compression: Option<Compression>,
    pub(crate) share: Option<Share>,
}

impl Policy {
    /// The ttl of [`Policy::default`].
    pub const DEFAULT_TTL: Duration = Duration::from_secs(5 * 60);
    /// How much of a ttl chance may take away: entries loaded together do not expire together.
    pub const DEFAULT_JITTER: f64 = 0.05;
    /// How long a load that has failed is not tried again, while there is something stale to serve.
    pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);
    /// How many loads may wait for their turn under [`max_loads`](Policy::max_loads).
    pub const DEFAULT_LOAD_QUEUE: usize = 1000;
    /// When a load is cancelled.
    pub const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(30);
    /// The largest value that is stored.
    pub const DEFAULT_MAX_STORED_SIZE: usize = 2 * 1024 * 1024;
    /// The longest ttl and stale window.
    pub const MAX_TTL: Duration = Duration::from_secs(3650 * 24 * 3600);

    /// Entries are fresh for `ttl`, less jitter. Everything else as by default.
    pub fn ttl(ttl: Duration) -> Self {
        Policy {
            ttl,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            retry_after: Self::DEFAULT_RETRY_AFTER,
            jitter: Self::DEFAULT_JITTER,
            early_refresh: 0.0,
            adaptive: None,
            soft_timeout: None,
            load_timeout: Self::DEFAULT_LOAD_TIMEOUT,
            negative_ttl: None,
            memory_ttl: None,
            min_stored_size: 0,
            max_loads: None,
            load_queue: Self::DEFAULT_LOAD_QUEUE,
            lease: true,
            max_stored_size: Self::DEFAULT_MAX_STORED_SIZE,
            memory: true,
            remote: true,
            replica_lag: Duration::ZERO,
            compression: None,
            share: None,
        }
    }

    /// The same policy with another ttl.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The loaders read from replicas that may lag so far behind: a load that began within this time after an
    /// invalidation of its entry is kept only for this time, and never served stale. Default: zero, they read from the
    /// primary.
    pub fn replica_lag(mut self, lag: Duration) -> Self {
        self.replica_lag = lag;
        self
    }

    /// For so long after its ttl an entry is still served, while it is loaded again in the background.
    /// Default: zero, never.
    ///
    /// The windows of this and of [`stale_if_error`](Self::stale_if_error) both begin where the ttl ends; an entry is kept
    /// for the longer of them. Source: RFC 5861, section 3.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = window;
        self
    }

    /// For so long after its ttl an entry is still served when it cannot be loaded: the load fails, takes longer than the
    /// [soft timeout](Self::soft_timeout) or the [load timeout](Self::load_timeout), or is not begun because too many are
    /// under way. What was invalidated is never served, whatever fails. Default: zero, never.
    ///
    /// Source: RFC 5861, section 4.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = window;
        self
    }

    /// For so long after a failed load its key is not loaded again, while there is something stale to serve: in each process,
    /// of each key. Default: 5 s.
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = pause;
        self
    }

    /// Has entries that are read loaded again shortly before they expire, in the background and by chance: with one entry in
    /// many processes, about one of them does it, and nobody waits. The longer the last load took, the earlier. 1 is what theory
    /// recommends, more is earlier, up to 100. Default: 0, never.
    ///
    /// Source: XFetch, Vattani et al., "Optimal Probabilistic Cache Stampede Prevention".
    pub fn early_refresh(mut self, beta: f64) -> Self {
        self.early_refresh = beta;
        self
    }

    /// A ttl that learns, between `least` and `most`: it begins with [`ttl`](Self::ttl); a load that finds the value
    /// unchanged makes it half as long again, one that finds it changed halves it. Changed or not is told by the encoded
    /// value, or as [`content_hash`](crate::Namespace::content_hash) says. What was learned lasts as long as the entry, stale
    /// window included. Default: the ttl is fixed.
    pub fn adaptive_ttl(mut self, least: Duration, most: Duration) -> Self {
        self.adaptive = Some(Bounds { least, most });
        self
    }

    /// For so long a caller waits for a load while there is a stale value for him; then he gets that, and the load goes on and
    /// fills the cache. Matters within the window of [`stale_if_error`](Self::stale_if_error). Default: none, he waits for as
    /// long as the load takes.
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.soft_timeout = Some(limit);
        self
    }

    /// The part of the ttl (0 to 1) that chance may take away; it never adds. Default: 0.05.
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// After so long a load is cancelled, everything it holds is released, and its callers get
    /// [`LoadError::TimedOut`](crate::LoadError::TimedOut). Default: 30 s.
    pub fn load_timeout(mut self, limit: Duration) -> Self {
        self.load_timeout = limit;
        self
    }

    /// How long an answer that says "there is none" is kept: `None` of an `Option` (or what
    /// [`absent`](crate::Namespace::absent) says), 404 and 410. Default: `None` as long as any value, 404 and 410 not at all.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(ttl);
        self
    }

    /// Memory serves an entry for so long at the most, then the remote tier is asked again. Default: as long as it is
    /// fresh.
    pub fn memory_ttl(mut self, cap: Duration) -> Self {
        self.memory_ttl = Some(cap);
        self
    }

    /// Values below so many bytes are returned but not stored: cheaper to load than to keep. Default: 0.
    pub fn min_stored_size(mut self, bytes: usize) -> Self {
        self.min_stored_size = bytes;
        self
    }

    /// In this process at most so many loads of the namespace (or sub-resource) run at one time; others wait for their
    /// turn. Beyond [`load_queue`](Self::load_queue) callers get something stale if there is any, else
    /// [`LoadError::Overloaded`](crate::LoadError::Overloaded). Default: no bound but that on all loads, 100 000.
    pub fn max_loads(mut self, loads: usize) -> Self {
        self.max_loads = Some(loads);
        self
    }

    /// How many loads may wait for their turn under [`max_loads`](Self::max_loads); each for the
    /// [load timeout](Self::load_timeout) at the most. Default: 1000.
    pub fn load_queue(mut self, loads: usize) -> Self {
        self.load_queue = loads;
        self
    }

    /// Loads begin without asking the remote tier for a lease: saves a round trip on each, and every process may load the
    /// same key at the same time. Worth it for loads that take about as long as that. Default: with a lease.
    pub fn without_lease(mut self) -> Self {
        self.lease = false;
        self
    }

    /// Values above so many bytes are returned but not stored. Default: 2 MiB.
    pub fn max_stored_size(mut self, bytes: usize) -> Self {
        self.max_stored_size = bytes;
        self
    }

    /// Entries are compressed in the remote tier: see [`Compression`]. Default: they are not.
    pub fn compress(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// No tenant, user or the like takes more than its part of the cache: see [`Share`]. Handles on one namespace, its
    /// sub-resources and routes too, whose shares are of the same thing count together; each goes by its own bounds.
    /// Default: whoever comes takes what there is.
    ///
    /// What it does not promise: memory holds more than the bound for the moment in which what comes makes room. The remote
    /// tier counts a value until the end of its life, or until it is replaced or removed through the cache: what is evicted
    /// there, swept, or deleted by hand stays counted for as long, and so does a store whose answer was lost.
    pub fn share(mut self, share: Share) -> Self {
        self.share = Some(share);
        self
    }

    /// Entries stay in this process.
    pub fn memory_only(mut self) -> Self {
        self.remote = false;
        self
    }

    /// Entries live in the remote tier only: every read asks it.
    pub fn remote_only(mut self) -> Self {
        self.memory = false;
        self
    }

    /// How long an entry is fresh, before jitter.
    pub fn time_to_live(&self) -> Duration {
        self.ttl
    }

    /// How long after that it may be served stale, for whatever reason.
    pub fn stale_window(&self) -> Duration {
        self.stale_while_revalidate.max(self.stale_if_error)
    }

    /// How long a caller waits for a load while there is a stale value for him.
    pub fn soft_load_timeout(&self) -> Option<Duration> {
        self.soft_timeout
    }

    /// How long a 404 or 410 is kept.
    pub fn negative_time_to_live(&self) -> Option<Duration> {
        self.negative_ttl
    }

    /// The smallest value that is stored, in bytes.
    pub fn smallest_stored_size(&self) -> usize {
        self.min_stored_size
    }

    /// The largest value that is stored, in bytes.
    pub fn largest_stored_size(&self) -> usize {
        self.max_stored_size
    }

    /// When a load is cancelled.
    pub fn load_deadline(&self) -> Duration {
        self.load_timeout
    }

    /// Checks every option, and the options against each other.
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let span = |option, value: Duration, least| {
            if value < least || value > Self::MAX_TTL {
                return Err(PolicyError {
                    option,
                    value: format!("{value:?}"),
                    rule: "between 1 ms and 3650 days",
                });
            }
            Ok(())
        };
        let tick = Duration::from_millis(1);
        span("ttl", self.ttl, tick)?;
        span("stale_while_revalidate", self.stale_while_revalidate, Duration::ZERO)?;
        span("stale_if_error", self.stale_if_error, Duration::ZERO)?;
        span("retry_after", self.retry_after, Duration::ZERO)?;
        span("soft_timeout", self.soft_timeout.unwrap_or(tick), tick)?;
        span("memory_ttl", self.memory_ttl.unwrap_or(tick), tick)?;
        span("load_timeout", self.load_timeout, tick)?;
        span("negative_ttl", self.negative_ttl.unwrap_or(tick), tick)?;
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(PolicyError {
                option: "jitter",
                value: self.jitter.to_string(),
                rule: "a part of the ttl, 0 to 1",
            });
        }
        if !self.memory && !self.remote {
            return Err(PolicyError {
                option: "memory_only, remote_only",
                value: "both".into(),
                rule: "one at the most: together they leave no tier to store in",
            });
        }
        self.check_limits()
    }
}

impl Policy {
    fn check_limits(&self) -> Result<(), PolicyError> {
        let wrong = |option, value: String, rule| Err(PolicyError { option, value, rule });
        if !(0.0..=100.0).contains(&self.early_refresh) {
            return wrong("early_refresh", self.early_refresh.to_string(), "between 0 and 100");
        }
        if let Some(Bounds { least, most }) = self.adaptive
            && (least < Duration::from_millis(1) || least > most || most > Self::MAX_TTL)
        {
            let rule = "a least and a most between 1 ms and 3650 days, the least not above the most";
            return wrong("adaptive_ttl", format!("{least:?}..{most:?}"), rule);
        }
        if let Some(level) = self.compression.and_then(|c| c.bad_level()) {
            return wrong("compress", format!("zstd level {level}"), "a level from 1 to 19");
        }
        if let Some(share) = &self.share {
            share.check(self.memory, self.remote)?;
        }
        if self.max_loads == Some(0) {
            return wrong("max_loads", "0".into(), "at least 1");
        }
        if self.min_stored_size > self.max_stored_size {
            return wrong("min_stored_size", self.min_stored_size.to_string(), "at most max_stored_size");
        }
        if let Some(soft) = self.soft_timeout.filter(|soft| *soft >= self.load_timeout) {
            return wrong("soft_timeout", format!("{soft:?}"), "shorter than load_timeout");
        }
        Ok(())
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::ttl(Self::DEFAULT_TTL)
    }
}

/// An option of a policy that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} is {value}: must be {rule}")]
pub struct PolicyError {
    /// Which option.
    pub option: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it must be.
    pub rule: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_breaks_its_rule_is_named_with_value_and_rule() {
        let error = Policy::ttl(Duration::ZERO).check().unwrap_err();
        assert_eq!(error.to_string(), "ttl is 0ns: must be between 1 ms and 3650 days");
        assert!(Policy::default().jitter(1.5).check().is_err());
        assert!(Policy::default().memory_only().remote_only().check().is_err());
        assert!(Policy::default().check().is_ok());
        let second = Duration::from_secs(1);
        for (option, wrong) in [
            ("early_refresh", Policy::default().early_refresh(f64::NAN)),
            ("adaptive_ttl", Policy::default().adaptive_ttl(2 * second, second)),
            ("max_loads", Policy::default().max_loads(0)),
            ("min_stored_size", Policy::default().min_stored_size(3).max_stored_size(2)),
            ("soft_timeout", Policy::default().soft_timeout(second).load_timeout(second)),
            ("memory_ttl", Policy::default().memory_ttl(Duration::ZERO)),
            ("retry_after", Policy::default().retry_after(Duration::MAX)),
            ("share", Policy::default().share(Share::of_segment(0))),
            ("share", Policy::default().share(Share::of_user().memory(1).remote(0))),
            ("share", Policy::default().memory_only().share(Share::of_user().remote(1))),
            ("share", Policy::default().remote_only().share(Share::of_user().memory(1))),
        ] {
            assert_eq!(wrong.check().unwrap_err().option, option);
        }
    }
}
