//! Who may be answered from the cache.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::convert::Infallible;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing;
use common::*;
use larder_core::Cache;
use larder_http::ResponseCache;

/// Whoever says so. The state is the word that comes before the name.
struct User(String);

impl FromRequestParts<&'static str> for User {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(
        parts: &mut Parts,
        scheme: &&'static str,
    ) -> Result<Self, (StatusCode, &'static str)> {
        let sent = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        match sent.and_then(|sent| sent.strip_prefix(scheme)) {
            Some(name) => Ok(User(name.to_owned())),
            None => Err((StatusCode::UNAUTHORIZED, "who are you?")),
        }
    }
}

/// A site whose handler leaves all checks to the layer, and says whose request it ran for.
fn site(pages: ResponseCache) -> (Router, Count) {
    let count = Count::default();
    let counted = count.clone();
    let handler = move |headers: HeaderMap| async move {
        let who = headers.get(header::AUTHORIZATION).map_or("nobody", |v| v.to_str().unwrap()).to_owned();
        format!("{who} {}", counted.up())
    };
    (Router::new().route("/", routing::any(handler).layer(pages)), count)
}

fn by(user: &str) -> axum::extract::Request {
    with("/", &[("authorization", user)])
}

#[tokio::test]
async fn a_warm_entry_is_not_for_those_whom_the_extractor_refuses() {
    let (cache, _) = cache().await;
    for pages in [
        layer(&cache).fixed_id("own").per_user::<User, _>("Bearer ", |user| user.0.clone()),
        layer(&cache).fixed_id("all").require::<User, _>("Bearer "),
    ] {
        let (app, count) = site(pages);
        assert_eq!(ask(&app, by("Bearer ann")).await.told(), "MISS Bearer ann 1");
        assert_eq!(ask(&app, by("Bearer ann")).await.told(), "HIT Bearer ann 1");
        for request in [get("/"), head("/"), by("Basic x"), with("/", &[("cache-control", "only-if-cached")])]
        {
            let reply = ask(&app, request).await;
            assert_eq!((reply.status, reply.word()), (StatusCode::UNAUTHORIZED, "-"));
        }
        assert_eq!(ask(&app, get("/")).await.text(), "who are you?");
        assert_eq!(count.get(), 1);
    }
}

/// The handler here has no extractor of its own: the layer's is the only one. It must stand in front of every request,
/// not only of those that the cache takes an interest in: a `Range` header would open the door.
#[tokio::test]
async fn the_extractor_cannot_be_gone_around() {
    let around = [
        with("/", &[("range", "bytes=0-0")]),
        with("/", &[("cache-control", "no-store")]),
        with("/", &[("if-match", "\"x\"")]),
        with("/", &[("content-length", "1")]),
        with("/", &[("x-http-method-override", "GET")]),
        with("/", &[("x-skip", "1")]),
        with("/", &[("cache-control", "no-cache")]),
    ];
    let (on, _) = cache().await;
    let (off, _) = built(Cache::builder().enabled(false)).await;
    for cache in [on, off] {
        let pages = layer(&cache).skip(|parts| parts.headers.contains_key("x-skip"));
        let (app, count) = site(pages.require::<User, _>("Bearer "));
        for request in &around {
            let mut again = get("/");
            *again.headers_mut() = request.headers().clone();
            let reply = ask(&app, again).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{:?}", request.headers());
        }
        let mut post = get("/");
        *post.method_mut() = http::Method::POST;
        assert_eq!(ask(&app, post).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(count.get(), 0);
        assert_eq!(ask(&app, by("Bearer ann")).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn users_have_entries_of_their_own_and_never_see_each_others() {
    let (cache, _) = cache().await;
    let (app, count) = site(layer(&cache).per_user::<User, _>("Bearer ", |user| user.0.clone()));
    // The last two are chosen to look like structure of the key.
    let users = ["ann", "bob", "", "ann u3:bob", "ann~"];
    for _ in 0..2 {
        for (i, user) in users.iter().enumerate() {
            let name = format!("Bearer {user}");
            assert_eq!(ask(&app, by(&name)).await.text(), format!("{name} {}", i + 1));
        }
    }
    assert_eq!(count.get(), users.len());
    drop_all(&cache, &["page:*"]).await;
    assert_eq!(ask(&app, by("Bearer bob")).await.word(), "MISS");
}

#[tokio::test]
async fn whoever_a_required_extractor_lets_through_shares_one_answer() {
    let (cache, _) = cache().await;
    let (app, _) = site(layer(&cache).require::<User, _>("Bearer "));
    assert_eq!(ask(&app, by("Bearer ann")).await.told(), "MISS Bearer ann 1");
    assert_eq!(ask(&app, by("Bearer bob")).await.told(), "HIT Bearer ann 1");
}

/// Attack 34, rules 6 and 8: without a word from the route a request with credentials neither gets an entry nor leaves
/// one.
#[tokio::test]
async fn credentials_keep_a_request_out_of_the_cache_in_both_directions() {
    let (cache, _) = cache().await;
    for (name, value) in [("authorization", "Bearer x"), ("cookie", "session=1"), ("cookie", "=x")] {
        let (app, count) = site(layer(&cache).fixed_id(&value.replace('=', "")));
        for n in 1..=2 {
            let reply = ask(&app, with("/", &[(name, value)])).await;
            assert_eq!((reply.word(), count.get()), ("BYPASS", n));
            assert_eq!(reply.header("cache-status"), "larder; fwd=bypass; detail=credentials");
        }
        assert_eq!(ask(&app, get("/")).await.told(), "MISS nobody 3");
        assert_eq!(ask(&app, with("/", &[(name, value)])).await.word(), "BYPASS");
        assert_eq!(ask(&app, get("/")).await.told(), "HIT nobody 3");
    }
}

#[tokio::test]
async fn cookies_that_do_not_matter_let_a_request_in_and_others_do_not() {
    let (cache, _) = cache().await;
    let (app, _) = site(layer(&cache).ignore_cookies(["theme", "lang"]));
    let ask = async |cookie: &str| ask(&app, with("/", &[("cookie", cookie)])).await.word().to_owned();
    assert_eq!(ask("theme=dark; lang=de;").await, "MISS");
    assert_eq!(ask("lang=en").await, "HIT");
    for cookie in ["theme=dark; session=1", "themes=1", "THEME=1", "=theme", "theme=dark;=x"] {
        assert_eq!(ask(cookie).await, "BYPASS", "{cookie}");
    }
}

#[tokio::test]
async fn a_public_answer_is_for_everybody_whatever_they_carry() {
    let (cache, _) = cache().await;
    let (app, _) = site(layer(&cache).public());
    assert_eq!(ask(&app, get("/")).await.word(), "MISS");
    assert_eq!(ask(&app, with("/", &[("authorization", "x"), ("cookie", "a=b")])).await.word(), "HIT");
}

/// What the widest of several permissions allows does not depend on the order they were given in.
#[tokio::test]
async fn a_list_of_cookies_takes_back_no_other_permission() {
    let (cache, _) = cache().await;
    for pages in [
        layer(&cache).fixed_id("a").ignore_cookies(["theme"]).public(),
        layer(&cache).fixed_id("b").public().ignore_cookies(["theme"]),
    ] {
        let (app, _) = site(pages);
        assert_eq!(ask(&app, with("/", &[("cookie", "session=1")])).await.word(), "MISS");
    }
}

/// An extractor may itself wait for something; the client may go away meanwhile.
#[tokio::test]
async fn a_client_that_goes_away_while_it_is_identified_leaves_nothing_behind() {
    struct Slow;
    impl FromRequestParts<Gate> for Slow {
        type Rejection = Infallible;
        async fn from_request_parts(_: &mut Parts, gate: &Gate) -> Result<Self, Infallible> {
            gate.pass().await;
            Ok(Slow)
        }
    }
    let (cache, _) = cache().await;
    let gate = Gate::new();
    let (app, count) = site(layer(&cache).require::<Slow, _>(gate.clone()));
    ask_beside(&app, vec![get("/")]).await.shutdown().await;
    assert_eq!((count.get(), cache.stats().flights), (0, 0));
    gate.open();
    assert_eq!(ask(&app, get("/")).await.told(), "MISS nobody 1");
}
