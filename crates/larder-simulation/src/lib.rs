//! Many nodes of Larder's engine on virtual time and a simulated Redis, seed by seed, with an oracle.
#![allow(clippy::unwrap_used, reason = "placeholder")]

mod application;
mod chance;
mod counts;
mod database;
mod ending;
mod executor;
mod faults;
mod oracle;
mod plan;
mod site;
mod trace;
mod world;

use std::time::Duration;

pub use self::counts::Counts;

/// Lines of the story that a failure is told with.
const STORY: usize = 120;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What all that happened amounts to: the same in every run of the seed.
    pub hash: u64,
    /// How long it was, in its own time.
    pub lasted: Duration,
    /// What happened how often.
    pub counts: Counts,
    /// The promise that was broken.
    pub violation: Option<Violation>,
    /// All that happened, if it was traced.
    pub story: String,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub what: String,
    /// How it came to that: the last events of the row, if the run was traced.
    pub story: String,
}

/// Runs one seed. `traced`: with its story, which takes a while longer and changes nothing.
pub fn run(seed: u64, traced: bool) -> Outcome {
    larder_core::testing::fix_hashes();
    world::run(seed, traced)
}
