//! Programs that are not built by cargo: found, or installed where that can be done without asking.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::step::{Failure, Step};

/// Names the Redis to use; the tests read it too.
pub(crate) const REDIS_VARIABLE: &str = "LARDER_REDIS_SERVER";

/// Makes sure that the tests find a Redis.
///
/// # Errors
/// If there is none and it cannot be installed; the message says what to do.
pub(crate) fn ensure_redis() -> Result<(), Failure> {
    if let Some(program) = std::env::var_os(REDIS_VARIABLE) {
        return if runs(&program) {
            Ok(())
        } else {
            Err(Failure::because(format!(
                "{REDIS_VARIABLE} names {}, which does not run. Correct it, or unset it to use redis-server.",
                program.display()
            )))
        };
    }
    if runs("redis-server") {
        return Ok(());
    }
    install("redis-server")?;
    stop_service("redis-server");
    if runs("redis-server") {
        Ok(())
    } else {
        Err(by_hand("redis-server", "it was installed, yet does not run"))
    }
}

/// Makes sure that there is `wrk`, which makes the load of the benchmarks.
///
/// # Errors
/// As [`ensure_redis`].
pub(crate) fn ensure_wrk() -> Result<(), Failure> {
    if runs("wrk") { Ok(()) } else { install("wrk") }
}

/// Whether `program` can be started. Its exit code says nothing: `wrk --version` fails.
pub(crate) fn runs(program: impl AsRef<OsStr>) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Installs a Debian package that has the same name as its program.
fn install(package: &'static str) -> Result<(), Failure> {
    if !runs("apt-get") {
        return Err(by_hand(package, "there is no apt-get here"));
    }
    let Some(become_root) = root_prefix() else {
        return Err(by_hand(package, "installing needs root (or a sudo that asks for no password)"));
    };
    // Sources that cannot be reached are no reason to stop if the package can be had anyway.
    let _ = apt_get(become_root, &["update"]).run();
    apt_get(become_root, &["install", "-y", "--no-install-recommends", package])
        .run()
        .map_err(|_| by_hand(package, "apt-get could not install it"))
}

fn apt_get(become_root: &[&str], args: &[&str]) -> Step {
    // Through `env`, because sudo takes our variables away. The runlevel 1 keeps the package from starting its service
    // (where there is no systemd), and another apt-get at work is waited for.
    let env =
        ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-o", "DPkg::Lock::Timeout=120"];
    let words: Vec<_> = become_root.iter().chain(&env).chain(args).copied().collect();
    Step::new("install", words[0], words[1..].iter().copied())
}

/// What to put before a command so that root runs it, if that can be had without a password.
fn root_prefix() -> Option<&'static [&'static str]> {
    let output = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
        output.status.success().then_some(output.stdout)
    };
    if output("id", &["-u"])?.trim_ascii() == b"0" {
        return Some(&[]);
    }
    output("sudo", &["-n", "true"]).map(|_| ["sudo", "-n"].as_slice())
}

/// Stops the service that our installation may have started under systemd: the tests start servers of their own, and
/// nobody asked for one on the usual port.
fn stop_service(unit: &str) {
    if !Path::new("/run/systemd/system").exists() {
        return;
    }
    if let Some(become_root) = root_prefix() {
        let words: Vec<_> =
            become_root.iter().chain(&["systemctl", "disable", "--now", unit]).copied().collect();
        // If it goes on running it does no harm: no test uses its port.
        let _ = Step::new("stop the service", words[0], words[1..].iter().copied()).run();
    }
}

fn by_hand(package: &str, why: &str) -> Failure {
    Failure::because(format!(
        "{package} is missing, and {why}.\n\
         Install it by hand: `apt-get install {package}` (Debian, Ubuntu), or with your system's package manager.\n\
         For Redis, {REDIS_VARIABLE} may name any redis-server or valkey-server instead."
    ))
}
