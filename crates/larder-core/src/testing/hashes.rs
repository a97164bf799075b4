//! Hashes that are the same in every process, for tests whose runs must be repeatable.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};

static FIXED: AtomicBool = AtomicBool::new(false);

/// From now on hashes do not differ from process to process. To be called before anything else of this crate: what was
/// hashed already stays as it is.
pub fn fix_hashes() {
    FIXED.store(true, Ordering::Release);
}

macro_rules! state {
    ($name:ident, $of:ident) => {
        #[doc = concat!("`foldhash::", stringify!($of), "::RandomState`, unless hashes are fixed.")]
        #[derive(Clone)]
        pub(crate) struct $name(foldhash::$of::SeedableRandomState);

        impl Default for $name {
            fn default() -> Self {
                use foldhash::$of::SeedableRandomState as State;
                $name(if FIXED.load(Ordering::Acquire) { State::fixed() } else { State::random() })
            }
        }

        impl BuildHasher for $name {
            type Hasher = foldhash::$of::FoldHasher<'static>;

            #[inline]
            fn build_hasher(&self) -> Self::Hasher {
                self.0.build_hasher()
            }
        }
    };
}

state!(FastState, fast);
state!(QualityState, quality);
