//! HEAD (rules 19, 33 and 35; lesson T1).
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing;
use common::*;

/// A site that says by which method its handler ran.
async fn site() -> (Router, Count) {
    let (cache, _) = cache().await;
    let count = Count::default();
    let counted = count.clone();
    let handler = move |method: Method| async move {
        counted.up();
        format!("the body of a {method}")
    };
    (Router::new().route("/", routing::get(handler).layer(layer(&cache))), count)
}

#[tokio::test]
async fn head_first_leaves_a_whole_answer_for_get() {
    let (app, count) = site().await;
    let reply = ask(&app, head("/")).await;
    assert_eq!((reply.word(), reply.text(), reply.header("content-length")), ("MISS", "", "17"));
    let reply = ask(&app, get("/")).await;
    assert_eq!((reply.told(), reply.header("content-length")), ("HIT the body of a GET".into(), "17"));
    assert_eq!(count.get(), 1);
}

#[tokio::test]
async fn get_first_answers_head_with_the_same_headers() {
    let (app, count) = site().await;
    let got = ask(&app, get("/")).await;
    for _ in 0..2 {
        let reply = ask(&app, head("/")).await;
        assert_eq!((reply.word(), reply.text(), reply.header("content-length")), ("HIT", "", "17"));
        assert_eq!(reply.header("etag"), got.header("etag"));
        assert_eq!(reply.header("content-type"), got.header("content-type"));
    }
    assert_eq!(ask(&app, get("/")).await.told(), "HIT the body of a GET");
    assert_eq!(count.get(), 1);
}

/// An answer that is not stored runs as GET too. Its body is dropped here, and what is said of its length must not be
/// that of the empty body in its place.
#[tokio::test]
async fn head_never_says_a_length_that_get_would_not() {
    let (cache, _) = cache().await;
    let private = || async { ([(header::CACHE_CONTROL, "private")], "seventeen bytes !") };
    let (_feed, slow) = fed(Some(17));
    let slow = std::sync::Arc::new(parking_lot::Mutex::new(Some(slow)));
    let slow = move || async move { slow.lock().take().unwrap_or_default() };
    let (feed, stream) = fed(None);
    let stream = std::sync::Arc::new(parking_lot::Mutex::new(Some(stream)));
    let stream = move || async move { stream.lock().take().unwrap_or_default() };
    let app = Router::new()
        .route("/private", routing::get(private))
        .route("/slow", routing::get(slow))
        .route("/stream", routing::get(stream))
        .route("/none", routing::get(|| async { StatusCode::NO_CONTENT }))
        .route("/gone", routing::get(|| async { (StatusCode::NOT_FOUND, "none") }))
        .layer(layer(&cache));
    let server = serve(app.clone()).await;
    let heads = [("/private", Some("17")), ("/slow", Some("17")), ("/stream", None), ("/gone", Some("4"))];
    for (path, length) in heads {
        let said = server.say(&format!("HEAD {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        let found = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!((found, body), (length, ""), "{path}: {head}");
    }
    let none = ask(&app, head("/none")).await;
    assert_eq!((none.status, none.text()), (StatusCode::NO_CONTENT, ""));
    assert!(!feed.is_listened_to(), "nobody reads a stream that HEAD began");
}

/// Attack 33: other methods run the handler, get no word from the cache and leave nothing in it.
#[tokio::test]
async fn other_methods_neither_get_an_entry_nor_leave_one() {
    let (cache, _) = cache().await;
    let count = Count::default();
    let counted = count.clone();
    let handler = move |method: Method| async move {
        let place = [(header::CONTENT_LOCATION, format!("/{method}"))];
        (place, format!("{method} {}", counted.up())).into_response()
    };
    let app = Router::new().route("/", routing::any(handler).layer(layer(&cache)));
    for (n, method) in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY"].iter().enumerate() {
        let request = || {
            let mut request = get("/");
            *request.method_mut() = method.parse().unwrap();
            *request.body_mut() = Body::from("a body");
            request
        };
        for turn in 1..=2 {
            let reply = ask(&app, request()).await;
            assert_eq!(reply.told(), format!("- {method} {}", 2 * n + turn));
            assert_eq!(reply.header("cache-status"), "-");
        }
    }
    assert_eq!(cache.stats().memory_entries, 0);
    assert_eq!(ask(&app, get("/")).await.told(), "MISS GET 15");
    let mut post = get("/");
    *post.method_mut() = Method::POST;
    assert_eq!(ask(&app, post).await.told(), "- POST 16");
    assert_eq!(ask(&app, get("/")).await.told(), "HIT GET 15");
}
