//! A ttl that learns: what is found unchanged when it is loaded again is kept for longer, what has changed for less.

use std::time::Duration;

/// What is remembered of a load for the next one of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// Of the value's encoded form.
    pub(crate) hash: u64,
    /// The ttl it was given, before jitter.
    pub(crate) ttl: Duration,
}

/// The bounds of a ttl that learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) least: Duration,
    pub(crate) most: Duration,
}

/// The ttl of content with this `hash`: half as long again if the last load found the same, half if it did not, `first` if
/// there was none.
pub(crate) fn learn(last: Option<Content>, hash: u64, first: Duration, bounds: Bounds) -> Content {
    let ttl = match last {
        None => first,
        Some(last) if last.hash == hash => last.ttl.saturating_mul(3) / 2,
        Some(last) => last.ttl / 2,
    };
    Content { hash, ttl: ttl.clamp(bounds.least, bounds.most) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_ttl_grows_while_nothing_changes_shrinks_when_it_does_and_stays_within_its_bounds(
            first in 1_u64..1_000_000, least in 1_u64..10_000, more in 0_u64..1_000_000,
            changes in prop::collection::vec(any::<bool>(), 0..60),
        ) {
            let ms = Duration::from_millis;
            let bounds = Bounds { least: ms(least), most: ms(least + more) };
            let mut last = learn(None, 0, ms(first), bounds);
            prop_assert_eq!(last.ttl, ms(first).clamp(bounds.least, bounds.most));
            for changed in changes {
                let next = learn(Some(last), last.hash + u64::from(changed), ms(first), bounds);
                prop_assert!((bounds.least..=bounds.most).contains(&next.ttl));
                match changed {
                    true => prop_assert!(next.ttl < last.ttl || last.ttl == bounds.least),
                    false => prop_assert!(next.ttl > last.ttl || last.ttl == bounds.most),
                }
                last = next;
            }
        }
    }
}
