//! What is stored, and what is not: then it reaches its client as the handler made it.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing;
use common::*;
use larder_http::ResponseCache;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;

/// Asks twice for what `respond` makes: the replies, and how often the handler ran.
async fn twice(
    change: impl Fn(ResponseCache) -> ResponseCache,
    respond: impl Fn() -> Response<Body> + Clone + Send + Sync + 'static,
) -> (Reply, Reply, usize) {
    let (cache, _) = cache().await;
    let policy = policy().max_stored_size(10_000).negative_ttl(MINUTE / 2);
    let pages = change(ResponseCache::new(&cache, "page", policy).unwrap());
    let count = Count::default();
    let counted = count.clone();
    let handler = move || async move {
        counted.up();
        respond()
    };
    let app = Router::new().route("/", routing::get(handler).layer(pages));
    let replies = (ask(&app, get("/")).await, ask(&app, get("/")).await);
    (replies.0, replies.1, count.get())
}

fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn only_finished_good_answers_and_wanted_negative_ones_are_stored() {
    for status in [200, 203, 204, 404, 410] {
        let body = if status == 204 { "" } else { "body" };
        let (first, second, runs) = twice(|p| p, move || answer(status, &[], body)).await;
        assert_eq!((first.word(), second.word(), runs), ("MISS", "HIT", 1), "{status}");
        assert_eq!((second.status.as_u16(), second.text()), (status, body));
        let ttl = if status >= 400 { "30" } else { "60" };
        assert_eq!(second.header("x-cache-ttl"), ttl, "{status}");
    }
    // Attacks 10 and 11, lesson T3.
    for status in [
        201, 202, 205, 206, 300, 301, 302, 304, 307, 308, 400, 401, 403, 405, 412, 414, 416, 417, 429, 431,
        500, 501, 502, 503, 504,
    ] {
        let (first, second, runs) = twice(|p| p, move || answer(status, &[], "")).await;
        assert_eq!((first.word(), second.word(), runs), ("BYPASS", "BYPASS", 2), "{status}");
        assert_eq!(first.header("cache-status"), "larder; fwd=bypass; detail=status");
    }
}

#[tokio::test]
async fn a_404_is_not_stored_where_nobody_asked_for_that() {
    let (cache, _) = cache().await;
    let app = Router::new().route("/", routing::get(|| async { StatusCode::NOT_FOUND }).layer(layer(&cache)));
    assert_eq!(ask(&app, get("/")).await.word(), "BYPASS");
    assert_eq!(cache.stats().memory_entries, 0);
}

/// Rules 1, 10 and 36; attacks 23 and 34; lessons H6, S1, S3 and 24.
#[tokio::test]
async fn an_answer_that_forbids_it_is_not_stored_and_keeps_its_headers() {
    let refusing: [(&[(&str, &str)], &str); 13] = [
        (&[("set-cookie", "a=b")], "set_cookie"),
        (&[("cache-control", "no-store")], "response_forbids"),
        (&[("cache-control", "max-age=60"), ("cache-control", "PRIVATE")], "response_forbids"),
        (&[("cache-control", "private=\"x-user\"")], "response_forbids"),
        (&[("cache-control", "no-cache")], "response_forbids"),
        (&[("vary", "*")], "vary"),
        (&[("vary", "accept-encoding")], "vary"),
        (&[("vary", "X-Key"), ("vary", "x-key, cookie")], "vary"),
        (&[("content-range", "bytes 0-3/4")], "range"),
        (&[("upgrade", "h2c")], "upgrade"),
        (&[("content-type", "Text/Event-Stream; charset=utf-8")], "stream"),
        (&[("content-length", "3")], "truncated"),
        (&[("content-length", "5")], "truncated"),
    ];
    for (headers, reason) in refusing {
        let change = |p: ResponseCache| p.vary_headers([header::HeaderName::from_static("x-key")]);
        let (first, second, runs) = twice(change, move || answer(200, headers, "body")).await;
        assert_eq!(runs, 2, "{headers:?}");
        for reply in [first, second] {
            assert_eq!(reply.header("cache-status"), format!("larder; fwd=bypass; detail={reason}"));
            assert_eq!(reply.text(), "body");
            for (name, value) in headers {
                assert!(reply.headers.get_all(*name).iter().any(|v| v == value), "{name}");
            }
        }
    }
    let covered: &[(&str, &str)] = &[("vary", "X-KEY, x-key")];
    let change = |p: ResponseCache| p.vary_headers([header::HeaderName::from_static("x-key")]);
    assert_eq!(twice(change, move || answer(200, covered, "body")).await.2, 1);
}

/// Rules 2 and 26, attack 41: what concerns one connection is not replayed on another.
#[tokio::test]
async fn connection_headers_are_not_stored() {
    let hop: &[(&str, &str)] = &[
        ("connection", "X-Hop, close"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("x-app", "2"),
    ];
    let (_, second, runs) = twice(|p| p, move || answer(200, hop, "body")).await;
    assert_eq!(runs, 1);
    for name in ["connection", "x-hop", "keep-alive", "proxy-authenticate"] {
        assert_eq!(second.header(name), "-", "{name}");
    }
    assert_eq!(second.header("x-app"), "2");
}

/// Attacks 10, 17, 32; rule 16: what a key does not cover, or what is for the origin alone, goes past the cache in both
/// directions, and the handler sees it.
#[tokio::test]
async fn requests_that_are_no_plain_get_go_past_the_cache_untouched() {
    let (cache, _) = cache().await;
    let count = Count::default();
    let counted = count.clone();
    let handler = move |request: axum::extract::Request| async move {
        let names = ["range", "if-range", "upgrade", "if-match", "if-unmodified-since", "if-none-match"];
        let seen: Vec<_> = names.into_iter().filter(|n| request.headers().contains_key(*n)).collect();
        let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
        format!("{} {seen:?} {body:?}", counted.up())
    };
    let app = Router::new().route("/", routing::get(handler).layer(layer(&cache)));
    let mut runs = 0;
    let mut past = async |mut request: http::Request<Body>, detail: &str, seen: &str| {
        request.headers_mut().append("if-none-match", "\"x\"".parse().unwrap());
        let reply = ask(&app, request).await;
        runs += 1;
        assert_eq!(reply.text(), format!("{runs} {seen}"));
        assert_eq!(reply.header("cache-status"), format!("larder; fwd=bypass; detail={detail}"));
    };
    past(with("/", &[("range", "bytes=9-1")]), "range", r#"["range", "if-none-match"] b"""#).await;
    past(with("/", &[("if-range", "\"x\"")]), "range", r#"["if-range", "if-none-match"] b"""#).await;
    past(with("/", &[("upgrade", "foo")]), "upgrade", r#"["upgrade", "if-none-match"] b"""#).await;
    past(with("/", &[("if-match", "\"x\"")]), "route", r#"["if-match", "if-none-match"] b"""#).await;
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let seen = r#"["if-unmodified-since", "if-none-match"] b"""#;
    past(with("/", &[("if-unmodified-since", date)]), "route", seen).await;
    // A fat GET, with its length and (as HTTP/2 allows) without.
    let fat = |length: Option<&str>| {
        let mut request = get("/");
        *request.body_mut() = Body::from("id=evil");
        if let Some(length) = length {
            request.headers_mut().insert(header::CONTENT_LENGTH, length.parse().unwrap());
        }
        request
    };
    past(fat(Some("7")), "route", r#"["if-none-match"] b"id=evil""#).await;
    past(fat(None), "route", r#"["if-none-match"] b"id=evil""#).await;
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let reply = ask(&app, with("/", &[(name, "DELETE")])).await;
        assert_eq!(reply.word(), "-", "attack 9");
    }
    assert_eq!(cache.stats().memory_entries, 0);
    assert_eq!(ask(&app, get("/")).await.told(), "MISS 11 [] b\"\"");
}

/// Lesson X2: over the limit is no error.
#[tokio::test]
async fn a_body_over_the_limit_passes_byte_for_byte() {
    let long: &'static str = Box::leak((0..200_000).map(|i| char::from(b'a' + (i % 23) as u8)).collect());
    let (first, second, runs) = twice(|p| p, move || answer(200, &[], long)).await;
    assert_eq!((first.text() == long, second.text() == long, runs), (true, true, 2));
    assert_eq!(first.header("cache-status"), "larder; fwd=bypass; detail=too_large");
    assert_eq!(first.header("content-length"), "200000");
}

/// A site that gives out one body, made by hand.
async fn one_body(body: Body) -> (Router, larder_core::Cache) {
    let (cache, _) = cache().await;
    let body = Arc::new(Mutex::new(Some(body)));
    let handler =
        move || async move { body.lock().take().map_or("another".into_response(), Body::into_response) };
    (Router::new().route("/", routing::get(handler).layer(layer(&cache))), cache)
}

/// Rule 4, attack 23, lesson 24: a body that is all there but for its end. It must not be stored, and its client must
/// not take it for whole because the error went missing on the way.
#[tokio::test]
async fn a_body_that_breaks_off_breaks_off_for_its_client_too() {
    for break_off in [|_: Feed| {}, |feed: Feed| feed.fail()] {
        for in_time in [true, false] {
            let (feed, body) = fed(Some(10));
            let (app, cache) = one_body(body).await;
            feed.send("half ");
            let mut feed = Some(feed);
            if in_time {
                break_off(feed.take().unwrap());
            }
            let response = begin(&app, get("/")).await;
            if let Some(feed) = feed {
                break_off(feed);
            }
            let error = http_body_util::BodyExt::collect(response.into_body()).await;
            assert!(error.is_err(), "in time: {in_time}");
            assert_eq!(cache.stats().memory_entries, 0);
            assert_eq!(ask(&app, get("/")).await.text(), "another");
        }
    }
}

/// The same on the wire: the connection is closed before the promised length, as it is without the cache.
#[tokio::test]
async fn a_body_that_breaks_off_is_cut_off_on_the_wire() {
    let (feed, body) = fed(Some(10));
    let (app, _) = one_body(body).await;
    feed.send("half ");
    feed.fail();
    let server = serve(app).await;
    let said = server.say("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    if !said.is_empty() {
        assert!(said.contains("content-length: 10\r\n") && !said.contains("chunked"), "{said}");
        assert!(!said.ends_with("0\r\n\r\n"), "{said}");
    }
}

/// Rule 3 and attack 41: trailers are neither merged nor stored; they are the client's all the same.
#[tokio::test]
async fn trailers_reach_their_client_and_are_not_stored() {
    for in_time in [true, false] {
        let (feed, body) = fed(Some(4));
        let (app, cache) = one_body(body).await;
        if in_time {
            feed.send("body");
            feed.trailers("set-cookie");
        }
        let response = begin(&app, get("/")).await;
        if !in_time {
            feed.send("body");
            feed.trailers("set-cookie");
        }
        drop(feed);
        let collected = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        assert!(collected.trailers().is_some_and(|t| t.contains_key("set-cookie")), "in time: {in_time}");
        assert_eq!(collected.to_bytes(), "body");
        assert_eq!(cache.stats().memory_entries, 0);
    }
}

#[tokio::test]
async fn more_than_was_announced_is_not_stored() {
    for in_time in [true, false] {
        let (feed, body) = fed(Some(4));
        let (app, cache) = one_body(body).await;
        if in_time {
            feed.send("body and more");
        }
        let response = begin(&app, get("/")).await;
        feed.send("body and more");
        drop(feed);
        // Who frames the message cuts it off at its length; here nobody does.
        let read = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        assert!(read.starts_with(b"body and more"));
        assert_eq!(cache.stats().memory_entries, 0);
    }
}

/// Lessons T8 and rule "streams": a client gets each piece when the handler makes it, over a real connection; nothing
/// waits for an end that may never come.
#[tokio::test]
async fn a_stream_is_delivered_piece_by_piece_while_the_handler_still_makes_it() {
    let (feed, body) = fed(None);
    let (app, cache) = one_body(body).await;
    let server = serve(app).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.contains("transfer-encoding: chunked") && head.contains("detail=stream"), "{head}");
    for piece in ["data: one", "data: two"] {
        feed.send(piece);
        assert!(read_until(&mut client, piece).await.contains(piece));
    }
    drop(feed);
    read_until(&mut client, "0\r\n\r\n").await;
    assert_eq!((cache.stats().memory_entries, cache.stats().flights), (0, 0));
}

/// A stream whose client goes away is not read on in its absence.
#[tokio::test]
async fn a_stream_ends_with_its_client() {
    let (feed, body) = fed(None);
    let (app, _) = one_body(body).await;
    let response = begin(&app, get("/")).await;
    feed.send("data");
    assert!(feed.is_listened_to());
    drop(response);
    settle().await;
    assert!(!feed.is_listened_to());
}

/// Lesson T4: a hit gives the bytes that the handler gave, with the encoding they are in.
#[tokio::test]
async fn content_encoding_is_kept_with_the_bytes_it_is_about() {
    let gzip: &[(&str, &str)] = &[("content-encoding", "gzip"), ("content-type", "application/json")];
    let (first, second, runs) = twice(|p| p, move || answer(200, gzip, "\x1f not really gzip")).await;
    assert_eq!(runs, 1);
    for reply in [first, second] {
        assert_eq!(reply.header("content-encoding"), "gzip");
        assert_eq!((reply.header("content-length"), reply.text()), ("17", "\x1f not really gzip"));
    }
}

#[tokio::test]
async fn a_route_may_leave_requests_alone_and_choose_their_ttl() {
    let change = |p: ResponseCache| p.skip(|parts| parts.uri.path() == "/");
    assert_eq!(twice(change, || answer(200, &[], "body")).await.2, 2);
    let change = |p: ResponseCache| p.ttl_with(|_| MINUTE * 5);
    let (_, second, _) = twice(change, || answer(200, &[], "body")).await;
    assert_eq!(second.header("x-cache-ttl"), "300");
    let (_, second, _) = twice(change, || answer(404, &[], "none")).await;
    assert_eq!(second.header("x-cache-ttl"), "30", "a negative answer keeps its own");
}

/// Attack 26: what cannot be tagged could not be invalidated.
#[tokio::test]
async fn an_answer_with_tags_that_do_not_fit_is_not_stored() {
    for tags in [vec!["x".repeat(1025)], vec![String::new()], (0..257).map(|n| n.to_string()).collect()] {
        let change = |p: ResponseCache| {
            let tags = tags.clone();
            p.tags_from(move |_, _| tags.clone())
        };
        let (first, _, runs) = twice(change, || answer(200, &[], "body")).await;
        assert_eq!((runs, first.header("cache-status")), (2, "larder; fwd=bypass; detail=tags"));
        assert_eq!(first.text(), "body");
    }
}
