//! The simulation of many nodes: run, repeated, and tried on an engine that is broken on purpose.

mod list;
mod mutants;

use crate::step::{Failure, Step};

/// Seeds that CI runs.
const SEEDS: &str = "2000";
/// The profile that the simulation is built with.
const PROFILE: [&str; 2] = ["--profile", "simulation"];
const PACKAGE: &str = "larder-simulation";

/// Runs seeds with `args` (`--seeds 2000`, `--seed 1234 --trace`), or `--mutants [NAME]`.
///
/// # Errors
/// If a promise is broken, a run proves too little, or a mutant is not caught.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    match args.split_first() {
        Some((first, names)) if first == "--mutants" => mutants::run(names),
        _ => {
            let run = ["run", "--quiet", "--package", PACKAGE].into_iter().chain(PROFILE).chain(["--"]);
            Step::cargo("simulate", run.chain(args.iter().map(String::as_str))).run()
        }
    }
}

/// What CI runs.
///
/// # Errors
/// As [`run`].
pub(crate) fn ci() -> Result<(), Failure> {
    run(&["--seeds".to_owned(), SEEDS.to_owned()])?;
    run(&["--mutants".to_owned()])
}
