//! Load on one server, by `wrk`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::child::Server;

/// Which URLs are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Always the same.
    SameUrl,
    /// Each once.
    NewUrls,
}

/// What came of it.
pub struct Load {
    pub requests: u64,
    /// By the clock.
    pub per_second: f64,
    /// The same, per second of processor time of the server.
    pub per_core_second: f64,
    /// What the server counted meanwhile; `loads` since its start.
    pub counted: Counted,
}

#[derive(Clone, Copy)]
pub struct Counted {
    pub hits: u64,
    pub loads: u64,
    pub handled: u64,
}

/// Runs `wrk` on `core` for `seconds`.
pub fn run(server: &Server, core: usize, seconds: u32, script: Script) -> Load {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let url = format!("http://127.0.0.1:{}/item", server.port);
    if script == Script::SameUrl {
        get(server, "/item");
    }
    let before = counted(server);
    let time = server.processor_time();
    let mut wrk = Command::new("taskset");
    wrk.args(["-c", &core.to_string(), "wrk", "-t1", "-c32", "-d", &format!("{seconds}s")]);
    if script == Script::NewUrls {
        wrk.args(["-s", concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/new_urls.lua")]).arg(&url);
        wrk.args(["--", &RUNS.fetch_add(1, Ordering::Relaxed).to_string()]);
    } else {
        wrk.arg(&url);
    }
    let output = wrk.output().expect("taskset and wrk are installed");
    let time = server.processor_time() - time;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "wrk: {said}");
    for trouble in ["Non-2xx", "Socket errors"] {
        assert!(!said.contains(trouble), "wrk: {said}");
    }
    let after = counted(server);
    let requests =
        number(&said, |line| line.trim().split_once(" requests in ").map(|(requests, _)| requests));
    Load {
        requests,
        per_second: number(&said, |line| line.strip_prefix("Requests/sec:")),
        per_core_second: requests as f64 / time,
        counted: Counted {
            hits: after.hits - before.hits,
            loads: match script {
                Script::SameUrl => after.loads,
                Script::NewUrls => after.loads - before.loads,
            },
            handled: after.handled - before.handled,
        },
    }
}

fn number<T: std::str::FromStr>(said: &str, find: impl Fn(&str) -> Option<&str>) -> T {
    let found = said.lines().find_map(|line| find(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("wrk did not say what was measured: {said}"))
}

fn counted(server: &Server) -> Counted {
    let said = get(server, "/counted");
    let figures: Vec<u64> = said.split_whitespace().map(|figure| figure.parse().expect("a number")).collect();
    Counted { hits: figures[0], loads: figures[1], handled: figures[2] }
}

/// The body of one answer.
fn get(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens");
    // The host is part of the cache's keys: the same as wrk's.
    let host = format!("127.0.0.1:{}", server.port);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("it answers");
    let (head, body) = said.split_once("\r\n\r\n").expect("an answer has a head and a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}
