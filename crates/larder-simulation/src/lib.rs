//! Many nodes of Larder's engine, seed by seed, on virtual time and a simulated Redis, with an oracle that knows the guarantee.
//!
//! ```text
//! cargo xtask simulate --seeds 2000            run them; fails if a promise is broken, or too little happened
//! cargo xtask simulate --seed 1234 --trace     one of them again, exactly, with all that happened
//! cargo xtask simulate --mutants               break the engine on purpose, one way at a time: each must be caught
//! ```
//!
//! # What a run is
//! A seed decides a plan (`plan`: 2 to 20 nodes, policies, bounds, which faults there are and how many), and then writes its
//! script as it goes (`world`): some 500 operations of an application (`application`) in some minutes of virtual time, and
//! between them faults (`faults`). At the end all faults stop, and everything must find back by itself (`ending`).
//!
//! - **The engine is the real one**: [`larder_core::Cache`] as it ships, one for each process, with its own tasks and timers, on
//!   a runtime of ours (`executor`). One thread runs everything. Of the tasks that are ready the seed picks the next; timers
//!   fire by virtual time. A process can stand still (its tasks are not polled, its clock goes on) and die (its tasks are
//!   dropped where they stand). What it sent is on its way all the same.
//! - **The server is simulated** ([`larder_core::testing::TestRedis`]): values, the log's scripts line by line, a replica that
//!   lags, failovers that lose the end, a deposed primary that goes on answering, evictions, a clock that can be stepped. Each
//!   node has its own ways to it, one for values, one for the log, one for following it, each with its own faults.
//! - **The database** has rows with versions (`database`). A load reads its row at some point of the time that it takes, and may
//!   fail, panic or hang. What is cached says which load it came from; its tags are those of the version, known only then.
//! - **The oracle** (`oracle`) numbers what happens: calls, returns, beginnings of loads and reads. Of a value that a read returns
//!   it asks: which calls that name it were in force here when the read began, by (a), (b), (c) of the guarantee, and did its
//!   load begin before the last of them? What is outside the guarantee is said there, each with the protocol's words.
//!   It also holds that nothing is called fresh, or served, beyond its time; that Redis never replaces a load by an earlier
//!   one; that hits are frequent; that at the end all nodes have caught up, what living processes have called is in force
//!   everywhere, and one load is a fresh hit on every node.
//!
//! # How to read a failure
//! The last lines are the promise, the seed and the command that repeats it. Above are the last events of the row, and
//! those that concern all rows, each with its time: `***` is a fault, `redis:` what the server did, `node 2 (process 7)` what
//! happened in a process (node 2's, the seventh that began). "load 83 .. at 504" is the number by which the oracle orders.
//!
//! # What it is not
//! No threads: what two threads can do to one table is for other tests. No sockets, no bytes of the Redis protocol. Reads
//! of one node and their order with respect to each other promise nothing but the guarantee.

mod application;
mod chance;
mod counts;
mod database;
mod ending;
mod executor;
mod faults;
mod heard;
mod loads;
mod oracle;
mod plan;
mod rules;
mod site;
mod trace;
mod way;
mod world;

use std::time::Duration;

pub use self::counts::Counts;

/// Lines of the story that a failure is told with.
const STORY: usize = 120;

/// How a run ended.
#[derive(Clone, Debug, Default)]
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
    run_for(seed, traced, &[])
}

/// Runs one seed on and on, until a promise is broken whose text has one of these in it: what else is broken counts for
/// nothing. Without any, every promise counts.
pub fn run_for(seed: u64, traced: bool, promises: &[String]) -> Outcome {
    larder_core::testing::fix_hashes();
    world::run(seed, traced, promises)
}
