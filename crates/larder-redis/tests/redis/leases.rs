//! Leases and shares as they are in Redis, and whatever else may be in their places.

use std::time::Duration;

use larder_core::{Cursor, Epoch, LeaseAnswer, LeaseRequest, Remote, Store, StoreLease, Stored};
use larder_redis::RedisRemote;
use larder_testkit::{RedisServer, Reply};

use crate::support::{ask, ask_text, assert_no_key_is_immortal, connected};
use crate::values::{MINUTE, apart, value};

const LEASE: &str = "{larder:k:1}:lease";
const SHARE: &str = "{larder:share:s}";
const EPOCH: Epoch = Epoch { line: 255, at: 42 };

pub(crate) fn request(token: u64, waiter: u64) -> LeaseRequest {
    LeaseRequest { token, epoch: EPOCH, life: MINUTE, rejected: None, vain: None, waiter }
}

async fn lease(remote: &RedisRemote, token: u64, waiter: u64) -> LeaseAnswer {
    remote.lease(b"k:1", &request(token, waiter)).await.expect("it is answered")
}

async fn store_ending(remote: &RedisRemote, token: u64) -> Stored {
    let store = Store { lease: StoreLease::Ends(token), ..apart(EPOCH, value(EPOCH, "x"), MINUTE) };
    remote.store(b"k:1", store).await.expect("it is stored")
}

async fn left_ms(server: &RedisServer, key: &str) -> i64 {
    ask(server, &["PTTL", key]).await.int().expect("a number")
}

#[tokio::test]
async fn a_lease_is_one_readable_string_that_remembers_64_waiters_and_keeps_its_life() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    assert_eq!(lease(&remote, 0xab, 1).await, LeaseAnswer::Granted);
    let text = "00000000000000ab 00000000000000ff 42";
    assert_eq!(ask_text(&server, &["GET", LEASE]).await.as_deref(), Some(text));
    assert_eq!(remote.extend(b"k:1", 0xab, MINUTE / 2).await, Ok(true));
    for waiter in (1..=100).chain([1, 2]) {
        assert!(matches!(lease(&remote, 7, waiter).await, LeaseAnswer::Held { token: 0xab, .. }));
    }
    let waiters: String = (1..=64).map(|waiter| format!(" {waiter:016x}")).collect();
    assert_eq!(ask_text(&server, &["GET", LEASE]).await, Some(format!("{text}{waiters}")));
    assert!((20_000..=30_000).contains(&left_ms(&server, LEASE).await));
    assert_eq!(server.keys().await, [LEASE.as_bytes()]);

    // Taken over, it still has them.
    let takes = LeaseRequest { vain: Some(0xab), ..request(0xcd, 9) };
    assert_eq!(remote.lease(b"k:1", &takes).await, Ok(LeaseAnswer::Granted));
    let text = text.replace("ab", "cd");
    assert_eq!(ask_text(&server, &["GET", LEASE]).await, Some(format!("{text}{waiters}")));
    assert_no_key_is_immortal(&server).await;
}

#[tokio::test]
async fn a_share_is_one_hash_that_ends_with_its_last_part_and_walks_see_neither_it_nor_leases() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    assert_eq!(remote.reserve(b"s", 10, MINUTE, 100).await, Ok(true));
    assert_eq!(remote.reserve(b"s", 20, MINUTE * 16, 100).await, Ok(true));
    assert_eq!(remote.reserve(b"s", 5, MINUTE, 100).await, Ok(true));
    assert!((960_000..=960_000 + 65_536).contains(&left_ms(&server, SHARE).await));
    let parts = ask(&server, &["HVALS", SHARE]).await;
    let count =
        |part: &Reply| String::from_utf8(part.bytes().unwrap().to_vec()).unwrap().parse::<u64>().unwrap();
    assert_eq!(parts.items().iter().map(count).sum::<u64>(), 35);
    lease(&remote, 1, 1).await;
    assert_no_key_is_immortal(&server).await;
    let page = remote.page(&[b""], Cursor::default(), 1000).await.unwrap();
    assert!(page.values.is_empty() && page.next.is_none(), "{page:?}");

    // A part that is over goes when somebody counts, whatever is left of it.
    ask(&server, &["HSET", SHARE, "1024:1", "99"]).await;
    assert_eq!(remote.reserve(b"s", 65, MINUTE, 100).await, Ok(true));
    assert_eq!(ask(&server, &["HEXISTS", SHARE, "1024:1"]).await, Reply::Int(0));
    remote.give_back(b"s", 1000, MINUTE).await.unwrap();
    assert!(!server.keys().await.contains(&SHARE.into()));
}

#[tokio::test]
async fn whatever_is_in_the_place_of_a_lease_is_none_and_stops_nothing() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let lines = "00000000000000ab 00000000000000ff";
    let foreign: [Vec<String>; 7] = [
        vec!["LPUSH".into(), LEASE.into(), "x".into()],
        vec!["HSET".into(), LEASE.into(), "f".into(), "v".into()],
        vec!["SET".into(), LEASE.into(), String::new()],
        vec!["SET".into(), LEASE.into(), "hello".into(), "PX".into(), "60000".into()],
        vec![
            "SET".into(),
            LEASE.into(),
            format!("{lines} 99999999999999999999"),
            "PX".into(),
            "60000".into(),
        ],
        vec!["SET".into(), LEASE.into(), format!("{lines} 42 1"), "PX".into(), "60000".into()],
        // It would never end.
        vec!["SET".into(), LEASE.into(), format!("{lines} 42")],
    ];
    for words in foreign {
        let spoil = async || {
            ask(&server, &["DEL", LEASE]).await;
            assert!(!matches!(server.command(&words).await.unwrap(), Reply::Error(_)), "{words:?}");
        };
        spoil().await;
        assert_eq!(remote.extend(b"k:1", 0xab, MINUTE).await, Ok(false), "{words:?}");
        assert_eq!(remote.release(b"k:1", 0xab, true).await, Ok(()), "{words:?}");
        assert_eq!(store_ending(&remote, 1).await, Stored::Stored, "{words:?}");
        remote.remove(b"k:1").await.unwrap();
        spoil().await;
        assert_eq!(lease(&remote, 7, 1).await, LeaseAnswer::Granted, "{words:?}");
        assert!(matches!(lease(&remote, 8, 2).await, LeaseAnswer::Held { token: 7, .. }), "{words:?}");
        assert_eq!(store_ending(&remote, 7).await, Stored::Stored, "{words:?}");
        assert_eq!(server.keys().await, [b"larder:k:1"], "{words:?}");
        remote.remove(b"k:1").await.unwrap();
    }
}

#[tokio::test]
async fn whatever_is_in_the_place_of_a_value_does_not_keep_its_lease() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    for words in [["LPUSH", "larder:k:1", "x"].as_slice(), &["SET", "larder:k:1", "x"]] {
        ask(&server, &["DEL", "larder:k:1"]).await;
        ask(&server, words).await;
        assert_eq!(lease(&remote, 7, 1).await, LeaseAnswer::Granted);
        // What was never to end, or is no string, is not told as replaced.
        let store =
            Store { lease: StoreLease::Ends(7), measured: true, ..apart(EPOCH, value(EPOCH, "x"), MINUTE) };
        assert_eq!(remote.store(b"k:1", store).await, Ok(Stored::Stored));
    }
    assert_no_key_is_immortal(&server).await;
}

#[tokio::test]
async fn whatever_is_in_the_place_of_a_share_is_replaced() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let foreign: [&[&str]; 4] = [
        &["SET", SHARE, "x"],
        &["LPUSH", SHARE, "x"],
        &["HSET", SHARE, "f", "v", "1024:99999999999", "many", "1024:", "1", "1024:99999999998", "-5"],
        &["HSET", SHARE, "", ""],
    ];
    for words in foreign {
        ask(&server, &["DEL", SHARE]).await;
        assert!(!matches!(ask(&server, words).await, Reply::Error(_)), "{words:?}");
        assert_eq!(remote.give_back(b"s", 10, MINUTE).await, Ok(()), "{words:?}");
        assert_eq!(server.keys().await.len(), 0, "{words:?}");
        ask(&server, words).await;
        assert_eq!(remote.reserve(b"s", 100, MINUTE, 100).await, Ok(true), "{words:?}");
        assert_eq!(remote.reserve(b"s", 1, MINUTE, 100).await, Ok(false), "{words:?}");
        assert_eq!(ask(&server, &["HLEN", SHARE]).await, Reply::Int(1), "{words:?}");
        assert_no_key_is_immortal(&server).await;
    }
}

#[tokio::test]
async fn on_a_full_server_the_store_fails_and_its_lease_ends_all_the_same() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    assert_eq!(lease(&remote, 7, 1).await, LeaseAnswer::Granted);
    ask(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    // Whoever asks is told whose it is, though he cannot be remembered.
    assert!(matches!(lease(&remote, 8, 2).await, LeaseAnswer::Held { token: 7, .. }));
    let store = Store { lease: StoreLease::Ends(7), ..apart(EPOCH, value(EPOCH, "x"), MINUTE) };
    let error = remote.store(b"k:1", store).await.unwrap_err();
    assert!(error.to_string().contains("OOM"), "{error}");
    assert!(server.keys().await.is_empty());
    assert!(remote.lease(b"k:1", &request(8, 2)).await.is_err());
}

#[tokio::test]
async fn what_lives_for_less_than_a_millisecond_is_no_lease() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let short = Duration::from_micros(999);
    assert!(remote.lease(b"k:1", &LeaseRequest { life: short, ..request(1, 1) }).await.is_err());
    assert_eq!(lease(&remote, 1, 1).await, LeaseAnswer::Granted);
    assert!(remote.extend(b"k:1", 1, short).await.is_err());
    assert_eq!(remote.extend(b"k:1", 1, Duration::MAX).await, Ok(true));
    assert!(left_ms(&server, LEASE).await > 1_000_000_000_000);
    assert_eq!(remote.reserve(b"s", 1, Duration::MAX, 1).await, Ok(true));
    assert_eq!(remote.reserve(b"s", u64::MAX, MINUTE, 1).await, Ok(false));
    assert_eq!(remote.give_back(b"s", u64::MAX, Duration::MAX).await, Ok(()));
    assert_eq!(remote.reserve(b"s", 1, Duration::ZERO, 1).await, Ok(true));
}
