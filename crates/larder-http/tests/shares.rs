//! Shares of users: what one of them asks for takes nothing from the others.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::convert::Infallible;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::{header, request::Parts};
use axum::routing;
use common::*;
use larder_core::units::KIB;
use larder_core::{Cache, Share};
use larder_http::ResponseCache;

struct User(String);

impl FromRequestParts<()> for User {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, (): &()) -> Result<Self, Infallible> {
        Ok(User(parts.headers[header::AUTHORIZATION].to_str().unwrap().to_owned()))
    }
}

fn site(cache: &Cache) -> Router {
    let shared = policy().share(Share::of_user().memory(20 * KIB));
    let pages = ResponseCache::new(cache, "page", shared).unwrap().id("id");
    let pages = pages.per_user::<User, _>((), |user| user.0.clone());
    Router::new().route("/{id}", routing::get(|| async { "x".repeat(500) }).layer(pages))
}

async fn words(app: &Router, user: &str, ids: std::ops::Range<u64>) -> Vec<String> {
    let mut words = Vec::new();
    for id in ids {
        let reply = ask(app, with(&format!("/{id}"), &[("authorization", user)])).await;
        assert_eq!(reply.text().len(), 500);
        words.push(reply.word().to_owned());
    }
    words
}

/// Names that would be taken for each other, were a user's name not read with its length.
#[tokio::test]
async fn a_user_who_reads_everything_pushes_out_his_own_answers_alone() {
    let (cache, _) = cache().await;
    let app = site(&cache);
    let others = ["ann", "", "ann u3:bob", "u3:bob GET", "greedy~"];
    for user in others {
        words(&app, user, 0..5).await;
    }
    let before = cache.stats().memory_bytes;
    assert_eq!(words(&app, "greedy", 0..500).await, ["MISS"; 500]);
    let greedy = cache.stats().memory_bytes - before;
    assert!(greedy <= 20 * KIB && greedy > 18 * KIB, "{greedy}");
    for user in others {
        assert_eq!(words(&app, user, 0..5).await, ["HIT"; 5], "{user}");
    }
    assert_eq!(words(&app, "greedy", 495..500).await, ["HIT"; 5]);
    assert_eq!(words(&app, "greedy", 0..1).await, ["MISS"]);
    assert_eq!(cache.stats().share_partitions, 6);
}
