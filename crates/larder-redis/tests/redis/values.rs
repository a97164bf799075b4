//! Values: one string each, fenced by the epoch of their load.

use std::time::Duration;

use bytes::Bytes;
use larder_core::{EPOCH_OFFSET, Epoch, Remote, Store, StoreLease, Stored};
use larder_redis::{Redis, RedisRemote};
use larder_testkit::{RedisServer, Reply, wait_for};

use crate::support::{DEADLINE, ask, assert_no_key_is_immortal, connect, connected};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// What the engine would store.
/// A store that has to do with no lease.
pub(crate) fn apart(epoch: Epoch, bytes: Bytes, life: Duration) -> Store {
    Store { bytes, life, epoch, lease: StoreLease::Apart, measured: false }
}

pub(crate) fn value(epoch: Epoch, body: &str) -> Bytes {
    let mut bytes = b"Lr\x01\x00".to_vec();
    assert_eq!(bytes.len(), EPOCH_OFFSET);
    bytes.extend_from_slice(&epoch.line.to_be_bytes());
    bytes.extend_from_slice(&epoch.at.to_be_bytes());
    bytes.extend_from_slice(body.as_bytes());
    bytes.into()
}

async fn store(remote: &RedisRemote, line: u64, at: u64, body: &str) -> Stored {
    let epoch = Epoch { line, at };
    remote.store(b"k:1", apart(epoch, value(epoch, body), MINUTE)).await.unwrap()
}

async fn body(remote: &RedisRemote) -> String {
    let bytes = remote.get(b"k:1").await.unwrap().expect("a value");
    String::from_utf8(bytes[20..].to_vec()).unwrap()
}

#[tokio::test]
async fn what_is_stored_is_found_until_it_is_removed() {
    let server = RedisServer::start().await;
    let remote = connect(Redis::at(server.url()).connections(3)).await;
    assert_eq!(remote.get(b"k:1").await, Ok(None));
    assert_eq!(store(&remote, 1, 5, "one").await, Stored::Stored);
    assert_eq!(body(&remote).await, "one");
    assert_eq!(server.keys().await, [b"larder:k:1"]);
    assert_no_key_is_immortal(&server).await;
    remote.remove(b"k:1").await.unwrap();
    assert_eq!(remote.get(b"k:1").await, Ok(None));
    remote.remove(b"k:1").await.unwrap();
}

#[tokio::test]
async fn an_older_load_of_the_same_line_is_refused_and_a_newer_or_equal_one_is_not() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    // Around the byte where a comparison of texts, or of 32 bits, would go wrong.
    let at = 0x000f_ffff_ffff_ff00;
    assert_eq!(store(&remote, 9, at, "new").await, Stored::Stored);
    for older in [at - 1, at - 0x100, 0x1_0000_0000, 0xff, 0] {
        assert_eq!(store(&remote, 9, older, "old").await, Stored::Overtaken, "{older:x}");
    }
    assert_eq!(body(&remote).await, "new");
    assert_eq!(store(&remote, 9, at, "equal").await, Stored::Stored);
    assert_eq!(store(&remote, 9, at + 1, "newer").await, Stored::Stored);
    assert_eq!(body(&remote).await, "newer");
}

#[tokio::test]
async fn a_value_of_another_line_is_replaced_whatever_its_position() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    store(&remote, 9, 1000, "nine").await;
    for line in [10, 9 << 56, 0] {
        assert_eq!(store(&remote, line, 1, "other").await, Stored::Stored);
        assert_eq!(body(&remote).await, "other");
    }
}

#[tokio::test]
async fn garbage_and_other_types_are_replaced() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let newer = value(Epoch { line: 9, at: 1000 }, "");
    let mut foreign = newer.to_vec();
    foreign[2] = 2;
    let mut impossible = newer.to_vec();
    impossible[12] = 0xff;
    for garbage in [b"".as_slice(), b"hello", b"Lr\x01", &newer[..19], &foreign, &impossible] {
        server.command(&[b"SET".as_slice(), b"larder:k:1", garbage]).await.unwrap();
        assert_eq!(store(&remote, 9, 1, "good").await, Stored::Stored, "{garbage:?}");
        assert_eq!(body(&remote).await, "good");
    }
    for other in [["LPUSH", "larder:k:1", "x"], ["SADD", "larder:k:1", "x"]] {
        ask(&server, &["DEL", "larder:k:1"]).await;
        ask(&server, &other).await;
        assert!(remote.get(b"k:1").await.unwrap_err().is_wrong_type());
        assert_eq!(store(&remote, 9, 1, "good").await, Stored::Stored);
    }
    assert_no_key_is_immortal(&server).await;
}

#[tokio::test]
async fn a_life_is_kept_in_milliseconds_and_less_than_one_is_not_stored() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let epoch = Epoch { line: 1, at: 1 };
    let store = |life| remote.store(b"k", apart(epoch, value(epoch, ""), life));
    assert!(store(Duration::from_micros(999)).await.is_err());
    assert!(store(Duration::ZERO).await.is_err());
    assert!(server.keys().await.is_empty());
    assert_eq!(store(Duration::MAX).await, Ok(Stored::Stored));
    assert!(ask(&server, &["PTTL", "larder:k"]).await.int().unwrap() > 1_000_000_000_000);
    assert_eq!(store(Duration::from_micros(1999)).await, Ok(Stored::Stored));
    wait_for(DEADLINE, "it to expire", async || remote.get(b"k").await == Ok(None)).await;
}

#[tokio::test]
async fn keys_may_be_long_and_hold_any_bytes() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let epoch = Epoch { line: 1, at: 1 };
    let long = [b'x'; 5000];
    let longer = [b'x'; 5001];
    let keys: [&[u8]; 5] = [b"", b"\0\r\n{}*", &[0xff; 600], &long, &longer];
    for (at, key) in keys.iter().enumerate() {
        remote.store(key, apart(epoch, value(epoch, &at.to_string()), MINUTE)).await.unwrap();
    }
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(remote.get(key).await.unwrap().unwrap()[20..], *at.to_string().as_bytes());
    }
    let names = server.keys().await;
    assert_eq!(names.len(), keys.len());
    assert!(names.iter().all(|name| name.len() <= 512 && name.starts_with(b"larder:")));
    remote.remove(&long).await.unwrap();
    assert_eq!(remote.get(&long).await, Ok(None));
    assert!(remote.get(&longer).await.unwrap().is_some());
}

#[tokio::test]
async fn large_values_come_back_whole() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let epoch = Epoch { line: 1, at: 1 };
    let large = value(epoch, &"0123456789".repeat(500_000));
    remote.store(b"k", apart(epoch, large.clone(), MINUTE)).await.unwrap();
    assert_eq!(remote.get(b"k").await, Ok(Some(large)));
}

#[tokio::test]
async fn a_full_server_refuses_the_store_and_nothing_is_lost() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    store(&remote, 1, 1, "there").await;
    ask(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let epoch = Epoch { line: 1, at: 2 };
    let error = remote.store(b"k:1", apart(epoch, value(epoch, "x"), MINUTE)).await.unwrap_err();
    assert!(error.to_string().contains("OOM"), "{error}");
    assert_eq!(body(&remote).await, "there");
}

#[tokio::test]
async fn prefixes_and_databases_keep_caches_apart() {
    let server = RedisServer::start().await;
    let one = connect(Redis::at(server.url()).prefix("one")).await;
    let two = connect(Redis::at(server.url()).prefix("two")).await;
    let three = connect(Redis::at(format!("{}/3", server.url())).prefix("one")).await;
    store(&one, 1, 1, "x").await;
    assert_eq!(two.get(b"k:1").await, Ok(None));
    assert_eq!(three.get(b"k:1").await, Ok(None));
    assert_eq!(three.describe(), format!("redis://{}/3", server.addr()));
}

#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_sent_again() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    for at in 1..=3 {
        assert_eq!(ask(&server, &["SCRIPT", "FLUSH"]).await, Reply::Simple("OK".into()));
        assert_eq!(store(&remote, 1, at, "x").await, Stored::Stored);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_does_as_well() {
    let server = RedisServer::start().await;
    let Reply::Array(setting) = ask(&server, &["CONFIG", "GET", "unixsocket"]).await else {
        panic!("no such setting")
    };
    let path = String::from_utf8(setting[1].bytes().unwrap().to_vec()).unwrap();
    let remote = connect(Redis::at(format!("unix://{path}?db=1"))).await;
    store(&remote, 1, 1, "x").await;
    assert_eq!(body(&remote).await, "x");
}
