//! What a request may ask of the cache (rules 9, 21, 23 and 40; attack 42), and stale answers.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing;
use common::*;
use larder_http::{ResponseCache, WhoMayBypass};

/// Counts up; with `x-fail` it fails.
fn site(pages: ResponseCache) -> (Router, Count) {
    let count = Count::default();
    let counted = count.clone();
    let handler = move |asked: HeaderMap| async move {
        let n = counted.up();
        match asked.contains_key("x-fail") {
            true => (StatusCode::INTERNAL_SERVER_ERROR, format!("failure {n}")).into_response(),
            false => format!("body {n}").into_response(),
        }
    };
    (Router::new().route("/", routing::get(handler).layer(pages)), count)
}

const RELOADS: [(&str, &str); 5] = [
    ("cache-control", "no-cache"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=60, No-Cache=\"x\""),
    ("cache-control", "max-age=\"0\""),
    ("pragma", "no-cache"),
];

#[tokio::test]
async fn a_reload_runs_the_handler_and_stores_what_it_says() {
    for reload in RELOADS {
        let (cache, _) = cache().await;
        let (app, _) = site(layer(&cache));
        assert_eq!(ask(&app, get("/")).await.told(), "MISS body 1");
        assert_eq!(ask(&app, with("/", &[reload])).await.told(), "BYPASS body 2", "{reload:?}");
        assert_eq!(ask(&app, get("/")).await.told(), "HIT body 2");
        let stats = &cache.stats().namespaces["page"];
        assert_eq!((stats.hits, stats.misses, stats.bypassed), (1, 1, 1));
    }
}

#[tokio::test]
async fn a_reload_that_fails_leaves_the_good_answer_where_it_is() {
    let (cache, _) = cache().await;
    let (app, _) = site(layer(&cache));
    assert_eq!(ask(&app, get("/")).await.told(), "MISS body 1");
    let reply = ask(&app, with("/", &[("cache-control", "no-cache"), ("x-fail", "1")])).await;
    assert_eq!(reply.told(), "BYPASS failure 2");
    assert_eq!(ask(&app, get("/")).await.told(), "HIT body 1");
}

/// Lesson X5: whoever may not go past the cache is answered like anybody else.
#[tokio::test]
async fn a_route_decides_who_may_go_past_the_cache() {
    let (cache, _) = cache().await;
    let (app, _) = site(layer(&cache).fixed_id("nobody").bypass(WhoMayBypass::Nobody));
    assert_eq!(ask(&app, get("/")).await.told(), "MISS body 1");
    for reload in RELOADS {
        assert_eq!(ask(&app, with("/", &[reload])).await.told(), "HIT body 1");
    }

    let may = |parts: &http::request::Parts| parts.headers.contains_key("x-editor");
    let (app, _) = site(layer(&cache).fixed_id("some").bypass(WhoMayBypass::only(may)));
    assert_eq!(ask(&app, get("/")).await.told(), "MISS body 1");
    assert_eq!(ask(&app, with("/", &[RELOADS[0]])).await.told(), "HIT body 1");
    assert_eq!(ask(&app, with("/", &[RELOADS[0], ("x-editor", "1")])).await.told(), "BYPASS body 2");
}

/// Attack 42: only what a request may say counts; the rest is noise.
#[tokio::test]
async fn directives_of_responses_mean_nothing_on_requests() {
    let (cache, runtime) = cache().await;
    let (app, _) = site(layer(&cache));
    assert_eq!(ask(&app, get("/")).await.told(), "MISS body 1");
    for said in
        ["max-stale=99999999", "stale-if-error=99999", "private", "s-maxage=0", "min-fresh=1", "max-age=00x"]
    {
        assert_eq!(ask(&app, with("/", &[("cache-control", said)])).await.told(), "HIT body 1", "{said}");
    }
    runtime.advance(MINUTE);
    let reply = ask(&app, with("/", &[("cache-control", "max-stale=99999999"), ("age", "0")])).await;
    assert_eq!(reply.told(), "MISS body 2");
}

#[tokio::test]
async fn no_store_neither_uses_an_entry_nor_leaves_one() {
    let (cache, _) = cache().await;
    let (app, _) = site(layer(&cache));
    let no_store = || with("/", &[("cache-control", "no-cache, no-store")]);
    assert_eq!(ask(&app, no_store()).await.told(), "BYPASS body 1");
    assert_eq!(cache.stats().memory_entries, 0);
    assert_eq!(ask(&app, get("/")).await.told(), "MISS body 2");
    assert_eq!(ask(&app, no_store()).await.told(), "BYPASS body 3");
    assert_eq!(ask(&app, get("/")).await.told(), "HIT body 2");
}

#[tokio::test]
async fn only_if_cached_gets_an_entry_or_504_and_never_runs_the_handler() {
    let (cache, _) = cache().await;
    let gate = Gate::new();
    let handler = {
        let gate = gate.clone();
        move || async move {
            gate.pass().await;
            "body"
        }
    };
    let app = Router::new().route("/", routing::get(handler).layer(layer(&cache)));
    let only = || with("/", &[("cache-control", "only-if-cached")]);
    let refused = ask(&app, only()).await;
    assert_eq!(refused.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(refused.header("content-type"), "application/problem+json");
    let leader = ask_beside(&app, vec![get("/")]).await;
    gate.reached().await;
    assert_eq!(ask(&app, only()).await.status, StatusCode::GATEWAY_TIMEOUT, "it does not wait either");
    gate.open();
    assert_eq!(leader.join_all().await[0].told(), "MISS body");
    assert_eq!(ask(&app, only()).await.told(), "HIT body");
}

/// Rule 40, lessons 24 and T7: past its ttl an answer is served stale at once, one refresh runs beside it, and the next
/// request has the new one.
#[tokio::test]
async fn a_stale_answer_is_served_once_while_one_refresh_runs() {
    let (cache, runtime) = cache().await;
    let (gate, count) = (Gate::new(), Count::default());
    let handler = {
        let (gate, count) = (gate.clone(), count.clone());
        move || async move {
            let n = count.up();
            if n > 1 {
                gate.pass().await;
            }
            format!("body {n}")
        }
    };
    let pages = ResponseCache::new(&cache, "page", policy().stale_while_revalidate(MINUTE)).unwrap();
    let app = Router::new().route("/", routing::get(handler).layer(pages));
    assert_eq!(ask(&app, get("/")).await.told(), "MISS body 1");
    runtime.advance(MINUTE);
    for request in [get("/"), get("/"), head("/")] {
        assert_eq!(ask(&app, request).await.word(), "STALE");
        settle().await;
    }
    assert_eq!(count.get(), 2, "one refresh, however many ask");
    gate.open();
    settle().await;
    assert_eq!(ask(&app, get("/")).await.told(), "HIT body 2");
    assert_eq!(count.get(), 2);

    // Beyond the window it is not served.
    runtime.advance(2 * MINUTE);
    gate.open();
    assert_eq!(ask(&app, get("/")).await.told(), "MISS body 3");
}

/// A refresh that fails (by an error, a panic, too slowly) leaves the stale answer for as long as its window is open, and
/// is tried again, by the first request after a pause.
#[tokio::test]
async fn a_refresh_that_fails_is_tried_again_while_the_window_is_open() {
    let (cache, runtime) = cache().await;
    let count = Count::default();
    let handler = {
        let count = count.clone();
        move || async move {
            match count.up() {
                2 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                3 => panic!("on purpose"),
                4 => std::future::pending().await,
                n => format!("body {n}").into_response(),
            }
        }
    };
    let policy = policy().stale_while_revalidate(10 * MINUTE).load_timeout(Duration::from_secs(5));
    let pages = ResponseCache::new(&cache, "page", policy.retry_after(Duration::from_secs(2))).unwrap();
    let app = Router::new().route("/", routing::get(handler).layer(pages));
    assert_eq!(ask(&app, get("/")).await.told(), "MISS body 1");
    runtime.advance(MINUTE);
    for n in 2..=5 {
        for _ in 0..10 {
            let expected = if count.get() < 5 { "STALE body 1" } else { "HIT body 5" };
            assert_eq!(ask(&app, get("/")).await.told(), expected);
            settle().await;
            assert_eq!(count.get(), n);
        }
        for _ in 0..7 {
            runtime.advance(Duration::from_secs(1));
            settle().await;
        }
    }
    assert_eq!(ask(&app, get("/")).await.told(), "HIT body 5");
    assert_eq!(cache.stats().flights, 0);
}

/// An expired (softly invalidated) answer is stale from then on.
#[tokio::test]
async fn an_answer_that_was_expired_is_served_stale_and_refreshed() {
    let (cache, _) = cache().await;
    let (app, _) = site(ResponseCache::new(&cache, "page", policy().stale_while_revalidate(MINUTE)).unwrap());
    assert_eq!(ask(&app, get("/")).await.told(), "MISS body 1");
    let _ = cache.expire([larder_core::Selector::under("page")]).await;
    assert_eq!(ask(&app, get("/")).await.told(), "STALE body 1");
    settle().await;
    assert_eq!(ask(&app, get("/")).await.told(), "HIT body 2");
}

/// Rule 21.
#[tokio::test]
async fn cache_control_of_answers_passes_unchanged() {
    let (cache, _) = cache().await;
    let handler = || async { ([(header::CACHE_CONTROL, "public, max-age=5, x-unknown=1")], "body") };
    let app = Router::new().route("/", routing::get(handler).layer(layer(&cache)));
    for word in ["MISS", "HIT"] {
        let reply = ask(&app, get("/")).await;
        assert_eq!((reply.word(), reply.header("cache-control")), (word, "public, max-age=5, x-unknown=1"));
    }
}
