//! This program again, in a process of its own: for a clean measure of memory, and for servers on a core of their own.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};

use crate::{http, log, memory_bound, memory_per_entry, source};

/// The first argument of a child.
pub const WORD: &str = "child";

/// In the child: does what it was told.
pub fn run(args: &[String]) -> ExitCode {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let said = match args[..] {
        [memory_bound::WORD, kind] => memory_bound::fill(kind),
        [memory_per_entry::WORD, side, entries] => {
            memory_per_entry::fill(side, entries.parse().expect("a number of entries"))
        }
        [log::WORD, url, count] => log::fill(url, count.parse().expect("a number of invalidations")),
        [source::WORD, url, begin] => source::read(url, begin.parse().expect("a time")),
        [http::WORD, kind, ref rest @ ..] => http::serve(kind, rest),
        _ => panic!("a child was told something it does not know: {args:?}"),
    };
    said.iter().for_each(|figure| println!("{figure}"));
    ExitCode::SUCCESS
}

/// Runs a child to its end; the figures it said.
pub fn answer(args: &[&str]) -> Vec<f64> {
    let output =
        command(None, args).stderr(Stdio::inherit()).output().expect("this program can be run again");
    assert!(output.status.success(), "child {args:?}: {}", output.status);
    let said = String::from_utf8(output.stdout).expect("figures are text");
    said.lines().map(|line| line.parse().expect("a figure")).collect()
}

/// A server in a child, on a core of its own. Gone when dropped; and it ends by itself if this process does.
pub struct Server {
    process: Child,
    pub port: u16,
}

impl Server {
    pub fn start(core: usize, args: &[&str]) -> Self {
        let mut process = command(Some(core), args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset is installed");
        let mut said = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut said).expect("it can be read");
        let port = said.trim().parse().unwrap_or_else(|_| panic!("server {args:?} did not start"));
        Server { process, port }
    }

    /// Seconds of processor time it has taken so far.
    pub fn processor_time(&self) -> f64 {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("it is running");
        // Behind the name in parentheses; user and system time are fields 14 and 15, in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(core: Option<usize>, args: &[&str]) -> Command {
    let own = std::env::current_exe().expect("a process knows its program");
    let mut command = match core {
        None => Command::new(own),
        Some(core) => {
            let mut pinned = Command::new("taskset");
            pinned.args(["-c", &core.to_string()]).arg(own);
            pinned
        }
    };
    command.arg(WORD).args(args);
    command
}
