//! One command, shown before it runs and timed.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Why a chore did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This, which is still to be said.
    Because(String),
    /// It has been said already, and something else must be the last line.
    Told,
}

impl Failure {
    pub(crate) fn because(why: impl Into<String>) -> Self {
        Self::Because(why.into())
    }
}

/// A command with a name, run in the root of the repository.
pub(crate) struct Step {
    name: String,
    program: String,
    args: Vec<String>,
    env: Vec<(&'static str, String)>,
}

impl Step {
    pub(crate) fn new<A: Into<String>>(
        name: impl Into<String>,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self { name: name.into(), program: program.to_owned(), args, env: Vec::new() }
    }

    /// `cargo` with `args`.
    pub(crate) fn cargo<A: Into<String>>(name: impl Into<String>, args: impl IntoIterator<Item = A>) -> Self {
        Self::new(name, "cargo", args)
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Runs it, with its output going where ours goes.
    ///
    /// # Errors
    /// If it cannot be run or ends with a code other than 0; the message names the step and how to run it alone.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let status = timed(self, || self.command().status());
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.failure(&status.to_string())),
            Err(error) => Err(self.failure(&error.to_string())),
        }
    }

    /// What to say when it fails `how`.
    pub(crate) fn failure(&self, how: &str) -> Failure {
        Failure::because(format!("step `{}` failed ({how}). To run it alone: {self}", self.name))
    }

    /// The command, not yet started.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(root()).stdin(Stdio::null());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// As one would type it.
impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str(&self.program)?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

/// Says `what` is done, does it, and says how long it took.
pub(crate) fn timed<T>(what: impl Display, work: impl FnOnce() -> T) -> T {
    println!("\n$ {what}");
    let start = Instant::now();
    let done = work();
    println!("({:.1} s)", start.elapsed().as_secs_f64());
    done
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the root").to_owned()
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_shown_as_one_would_type_it() {
        let step = Step::cargo("doc", ["doc", "it's", ""]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(step.to_string(), r"RUSTDOCFLAGS='-D warnings' cargo doc 'it'\''s' ''");
    }

    #[test]
    fn a_failed_step_names_itself_and_how_to_run_it_alone() {
        let Err(Failure::Because(why)) = Step::new("nothing", "false", ["-x"]).run() else {
            panic!("no message")
        };
        assert!(why.contains("`nothing`") && why.ends_with(": false -x"), "{why}");
    }
}
