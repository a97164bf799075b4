//! How long answers are kept: by the response, by what reloads have taught, and what is too small to keep.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use common::*;
use larder_core::Runtime as _;
use larder_http::ResponseCache;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_response_may_say_how_long_it_is_kept() {
    let (cache, _) = cache().await;
    let origin = Origin::new();
    let pages = ResponseCache::new(&cache, "page", policy().negative_ttl(5 * SECOND)).unwrap();
    let of_response = pages.ttl_with(|_| 20 * SECOND).ttl_from(|parts, body| {
        let said = parts.headers.get("x-ttl").and_then(|ttl| ttl.to_str().ok()?.parse().ok());
        said.map(Duration::from_secs).or((body.len() > 10).then_some(7 * SECOND))
    });
    let app = origin.behind(of_response);
    let mut ttls = Vec::new();
    for (status, ttl, body) in [
        (200, Some("30"), "short"),
        (200, None, "a longer body"),
        (200, None, "short"),
        (404, Some("30"), "none"),
    ] {
        origin.does(move |_| async move {
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            if let Some(ttl) = ttl {
                response.headers_mut().insert("x-ttl", ttl.parse().unwrap());
            }
            response
        });
        let page = format!("/{}", ttls.len());
        ask(&app, get(&page)).await;
        ttls.push(ask(&app, get(&page)).await.header("cache-status").to_owned());
    }
    let told = [30, 7, 20, 5].map(|ttl| format!("larder; hit; ttl={ttl}"));
    assert_eq!(ttls, told, "the response's, else the request's; of a 404 the policy's");
}

/// What is found unchanged when it is made again is kept for longer; the date it was made at is no change.
#[tokio::test]
async fn a_ttl_that_learns_grows_while_the_page_stays_the_same() {
    for several in [false, true] {
        let world = World::new();
        let policy = policy().adaptive_ttl(10 * SECOND, 3 * MINUTE).stale_if_error(MINUTE);
        let origin = Origin::new();
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let cache = world.process().await;
            nodes.push(origin.behind(ResponseCache::new(&cache, "page", policy.clone()).unwrap()));
        }
        let mut ttls = Vec::new();
        for load in 0..6 {
            origin.does(move |n| async move {
                let body = if load < 4 { "the same" } else { "changed" };
                ([("date", format!("run {n}")), ("server-timing", format!("run;dur={n}"))], body)
            });
            // What one process has learned is known to the next, through the remote tier.
            let app = &nodes[if several { load % 2 } else { 0 }];
            assert_eq!(ask(app, get("/")).await.word(), "MISS");
            settle().await;
            let ttl: u64 = ask(app, get("/")).await.header("x-cache-ttl").parse().unwrap();
            ttls.push(ttl);
            world.runtime.advance(Duration::from_secs(ttl));
        }
        assert_eq!(ttls, [60, 90, 135, 180, 90, 135], "several: {several}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_small_passes_and_is_not_stored() {
    let (cache, _) = cache().await;
    let origin = Origin::new();
    let app = origin.behind(ResponseCache::new(&cache, "page", policy().min_stored_size(7)).unwrap());
    for run in 1..=3 {
        let reply = ask(&app, get("/")).await;
        assert_eq!(reply.told(), format!("BYPASS body {run}"));
        assert_eq!(reply.header("cache-status"), "larder; fwd=bypass; detail=too_small");
    }
    origin.does(|_| async { "seven.." });
    assert_eq!(ask(&app, get("/large")).await.word(), "MISS");
    assert_eq!(ask(&app, get("/large")).await.told(), "HIT seven..");
    assert_eq!(cache.stats().memory_entries, 1);
}

/// Shortly before its time an answer is made again in the background: its reader has a hit, nobody waits.
#[tokio::test]
async fn an_early_refresh_is_told_as_a_hit() {
    let (cache, runtime) = cache().await;
    let origin = Origin::new();
    let gate = Gate::new();
    let of_handler = gate.clone();
    origin.does(move |n| {
        let gate = of_handler.clone();
        async move {
            gate.pass().await;
            format!("body {n}")
        }
    });
    let app = origin.behind(ResponseCache::new(&cache, "page", policy().early_refresh(100.0)).unwrap());
    let first = ask_beside(&app, vec![get("/")]).await;
    runtime.advance(SECOND);
    gate.open();
    assert_eq!(first.join_all().await[0].told(), "MISS body 1");
    runtime.advance(59 * SECOND);
    for _ in 0..10 {
        let reply = ask(&app, get("/")).await;
        assert_eq!((reply.told().as_str(), reply.header("age")), ("HIT body 1", "59"));
        settle().await;
    }
    assert_eq!(origin.runs(), 2, "once");
    gate.open();
    settle().await;
    let reply = ask(&app, get("/")).await;
    assert_eq!((reply.told().as_str(), reply.header("x-cache-ttl")), ("HIT body 2", "60"));
}

/// A private answer takes 20 s. Five seconds later nobody remembered that it was private: the next request led, others
/// waited for it, and paid twice.
#[tokio::test]
async fn requests_for_a_slow_private_answer_do_not_wait_for_each_other() {
    let (cache, runtime) = cache().await;
    let origin = Origin::new();
    let of_handler = runtime.clone();
    origin.does(move |n| {
        let answered = of_handler.sleep(20 * SECOND);
        async move {
            answered.await;
            ([("cache-control", "private")], format!("body {n}"))
        }
    });
    let app = origin.behind(layer(&cache));
    let mut asked = vec![ask_beside(&app, vec![get("/")]).await];
    runtime.advance(20 * SECOND);
    settle().await;
    for _ in 0..20 {
        let before = origin.runs();
        asked.push(ask_beside(&app, vec![get("/"), get("/"), get("/")]).await);
        assert_eq!(origin.runs(), before + 3, "side by side");
        runtime.advance(6 * SECOND);
        settle().await;
    }
    runtime.advance(20 * SECOND);
    for asked in asked {
        assert!(asked.join_all().await.iter().all(|reply| reply.status == StatusCode::OK));
    }
    let stats = cache.stats();
    assert_eq!(stats.namespaces["page"].misses, 61, "each with an answer of its own");
}
