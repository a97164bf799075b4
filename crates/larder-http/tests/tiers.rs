//! Answers in the remote tier: what one process stores, another serves.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing;
use common::*;
use larder_core::{Cache, Compression, Policy};
use larder_http::{HeaderStyle, ResponseCache};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

const LINKS: [&[u8]; 3] = [b"</a>; rel=next", b"caf\xc3\xa9 \xff", b""];

/// A site that says its name in the body, with headers that are hard to keep.
fn site(cache: &Cache, policy: Policy, name: &'static str) -> Router {
    let handler = move || async move {
        let mut response = format!("made by {name} \0\u{e9}").into_response();
        for link in LINKS {
            response.headers_mut().append(header::LINK, HeaderValue::from_bytes(link).unwrap());
        }
        response.headers_mut().append("x-one", HeaderValue::from_static("1"));
        response
    };
    let pages = ResponseCache::new(cache, "page", policy)
        .unwrap()
        .headers(HeaderStyle::all())
        .tags(|_| vec!["t".into()]);
    Router::new().route("/", routing::get(handler).layer(pages))
}

fn links(reply: &Reply) -> Vec<&[u8]> {
    reply.headers.get_all(header::LINK).iter().map(HeaderValue::as_bytes).collect()
}

/// Lessons S3 and H5: repeated lines, and values that are no UTF-8, survive both tiers.
#[tokio::test]
async fn every_header_line_and_byte_survives_both_tiers() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let (a, b) = (site(&a, policy(), "a"), site(&b, policy(), "b"));
    let made = ask(&a, get("/")).await;
    settle().await;
    assert_eq!(world.remote.len(), 1);
    for app in [&a, &b, &b] {
        let reply = ask(app, get("/")).await;
        assert_eq!(
            (reply.word(), reply.body.clone(), links(&reply)),
            ("HIT", made.body.clone(), LINKS.to_vec())
        );
        for name in ["x-one", "etag", "content-type", "content-length"] {
            assert_eq!(reply.headers.get(name), made.headers.get(name), "{name}");
        }
    }
}

#[tokio::test]
async fn another_process_serves_it_with_its_real_age_and_ttl() {
    let world = World::new();
    let a = site(&world.process().await, policy(), "a");
    assert_eq!(ask(&a, get("/")).await.word(), "MISS");
    settle().await;
    world.runtime.advance(Duration::from_secs(20));
    let cache = world.process().await;
    let b = site(&cache, policy(), "b");
    for tier in ["remote", "memory"] {
        let reply = ask(&b, get("/")).await;
        assert_eq!(reply.header("cache-status"), "larder; hit; ttl=40", "{tier}");
        assert_eq!((reply.header("age"), reply.header("x-cache-ttl")), ("20", "40"), "{tier}");
        assert_eq!(reply.header("x-cache-date"), "Tue, 14 Nov 2023 22:13:20 GMT", "{tier}");
        assert!(reply.text().starts_with("made by a"));
    }
    let stats = &cache.stats().namespaces["page"];
    assert_eq!((stats.hits_remote, stats.hits_memory, stats.loads), (1, 1, 0));
    assert_eq!(ask(&b, head("/")).await.header("content-length"), "13");
    let reply = ask(&b, with("/", &[("if-none-match", "*")])).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (304, ""));
}

#[tokio::test]
async fn a_route_without_memory_asks_the_remote_tier_every_time() {
    let world = World::new();
    let policy = policy().remote_only().stale_while_revalidate(MINUTE);
    let cache = world.process().await;
    let a = site(&cache, policy.clone(), "a");
    let b = site(&world.process().await, policy, "b");
    assert_eq!(ask(&a, get("/")).await.word(), "MISS");
    settle().await;
    assert_eq!(cache.stats().memory_entries, 0);
    for app in [&a, &b, &a] {
        let gets = world.remote.gets();
        let reply = ask(app, with("/", &[("cache-control", "only-if-cached")])).await;
        assert_eq!((reply.word(), world.remote.gets()), ("HIT", gets + 1));
    }
    // Stale from there, too: served at once, refreshed beside it.
    world.runtime.advance(MINUTE);
    assert_eq!(ask(&b, get("/")).await.word(), "STALE");
    settle().await;
    let reply = ask(&a, get("/")).await;
    assert_eq!((reply.word(), reply.text().starts_with("made by b")), ("HIT", true));
}

/// Design 4.5: what one process invalidates no other serves, wherever it lies.
#[tokio::test]
async fn an_invalidation_by_one_process_reaches_the_answers_of_the_other() {
    for pattern in ["page", "page:*", "#t", "*"] {
        let world = World::new();
        let (a, b) = (world.process().await, world.process().await);
        let (site_a, site_b) = (site(&a, policy(), "a"), site(&b, policy(), "b"));
        assert_eq!(ask(&site_a, get("/")).await.word(), "MISS");
        settle().await;
        assert_eq!(ask(&site_b, get("/")).await.word(), "HIT");
        drop_all(&a, &[pattern]).await;
        // The other node catches up with the log.
        world.remote.reconnect();
        settle().await;
        let reply = ask(&site_b, get("/")).await;
        assert_eq!((reply.word(), reply.text().starts_with("made by b")), ("MISS", true), "{pattern}");
    }
}

/// Attack 39: whatever lies under the key, the answer comes from the handler.
#[tokio::test]
async fn damaged_bytes_in_the_remote_tier_are_a_miss() {
    let world = World::new();
    let policy = policy().remote_only();
    let app = site(&world.process().await, policy, "a");
    assert_eq!(ask(&app, get("/")).await.word(), "MISS");
    settle().await;
    let key = "page~GET http H6:a.test r1:/ p1:/";
    let good = world.remote.bytes(key).expect("the key is what it is documented to be");
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x40;
        world.remote.plant(key, bad);
        let reply = ask(&app, get("/")).await;
        assert!(reply.text().starts_with("made by a") && links(&reply) == LINKS, "byte {at}");
        settle().await;
    }
    for len in [0, 1, 20, good.len() - 1] {
        world.remote.plant(key, good.slice(..len));
        assert_eq!(ask(&app, get("/")).await.word(), "MISS", "cut to {len}");
        settle().await;
    }
}

/// Attack 39: the remote tier hangs. A read waits for its budget and no longer; the answer comes from the handler.
#[tokio::test]
async fn a_remote_tier_that_hangs_costs_its_budget_and_no_answer() {
    let world = World::new();
    let app = site(&world.process().await, policy(), "a");
    world.remote.set(|faults| faults.hang = true);
    let mut tasks = ask_beside(&app, vec![get("/"), get("/")]).await;
    assert!(tasks.try_join_next().is_none());
    world.runtime.advance(Duration::from_millis(100));
    for reply in tasks.join_all().await {
        assert_eq!(reply.word(), "MISS");
    }
    assert_eq!(ask(&app, get("/")).await.word(), "HIT");
}

/// The leader's client goes away while the remote tier is asked: one of those who wait takes over.
#[tokio::test]
async fn a_leader_that_goes_away_during_the_look_up_is_replaced() {
    let world = World::new();
    let app = site(&world.process().await, policy(), "a");
    world.remote.set(|faults| faults.hang = true);
    let mut leader = ask_beside(&app, vec![get("/")]).await;
    let waiters = ask_beside(&app, vec![get("/"), get("/")]).await;
    leader.shutdown().await;
    settle().await;
    world.remote.set(|faults| faults.hang = false);
    for reply in waiters.join_all().await {
        assert_eq!(reply.word(), "MISS");
    }
}

/// What the handler of a compressed route sends, and with which `Content-Type` and `Content-Encoding`.
fn bodies() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    // Hashes: without any order that a compressor could find.
    let noise: Vec<u8> = (0..8000_u64).flat_map(|n| xxh3_64(&n.to_be_bytes()).to_be_bytes()).collect();
    let zipped = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &noise].concat();
    let rows: Vec<String> = (0..900).map(|n| format!(r#"{{"id":{n},"name":"trig {n}"}}"#)).collect();
    let json = format!("[{}]", rows.join(",")).into_bytes();
    vec![
        ("application/json", "identity", json),
        ("application/json", "gzip", zipped),
        ("image/png", "identity", noise),
        ("application/octet-stream", "identity", Vec::new()),
    ]
}

fn files(cache: &Cache, policy: Policy) -> Router {
    let handler = |axum::extract::Path(n): axum::extract::Path<usize>| async move {
        let (kind, coding, body) = bodies().swap_remove(n);
        ([(header::CONTENT_TYPE, kind), (header::CONTENT_ENCODING, coding)], body)
    };
    let layer = ResponseCache::new(cache, "file", policy).unwrap().headers(HeaderStyle::all()).id("n");
    Router::new().route("/files/{n}", routing::get(handler).layer(layer))
}

/// Corrupted, truncated, blank bodies: whatever the stored form is, every client gets what the handler sent: on
/// the miss, from memory, and on another node from the remote tier.
#[tokio::test]
async fn a_compressed_route_gives_every_client_the_bytes_and_headers_of_the_handler() {
    for compression in [Compression::zstd(), Compression::lz4()] {
        let world = World::new();
        let policy = policy().compress(compression);
        let a = files(&world.process().await, policy.clone());
        for (n, (_, _, sent)) in bodies().into_iter().enumerate() {
            let uri = format!("/files/{n}");
            let made = ask(&a, get(&uri)).await;
            assert_eq!((made.word(), xxh3_128(&made.body)), ("MISS", xxh3_128(&sent)));
            settle().await;
            let other = files(&world.process().await, policy.clone());
            let plain = files(&world.process().await, crate::policy());
            for (app, tier) in [(&a, "memory"), (&other, "remote"), (&other, "memory"), (&plain, "remote")] {
                let reply = ask(app, get(&uri)).await;
                assert_eq!((reply.word(), xxh3_128(&reply.body)), ("HIT", xxh3_128(&sent)), "{tier} {n}");
                for name in ["content-type", "content-encoding", "content-length", "etag"] {
                    assert!(made.headers.contains_key(name), "{name}");
                    assert_eq!(reply.headers.get(name), made.headers.get(name), "{name}");
                }
            }
        }
    }
}

/// Only what gains by it is compressed: bodies that are compressed already are kept as they are.
#[tokio::test]
async fn the_remote_tier_has_what_gains_by_it_compressed_and_the_rest_as_it_was_sent() {
    let world = World::new();
    let app = files(&world.process().await, policy().compress(Compression::zstd()));
    for (n, (kind, coding, sent)) in bodies().into_iter().enumerate() {
        let _ = ask(&app, get(&format!("/files/{n}"))).await;
        settle().await;
        let kept = world.remote.bytes(&format!("file:{n}~GET http H6:a.test r10:/files/{{n}} p8:/files/{n}"));
        let kept = kept.expect("the key is what it is documented to be");
        if n == 0 {
            assert!(kept.len() < sent.len() / 4, "{} of {}", kept.len(), sent.len());
        } else {
            assert!(kept.ends_with(&sent), "{kind} {coding}");
        }
    }
}
