//! For tests: time that stands still, a remote tier with fault switches, an observer that remembers.

pub mod conformance;
mod recorder;
mod remote;
mod runtime;

pub use self::recorder::Recorder;
pub use self::remote::{Faults, TestRemote};
pub use self::runtime::ManualRuntime;
