//! How long a handle's entries live, and what happens around a load.

use std::time::Duration;

use crate::codec::Compression;
use crate::units::{DAY, MINUTE, SECOND};

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
    pub(crate) jitter: f64,
    pub(crate) load_timeout: Duration,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) max_stored_size: usize,
    pub(crate) memory: bool,
    pub(crate) remote: bool,
    pub(crate) replica_lag: Duration,
    pub(crate) compression: Option<Compression>,
}

impl Policy {
    /// The ttl of [`Policy::default`].
    pub const DEFAULT_TTL: Duration = Duration::from_secs(5 * 60);
    /// How much of a ttl chance may take away: entries loaded together do not expire together.
    pub const DEFAULT_JITTER: f64 = 0.05;
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
            jitter: Self::DEFAULT_JITTER,
            load_timeout: Self::DEFAULT_LOAD_TIMEOUT,
            negative_ttl: None,
            max_stored_size: Self::DEFAULT_MAX_STORED_SIZE,
            memory: true,
            remote: true,
            replica_lag: Duration::ZERO,
            compression: None,
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
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = window;
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

    /// How long an answer that says "there is none" (404, 410) is kept. Default: not at all.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(ttl);
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

    /// How long after that it may be served stale.
    pub fn stale_window(&self) -> Duration {
        self.stale_while_revalidate
    }

    /// How long a 404 or 410 is kept.
    pub fn negative_time_to_live(&self) -> Option<Duration> {
        self.negative_ttl
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
        span("load_timeout", self.load_timeout, tick)?;
        span("negative_ttl", self.negative_ttl.unwrap_or(tick), tick)?;
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(PolicyError {
                option: "jitter",
                value: self.jitter.to_string(),
                rule: "a part of the ttl, 0 to 1",
            });
        }
        if let Some(level) = self.compression.and_then(|c| c.bad_level()) {
            return Err(PolicyError {
                option: "compress",
                value: format!("zstd level {level}"),
                rule: "a level from 1 to 19",
            });
        }
        if !self.memory && !self.remote {
            return Err(PolicyError {
                option: "memory_only, remote_only",
                value: "both".into(),
                rule: "one at the most: together they leave no tier to store in",
            });
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

/// How long one value lives: `fresh_until = stored + fresh_for`, `usable_until = fresh_until + stale_for`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// How long it is fresh.
    pub fresh_for: Duration,
    /// How long after that it may be served stale.
    pub stale_for: Duration,
}

impl Lifetime {
    /// `ttl` less jitter, which is at most `jitter` of it. `chance` is 64 random bits.
    pub fn new(ttl: Duration, stale_for: Duration, jitter: f64, chance: u64) -> Self {
        // 53 bits: a fraction below one, exactly.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let fraction = (chance >> 11) as f64 / (1_u64 << 53) as f64;
        Lifetime { fresh_for: ttl.saturating_sub(ttl.mul_f64(jitter * fraction)), stale_for }
    }

    /// How long a remote tier has to keep the value.
    pub fn total(&self) -> Duration {
        self.fresh_for.saturating_add(self.stale_for)
    }
}

/// Defaults that are no part of a policy; here so that they stand together.
pub mod defaults {
    use super::{DAY, Duration, MINUTE, SECOND};

    /// How long a read waits for the remote tier, over all its calls.
    pub const REMOTE_BUDGET: Duration = Duration::from_millis(100);
    /// How many failures in a row open the breaker.
    pub const BREAKER_FAILURES: u32 = 5;
    /// How long an open breaker stays open before one call may try again.
    pub const BREAKER_OPEN: Duration = Duration::from_secs(30);
    /// The memory tier's bound, in bytes.
    pub const MEMORY: u64 = 256 * 1024 * 1024;
    /// How long `invalidate` waits for the remote tier before it answers `Queued`.
    pub const INVALIDATE_WAIT: Duration = SECOND;
    /// How long `build` waits for the remote tier before it starts without.
    pub const START_WAIT: Duration = SECOND;
    /// How long a node that hears nothing of the log goes on serving what it cannot verify.
    pub const DISCONNECTED_TTL: Duration = Duration::from_secs(60);
    /// How long a read that names a token waits for this node to reach it.
    pub const ARRIVAL_WAIT: Duration = Duration::from_millis(500);
    /// How many selectors one generation of the local stamp table holds.
    pub const STAMP_LIMIT: usize = 65_536;
    /// How long a key whose answer may not be shared is remembered.
    pub const UNCACHEABLE_FOR: Duration = Duration::from_secs(5);
    /// Refreshes that run in the background at one time.
    pub const BACKGROUND_REFRESHES: usize = 256;
    /// Stores to the remote tier under way at one time, and the bytes they may hold.
    pub const BACKGROUND_STORES: usize = 1024;
    /// See [`BACKGROUND_STORES`].
    pub const BACKGROUND_STORE_BYTES: usize = 64 * 1024 * 1024;
    /// How long Redis keeps the state of a log that nobody touches.
    pub const LOG_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
    const _: () = assert!(LOG_LIFE.as_secs() == 30 * DAY.as_secs() && MINUTE.as_secs() == 60);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn jitter_only_shortens_and_never_by_more_than_its_part(
            ttl_ms in 1_u64..10_000_000_000, stale_ms in 0_u64..10_000_000_000, jitter in 0.0..=1.0_f64, chance: u64,
        ) {
            let (ttl, stale) = (Duration::from_millis(ttl_ms), Duration::from_millis(stale_ms));
            let life = Lifetime::new(ttl, stale, jitter, chance);
            prop_assert!(life.fresh_for <= ttl);
            prop_assert!(life.fresh_for.as_secs_f64() >= ttl.as_secs_f64() * (1.0 - jitter) - 1e-6);
            prop_assert_eq!(life.total(), life.fresh_for + stale);
        }
    }

    #[test]
    fn an_option_that_breaks_its_rule_is_named_with_value_and_rule() {
        let error = Policy::ttl(Duration::ZERO).check().unwrap_err();
        assert_eq!(error.to_string(), "ttl is 0ns: must be between 1 ms and 3650 days");
        assert!(Policy::default().jitter(1.5).check().is_err());
        assert!(Policy::default().memory_only().remote_only().check().is_err());
        assert!(Policy::default().check().is_ok());
    }
}
