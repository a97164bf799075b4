//! Conditional requests (rules 16, 31 and 32; lesson 24: 304 to a client that asked for no such thing).
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing;
use common::*;
use larder_http::ResponseCache;

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATER: &str = "Mon, 07 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sat, 05 Nov 1994 08:49:37 GMT";

/// A site whose handler would answer 418 to anything conditional.
fn site(pages: ResponseCache, headers: &'static [(&'static str, &'static str)]) -> (Router, Count) {
    let count = Count::default();
    let counted = count.clone();
    let handler = move |asked: HeaderMap| async move {
        counted.up();
        if asked.contains_key("if-none-match") || asked.contains_key("if-modified-since") {
            return StatusCode::IM_A_TEAPOT.into_response();
        }
        let mut response = "the body".into_response();
        for (name, value) in headers {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        response
    };
    (Router::new().route("/", routing::get(handler).layer(pages)), count)
}

#[tokio::test]
async fn a_client_that_has_the_answer_hears_304_on_hits_and_on_misses() {
    let own: &'static [(&str, &str)] = &[
        ("etag", "\"v1\""),
        ("last-modified", MODIFIED),
        ("cache-control", "max-age=5"),
        ("content-location", "/x"),
        ("expires", LATER),
        ("date", LATER),
        ("content-language", "de"),
        ("x-app", "1"),
    ];
    let has_it: [(&str, &str); 7] = [
        ("if-none-match", "\"v1\""),
        ("if-none-match", "W/\"v1\""),
        ("if-none-match", "\"v0\", W/\"v1\""),
        ("if-none-match", "*"),
        ("if-modified-since", MODIFIED),
        ("if-modified-since", LATER),
        ("if-none-match", "\"a,b\" ,\"v1\""),
    ];
    for (name, value) in has_it {
        let (cache, _) = cache().await;
        let (app, count) = site(layer(&cache), own);
        for word in ["MISS", "HIT"] {
            let reply = ask(&app, with("/", &[(name, value)])).await;
            assert_eq!(
                (reply.status, reply.word(), reply.text()),
                (StatusCode::NOT_MODIFIED, word, ""),
                "{value}"
            );
            for (name, value) in &own[..6] {
                assert_eq!(reply.header(name), *value);
            }
            for name in ["content-length", "content-type", "content-language", "x-app"] {
                assert_eq!(reply.header(name), "-", "{name}");
            }
        }
        let mut request = head("/");
        request.headers_mut().insert(header::HeaderName::from_static(name), value.parse().unwrap());
        assert_eq!(ask(&app, request).await.status, StatusCode::NOT_MODIFIED);
        assert_eq!(ask(&app, get("/")).await.told(), "HIT the body");
        assert_eq!(count.get(), 1);
    }
}

#[tokio::test]
async fn a_client_that_has_another_answer_gets_the_whole_one() {
    let (cache, _) = cache().await;
    let (app, _) = site(layer(&cache), &[("etag", "W/\"v1\""), ("last-modified", MODIFIED)]);
    let has_not: [&[(&str, &str)]; 7] = [
        &[("if-none-match", "\"v2\"")],
        &[("if-none-match", "v1")],
        &[("if-none-match", "")],
        &[("if-modified-since", EARLIER)],
        &[("if-modified-since", "yesterday")],
        // Rule 31: the date does not count beside a tag.
        &[("if-none-match", "\"v2\""), ("if-modified-since", LATER)],
        &[("if-none-match", "\"v2\""), ("if-none-match", "\"v3\"")],
    ];
    for headers in has_not {
        let reply = ask(&app, with("/", headers)).await;
        assert_eq!((reply.status, reply.text()), (StatusCode::OK, "the body"), "{headers:?}");
    }
}

#[tokio::test]
async fn an_answer_without_a_tag_gets_one_and_its_own_is_kept() {
    let (cache, _) = cache().await;
    let (app, _) = site(layer(&cache).fixed_id("own"), &[("etag", "W/\"own\"")]);
    assert_eq!(ask(&app, get("/")).await.header("etag"), "W/\"own\"");
    assert_eq!(ask(&app, get("/")).await.header("etag"), "W/\"own\"");

    let (app, count) = site(layer(&cache), &[]);
    let tag = ask(&app, get("/")).await.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() == 34, "{tag}");
    let reply = ask(&app, with("/", &[("if-none-match", &tag)])).await;
    assert_eq!((reply.status, reply.header("etag")), (StatusCode::NOT_MODIFIED, tag.as_str()));
    // The same bytes again have the same tag: the client that reloads is told so.
    let reload = [("if-none-match", tag.as_str()), ("cache-control", "no-cache")];
    let reply = ask(&app, with("/", &reload)).await;
    assert_eq!((reply.status, count.get()), (StatusCode::NOT_MODIFIED, 2));
}

/// The handler does not see the client's conditions, so what it could have made of them is done for it, stored or not.
#[tokio::test]
async fn an_answer_that_is_not_stored_is_a_304_too_for_a_client_that_has_it() {
    let (cache, _) = cache().await;
    let own = &[("etag", "\"v1\""), ("cache-control", "private"), ("set-cookie", "a=b")];
    let (app, _) = site(layer(&cache), own);
    for _ in 0..2 {
        let reply = ask(&app, with("/", &[("if-none-match", "\"v1\"")])).await;
        assert_eq!((reply.status, reply.word(), reply.text()), (StatusCode::NOT_MODIFIED, "BYPASS", ""));
        assert_eq!((reply.header("set-cookie"), reply.header("content-length")), ("a=b", "-"));
        let reply = ask(&app, with("/", &[("if-none-match", "\"v2\"")])).await;
        assert_eq!((reply.status, reply.text()), (StatusCode::OK, "the body"));
    }
}

#[tokio::test]
async fn a_negative_answer_is_never_a_304() {
    let (cache, _) = cache().await;
    let pages = ResponseCache::new(&cache, "page", policy().negative_ttl(MINUTE)).unwrap();
    let gone = || async { (StatusCode::NOT_FOUND, [(header::ETAG, "\"none\"")], "none") };
    let app = Router::new().route("/", routing::get(gone).layer(pages));
    for word in ["MISS", "HIT", "HIT"] {
        for tag in ["*", "\"none\""] {
            let reply = ask(&app, with("/", &[("if-none-match", tag)])).await;
            assert_eq!((reply.status, reply.text()), (StatusCode::NOT_FOUND, "none"), "{word} {tag}");
        }
    }
}

/// On the wire a 304 has no body and announces none: `Content-Length: 0` would be a lie about the 200 (rule 32).
#[tokio::test]
async fn a_304_says_nothing_about_a_length() {
    let (cache, _) = cache().await;
    let (app, _) = site(layer(&cache), &[("etag", "\"v1\"")]);
    let server = serve(app).await;
    for _ in 0..2 {
        let said =
            server.say("GET / HTTP/1.1\r\nhost: a\r\nif-none-match: *\r\nconnection: close\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 304 ") && said.ends_with("\r\n\r\n"), "{said}");
        assert!(!said.contains("content-length") && !said.contains("transfer-encoding"), "{said}");
    }
}
