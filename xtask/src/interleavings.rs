//! The concurrent parts of the engine under many schedules.

use std::fs;

use crate::step::{Failure, Step, root};

/// Where it is built: with locks and atomics of its own, so apart from everything else.
const TARGET: &str = "target/interleavings";
/// Schedules per test, unless told otherwise: seconds in all.
const ITERATIONS: u64 = 1000;

/// What to explore.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    iterations: u64,
    seed: u64,
    replay: Option<String>,
    /// Part of a test's name; all if there is none.
    test: Option<String>,
}

impl Asked {
    fn read(args: &[String]) -> Result<Self, Failure> {
        let mut asked = Asked { iterations: ITERATIONS, seed: 1, replay: None, test: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || {
                let value = args.next().cloned();
                value.ok_or_else(|| Failure::because(format!("{arg} takes a value: cargo xtask help")))
            };
            match arg.as_str() {
                "--iterations" => asked.iterations = number(arg, &value()?)?,
                "--seed" => asked.seed = number(arg, &value()?)?,
                "--replay" => asked.replay = Some(value()?),
                test if !test.starts_with('-') && asked.test.is_none() => asked.test = Some(test.to_owned()),
                other => return Err(Failure::because(format!("what is {other}? See: cargo xtask help"))),
            }
        }
        if asked.replay.is_some() && asked.test.is_none() {
            return Err(Failure::because("--replay takes the test, too, that the schedule is of"));
        }
        Ok(asked)
    }

    /// Unoptimised, for the checks of arithmetic and the `debug_assert`s, of the map too.
    fn step(&self) -> Step {
        let test = self.test.as_deref().unwrap_or("interleavings::");
        let step = Step::cargo("interleavings", ["test", "-p", "larder-core", "--lib", "--", test])
            .env("RUSTFLAGS", "--cfg larder_shuttle")
            .env("CARGO_TARGET_DIR", TARGET)
            .env("LARDER_SCHEDULES", root().join(schedules()).display().to_string());
        match &self.replay {
            Some(file) => step.env("LARDER_REPLAY", root().join(file).display().to_string()),
            None => step
                .env("LARDER_ITERATIONS", self.iterations.to_string())
                .env("LARDER_SEED", self.seed.to_string()),
        }
    }
}

/// Runs the tests of `larder-core/src/interleavings` as `args` say. The schedule of one that fails is kept in a file, and
/// the test says how to run it again.
///
/// # Errors
/// Arguments that make no sense, or a test that failed.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let asked = Asked::read(args)?;
    fs::create_dir_all(root().join(schedules()))
        .map_err(|error| Failure::because(format!("no place for schedules that fail: {error}")))?;
    asked.step().run()
}

fn schedules() -> String {
    format!("{TARGET}/schedules")
}

fn number(name: &str, value: &str) -> Result<u64, Failure> {
    value.parse().map_err(|_| Failure::because(format!("{name} takes a number, not {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(args: &[&str]) -> Result<Asked, Failure> {
        Asked::read(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_asked_for_is_passed_on_and_nonsense_is_refused() {
        let all = asked(&[]).unwrap().step().to_string();
        assert!(all.contains("LARDER_ITERATIONS=1000 LARDER_SEED=1"), "{all}");
        assert!(all.ends_with("cargo test -p larder-core --lib -- interleavings::"), "{all}");
        let one = asked(&["--iterations", "5", "--seed", "7", "node"]).unwrap().step().to_string();
        assert!(one.contains("LARDER_ITERATIONS=5 LARDER_SEED=7") && one.ends_with("-- node"), "{one}");
        let again = asked(&["--replay", "schedule000.txt", "node"]).unwrap().step().to_string();
        assert!(again.contains("/schedule000.txt") && !again.contains("ITERATIONS"), "{again}");
        for nonsense in [&["--replay", "f"][..], &["--seed"], &["--seed", "x"], &["--fast"], &["a", "b"]] {
            assert!(asked(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
