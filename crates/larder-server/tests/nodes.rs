//! Several processes on one catalog and one Redis: the check that users can run, in its short form.
#![allow(clippy::unwrap_used, reason = "tests: a failure is a panic")]

use std::process::{Command, Output, Stdio};

use larder_testkit::{RedisServer, Reply};

fn check(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(["demo", "--check", "--level", "1", "--log-level", "error"]).args(arguments);
    command.stdin(Stdio::null()).env_remove("LARDER_ADMIN_TOKEN");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Three processes, eight clients. Redis is emptied, killed with and without its data, a node loses the log, a node is
/// killed: whoever names the token of a write sees it, wherever it asks, and whoever asks where it was written needs no
/// token. The output says the seed, and on failure the request, the versions and what every node knows of the key.
#[test]
fn three_processes_agree_while_redis_and_one_of_them_fail() {
    let output = check(&["--nodes", "3", "--rounds", "600"]).output().unwrap();
    let text = said(&output);
    println!("{text}");
    assert!(output.status.success());
    assert_eq!(text.lines().last(), Some("ok: no answer was older than its token"));
    assert_eq!(text.lines().filter(|line| line.starts_with("after ")).count(), 5, "faults");
    assert!(text.contains("--seed ") && text.contains("540 rounds: "));
}

/// A Redis that is somebody else's is not restarted, and nothing is deleted from it but what the check has stored.
#[tokio::test]
async fn a_redis_that_was_given_keeps_what_is_not_of_the_check() {
    let server = RedisServer::builder().password("s3cret").start().await;
    server.command(&["SET", "mine", "kept"]).await.unwrap();
    let url = server.url();
    let run = move || check(&["--nodes", "2", "--rounds", "100", "--seed", "7", "--redis", &url]).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let text = said(&output);
    println!("{text}");
    assert!(output.status.success());
    assert_eq!(text.lines().filter(|line| line.starts_with("after ")).count(), 3, "faults");
    assert!(text.contains("--seed 7") && !text.contains("s3cret"));
    assert_eq!(server.command(&["GET", "mine"]).await.unwrap(), Reply::Bulk(b"kept".to_vec()));
}

#[test]
fn without_redis_it_says_how_to_get_one() {
    let nowhere = &mut check(&["--nodes", "3"]);
    let output = nowhere.env("PATH", "/nowhere").env_remove("LARDER_REDIS_SERVER").output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    let text = said(&output);
    assert!(text.contains("--redis redis://") && text.contains("install redis-server"), "{text}");
    for (url, code) in [("redis://:s3cret@127.0.0.1:1", 69), ("http://:s3cret@127.0.0.1:1", 64)] {
        let output = check(&["--nodes", "3", "--redis", url]).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert!(said(&output).contains("--redis") && !said(&output).contains("s3cret"));
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_started() {
    for arguments in [
        &["--nodes", "1"][..],
        &["--nodes", "17"],
        &["--nodes", "3", "--rounds", "0"],
        &["--nodes", "3", "--listen", "127.0.0.1:0"],
        &["--seed", "1"],
    ] {
        let output = check(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
