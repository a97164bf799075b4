//! The log when parts of it are lost: rotated away, evicted, flushed, overwritten.

use std::time::Duration;

use larder_core::{Epoch, Remote, RemoteError};
use larder_redis::{Redis, RedisRemote};
use larder_testkit::{RedisServer, Reply};

use crate::support::{append, ask, ask_text, assert_no_key_is_immortal, connect, open};

const LOG: &str = "{larder}:log";
const STATE: &str = "{larder}:state";
const OLD: &str = "{larder}:old";

/// A log whose generations hold a dozen stamps.
async fn small(server: &RedisServer) -> (std::sync::Arc<RedisRemote>, Epoch) {
    let remote = connect(Redis::at(server.url()).stamp_limit(12)).await;
    let start = open(&remote, None).await.head;
    (remote, start)
}

/// Appends until the stamps have rotated once; answers the last position.
async fn rotate(remote: &RedisRemote, server: &RedisServer, mut position: Epoch) -> Epoch {
    for i in 0..20 {
        if ask(server, &["EXISTS", OLD]).await == Reply::Int(1) {
            return position;
        }
        position = append(remote, position, &[&format!("r:{i}")]).await;
    }
    panic!("the stamps do not rotate");
}

#[tokio::test]
async fn stamps_rotate_and_the_older_generation_still_counts() {
    let server = RedisServer::start().await;
    let (remote, start) = small(&server).await;
    let first = append(&remote, start, &["k:1"]).await;
    let last = rotate(&remote, &server, first).await;
    assert_eq!(ask_text(&server, &["HGET", OLD, "hk:1"]).await, Some(first.at.to_string()));
    let opened = open(&remote, Some(last)).await;
    assert_eq!((opened.head, opened.since), (last, start.at));
    assert_eq!(remote.head().await.unwrap().unwrap().since, start.at);
    let stamps = remote.scan().await.unwrap();
    assert!(stamps.iter().any(|stamp| stamp.selector == "k:1" && stamp.at == first.at));
    assert_no_key_is_immortal(&server).await;
}

#[tokio::test]
async fn a_second_rotation_forgets_the_oldest_stamps_and_says_so() {
    let server = RedisServer::start().await;
    let (remote, start) = small(&server).await;
    let first = rotate(&remote, &server, start).await;
    let mut position = first;
    for i in 0..12 {
        position = append(&remote, position, &[&format!("s:{i}")]).await;
    }
    assert_eq!(open(&remote, Some(position)).await.since, first.at);
    let stamps = remote.scan().await.unwrap();
    assert!(stamps.iter().all(|stamp| stamp.at > first.at));
    assert_no_key_is_immortal(&server).await;
}

#[tokio::test]
async fn when_older_stamps_are_evicted_the_reach_moves_up() {
    let server = RedisServer::start().await;
    let (remote, start) = small(&server).await;
    let last = rotate(&remote, &server, start).await;
    ask(&server, &["UNLINK", OLD]).await;
    let opened = open(&remote, Some(last)).await;
    assert_eq!((opened.head, opened.since), (last, last.at));
    assert_eq!(remote.head().await.unwrap().unwrap().since, last.at);
}

#[tokio::test]
async fn when_the_stream_is_evicted_the_next_record_still_names_its_predecessor() {
    let server = RedisServer::start().await;
    let (remote, start) = small(&server).await;
    let before = append(&remote, start, &["k:1"]).await;
    ask(&server, &["UNLINK", LOG]).await;
    // Nothing to read, but the head is ahead: a reader sees the gap.
    let round = remote.follow(start, 10, Duration::ZERO).await.unwrap();
    assert_eq!((round.head, round.records.len()), (Some(before), 0));
    let after = append(&remote, before, &["k:2"]).await;
    let records = remote.follow(start, 10, Duration::ZERO).await.unwrap().records;
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].epoch, records[0].prev), (after, Some(before)));
    assert_no_key_is_immortal(&server).await;
}

#[tokio::test]
async fn when_the_state_is_evicted_a_line_without_ancestors_begins() {
    let server = RedisServer::start().await;
    let (remote, start) = small(&server).await;
    let last = append(&remote, start, &["k:1"]).await;
    ask(&server, &["UNLINK", STATE]).await;
    assert_eq!(remote.head().await, Ok(None));
    assert_eq!(remote.follow(last, 10, Duration::ZERO).await.unwrap().head, None);
    let opened = open(&remote, Some(last)).await;
    assert_ne!(opened.head.line, start.line);
    assert!(opened.lineage.cuts().is_empty());
    assert_eq!(opened.since, opened.head.at);
    assert_eq!(ask(&server, &["XLEN", LOG]).await, Reply::Int(1));
    assert!(remote.scan().await.unwrap().is_empty());
}

#[tokio::test]
async fn after_a_flush_an_append_begins_a_line_with_a_marker() {
    let server = RedisServer::start().await;
    let (remote, start) = small(&server).await;
    server.flush_all().await;
    let token = append(&remote, start, &["k:3"]).await;
    assert_ne!(token.line, start.line);
    assert_eq!(ask(&server, &["XLEN", LOG]).await, Reply::Int(2));
    assert!(open(&remote, Some(token)).await.lineage.cuts().is_empty());
    assert_no_key_is_immortal(&server).await;
}

#[tokio::test]
async fn a_state_that_is_not_ours_counts_as_lost() {
    let server = RedisServer::start().await;
    let (remote, mut position) = small(&server).await;
    let spoil: [&[&str]; 6] = [
        &["SET", STATE, "x"],
        &["HSET", STATE, ".last", "many"],
        &["HSET", STATE, ".last", "9999999999999999"],
        &["HSET", STATE, ".line", "zz"],
        &["HDEL", STATE, ".since"],
        &["HDEL", STATE, ".last"],
    ];
    for command in spoil {
        let last = append(&remote, position, &["k"]).await;
        assert!(!matches!(ask(&server, command).await, Reply::Error(_)));
        let opened = open(&remote, Some(last)).await;
        assert_ne!(opened.head.line, position.line, "{command:?}");
        assert!(opened.lineage.cuts().is_empty());
        let head = remote.head().await.unwrap().unwrap();
        assert_eq!((head.epoch, head.since), (opened.head, opened.since));
        position = opened.head;
    }
    ask(&server, &["SET", STATE, "x"]).await;
    assert_eq!(remote.head().await, Ok(None));
    assert_eq!(remote.scan().await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_stream_that_is_none_or_is_ahead_of_its_state_is_replaced() {
    let server = RedisServer::start().await;
    let (remote, start) = small(&server).await;
    ask(&server, &["SET", LOG, "x"]).await;
    assert_eq!(remote.follow(start, 9, Duration::ZERO).await.unwrap().records, []);
    let first = append(&remote, start, &["k"]).await;
    assert_eq!(ask(&server, &["XLEN", LOG]).await, Reply::Int(1));
    ask(&server, &["XADD", LOG, "4503599627370000-0", "x", "y"]).await;
    let second = append(&remote, first, &["k"]).await;
    let records = remote.follow(start, 9, Duration::ZERO).await.unwrap().records;
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].prev, records[0].epoch), (Some(first), second));
    assert_no_key_is_immortal(&server).await;
}

#[tokio::test]
async fn old_stamps_of_another_type_count_as_none() {
    let server = RedisServer::start().await;
    let (remote, start) = small(&server).await;
    ask(&server, &["SET", OLD, "x"]).await;
    assert_eq!(open(&remote, Some(start)).await.since, start.at);
    assert_eq!(remote.head().await.unwrap().unwrap().since, start.at);
    assert_eq!(remote.scan().await, Ok(Vec::new()));
    ask(&server, &["UNLINK", OLD]).await;
    rotate(&remote, &server, start).await;
}

#[tokio::test]
async fn on_a_full_server_an_append_fails_as_a_whole_and_keeps_the_log() {
    let server = RedisServer::start().await;
    let (remote, start) = small(&server).await;
    let last = append(&remote, start, &["k"]).await;
    ask(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let record = crate::support::record(larder_core::Mode::Hard, &["lost"]);
    let error: RemoteError = remote.append(&record, Some(last), 1).await.unwrap_err();
    assert!(error.to_string().contains("OOM"), "{error}");
    ask(&server, &["CONFIG", "SET", "maxmemory", "0"]).await;
    let round = remote.follow(start, 9, Duration::ZERO).await.unwrap();
    assert_eq!((round.head, round.records.len()), (Some(last), 1));
    assert_eq!(remote.scan().await.unwrap().len(), 1);
}

#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_sent_again() {
    let server = RedisServer::start().await;
    let (remote, start) = small(&server).await;
    ask(&server, &["SCRIPT", "FLUSH"]).await;
    let token = append(&remote, start, &["k"]).await;
    ask(&server, &["SCRIPT", "FLUSH"]).await;
    assert_eq!(open(&remote, Some(token)).await.head, token);
}
