//! Runs seeds of the simulation. `cargo xtask simulate` is how people call it.
#![allow(clippy::print_stdout, reason = "a program that talks to the person who runs it")]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use larder_simulation::{Counts, Outcome, Violation};
use parking_lot::Mutex;

const HELP: &str = "\
larder-simulation [OPTIONS]

  --seeds N     how many seeds to run (200)
  --from SEED   the first of them (1)
  --seed SEED   this one alone
  --trace       with everything that happened in it
  --first       stop at the first that breaks a promise
  --promise P   only this one counts: a piece of what is said of it, `(b)`; may be given several times
  --threads N   how many seeds at one time (one for each processor)
";

/// A promise was broken.
const BROKEN: u8 = 1;
/// The command line makes no sense.
const USAGE: u8 = 2;
/// Something happened too rarely for the run to prove anything.
const RARE: u8 = 3;

/// Of so many seeds one runs twice, and must be the same both times.
const REPEATED: u64 = 50;
/// Broken seeds that are told, at the most.
const TOLD: usize = 12;

#[derive(Debug)]
struct Options {
    from: u64,
    seeds: u64,
    trace: bool,
    first: bool,
    threads: usize,
    promises: Vec<String>,
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        print!("{HELP}");
        return ExitCode::from(USAGE);
    };
    if options.trace {
        for seed in options.from..options.from + options.seeds {
            let outcome = run(seed, true, &options.promises);
            print!("{}", outcome.story);
            println!(
                "seed {seed}: {:.1} s in its own time, hash {:016x}",
                outcome.lasted.as_secs_f64(),
                outcome.hash
            );
            if let Some(violation) = outcome.violation {
                println!("\nseed {seed}: {}", violation.what);
                return ExitCode::from(BROKEN);
            }
        }
        return ExitCode::SUCCESS;
    }
    let (counts, mut broken) = run_all(&options);
    broken.sort_by_key(|outcome| outcome.seed);
    for outcome in broken.iter().take(TOLD) {
        tell(outcome, &options.promises);
    }
    if let Some(first) = broken.first() {
        println!("{} of {} seeds broke a promise, the first: {}", broken.len(), options.seeds, first.seed);
        return ExitCode::from(BROKEN);
    }
    println!("{counts}");
    let rare = counts.below_floor(options.seeds);
    if !rare.is_empty() {
        println!("too rare to prove anything:\n  {}", rare.join("\n  "));
        return ExitCode::from(RARE);
    }
    println!("{} seeds, no promise broken", options.seeds);
    ExitCode::SUCCESS
}

fn options() -> Option<Options> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options =
        Options { from: 1, seeds: 200, trace: false, first: false, threads, promises: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seeds" => options.seeds = number(&mut args)?,
            "--from" => options.from = number(&mut args)?,
            "--seed" => (options.from, options.seeds) = (number(&mut args)?, 1),
            "--threads" => options.threads = usize::try_from(number(&mut args)?).ok()?.max(1),
            "--trace" => options.trace = true,
            "--first" => options.first = true,
            "--promise" => options.promises.push(args.next()?),
            _ => return None,
        }
    }
    Some(options)
}

fn number(args: &mut impl Iterator<Item = String>) -> Option<u64> {
    args.next()?.parse().ok()
}

/// Runs all seeds, several at one time. Answers what happened, and the seeds that broke a promise.
fn run_all(options: &Options) -> (Counts, Vec<Outcome>) {
    let (next, stop) = (AtomicU64::new(options.from), AtomicBool::new(false));
    let end = options.from + options.seeds;
    let results = Mutex::new((Counts::default(), Vec::new()));
    let work = || {
        let (mut counts, mut broken) = (Counts::default(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            let mut outcome = run(seed, false, &options.promises);
            if seed.is_multiple_of(REPEATED) && outcome.violation.is_none() && options.promises.is_empty() {
                let again = run(seed, true, &options.promises);
                if again.hash != outcome.hash {
                    let what = format!("two runs differ: {:016x}, {:016x}", outcome.hash, again.hash);
                    outcome.violation = Some(Violation { what, story: String::new() });
                }
            }
            counts.join(&outcome.counts);
            if outcome.violation.is_some() {
                stop.fetch_or(options.first, Ordering::Relaxed);
                broken.push(outcome);
            }
        }
        let mut results = results.lock();
        results.0.join(&counts);
        results.1.extend(broken);
    };
    std::thread::scope(|scope| {
        (0..options.threads).for_each(|_| {
            scope.spawn(work);
        });
    });
    results.into_inner()
}

/// A panic of the engine breaks the promise that it does not.
fn run(seed: u64, traced: bool, promises: &[String]) -> Outcome {
    let run = || larder_simulation::run_for(seed, traced, promises);
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let what = format!("it panicked: {}", said(&*panic));
        let counts = promises.is_empty() || promises.iter().any(|promise| what.contains(promise));
        let violation = counts.then(|| Violation { what, story: String::new() });
        Outcome { seed, violation, ..Outcome::default() }
    })
}

fn said(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<String>() {
        Some(text) => text,
        None => panic.downcast_ref::<&str>().copied().unwrap_or("something that is no text"),
    }
}

/// Runs a seed again, and tells how it came to what happened.
fn tell(outcome: &Outcome, promises: &[String]) {
    let again = run(outcome.seed, true, promises);
    let Some(violation) = again.violation.as_ref().or(outcome.violation.as_ref()) else { return };
    println!("{}", violation.story);
    println!("seed {}: {}", outcome.seed, violation.what);
    if again.hash != outcome.hash {
        println!(
            "(the run that found it was another one: hash {:016x}, now {:016x})",
            outcome.hash, again.hash
        );
    }
    println!("again, with all that happened: cargo xtask simulate --seed {} --trace\n", outcome.seed);
}
