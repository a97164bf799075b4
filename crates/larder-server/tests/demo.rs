//! The binary as its users run it.
#![allow(clippy::unwrap_used, reason = "tests: a failure is a panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use larder_testkit::{RedisServer, free_port, wait_until};

fn larder(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(arguments).stdin(Stdio::null()).env_remove("LARDER_ADMIN_TOKEN");
    command
}

fn run(arguments: &[&str]) -> Output {
    larder(arguments).output().unwrap()
}

/// A demo that serves until told to stop.
struct Demo {
    process: Child,
    api: String,
}

impl Demo {
    fn start(redis: &str, data: &Path, port: u16) -> Self {
        let data = data.to_str().unwrap();
        let mut process = larder(&["demo", "--level", "1", "--redis", redis, "--data", data])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let api = first.split("http://").nth(1).unwrap().split(',').next().unwrap().to_owned();
        // The rest is what to try; it fits the pipe and is not read.
        Demo { process, api }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.api).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.api).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// SIGTERM; answers whether it ended well.
    async fn stop(mut self) -> bool {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut ended = None;
        wait_until(Duration::from_secs(20), "the demo to end", || {
            ended = self.process.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        ended.is_some_and(|status| status.success())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Gone already in the usual case.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn every_printed_line_does_what_it_says_without_redis() {
    let output = run(&["demo", "--check", "--level", "1"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().last().unwrap().ends_with(" 0 failed"), "{text}");
    assert!(text.lines().filter(|line| line.starts_with("ok   curl -i")).count() > 30, "{text}");
}

#[test]
fn an_admin_token_is_needed_sent_and_never_printed() {
    let mut command = larder(&["demo", "--check", "--level", "1"]);
    let output = command.env("LARDER_ADMIN_TOKEN", "s3cret-token").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("Bearer $LARDER_ADMIN_TOKEN") && !text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn every_printed_line_does_what_it_says_with_redis() {
    let server = RedisServer::start().await;
    for _ in 0..2 {
        let output = run(&["demo", "--check", "--level", "1", "--redis", &server.url()]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(server.keys().await.len() > 3, "answers were stored");
}

#[tokio::test]
async fn a_process_stopped_by_sigterm_and_started_again_answers_from_redis() {
    let (server, folder) = (RedisServer::start().await, tempfile::tempdir().unwrap());
    let data = folder.path().join("catalog.db");
    // The host, with its port, is part of every key: the same address, then.
    let (path, port) = ("/api/v1/facets?q=backup", free_port());
    let first = Demo::start(&server.url(), &data, port);
    assert!(first.get(path).contains("x-cache-status: MISS"));
    assert!(first.get(path).contains("x-cache-status: HIT"));
    assert!(first.stop().await, "exit 0");
    // The one read of Redis that counts may run out of its budget on a busy machine: then the next process shows it.
    let mut answers = Vec::new();
    for _ in 0..3 {
        let next = Demo::start(&server.url(), &data, port);
        answers.push(next.get(path));
        assert!(next.stop().await);
        if answers.last().is_some_and(|answer| answer.contains("x-cache-status: HIT")) {
            return;
        }
    }
    panic!("{answers:?}");
}

#[test]
fn wrong_options_end_with_64_and_name_option_value_and_rule() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "no database").unwrap();
    let text = text.to_str().unwrap().to_owned();
    let cases: [(&[&str], &[&str]); 10] = [
        (&["--level", "4"], &["--level", "\"4\"", "use 1, 2 or 3"]),
        (&["--listen", "here"], &["--listen", "here", "socket address"]),
        (&["--admin", "0.0.0.0:0"], &["--admin", "0.0.0.0:0", "LARDER_ADMIN_TOKEN"]),
        (&["--redis", "http://x"], &["--redis", "http://x", "redis://"]),
        (&["--redis", "redis://h:99999"], &["--redis", "99999", "1..=65535"]),
        (&["--redis", ""], &["--redis"]),
        (&["--data", &text], &["--data", "notes.txt", "SQLite"]),
        (&["--lisen", "x"], &["--lisen"]),
        (&["--log", "xml"], &["--log", "xml", "text"]),
        (&["--log-level", "loud"], &["--log-level", "loud"]),
    ];
    for (arguments, expected) in cases {
        let output = run(&[&["demo", "--check"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(expected.iter().all(|part| said.contains(part)), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}: nothing was started");
    }
    let secret = run(&["demo", "--redis", "redis://user:s3cret@h:x"]);
    assert_eq!(secret.status.code(), Some(64));
    assert!(!String::from_utf8_lossy(&secret.stderr).contains("s3cret"));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["demo", "--level", "1", "--listen", &address]);
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--listen") && said.contains(&address), "{said}");
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["demo", "--help"], &["--version"]] {
        let output = run(arguments);
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
    assert_eq!(run(&[]).status.code(), Some(64), "no command");
}
