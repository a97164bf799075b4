//! `cargo xtask`: every check and chore of the repository behind one command, the same at home and in CI.
#![allow(clippy::print_stdout, reason = "a program that talks to the person who runs it")]
#![allow(
    clippy::disallowed_methods,
    reason = "a program that runs others, in real time and a real environment"
)]

mod bench;
mod ci;
mod features;
mod interleavings;
mod model;
mod simulate;
mod step;
mod suite;
mod system;
mod tidy;
mod totals;
mod valkey;

use std::process::ExitCode;

use crate::step::Failure;

const HELP: &str = "\
cargo xtask <command>

  test [-- ARGS]   install redis-server if it is missing, then run every test of the workspace;
                   ARGS go to `cargo test`, as in: cargo xtask test -- -p larder-core lease
  valkey [-- ARGS] the tests that talk to servers, on Valkey, which it installs for itself where there is none;
                   ARGS as for `test`
  ci               everything CI checks, cheapest first: fmt, tidy, clippy, each combination of features, rustdoc,
                   the benches compile, the interleavings, and last the tests
  interleavings [--iterations N] [--seed N] [TEST]
                   run the concurrent parts of larder-core under N schedules per test (default 1000: seconds), half of
                   them random, half by PCT; the same seed (default 1) draws the same. A schedule that fails is kept:
                   --replay FILE TEST runs it again
  tidy             the conventions that no lint knows
  model [-- ARGS]  explore the model of the coherence protocol: all of it takes a quarter of an hour;
                   `-- mutants` shows in seconds that each deliberate mistake is caught
  simulate ARGS    many nodes on virtual time, with an oracle: `--seeds 2000`, `--seed 1234 --trace` to see one again,
                   `--mutants [NAME..]` to break the engine on purpose and see that it is caught
  bench [-- ARGS]  install wrk and redis-server if they are missing, then run the benchmarks
  help             this text

  LARDER_REDIS_SERVER names another program to test against, as valkey-server or a path.
";

/// The exit code for a command line that makes no sense, as of most programs.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next();
    let mut rest: Vec<String> = args.collect();
    if rest.first().is_some_and(|first| first == "--") {
        rest.remove(0);
    }
    let outcome = match command.as_deref() {
        Some("test") => suite::run(&rest),
        Some("bench") => bench::run(&rest),
        Some("valkey") => valkey::run(&rest),
        Some("model") => model::run(&rest),
        Some("simulate") => simulate::run(&rest),
        Some("ci") if rest.is_empty() => ci::run(),
        Some("interleavings") => interleavings::run(&rest),
        Some("tidy") if rest.is_empty() => tidy::run(),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            print!("{HELP}");
            return ExitCode::from(USAGE);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Told) => ExitCode::FAILURE,
        Err(Failure::Because(why)) => {
            println!("\nxtask: {why}");
            ExitCode::FAILURE
        }
    }
}
