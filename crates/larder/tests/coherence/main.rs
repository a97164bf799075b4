//! The guarantee of `docs/design/coherence.md` under real faults.
//!
//! Three nodes, each a process of its own, share one Redis and one database (a server in this process). Writers commit to
//! the database and invalidate on any node, readers read on all of them, something breaks meanwhile, and the oracle
//! ([`ledger`]) judges every single answer. At the end all is mended, and must be well again ([`ending`]).
//!
//! What happens when is a matter of the machine, what is asked follows from a seed: it is printed, and set with the
//! environment variable `LARDER_SEED` when building.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests on real time: a failure is a panic, figures are printed"
)]

mod chance;
mod database;
mod ending;
mod ledger;
mod node;
#[path = "../processes/mod.rs"]
mod processes;
mod rows;
mod scenarios;
mod serve;
mod trial;
mod workload;
