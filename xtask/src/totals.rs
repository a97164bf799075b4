//! Sums up what the test programs say at their ends.

use std::fmt::{self, Display};

/// How the test runner begins the line that sums up one test program.
const SUMMARY: &str = "test result: ";

/// The sums over all test programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Ignored ones; those that a filter left out are none of ours.
    pub(crate) skipped: u64,
}

impl Totals {
    /// Adds what `line` says, if it is a summary: `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    pub(crate) fn see(&mut self, line: &str) {
        let Some(summary) = line.strip_prefix(SUMMARY) else { return };
        for part in summary.split(';') {
            // The first part has the verdict before its number.
            let mut words = part.split_whitespace().rev();
            let (Some(what), Some(count)) = (words.next(), words.next()) else { continue };
            let Ok(count) = count.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }
}

impl Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_add_up_and_everything_else_is_passed_over() {
        let mut totals = Totals::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.00s",
            "test result: \u{1b}[31mFAILED\u{1b}[0m. 12 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.25s",
            "it said: test result: ok. 100 passed; 0 failed",
            "test result: nonsense; passed; x passed",
        ] {
            totals.see(line);
        }
        assert_eq!(totals, Totals { passed: 15, failed: 2, skipped: 1 });
        assert_eq!(totals.to_string(), "15 passed, 2 failed, 1 skipped");
    }
}
