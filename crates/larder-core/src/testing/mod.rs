//! For tests: time that stands still, a remote tier with fault switches, an observer that remembers.

pub mod conformance;
mod forward;
mod hashes;
mod inside;
mod recorder;
mod remote;
mod runtime;

#[doc(hidden)]
pub use bytes::Bytes;

/// What [`Remote::wakes`](crate::Remote::wakes) answers.
#[doc(hidden)]
pub type WakeReceiver = tokio::sync::broadcast::Receiver<crate::Wake>;
/// What [`Remote::link`](crate::Remote::link) answers.
#[doc(hidden)]
pub type LinkReceiver = tokio::sync::watch::Receiver<crate::Link>;

pub use self::hashes::fix_hashes;
pub(crate) use self::hashes::{FastState, QualityState};
pub use self::inside::{has_reached, loads_for_others, position, serves};
pub use self::recorder::Recorder;
pub use self::remote::{
    Faults, Happening, LeaseEnd, Path, PathFaults, RedisOptions, TestRedis, TestRemote, Watcher,
};
pub use self::runtime::ManualRuntime;
