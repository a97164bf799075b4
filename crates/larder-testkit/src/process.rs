//! A child process that does not outlive its parent.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Waits until its standard input closes, which the system does when our process ends in whatever way, then kills the
/// child and removes its directory, if it has one.
const WATCHDOG: &str = r#"trap '' INT TERM HUP; read -r _; kill -KILL "$1"; [ -z "$2" ] || rm -rf -- "$2""#;

/// How long a process may take to stop or go on after its signal was sent; it takes microseconds.
const SIGNAL_DEADLINE: Duration = Duration::from_secs(5);

/// A child process, killed (SIGKILL) when it is dropped, and also when the test process ends without dropping it.
// Drop does not run when a test process is killed or aborts, so a small shell watches over each child as well. (The
// parent-death signal of Linux would need `unsafe`, and fires when the *thread* that started the child ends.)
pub struct ChildProcess {
    child: Child,
    watchdog: Child,
    paused: bool,
}

impl ChildProcess {
    /// Starts `command`, with nothing to read on its standard input.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        Self::spawn_in(command, Path::new(""))
    }

    /// As [`spawn`](Self::spawn). `directory` is what the child leaves behind if we cannot clean up ourselves; empty: none.
    pub(crate) fn spawn_in(command: &mut Command, directory: &Path) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::null()).spawn()?;
        let watchdog = shell(WATCHDOG, child.id()).arg(directory).stdin(Stdio::piped()).spawn();
        match watchdog {
            Ok(watchdog) => Ok(Self { child, watchdog, paused: false }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the child has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether the child has neither ended nor been stopped by us.
    pub(crate) fn is_running(&mut self) -> bool {
        !self.paused && !self.has_ended()
    }

    /// Stops the child (SIGSTOP); returns when it is stopped.
    ///
    /// # Errors
    /// If it has ended, or does not stop within seconds.
    pub fn pause(&mut self) -> io::Result<()> {
        self.paused = true;
        self.signal("STOP")?;
        self.wait_for_state(|state| state == 'T')
    }

    /// Lets a stopped child go on (SIGCONT).
    ///
    /// # Errors
    /// If it has ended, or does not go on within seconds.
    pub fn resume(&mut self) -> io::Result<()> {
        self.signal("CONT")?;
        self.wait_for_state(|state| state != 'T')?;
        self.paused = false;
        Ok(())
    }

    fn signal(&self, name: &str) -> io::Result<()> {
        // The shell's own `kill`: a slim container has no /bin/kill.
        let status =
            shell(&format!(r#"kill -{name} "$1""#), self.child.id()).stdin(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{name}: {status}"))) }
    }

    /// Sending a signal is not the same as its having arrived. Linux tells; elsewhere we do not wait.
    fn wait_for_state(&self, wanted: impl Fn(char) -> bool) -> io::Result<()> {
        let stat = format!("/proc/{}/stat", self.child.id());
        if !Path::new(&stat).exists() {
            return Ok(());
        }
        let start = Instant::now();
        while start.elapsed() < SIGNAL_DEADLINE {
            // `<pid> (<name>) <state> ...`, where the name may hold anything.
            let stat = std::fs::read_to_string(&stat)?;
            if stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).is_some_and(&wanted) {
                return Ok(());
            }
            std::thread::yield_now();
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // The watchdog first: once the child is waited for, its number may belong to another process.
        end(&mut self.watchdog);
        end(&mut self.child);
    }
}

/// Kills (SIGKILL, which also ends a stopped process) and waits, so that ports and files are free afterwards.
fn end(child: &mut Child) {
    // Both fail only if the child has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

fn shell(script: &str, pid: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", &pid.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
