//! What answers say of how they came about (rules 8, 44 and 45, attack 38). The texts are what people script against.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing;
use common::*;
use larder_core::{Cache, Policy};
use larder_http::{HeaderStyle, ResponseCache};

const SECOND: Duration = Duration::from_secs(1);

fn app(pages: ResponseCache, headers: &'static [(&'static str, &'static str)]) -> Router {
    let handler = move |asked: HeaderMap| async move {
        let mut response = "body".into_response();
        for (name, value) in headers {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        if asked.contains_key("x-private") {
            response.headers_mut().append("cache-control", "private".parse().unwrap());
        }
        response
    };
    Router::new().route("/{id}", routing::get(handler).layer(pages.id("id")))
}

/// All headers that are about the cache, in one line each.
fn told(reply: &Reply) -> Vec<String> {
    let about = |name: &str| name == "cache-status" || name == "age" || name.starts_with("x-cache");
    let mut lines: Vec<_> = reply
        .headers
        .iter()
        .filter(|(name, _)| about(name.as_str()))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn every_outcome_has_its_exact_words() {
    let (cache, runtime) = cache().await;
    let policy = policy().stale_while_revalidate(MINUTE);
    let app = app(ResponseCache::new(&cache, "page", policy).unwrap(), &[]);

    let miss =
        ["cache-status: larder; fwd=uri-miss; stored; ttl=60", "x-cache-status: MISS", "x-cache-ttl: 60"];
    assert_eq!(told(&ask(&app, get("/1")).await), miss);
    runtime.advance(20 * SECOND);
    let hit = [
        "age: 20",
        "cache-status: larder; hit; ttl=40",
        "x-cache-age: 20",
        "x-cache-status: HIT",
        "x-cache-ttl: 40",
    ];
    assert_eq!(told(&ask(&app, get("/1")).await), hit);
    assert_eq!(told(&ask(&app, head("/1")).await), hit);
    assert_eq!(told(&ask(&app, with("/1", &[("if-none-match", "*")])).await), hit, "304 is a hit");
    runtime.advance(50 * SECOND);
    let stale = [
        "age: 70",
        "cache-status: larder; hit; ttl=-1; detail=stale",
        "x-cache-age: 70",
        "x-cache-status: STALE",
        "x-cache-ttl: 0",
    ];
    assert_eq!(told(&ask(&app, get("/1")).await), stale);

    let bypass = ["cache-status: larder; fwd=request; stored", "x-cache-status: BYPASS"];
    assert_eq!(told(&ask(&app, with("/1", &[("cache-control", "no-cache")])).await), bypass);
    let headers = [("cache-control", "no-cache"), ("x-private", "1")];
    let bypass = ["cache-status: larder; fwd=request; detail=response_forbids", "x-cache-status: BYPASS"];
    assert_eq!(told(&ask(&app, with("/1", &headers)).await), bypass);
    let skip = ["cache-status: larder; fwd=bypass; detail=range", "x-cache-status: BYPASS"];
    assert_eq!(told(&ask(&app, with("/1", &[("range", "bytes=0-")])).await), skip);
    let skip = ["cache-status: larder; fwd=bypass; detail=response_forbids", "x-cache-status: BYPASS"];
    assert_eq!(told(&ask(&app, with("/2", &[("x-private", "1")])).await), skip);
}

#[tokio::test]
async fn styles_choose_the_headers_and_the_key_is_shown_to_nobody_by_default() {
    let (cache, runtime) = cache().await;
    let style = |style| app(layer(&cache).headers(style), &[]);
    let all = HeaderStyle { key_prefix: "larder:".into(), ..HeaderStyle::all() };
    assert_eq!(
        told(&ask(&style(all.clone()), get("/1")).await),
        [
            "cache-status: larder; fwd=uri-miss; stored; ttl=60",
            "x-cache-date: Tue, 14 Nov 2023 22:13:20 GMT",
            "x-cache-key: larder:page:1",
            "x-cache-status: MISS",
            "x-cache-ttl-remaining: 60",
            "x-cache-ttl: 60",
            "x-cache: MISS",
        ]
    );
    runtime.advance(10 * SECOND);
    assert_eq!(
        told(&ask(&style(all), get("/1")).await),
        [
            "age: 10",
            "cache-status: larder; hit; ttl=50",
            "x-cache-age: 10",
            "x-cache-date: Tue, 14 Nov 2023 22:13:20 GMT",
            "x-cache-key: larder:page:1",
            "x-cache-status: HIT",
            "x-cache-ttl-remaining: 50",
            "x-cache-ttl: 50",
            "x-cache: HIT",
        ]
    );
    let bare = HeaderStyle { key: true, ..HeaderStyle::none() };
    assert_eq!(told(&ask(&style(bare), get("/1")).await), ["age: 10", "x-cache-key: page:1"]);
    assert_eq!(told(&ask(&style(HeaderStyle::none()), get("/1")).await), ["age: 10"]);
    let default = told(&ask(&style(HeaderStyle::default()), get("/1")).await);
    assert!(!default.iter().any(|line| line.contains("page")), "attack 38: {default:?}");
}

/// The shown ttl is the one the entry really has: chance has taken its part of the policy's.
#[tokio::test]
async fn the_ttl_that_is_shown_is_the_one_that_counts() {
    let (cache, runtime) = cache().await;
    let policy = Policy::ttl(10_000 * SECOND).jitter(0.5);
    let app = app(ResponseCache::new(&cache, "page", policy).unwrap(), &[]);
    let mut shown = Vec::new();
    for path in ["/1", "/2", "/3"] {
        let ttl: u64 = ask(&app, get(path)).await.header("x-cache-ttl").parse().unwrap();
        assert!((5_000..10_000).contains(&ttl), "{ttl}");
        assert_eq!(ask(&app, get(path)).await.header("x-cache-ttl"), ttl.to_string());
        shown.push(ttl);
    }
    assert!(shown[0] != shown[1] && shown[1] != shown[2], "{shown:?}");
    runtime.advance(Duration::from_secs(shown[0]));
    let last = ask(&app, get("/1")).await;
    assert_eq!((last.word(), last.header("x-cache-ttl")), ("HIT", "0"));
    runtime.advance(SECOND);
    assert_eq!(ask(&app, get("/1")).await.word(), "MISS");
}

/// A handler that asks another cache: what that one said stays, nearest to the origin first (rule 44), and its age goes
/// on (rule 8).
#[tokio::test]
async fn what_caches_behind_the_handler_said_is_kept() {
    let (cache, runtime) = cache().await;
    let upstream: &[(&str, &str)] =
        &[("cache-status", "inner; hit"), ("cache-status", "outer; fwd=miss"), ("age", "100")];
    let app = app(layer(&cache), upstream);
    let statuses = |reply: &Reply| {
        let all = reply.headers.get_all("cache-status").iter();
        all.map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let miss = ask(&app, get("/1")).await;
    assert_eq!(statuses(&miss), ["inner; hit", "outer; fwd=miss", "larder; fwd=uri-miss; stored; ttl=60"]);
    assert_eq!(miss.header("age"), "100");
    runtime.advance(20 * SECOND);
    let hit = ask(&app, get("/1")).await;
    assert_eq!(statuses(&hit), ["inner; hit", "outer; fwd=miss", "larder; hit; ttl=40"]);
    assert_eq!((hit.header("age"), hit.header("x-cache-age")), ("120", "20"));
    assert_eq!(hit.headers.get_all("age").iter().count(), 1);
    assert_eq!(ask(&app, with("/1", &[("if-none-match", "*")])).await.header("age"), "120");
}

#[tokio::test]
async fn a_cache_that_is_switched_off_says_nothing_and_runs_the_handler_every_time() {
    let (cache, _) = built(Cache::builder().enabled(false)).await;
    let count = Count::default();
    let counted = count.clone();
    let handler = move || async move { counted.up().to_string() };
    let app =
        Router::new().route("/", routing::get(handler).layer(layer(&cache).headers(HeaderStyle::all())));
    for n in 1..=3 {
        let reply = ask(&app, get("/")).await;
        assert_eq!(
            (reply.text(), told(&reply).len(), reply.header("etag")),
            (n.to_string().as_str(), 0, "-")
        );
    }
    // The handler sees everything the client sent.
    let reply = ask(&app, with("/", &[("cache-control", "only-if-cached")])).await;
    assert_eq!(reply.text(), "4");
}
