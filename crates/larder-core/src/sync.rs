//! What threads meet at: locks, atomics, notifications; and the seeds of hashes.
//!
//! In a build with `--cfg larder_shuttle` each of them is a point at which Shuttle may go on with another thread, and
//! hashes have fixed seeds, so that a schedule that fails can be run again. `interleavings` has the tests.
//!
//! Counters for people (`stats`), the coarse clock and the breaker are left out: no answer depends on their order, and
//! every point more makes the others rarer.

#[cfg(not(larder_shuttle))]
mod here {
    pub(crate) use std::sync::{OnceLock, atomic};

    #[cfg(not(feature = "testing"))]
    pub(crate) use foldhash::fast::RandomState as FastHash;
    #[cfg(not(feature = "testing"))]
    pub(crate) use foldhash::quality::RandomState as SoundHash;
    pub(crate) use parking_lot::{Mutex, RwLock};
    pub(crate) use tokio::sync::Notify;

    #[cfg(feature = "testing")]
    pub(crate) use crate::testing::{FastState as FastHash, QualityState as SoundHash};
}

#[cfg(larder_shuttle)]
#[path = "sync/explored.rs"]
mod here;

pub(crate) use self::here::{FastHash, Mutex, Notify, OnceLock, RwLock, SoundHash, atomic};
