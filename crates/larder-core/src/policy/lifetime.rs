//! How long a value lives. Pure: the one formula, and what may change it.
//!
//! ```text
//! fresh_until  = stored + ttl - jitter                          jitter only shortens
//! usable_until = fresh_until + max(stale_while_revalidate, stale_if_error)
//! ```
//! Up to `fresh_until` it is fresh. Then it is stale: served at once while it is loaded again, for
//! `stale_while_revalidate`; after that, up to `usable_until`, only if a load fails or takes too long. An invalidation that
//! is soft puts `fresh_until` to its own moment, if that is earlier; one that is hard ends everything.

use std::time::Duration;

use super::Policy;

/// How long one value lives: `fresh_until = stored + fresh_for`, `usable_until = fresh_until + stale_for`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// How long it is fresh.
    pub fresh_for: Duration,
    /// How long after that it may be served stale, for whatever reason.
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

    /// The life of what may have been read from a replica that lags so far behind: it has no stale window, for nobody knows
    /// whether it was ever fresh.
    pub(crate) fn behind(self, lag: Duration) -> Self {
        Lifetime { fresh_for: self.fresh_for.min(lag), stale_for: Duration::ZERO }
    }
}

/// What is known of a value when its life is decided.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Basis {
    /// Its loader, or whoever puts it, gives it a ttl of its own.
    pub(crate) own: Option<Duration>,
    /// It says "there is none".
    pub(crate) absent: bool,
    /// What its reloads have taught.
    pub(crate) learned: Option<Duration>,
}

impl Policy {
    /// The life of a value that is stored now: its own ttl, else the negative one, else the learned one, else the policy's.
    /// `chance` is 64 random bits.
    pub(crate) fn life(&self, basis: Basis, chance: u64) -> Lifetime {
        let negative = self.negative_ttl.filter(|_| basis.absent);
        let ttl = basis.own.or(negative).or(basis.learned).unwrap_or(self.ttl).min(Self::MAX_TTL);
        Lifetime::new(ttl, self.stale_window(), self.jitter, chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn span() -> impl Strategy<Value = Duration> {
        (0_u64..10_000_000_000).prop_map(Duration::from_millis)
    }

    prop_compose! {
        /// Every option that has a say in a lifetime, each on or off.
        fn any_policy()(
            ttl in span(), revalidate in span(), on_error in span(), jitter in 0.0..=1.0_f64,
            negative in prop::option::of(span()), cap in prop::option::of(span()),
        ) -> Policy {
            let policy = Policy::ttl(ttl.max(MS)).stale_while_revalidate(revalidate).stale_if_error(on_error).jitter(jitter);
            let policy = match negative { Some(ttl) => policy.negative_ttl(ttl.max(MS)), None => policy };
            match cap { Some(cap) => policy.memory_ttl(cap.max(MS)), None => policy }
        }
    }

    proptest! {
        #[test]
        fn the_formula_of_lifetimes_holds_for_every_combination_of_options(
            policy in any_policy(), own in prop::option::of(span()), absent: bool,
            learned in prop::option::of(span()), chance: u64,
        ) {
            prop_assert!(policy.check().is_ok());
            let life = policy.life(Basis { own, absent, learned }, chance);
            let ttl = match (own, policy.negative_ttl, learned) {
                (Some(own), ..) => own,
                (None, Some(negative), _) if absent => negative,
                (None, _, Some(learned)) => learned,
                (None, ..) => policy.ttl,
            };
            prop_assert!(life.fresh_for <= ttl, "jitter only shortens");
            let least = ttl.as_secs_f64() * (1.0 - policy.jitter) - 1e-6;
            prop_assert!(life.fresh_for.as_secs_f64() >= least, "and by its part at the most");
            let windows = policy.stale_while_revalidate.max(policy.stale_if_error);
            prop_assert_eq!(life.total(), life.fresh_for + windows, "the longer window, not their sum, and no jitter in it");
        }

        #[test]
        fn what_a_lagging_replica_gave_is_kept_for_the_lag_and_never_stale(policy in any_policy(), lag in span(), chance: u64) {
            let life = policy.life(Basis::default(), chance);
            let kept = life.behind(lag);
            prop_assert!(kept.fresh_for <= lag && kept.fresh_for <= life.fresh_for);
            prop_assert_eq!(kept.stale_for, Duration::ZERO);
        }
    }
}
