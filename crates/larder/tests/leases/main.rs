//! One load for many processes, on real servers and through real faults.
//!
//! Four nodes, each a process of its own, share one Redis and one database (a server in this process, which knows who has
//! loaded what, and holds loads back for as long as a scenario likes). A lease only saves work: whatever happens to its
//! holder, to those who wait, to Redis or to the way there, everybody is answered, nobody with something that was
//! invalidated before he asked, and when all is mended no lease is left behind ([`trial::Trial::end`]).
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests on real time: a failure is a panic, figures are printed"
)]

mod answers;
mod database;
mod node;
#[path = "../processes/mod.rs"]
mod processes;
mod scenarios;
mod serve;
mod trial;
