//! Early refresh: an entry that is read all the time is loaded again before it expires, by chance, the likelier the longer
//! its load took and the nearer its end. So the end comes while nobody waits, and many nodes do not meet there.
//!
//! XFetch, from "Optimal Probabilistic Cache Stampede Prevention" (Vattani, Chierichetti, Lowenstein, 2015).

use std::time::Duration;

/// A draw lies above this many times `cost * beta` once in 60,000: no need to draw before that.
const WINDOW: f64 = 11.0;

/// So long before the end of its fresh life a draw is worth while.
pub(crate) fn window(cost: Duration, beta: f64) -> Duration {
    seconds(cost.as_secs_f64() * beta * WINDOW)
}

/// Is an entry that stays fresh for `left`, and whose load took `cost`, to be refreshed now? `chance` is 64 random bits.
pub(crate) fn is_due(left: Duration, cost: Duration, beta: f64, chance: u64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let fraction = ((chance >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
    left <= seconds(cost.as_secs_f64() * beta * -fraction.ln())
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COST: Duration = Duration::from_millis(100);

    /// How many of 10,000 draws refresh with so much left.
    fn refreshes(left: Duration, cost: Duration, beta: f64) -> usize {
        let mut random = fastrand::Rng::with_seed(7);
        (0..10_000).filter(|_| is_due(left, cost, beta, random.u64(..))).count()
    }

    #[test]
    fn the_nearer_the_end_and_the_dearer_the_load_the_likelier_a_refresh() {
        // P(refresh) = exp(-left / (cost * beta))
        let near = |count: usize, part: f64| (count as f64 / 10_000.0 - part).abs() < 0.02;
        assert_eq!(refreshes(Duration::ZERO, COST, 1.0), 10_000);
        assert!(near(refreshes(COST, COST, 1.0), (-1.0_f64).exp()));
        assert!(near(refreshes(COST * 3, COST, 1.0), (-3.0_f64).exp()));
        assert!(near(refreshes(COST * 3, COST, 3.0), (-1.0_f64).exp()));
        assert_eq!(refreshes(Duration::from_secs(3600), COST, 1.0), 0);
    }

    proptest! {
        #[test]
        fn outside_of_the_window_next_to_nothing_is_due(cost_ms in 0_u64..100_000, beta in 0.0..10.0_f64, chance: u64) {
            let cost = Duration::from_millis(cost_ms);
            let before = window(cost, beta) + Duration::from_millis(1);
            // One draw in 60,000: those are the smallest.
            prop_assert!(chance >> 48 == 0 || !is_due(before, cost, beta, chance));
        }
    }
}
