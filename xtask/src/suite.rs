//! The whole test suite, with one line of totals at the end.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use crate::step::{Failure, Step, timed};
use crate::system;
use crate::totals::Totals;

/// Makes sure that there is a Redis, runs `cargo test` with `extra` arguments and prints, as the very last line, the
/// sums of what all test programs said.
///
/// # Errors
/// If a test failed or was skipped, a test program did not end as it should, or no test ran at all.
pub(crate) fn run(extra: &[String]) -> Result<(), Failure> {
    system::ensure_redis()?;
    run_step(&step(extra), "test", extra)
}

/// As [`run`], with `server` in the place of redis-server.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_on(server: &Path, extra: &[String]) -> Result<(), Failure> {
    let server = server.display().to_string();
    run_step(&step(extra).env(system::REDIS_VARIABLE, server.as_str()), "valkey", extra)
}

fn run_step(step: &Step, word: &str, extra: &[String]) -> Result<(), Failure> {
    let (ended, totals) = timed(step, || pass_through(step, &mut io::stdout()));
    let trouble = trouble(ended, totals);
    if let Some(how) = &trouble {
        println!("\nxtask: step `test` failed ({how}). To run it alone: cargo xtask {word}{}", rerun(extra));
    }
    println!("{totals}");
    trouble.map_or(Ok(()), |_| Err(Failure::Told))
}

/// Why the suite has failed, if it has.
fn trouble(ended: io::Result<ExitStatus>, totals: Totals) -> Option<String> {
    match ended {
        Err(error) => Some(error.to_string()),
        Ok(status) if !status.success() => Some(status.to_string()),
        Ok(_) if totals.failed > 0 => Some("tests failed".to_owned()),
        // None of ours asks to be left out, and what is not run proves nothing.
        Ok(_) if totals.skipped > 0 => Some("tests were skipped".to_owned()),
        Ok(_) if totals.passed == 0 => Some("no test ran".to_owned()),
        Ok(_) => None,
    }
}

/// The suite goes on after a failure, so that the totals are those of everything.
fn step(extra: &[String]) -> Step {
    let chosen = extra.iter().take_while(|arg| *arg != "--").any(|arg| {
        arg.starts_with("-p") || arg.starts_with("--package") || arg.starts_with("--manifest-path")
    });
    let mut args = vec!["test"];
    if !chosen {
        args.push("--workspace");
    }
    args.extend(["--all-features", "--no-fail-fast"]);
    args.extend(extra.iter().map(String::as_str));
    Step::cargo("test", args)
}

/// Runs `step`, copies its output line by line to `to` and reads along.
fn pass_through(step: &Step, to: &mut impl Write) -> (io::Result<ExitStatus>, Totals) {
    let mut totals = Totals::default();
    let mut run = || {
        let mut child = step.command().stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line)? > 0 {
            to.write_all(&line)?;
            totals.see(&String::from_utf8_lossy(&line));
            line.clear();
        }
        child.wait()
    };
    (run(), totals)
}

fn rerun(extra: &[String]) -> String {
    if extra.is_empty() { String::new() } else { format!(" -- {}", extra.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(extra: &[&str]) -> String {
        step(&extra.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()).to_string()
    }

    #[test]
    fn the_whole_workspace_is_tested_unless_packages_are_chosen() {
        assert_eq!(typed(&[]), "cargo test --workspace --all-features --no-fail-fast");
        assert_eq!(
            typed(&["-p", "larder-core", "x"]),
            "cargo test --all-features --no-fail-fast -p larder-core x"
        );
        assert_eq!(
            typed(&["x", "--", "-p"]),
            "cargo test --workspace --all-features --no-fail-fast x -- -p",
            "what follows `--` is for the test programs"
        );
    }

    #[test]
    fn a_suite_that_ends_well_has_failed_all_the_same_if_a_test_failed_or_was_skipped_or_none_ran() {
        let all = |passed, failed, skipped| {
            let ended = std::process::Command::new("true").status();
            trouble(ended, Totals { passed, failed, skipped })
        };
        assert_eq!(all(2, 0, 0), None);
        for (totals, why) in
            [((2, 1, 0), "tests failed"), ((2, 0, 1), "tests were skipped"), ((0, 0, 0), "no test ran")]
        {
            assert_eq!(all(totals.0, totals.1, totals.2).as_deref(), Some(why));
        }
        let ended = std::process::Command::new("false").status();
        assert!(trouble(ended, Totals { passed: 2, failed: 0, skipped: 0 }).is_some());
    }

    #[test]
    fn output_is_read_along_and_the_exit_code_is_kept() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 1 ignored'; exit 3";
        // Not to our own output, where it would be counted.
        let mut copy = Vec::new();
        let (ended, totals) = pass_through(&Step::new("fake", "sh", ["-c", script]), &mut copy);
        assert_eq!(copy, b"test result: ok. 2 passed; 0 failed; 1 ignored\n");
        assert_eq!(ended.unwrap().code(), Some(3));
        assert_eq!(totals, Totals { passed: 2, failed: 0, skipped: 1 });
    }
}
