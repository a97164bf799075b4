//! Everything that must hold before a change is merged.

use crate::step::{Failure, Step, root};
use crate::{features, interleavings, model, simulate, suite, tidy, valkey};

/// Runs all checks, cheapest first, and stops at the first that fails. The tests come last, so that their totals are
/// the last line.
///
/// # Errors
/// The failure of the step that failed.
pub(crate) fn run() -> Result<(), Failure> {
    Step::cargo("fmt", ["fmt", "--all", "--check"]).run()?;
    tidy::run()?;
    Step::cargo(
        "clippy",
        ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"],
    )
    .run()?;
    for step in features::steps()? {
        step.run()?;
    }
    for targets in ["--bins", "--lib"] {
        // Apart, because the library and the program are both called `larder` and are written to one place; the library
        // last, so that its pages stay.
        Step::cargo("doc", ["doc", "--workspace", "--all-features", "--no-deps", targets])
            .env("RUSTDOCFLAGS", "-D warnings")
            .run()?;
    }
    if root().join("bench/Cargo.toml").exists() {
        // A workspace of its own, whose dependencies are mostly ours: one target directory builds them once.
        Step::cargo("bench", ["check", "--manifest-path", "bench/Cargo.toml", "--all-targets"])
            .env("CARGO_TARGET_DIR", "target")
            .run()?;
    }
    model::run(&["mutants".to_owned()])?;
    simulate::ci()?;
    interleavings::run(&[])?;
    valkey::ci()?;
    suite::run(&[])
}
