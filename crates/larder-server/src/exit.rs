//! How the binary ends: the exit codes of `sysexits.h`, and the one place that prints errors.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Wrong flags, URLs or settings: nothing was started.
pub const USAGE: u8 = 64;
/// Something the machine would not give: a port, a file.
pub const UNAVAILABLE: u8 = 69;
/// A check that ran found a difference.
pub const DIFFERENCE: u8 = 1;

/// Why the binary ends before its time.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// An option is wrong. The error says what it was set to, without secrets, and the rule it breaks.
    pub fn option(option: &str, error: &dyn Error) -> Self {
        Failure { code: USAGE, message: format!("{option}: {}", chain(error)) }
    }

    /// The machine would not give something.
    pub fn unavailable(what: &str, error: &dyn Error) -> Self {
        Failure { code: UNAVAILABLE, message: format!("{what}: {}", chain(error)) }
    }

    /// A check found differences; they are printed already.
    pub fn differences(count: usize) -> Self {
        Failure { code: DIFFERENCE, message: format!("{count} lines did not do what they say") }
    }

    /// A check found that something does not hold; what, is printed already.
    pub fn refuted(message: impl Into<String>) -> Self {
        Failure { code: DIFFERENCE, message: message.into() }
    }

    /// A check was told to stop before its end.
    pub fn stopped() -> Self {
        Failure { code: UNAVAILABLE, message: "stopped before the check was done".to_owned() }
    }

    /// The exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error and what it came from, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a String does not fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}
