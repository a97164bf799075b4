//! The benchmarks, which live in a workspace of their own so that rivals never enter our dependencies.

use crate::step::{Failure, Step, root};
use crate::system;

/// Makes sure that the load generator and Redis are there, and runs the benchmarks with `args`.
///
/// # Errors
/// If something is missing or the benchmarks fail.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    if !root().join("bench/Cargo.toml").exists() {
        return Err(Failure::because("there is no bench/Cargo.toml, so there is nothing to measure"));
    }
    system::ensure_wrk()?;
    system::ensure_redis()?;
    let command = ["run", "--release", "--manifest-path", "bench/Cargo.toml", "--"];
    Step::cargo("bench", command.into_iter().chain(args.iter().map(String::as_str))).run()
}
