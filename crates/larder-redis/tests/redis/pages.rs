//! Walking through the values, and discarding those that have not changed.

use std::collections::BTreeMap;

use bytes::Bytes;
use larder_core::{Cursor, Epoch, PEEKED, Remote};
use larder_redis::{Redis, RedisRemote};
use larder_testkit::RedisServer;

use crate::support::{WORKER, ask, connect, connected, open};
use crate::values::{MINUTE, apart, value};

async fn store(remote: &RedisRemote, key: &[u8], at: u64, body: &str) {
    let epoch = Epoch { line: 1, at };
    remote.store(key, apart(epoch, value(epoch, body), MINUTE)).await.unwrap();
}

/// All values under a key, by name.
async fn walk(remote: &RedisRemote, under: &[u8], step: usize) -> BTreeMap<Vec<u8>, Bytes> {
    let mut found = BTreeMap::new();
    let mut cursor = Some(Cursor::default());
    while let Some(at) = cursor {
        let page = remote.page(&[under], at, step).await.unwrap();
        found.extend(page.values);
        cursor = page.next;
    }
    found
}

async fn names(remote: &RedisRemote, under: &[u8]) -> Vec<String> {
    walk(remote, under, 10).await.into_keys().map(|name| String::from_utf8(name).unwrap()).collect()
}

#[tokio::test]
async fn only_values_of_this_prefix_are_shown_and_never_the_log() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    open(&remote, None).await;
    let other = connect(Redis::at(server.url()).prefix("larder2")).await;
    open(&other, None).await;
    store(&other, b"a", 1, "x").await;
    store(&remote, b"a", 1, "x").await;
    for command in [
        ["LPUSH", "larder:list", "x"].as_slice(),
        &["HSET", "larder:hash", "x", "y"],
        &["SET", "larder:empty", ""],
        &["SET", "foreign", "x"],
    ] {
        ask(&server, command).await;
    }
    assert_eq!(names(&remote, b"").await, ["a"]);
}

#[tokio::test]
async fn what_a_glob_means_is_taken_as_it_stands() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    for key in ["a*b", "axb", "a?b", "a[x]b", "a\\b", "ab"] {
        store(&remote, key.as_bytes(), 1, "x").await;
    }
    for key in ["a*", "a?", "a[", "a[x]", "a\\"] {
        let found = names(&remote, key.as_bytes()).await;
        assert!(found.len() == 1 && found[0].starts_with(key), "{key}: {found:?}");
    }
}

#[tokio::test]
async fn long_keys_and_variants_are_found_by_what_they_begin_with_and_discarded_by_name() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let long = format!("t:{}", "\u{1F9C0}".repeat(300));
    store(&remote, long.as_bytes(), 1, "x").await;
    store(&remote, b"t:1~GET http x", 1, "x").await;
    store(&remote, b"t:10", 1, "x").await;
    for cut in [2, 6, 402, 1202] {
        assert_eq!(walk(&remote, &long.as_bytes()[..cut], 10).await.len(), if cut == 2 { 3 } else { 1 });
    }
    assert_eq!(walk(&remote, b"t:1", 10).await.len(), 2);
    assert_eq!(walk(&remote, b"t:1~", 10).await.len(), 1);
    let epoch = Epoch { line: 1, at: 1 };
    let all: Vec<_> = walk(&remote, b"", 10).await.into_keys().map(|name| (name, epoch)).collect();
    assert_eq!(remote.discard(&all).await, Ok(3));
    assert!(server.keys().await.is_empty());
}

#[tokio::test]
async fn of_a_large_value_its_first_bytes_are_shown() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let body = "0123456789".repeat(1000);
    store(&remote, b"k", 1, &body).await;
    let whole = value(Epoch { line: 1, at: 1 }, &body);
    assert_eq!(walk(&remote, b"k", 10).await[b"k".as_slice()], whole[..PEEKED]);
}

/// Twice, so that both ways of calling the script are taken; more than one batch of them.
#[tokio::test]
async fn what_carries_another_epoch_or_is_not_ours_is_not_discarded() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    for _ in 0..2 {
        for i in 0..1200 {
            store(&remote, format!("k:{i}").as_bytes(), 5 + i % 3, "x").await;
        }
        ask(&server, &["SET", "larder:k:short", "Lr"]).await;
        ask(
            &server,
            &["SET", "larder:k:foreign", "XX\u{1}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{1}12345678"],
        )
        .await;
        ask(&server, &["HSET", "larder:k:hash", "x", "y"]).await;
        let mut named: Vec<_> =
            (0..1200).map(|i| (format!("k:{i}").into_bytes(), Epoch { line: 1, at: 6 })).collect();
        for foreign in ["k:short", "k:foreign", "k:hash", "k:none"] {
            named.push((foreign.into(), Epoch { line: 1, at: 0x3132_3334_3536_3738 }));
        }
        assert_eq!(remote.discard(&named).await, Ok(400));
        assert_eq!(remote.discard(&named).await, Ok(0));
        assert_eq!(server.keys().await.len(), 800 + 3);
        ask(&server, &["DEL", "larder:k:hash"]).await;
    }
    assert_eq!(remote.discard(&[]).await, Ok(0));
}

#[tokio::test]
async fn a_user_without_info_can_walk_and_discard() {
    let server = RedisServer::start().await;
    ask(&server, &WORKER).await;
    let remote = connect(Redis::at(server.url()).username("app").password("pw")).await;
    store(&remote, b"k", 1, "x").await;
    ask(&server, &["SET", "foreign", "x"]).await;
    assert_eq!(names(&remote, b"").await, ["k"]);
    assert_eq!(remote.discard(&[(b"k".to_vec(), Epoch { line: 1, at: 1 })]).await, Ok(1));
}
