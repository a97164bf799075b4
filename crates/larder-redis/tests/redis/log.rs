//! The log on one server whose history is whole.

use std::time::Duration;

use larder_core::{Append, Author, Epoch, Head, Mode, Opened, RecordBody, Remote, RemoteError, Stamp};
use larder_redis::Redis;
use larder_testkit::{RedisServer, Reply};

use crate::support::{
    WORKER, append, ask, ask_text, assert_no_key_is_immortal, connect, connected, open, record, runtime,
};

const LOG: &str = "{larder}:log";
const STATE: &str = "{larder}:state";

fn head_of(opened: &Opened) -> Head {
    Head { epoch: opened.head, lineage: opened.lineage.clone(), since: opened.since }
}

#[tokio::test]
async fn an_empty_server_begins_a_line_and_opening_again_changes_nothing() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    assert_eq!(remote.head().await, Ok(None));
    let first = remote.open(None, 0xabc).await.unwrap();
    assert_eq!(first.head.line, 0xabc);
    assert!(first.server_known);
    assert_eq!(first.since, first.head.at);
    assert!(first.lineage.cuts().is_empty());
    let again = remote.open(Some(first.head), 0xdef).await.unwrap();
    assert_eq!((again.head, again.since), (first.head, first.since));
    assert_eq!(again.lineage, first.lineage);
    // A node that knows nothing changes nothing either.
    assert_eq!(remote.open(None, 0xfed).await.unwrap().head, first.head);
    assert_eq!(remote.head().await, Ok(Some(head_of(&first))));
    assert_no_key_is_immortal(&server).await;
}

#[tokio::test]
async fn opening_tells_the_servers_time() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let opened = open(&remote, None).await;
    let wall = runtime().wall_millis();
    assert!(opened.server_ms.abs_diff(wall) < 60_000, "{} is not about {wall}", opened.server_ms);
    assert!(opened.head.at.abs_diff(wall * 1000) < 60_000_000);
}

#[tokio::test]
async fn a_record_is_on_the_line_names_its_predecessor_and_leaves_stamps() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let start = open(&remote, None).await.head;
    let hard = append(&remote, start, &["k:1", "#x"]).await;
    assert_eq!(hard.line, start.line);
    assert!(hard.at > start.at);

    let round = remote.follow(start, 10, Duration::ZERO).await.unwrap();
    assert_eq!(round.head, Some(hard));
    assert_eq!(round.records.len(), 1);
    assert_eq!((round.records[0].epoch, round.records[0].prev), (hard, Some(start)));
    let selectors = vec!["k:1".to_owned(), "#x".to_owned()];
    let author = Author { node: "n1".into(), reason: "why".into(), actor: "who".into() };
    let body = RecordBody::Invalidation(Append { mode: Mode::Hard, selectors, op: 7, author });
    assert_eq!(round.records[0].body, body);

    let at = Some(hard.at.to_string());
    assert_eq!(ask_text(&server, &["HGET", STATE, "hk:1"]).await, at);
    assert_eq!(ask_text(&server, &["HGET", STATE, "h#x"]).await, at);
    assert_no_key_is_immortal(&server).await;
}

#[tokio::test]
async fn soft_and_hard_are_two_columns() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let start = open(&remote, None).await.head;
    let hard = append(&remote, start, &["k:1"]).await;
    let soft = remote.append(&record(Mode::Soft, &["k:1"]), Some(hard), 1).await.unwrap();
    let mut stamps = remote.scan().await.unwrap();
    stamps.sort_by_key(|stamp| stamp.at);
    let stamp = |mode, at| Stamp { mode, selector: "k:1".into(), at };
    assert_eq!(stamps, [stamp(Mode::Hard, hard.at), stamp(Mode::Soft, soft.at)]);
}

#[tokio::test]
async fn reading_goes_on_behind_the_position_and_stops_at_the_limit() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let start = open(&remote, None).await.head;
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(append(&remote, start, &["k"]).await);
    }
    let read = async |position, limit| {
        let round = remote.follow(position, limit, Duration::ZERO).await.unwrap();
        assert_eq!(round.head, all.last().copied());
        round.records.iter().map(|record| record.epoch).collect::<Vec<_>>()
    };
    assert_eq!(read(start, 100).await, all);
    assert_eq!(read(start, 2).await, all[..2]);
    assert_eq!(read(all[1], 2).await, all[2..4]);
    assert_eq!(read(all[4], 2).await, []);
}

#[tokio::test]
async fn the_first_record_is_a_marker_without_a_predecessor() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let start = open(&remote, None).await.head;
    let records = remote.follow(Epoch { line: start.line, at: 0 }, 10, Duration::ZERO).await.unwrap().records;
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].epoch, records[0].prev), (start, None));
    assert_eq!(records[0].body, RecordBody::Marker);
}

#[tokio::test]
async fn a_caller_ahead_of_the_log_cuts_the_line_and_a_caller_of_no_line_gets_a_barrier() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let start = open(&remote, None).await.head;
    let stranger = open(&remote, Some(Epoch { line: 0x5555, at: 5 })).await;
    assert_eq!(stranger.head.line, start.line);
    assert!(stranger.head.at > start.at, "a barrier");
    assert_eq!(stranger.lineage.cuts(), []);

    let ahead = Epoch { line: start.line, at: stranger.head.at + 1_000_000_000 };
    let cut = open(&remote, Some(ahead)).await;
    assert_ne!(cut.head.line, start.line);
    assert_eq!(cut.lineage.cuts(), [stranger.head]);
    let barrier = remote.follow(stranger.head, 10, Duration::ZERO).await.unwrap().records.remove(0);
    assert_eq!((barrier.epoch, barrier.prev), (cut.head, Some(stranger.head)));
    assert_eq!(barrier.body, RecordBody::Marker);

    // From before the cut: the same history, so no barrier. From behind it: one.
    assert_eq!(open(&remote, Some(start)).await.head, cut.head);
    assert!(open(&remote, Some(ahead)).await.head.at > cut.head.at);
}

#[tokio::test]
async fn an_append_by_a_caller_ahead_of_the_log_begins_the_new_line_before_its_record() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let start = open(&remote, None).await.head;
    let ahead = Epoch { line: start.line, at: start.at + 1_000_000_000 };
    let token = append(&remote, ahead, &["k"]).await;
    let records = remote.follow(start, 10, Duration::ZERO).await.unwrap().records;
    assert_eq!(records.len(), 2);
    assert_eq!((records[0].prev, &records[0].body), (Some(start), &RecordBody::Marker));
    assert_eq!((records[1].prev, records[1].epoch), (Some(records[0].epoch), token));
    assert_ne!(token.line, start.line);
}

#[tokio::test]
async fn the_last_eight_lines_are_remembered() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let mut heads = vec![open(&remote, None).await.head];
    for _ in 0..10 {
        let last = heads[heads.len() - 1];
        let ahead = Epoch { line: last.line, at: last.at + 1_000_000_000 };
        heads.push(open(&remote, Some(ahead)).await.head);
    }
    let opened = open(&remote, heads.last().copied()).await;
    assert_eq!(opened.lineage.cuts(), &heads[2..10]);
    assert_eq!(remote.head().await, Ok(Some(head_of(&opened))));
    let kept = ask_text(&server, &["HGET", STATE, ".lineage"]).await.unwrap();
    assert_eq!(kept.matches(',').count(), 8, "{kept}");
}

#[tokio::test]
async fn a_scan_finds_every_stamp_of_both_generations() {
    let server = RedisServer::start().await;
    let remote = connect(Redis::at(server.url()).stamp_limit(4000)).await;
    let start = open(&remote, None).await.head;
    for batch in 0..6 {
        let selectors: Vec<String> = (0..1000).map(|i| format!("k:{}", batch * 1000 + i)).collect();
        let selectors: Vec<&str> = selectors.iter().map(String::as_str).collect();
        append(&remote, start, &selectors).await;
    }
    assert_eq!(ask(&server, &["EXISTS", "{larder}:old"]).await, Reply::Int(1));
    let mut found: Vec<String> =
        remote.scan().await.unwrap().into_iter().map(|stamp| stamp.selector).collect();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 6000);
}

#[tokio::test]
async fn a_record_without_selectors_or_with_too_many_is_refused() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let selectors = vec!["k"; 1001];
    for bad in [&[], selectors.as_slice()] {
        assert!(remote.append(&record(Mode::Hard, bad), None, 1).await.is_err());
    }
    assert!(server.keys().await.is_empty());
    assert!(remote.append(&record(Mode::Hard, &selectors[1..]), None, 1).await.is_ok());
}

#[tokio::test]
async fn an_append_without_a_position_begins_the_line_if_there_is_none() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let token = remote.append(&record(Mode::Hard, &["k"]), None, 5).await.unwrap();
    assert_eq!(token.line, 5);
    assert_eq!(remote.head().await.unwrap().unwrap().epoch, token);
    assert!(open(&remote, Some(token)).await.since < token.at);
}

#[tokio::test]
async fn records_of_another_format_and_foreign_ones_are_unknown() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let start = open(&remote, None).await.head;
    let line = format!("{:016x}", start.line);
    let prev = format!("{line}:{}", start.at);
    let id = format!("{}-0", start.at + 1);
    let later = ["XADD", LOG, &id, "line", &line, "prev", &prev, "v", "2", "what", "ever"];
    assert!(matches!(ask(&server, &later).await, Reply::Bulk(_)));
    ask(&server, &["XADD", LOG, "*", "hello", "world"]).await;
    let records = remote.follow(start, 10, Duration::ZERO).await.unwrap().records;
    assert_eq!(records[0].body, RecordBody::Unknown);
    assert_eq!(records[0].prev, Some(start));
    assert_eq!((records[1].prev, &records[1].body), (None, &RecordBody::Unknown));
}

#[tokio::test]
async fn a_user_without_info_can_do_everything() {
    let server = RedisServer::start().await;
    assert_eq!(ask(&server, &WORKER).await, Reply::Simple("OK".into()));
    let remote = connect(Redis::at(server.url()).username("app").password("pw")).await;
    let start = open(&remote, None).await.head;
    let token = append(&remote, start, &["k"]).await;
    let opened = open(&remote, Some(token)).await;
    assert_eq!((opened.head, opened.server_known), (token, false));
    assert_eq!(remote.follow(start, 9, Duration::ZERO).await.unwrap().records.len(), 1);
    assert_eq!(remote.scan().await.unwrap().len(), 1);
    assert_eq!(remote.get(b"k").await, Ok(None));
    // And what is not its own is refused, without an end of the connection.
    let other = connect_fails_on_prefix(&server).await;
    assert!(other.to_string().contains("NOPERM"), "{other}");
}

/// The same user with a prefix that it may not touch: no link, and the reason says why.
async fn connect_fails_on_prefix(server: &RedisServer) -> RemoteError {
    let remote =
        crate::support::build(Redis::at(server.url()).prefix("other").username("app").password("pw"));
    remote.connect();
    crate::support::wait_down(&remote, "NOPERM").await;
    remote.get(b"k").await.unwrap_err()
}

#[tokio::test]
async fn history_goes_back_from_a_record_or_from_the_end_and_says_who_wrote_it() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    assert_eq!(remote.history(None, 10).await, Ok(Vec::new()));
    let start = open(&remote, None).await.head;
    let mut all = vec![start];
    for _ in 0..4 {
        all.push(append(&remote, start, &["k"]).await);
    }
    all.reverse();
    let epochs = async |before, limit| {
        let records = remote.history(before, limit).await.unwrap();
        records.iter().map(|record| record.epoch).collect::<Vec<_>>()
    };
    assert_eq!(epochs(None, 10).await, all);
    assert_eq!(epochs(None, 2).await, all[..2]);
    assert_eq!(epochs(Some(all[1].at), 2).await, all[2..4]);
    assert_eq!(epochs(Some(start.at), 2).await, []);
    assert_eq!((epochs(Some(0), 2).await, epochs(None, 0).await), (Vec::new(), Vec::new()));
    let last = remote.history(None, 1).await.unwrap().remove(0);
    let RecordBody::Invalidation(append) = last.body else { panic!("{:?}", last.body) };
    assert_eq!((append.author.actor.as_str(), append.author.reason.as_str()), ("who", "why"));
}
