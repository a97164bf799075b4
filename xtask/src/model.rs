//! The explicit-state model of the coherence protocol: a workspace of its own, so that the checker stays out of ours.

use crate::step::{Failure, Step};

/// Explores the model with `args`: see its README.
///
/// # Errors
/// If a property is violated, or a deliberate mistake is not caught.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let command = ["run", "--release", "--manifest-path", "docs/design/coherence/model/Cargo.toml", "--"];
    Step::cargo("model", command.into_iter().chain(args.iter().map(String::as_str)))
        .env("CARGO_TARGET_DIR", "target/model")
        .run()
}
