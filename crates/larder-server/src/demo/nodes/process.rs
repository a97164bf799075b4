//! Child processes that do not outlive this one.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::cli::Demo;
use crate::demo::client::elapsed;
use crate::demo::guide::Place;

/// How long a process may take until it serves: longer than to make a catalog of level 3 in a debug build.
const START: Duration = Duration::from_secs(60);

/// Waits until its standard input closes, which the system does when this process ends in whatever way, and ends the
/// child then.
const WATCHDOG: &str = r#"trap '' INT TERM HUP; read -r _; kill -KILL "$1""#;

/// A child process, killed when this is dropped and when this process ends.
pub(super) struct Process {
    child: Child,
    watchdog: Child,
}

impl Process {
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", WATCHDOG, "sh", &child.id().unwrap_or_default().to_string()]);
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Ok(Process { watchdog: watchdog.spawn()?, child })
    }

    /// SIGKILL. Returns when it is gone.
    pub(super) async fn kill(mut self) {
        // The watchdog first: a number that was waited for may belong to another process. Both may be gone already.
        let _ = self.watchdog.kill().await;
        let _ = self.child.kill().await;
    }

    /// Its number, while it runs.
    pub(super) fn number(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

/// Starts a demo on free ports, and waits until it serves.
///
/// # Errors
/// What it said instead, or that it said nothing.
pub(super) async fn start_demo(
    options: &Demo,
    redis: &str,
    data: &Path,
    log: &Path,
) -> Result<(Process, Place), String> {
    let here = "127.0.0.1:0";
    let program = std::env::current_exe().map_err(|e| format!("this program's own file: {e}"))?;
    let log_file = std::fs::File::options().create(true).append(true).open(log);
    let log_file = log_file.map_err(|e| format!("{}: {e}", log.display()))?;
    let mut command = Command::new(program);
    command.args(["demo", "--listen", here, "--admin", here, "--redis", redis, "--data"]).arg(data);
    command.args(["--level", &options.level.to_string()]).stdout(Stdio::piped()).stderr(log_file);
    let mut process = Process::spawn(&mut command).map_err(|e| format!("another process: {e}"))?;
    let Some(output) = process.child.stdout.take() else { return Err("it has no output".to_owned()) };
    let mut line = String::new();
    let mut output = BufReader::new(output);
    tokio::select! {
        read = output.read_line(&mut line) => drop(read.map_err(|e| format!("its output: {e}"))?),
        () = elapsed(START) => return Err(format!("it did not serve within {START:?}")),
    }
    // The rest is what to try. Nobody reads it; that the pipe closes does the demo no harm.
    match place(&line) {
        Some(place) => Ok((process, place)),
        None => Err(format!("it did not start; see {}: {line}", log.display())),
    }
}

/// Reads `The sample API listens on http://A, its admin API on http://B.`
fn place(line: &str) -> Option<Place> {
    let mut addresses = line.split("http://").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
        rest[..end].trim_end_matches('.').parse::<SocketAddr>()
    });
    Some(Place { api: addresses.next()?.ok()?, admin: addresses.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_read_from_the_first_line() {
        let line = "The sample API listens on http://127.0.0.1:81, its admin API on http://127.0.0.1:92.\n";
        let place = place(line).unwrap();
        assert_eq!((place.api.port(), place.admin.port()), (81, 92));
        assert!(super::place("larder: no").is_none());
    }
}
