//! Measures Larder against its rivals and against its targets.
//!
//! ```text
//! bench [--quick]             all benchmarks
//! bench [--quick] NAME..      these
//! bench list                  their names
//! ```
//!
//! Every figure is the median of rounds that alternate between the sides (A B A B ..) in one run, because a machine is
//! never as fast today as it was yesterday. Larder runs with its default options. Each benchmark also proves that it
//! measured what it says: every value, status and counter is checked, and a wrong one is a failure, not a fast result.
//!
//! Ends with 1 if a target was missed. A run of all benchmarks, and not a quick one, writes the table to `results.md`, too.

mod alloc;
mod child;
mod herd;
mod http;
mod keys;
mod log;
mod machine;
mod memory_bound;
mod memory_per_entry;
mod remote;
mod report;
mod rounds;
mod source;
mod typed_hit;
mod typed_miss;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use report::Row;
use rounds::Effort;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

struct Benchmark {
    name: &'static str,
    what: &'static str,
    run: fn(Effort) -> Vec<Row>,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark { name: "typed-hit", what: "hit of a typed handle in memory", run: typed_hit::run },
    Benchmark { name: "typed-miss", what: "miss of a typed handle, with a load", run: typed_miss::run },
    Benchmark { name: "memory-per-entry", what: "heap beside key and value", run: memory_per_entry::run },
    Benchmark { name: "memory-bound", what: "process size under a bound of 256 MiB", run: memory_bound::run },
    Benchmark { name: "http-hit", what: "axum route answered from memory", run: http::hit },
    Benchmark { name: "http-miss", what: "axum route answered by its handler", run: http::miss },
    Benchmark { name: "http-redis-hit", what: "axum route answered from Redis", run: http::redis_hit },
    Benchmark { name: "log-hit", what: "hits in memory while others invalidate", run: log::hit },
    Benchmark { name: "log-invalidate", what: "invalidating 1 value and 1,000,000", run: log::reach },
    Benchmark { name: "log-visible", what: "an invalidation on its way to another node", run: log::visible },
    Benchmark { name: "log-memory", what: "what 10,000,000 invalidations leave behind", run: log::memory },
    Benchmark { name: "gathered-reads", what: "256 tasks that read from Redis", run: remote::gathered },
    Benchmark { name: "many-reads", what: "the values of 100 keys in Redis", run: remote::many },
    Benchmark { name: "cold-key", what: "four processes that miss one key at once", run: source::cold },
    Benchmark {
        name: "hot-key",
        what: "a key that everybody reads and that is stale at times",
        run: source::hot,
    },
    Benchmark { name: "failing-loader", what: "a source that fails for half a minute", run: source::failing },
    Benchmark { name: "herd", what: "1,000 simultaneous reads of one cold key", run: herd::run },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("list") => {
            BENCHMARKS.iter().for_each(|b| println!("{:<18}{}", b.name, b.what));
            ExitCode::SUCCESS
        }
        Some(child::WORD) => child::run(&args[1..]),
        _ => match chosen(&args) {
            Ok((effort, chosen)) => measure(effort, &chosen, &args),
            Err(why) => {
                eprintln!("{why}");
                ExitCode::from(2)
            }
        },
    }
}

fn chosen(args: &[String]) -> Result<(Effort, Vec<&'static Benchmark>), String> {
    let (options, names): (Vec<_>, Vec<_>) = args.iter().partition(|arg| arg.starts_with('-'));
    let mut effort = Effort::Full;
    for option in options {
        match option.as_str() {
            "--quick" => effort = Effort::Quick,
            other => return Err(format!("unknown option {other}: there is only --quick")),
        }
    }
    if names.is_empty() {
        return Ok((effort, BENCHMARKS.iter().collect()));
    }
    let find = |name: &String| {
        let found = BENCHMARKS.iter().find(|b| b.name == name.as_str());
        found.ok_or_else(|| format!("no benchmark is called {name}; `bench list` names them"))
    };
    Ok((effort, names.into_iter().map(find).collect::<Result<_, _>>()?))
}

fn measure(effort: Effort, chosen: &[&Benchmark], args: &[String]) -> ExitCode {
    let disturbance = machine::disturbance();
    let mut rows = Vec::new();
    for benchmark in chosen {
        eprintln!("{} ...", benchmark.name);
        // One broken measurement does not cost the others their results.
        let measured = catch_unwind(AssertUnwindSafe(|| (benchmark.run)(effort)));
        let measured = measured.unwrap_or_else(|_| vec![Row::broken(benchmark.name, benchmark.what)]);
        measured.iter().for_each(|row| eprintln!("  {row}"));
        rows.extend(measured);
    }
    let mut machine = machine::line();
    if let Some(disturbance) = disturbance {
        machine = format!("{machine}\n\n{disturbance}");
    }
    print!("\n{}", report::table(&rows));
    println!("\n{machine}");
    let complete = effort == Effort::Full && chosen.len() == BENCHMARKS.len();
    if complete && let Err(error) = report::write_markdown(&rows, &machine, args) {
        eprintln!("cannot write results.md: {error}");
        return ExitCode::FAILURE;
    }
    match rows.iter().filter(|row| row.missed()).count() {
        0 => ExitCode::SUCCESS,
        missed => {
            println!("{missed} missed");
            ExitCode::FAILURE
        }
    }
}
