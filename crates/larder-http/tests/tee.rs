//! A body of known length that takes its time: its first client streams while the cache fills.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing;
use common::*;
use http_body_util::BodyExt as _;
use larder_core::Cache;
use larder_core::testing::ManualRuntime;
use larder_http::ResponseCache;
use parking_lot::Mutex;

struct Site {
    app: Router,
    cache: Cache,
    runtime: Arc<ManualRuntime>,
    feed: Feed,
}

/// Answers with a body of ten bytes that the test feeds, and after that with "another".
async fn site(change: impl FnOnce(ResponseCache) -> ResponseCache) -> Site {
    let (cache, runtime) = cache().await;
    let (feed, body) = fed(Some(10));
    let body = Arc::new(Mutex::new(Some(body)));
    let handler =
        move || async move { body.lock().take().map_or("another".into_response(), Body::into_response) };
    let app = Router::new().route("/", routing::get(handler).layer(change(layer(&cache))));
    Site { app, cache, runtime, feed }
}

async fn piece(body: &mut Body) -> String {
    let frame = body.frame().await.expect("a piece").unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn the_first_client_streams_while_the_cache_fills_and_those_who_wait_get_it_whole() {
    let Site { app, feed, .. } = site(|p| p).await;
    feed.send("one ");
    let first = begin(&app, get("/")).await;
    assert_eq!(first.headers()["cache-status"], "larder; fwd=uri-miss");
    assert_eq!(first.headers()["content-length"], "10");
    let mut body = first.into_body();
    assert_eq!(piece(&mut body).await, "one ");
    let mut waiters = ask_beside(&app, vec![get("/"), head("/")]).await;
    feed.send("two ");
    assert_eq!(piece(&mut body).await, "two ");
    assert!(waiters.try_join_next().is_none(), "nobody is given half a body");
    feed.send("3!");
    drop(feed);
    for reply in waiters.join_all().await {
        assert_eq!((reply.word(), reply.header("content-length")), ("MISS", "10"));
        assert!(reply.text() == "one two 3!" || reply.text().is_empty());
    }
    assert_eq!(body.collect().await.unwrap().to_bytes(), "3!");
    assert_eq!(ask(&app, get("/")).await.told(), "HIT one two 3!");
}

/// The first client hangs up in the middle. Others wait for the same body, and the next ones would start from nothing.
#[tokio::test]
async fn a_first_client_that_goes_away_does_not_end_the_fill() {
    let Site { app, feed, .. } = site(|p| p).await;
    let first = begin(&app, get("/")).await;
    feed.send("one ");
    let waiters = ask_beside(&app, vec![get("/")]).await;
    drop(first);
    feed.send("two 3!");
    drop(feed);
    assert_eq!(waiters.join_all().await[0].told(), "MISS one two 3!");
    assert_eq!(ask(&app, get("/")).await.told(), "HIT one two 3!");
}

/// The first client reads nothing at all: the source is read at its own pace.
#[tokio::test]
async fn a_client_that_reads_slowly_stalls_nobody() {
    let Site { app, feed, .. } = site(|p| p).await;
    let first = begin(&app, get("/")).await;
    let waiters = ask_beside(&app, vec![get("/")]).await;
    feed.send("one two 3!");
    drop(feed);
    assert_eq!(waiters.join_all().await[0].told(), "MISS one two 3!");
    assert_eq!(whole(first).await.text(), "one two 3!");
}

/// Lesson 24: the source fails half-way. Half a body is stored for nobody; those who waited for it run alone.
#[tokio::test]
async fn a_body_that_fails_half_way_is_never_stored_and_those_who_wait_run_alone() {
    let Site { app, cache, feed, .. } = site(|p| p).await;
    let first = begin(&app, get("/")).await;
    let waiters = ask_beside(&app, vec![get("/"), get("/")]).await;
    feed.send("one ");
    feed.fail();
    for reply in waiters.join_all().await {
        assert_eq!(reply.text(), "another");
    }
    assert!(first.into_body().collect().await.is_err());
    assert_eq!((ask(&app, get("/")).await.text(), cache.stats().flights), ("another", 0));
}

/// A download that is slower than the route's load timeout: too slow for those who wait, but its own client reads it, and
/// would without the cache.
#[tokio::test]
async fn a_body_slower_than_the_load_timeout_is_not_stored_and_still_reaches_its_client() {
    let Site { app, cache, runtime, feed } = site(|p| p).await;
    feed.send("one ");
    let first = begin(&app, get("/")).await;
    settle().await;
    runtime.advance(Duration::from_secs(31));
    settle().await;
    assert_eq!(cache.stats().flights, 0, "nobody waits for it any longer");
    assert_eq!(ask(&app, get("/")).await.text(), "another");
    feed.send("two 3!");
    drop(feed);
    assert_eq!(whole(first).await.text(), "one two 3!");
    assert_eq!(ask(&app, get("/")).await.text(), "another");
}

/// After the load timeout nobody but the client wants the body: without one, it is not read on.
#[tokio::test]
async fn a_body_that_nobody_wants_any_more_is_let_go() {
    let Site { app, runtime, feed, .. } = site(|p| p).await;
    drop(begin(&app, get("/")).await);
    settle().await;
    assert!(feed.is_listened_to(), "the fill goes on");
    runtime.advance(Duration::from_secs(31));
    settle().await;
    assert!(!feed.is_listened_to());
}

/// HEAD led the load: its answer went out without a body, the body comes in all the same.
#[tokio::test]
async fn head_fills_the_cache_with_a_body_that_comes_later() {
    let Site { app, feed, .. } = site(|p| p).await;
    let reply = ask(&app, head("/")).await;
    assert_eq!((reply.header("content-length"), reply.text()), ("10", ""));
    feed.send("one two 3!");
    drop(feed);
    settle().await;
    assert_eq!(ask(&app, get("/")).await.told(), "HIT one two 3!");
}

#[tokio::test]
async fn an_answer_that_turns_out_untaggable_is_not_stored() {
    let Site { app, cache, feed, .. } =
        site(|p| p.tags_from(|_, body| vec![format!("{body:?}").repeat(200)])).await;
    let first = begin(&app, get("/")).await;
    let waiters = ask_beside(&app, vec![get("/")]).await;
    feed.send("one two 3!");
    drop(feed);
    assert_eq!(whole(first).await.text(), "one two 3!");
    assert_eq!(waiters.join_all().await[0].text(), "another");
    assert_eq!(cache.stats().memory_entries, 0);
}

/// Invalidated while the body is on its way: whoever came before gets it, nobody later does.
#[tokio::test]
async fn a_body_that_was_invalidated_on_its_way_is_not_served_afterwards() {
    for pattern in ["page", "page:*", "#site", "#late", "*"] {
        let change = |p: ResponseCache| p.tags(|_| vec!["site".into()]).tags_from(|_, _| vec!["late".into()]);
        let Site { app, cache, feed, .. } = site(change).await;
        let first = begin(&app, get("/")).await;
        let before = ask_beside(&app, vec![get("/")]).await;
        feed.send("one ");
        settle().await;
        drop_all(&cache, &[pattern]).await;
        let after = ask_beside(&app, vec![get("/")]).await;
        feed.send("two 3!");
        drop(feed);
        assert_eq!(before.join_all().await[0].text(), "one two 3!", "{pattern}");
        assert_eq!(whole(first).await.text(), "one two 3!");
        assert_eq!(after.join_all().await[0].text(), "another", "{pattern}");
        assert_eq!(ask(&app, get("/")).await.text(), "another");
    }
}
