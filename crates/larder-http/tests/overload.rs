//! More requests than the route may make answers at one time (lesson 16; attack 35): a bounded queue, then a word about when
//! to come again.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use common::*;
use larder_core::{Cache, Claim, Policy, SkipReason};
use larder_http::ResponseCache;

const SECOND: Duration = Duration::from_secs(1);

/// One handler at a time, and one that waits for its turn.
fn narrow() -> Policy {
    policy().max_loads(1).load_queue(1)
}

/// A site whose handler waits for the gate.
fn gated(cache: &Cache, policy: Policy) -> (Router, Origin, Gate) {
    let (origin, gate) = (Origin::new(), Gate::new());
    let of_handler = gate.clone();
    origin.does(move |n| {
        let gate = of_handler.clone();
        async move {
            gate.pass().await;
            format!("body {n}")
        }
    });
    (origin.behind(ResponseCache::new(cache, "page", policy).unwrap()), origin, gate)
}

fn is_turned_away(reply: &Reply) {
    assert_eq!(reply.status.as_u16(), 503);
    assert_eq!((reply.header("retry-after"), reply.header("cache-control")), ("1", "no-store"));
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert_eq!(reply.header("cache-status"), "-", "no word of a cache on our own answers");
}

#[tokio::test]
async fn beyond_the_queue_clients_hear_503_and_when_to_come_again() {
    let (cache, _) = cache().await;
    let (app, origin, gate) = gated(&cache, narrow());
    let runs = ask_beside(&app, vec![get("/1"), get("/1")]).await;
    let waits = ask_beside(&app, vec![get("/2"), get("/2")]).await;
    is_turned_away(&ask(&app, get("/3")).await);
    is_turned_away(&ask(&app, with("/1", &[("cache-control", "no-cache")])).await);
    assert_eq!(origin.runs(), 1, "and no handler was run for them");
    gate.open();
    gate.open();
    assert!(runs.join_all().await.iter().all(|reply| reply.text() == "body 1"));
    assert!(waits.join_all().await.iter().all(|reply| reply.text() == "body 2"));
    gate.open();
    assert_eq!(ask(&app, get("/3")).await.told(), "MISS body 3", "it was not remembered");
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test]
async fn who_waits_for_his_turn_longer_than_the_load_timeout_is_turned_away() {
    let (cache, runtime) = cache().await;
    let (app, origin, _gate) = gated(&cache, narrow().load_queue(2).load_timeout(5 * SECOND));
    origin.does(|_| std::future::pending::<()>());
    let mut all = vec![ask_beside(&app, vec![with("/1", &[("cache-control", "no-cache")])]).await];
    runtime.advance(SECOND);
    all.push(ask_beside(&app, vec![get("/2"), get("/2")]).await);
    all.push(ask_beside(&app, vec![get("/3"), get("/3")]).await);
    // The first one's place is free after five seconds, and taken by the second one, who hangs as well; the third one has
    // waited for five seconds after six.
    let mut ends = Vec::new();
    for second in 2..=10 {
        runtime.advance(SECOND);
        settle().await;
        for (page, asked) in (1..).zip(&mut all) {
            while let Some(reply) = asked.try_join_next() {
                let reply = reply.unwrap();
                if reply.status.as_u16() == 503 {
                    is_turned_away(&reply);
                }
                ends.push((second, page, reply.status.as_u16()));
            }
        }
    }
    assert_eq!(ends, [(5, 1, 504), (6, 3, 503), (6, 3, 503), (10, 2, 504), (10, 2, 504)]);
    assert_eq!((origin.runs(), cache.stats().flights), (2, 0));
}

#[tokio::test]
async fn where_there_is_something_stale_it_is_served_instead() {
    let (cache, runtime) = cache().await;
    let (app, origin, gate) = gated(&cache, narrow().stale_if_error(10 * MINUTE));
    for page in ["/1", "/2", "/3"] {
        gate.open();
        ask(&app, get(page)).await;
    }
    runtime.advance(2 * MINUTE);
    let busy = ask_beside(&app, vec![get("/1"), get("/2")]).await;
    for _ in 0..5 {
        let reply = ask(&app, get("/3")).await;
        assert_eq!((reply.told().as_str(), reply.header("age")), ("STALE body 3", "120"));
    }
    assert_eq!(origin.runs(), 4);
    gate.open();
    gate.open();
    busy.join_all().await;
    let reply = ask(&app, get("/3")).await;
    assert_eq!(reply.header("cache-status"), "larder; hit; ttl=-1; detail=stale", "in the pause");
}

/// The first of those who are turned away is told why; what he had, had he waited for another's load, is no concern of his.
#[tokio::test]
async fn a_stale_answer_for_want_of_a_place_says_so() {
    let (cache, runtime) = cache().await;
    let (app, _, gate) = gated(&cache, narrow().load_queue(0).stale_if_error(10 * MINUTE));
    for page in ["/1", "/2"] {
        gate.open();
        ask(&app, get(page)).await;
    }
    runtime.advance(MINUTE);
    let _busy = ask_beside(&app, vec![get("/1")]).await;
    let reply = ask(&app, get("/2")).await;
    assert_eq!(reply.header("cache-status"), "larder; hit; ttl=-1; detail=overloaded");
}

/// A key whose answers are nobody else's is loaded side by side: those loads are loads too.
#[tokio::test]
async fn what_runs_apart_takes_its_place_among_the_handlers() {
    let (cache, _) = cache().await;
    let (app, origin, gate) = gated(&cache, narrow());
    origin.does({
        let gate = gate.clone();
        move |_| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                ([(header::CACHE_CONTROL, "private")], "yours").into_response()
            }
        }
    });
    gate.open();
    assert_eq!(ask(&app, get("/")).await.told(), "BYPASS yours");
    let two = ask_beside(&app, vec![get("/"), get("/")]).await;
    assert_eq!(origin.runs(), 2);
    is_turned_away(&ask(&app, get("/")).await);
    gate.open();
    gate.open();
    assert!(two.join_all().await.iter().all(|reply| reply.text() == "yours"));
}

#[tokio::test]
async fn a_body_on_its_way_keeps_its_place() {
    let (cache, _) = cache().await;
    let (app, origin, _) = gated(&cache, narrow().load_queue(0));
    let (feed, body) = fed(Some(4));
    let body = parking_lot::Mutex::new(Some(body));
    origin.does(move |_| std::future::ready(body.lock().take().unwrap_or_default()));
    let first = begin(&app, get("/1")).await;
    is_turned_away(&ask(&app, get("/2")).await);
    feed.send("body");
    drop(feed);
    assert_eq!(whole(first).await.text(), "body");
    settle().await;
    assert_eq!(ask(&app, get("/2")).await.status.as_u16(), 200);
}

/// A hundred thousand loads are under way. To run the handler of each further request alone would be no protection.
#[tokio::test]
async fn where_no_more_loads_may_begin_no_handler_runs() {
    let (cache, _) = cache().await;
    let origin = Origin::new();
    let app = origin.behind(layer(&cache));
    let others = cache.namespace::<u64>("other", policy()).unwrap();
    let mut leads = Vec::new();
    for number in 0.. {
        let mut key = others.key_writer();
        key.number(number);
        match others.claim(key.as_bytes()) {
            Claim::Lead(lead) => leads.push(lead),
            Claim::Apart(SkipReason::Overloaded) => break,
            _ => panic!("{number}"),
        }
    }
    is_turned_away(&ask(&app, get("/")).await);
    let only_if_cached = with("/", &[("cache-control", "only-if-cached")]);
    assert_eq!((ask(&app, only_if_cached).await.status.as_u16(), origin.runs()), (504, 0));
    leads.pop();
    assert_eq!(ask(&app, get("/")).await.told(), "MISS body 1");
}
