//! Several processes, one handler run at a time (lesson 18): leases, held for as long as an answer is being made, and given
//! back whatever becomes of it (lesson 15).
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::*;
use http_body_util::BodyExt as _;
use larder_core::{Cache, Policy};
use larder_http::ResponseCache;

const SECOND: Duration = Duration::from_secs(1);

struct Nodes {
    world: World,
    caches: Vec<Cache>,
    apps: Vec<Router>,
    origin: Origin,
    gate: Gate,
}

/// So many processes, whose handlers wait for the gate.
async fn nodes(count: usize, policy: Policy, change: fn(ResponseCache) -> ResponseCache) -> Nodes {
    let (world, origin, gate) = (World::new(), Origin::new(), Gate::new());
    let (mut caches, mut apps) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let cache = world.process().await;
        apps.push(origin.behind(change(ResponseCache::new(&cache, "page", policy.clone()).unwrap())));
        caches.push(cache);
    }
    let nodes = Nodes { world, caches, apps, origin, gate };
    nodes.answers(|n| format!("body {n}").into_response());
    nodes
}

impl Nodes {
    fn answers(&self, answer: impl Fn(usize) -> Response + Clone + Send + Sync + 'static) {
        let gate = self.gate.clone();
        self.origin.does(move |n| {
            let (gate, answer) = (gate.clone(), answer.clone());
            async move {
                gate.pass().await;
                answer(n)
            }
        });
    }

    fn leases(&self) -> Vec<usize> {
        self.caches.iter().map(|cache| cache.stats().leases).collect()
    }
}

#[tokio::test]
async fn a_slow_handler_runs_in_one_process_for_all() {
    let nodes = nodes(3, policy(), |pages| pages).await;
    let mut asked = Vec::new();
    for app in &nodes.apps {
        asked.push(ask_beside(app, vec![get("/"), get("/")]).await);
    }
    assert_eq!((nodes.origin.runs(), nodes.leases()), (1, vec![1, 0, 0]));
    // Longer than a lease lives that nobody extends.
    nodes.world.pass(15 * SECOND).await;
    assert_eq!(nodes.origin.runs(), 1);
    nodes.gate.open();
    settle().await;
    for asked in asked {
        for reply in asked.join_all().await {
            assert_eq!((reply.text(), reply.status), ("body 1", StatusCode::OK));
        }
    }
    assert_eq!((nodes.origin.runs(), nodes.leases()), (1, vec![0, 0, 0]));
    let stats = nodes.caches[1].stats();
    let page = &stats.namespaces["page"];
    assert_eq!((page.loads, page.hits_remote, page.misses), (0, 2, 0), "found, as if it had been there");
}

/// The head is out, the first client streams: the answer is being made still. Its lease is given back with the last byte.
#[tokio::test]
async fn a_lease_is_held_until_the_last_byte_of_a_body_is_there() {
    let nodes = nodes(2, policy(), |pages| pages).await;
    let (feed, body) = fed(Some(10));
    let body = Arc::new(parking_lot::Mutex::new(Some(body)));
    nodes.answers(move |_| body.lock().take().map_or("another".into_response(), IntoResponse::into_response));
    nodes.gate.open();
    let first = begin(&nodes.apps[0], get("/")).await;
    let other = ask_beside(&nodes.apps[1], vec![get("/")]).await;
    for piece in ["on", "e ", "tw", "o "] {
        nodes.world.pass(5 * SECOND).await;
        assert_eq!((nodes.origin.runs(), nodes.leases()), (1, vec![1, 0]));
        feed.send(piece);
    }
    feed.send("3!");
    drop(feed);
    settle().await;
    assert_eq!(other.join_all().await[0].text(), "one two 3!");
    assert_eq!(whole(first).await.text(), "one two 3!");
    assert_eq!((nodes.origin.runs(), nodes.leases()), (1, vec![0, 0]));
}

/// However a load ends that brings nothing for others, the next process need not wait for its lease to run out, nor for
/// anything: time stands still here.
#[tokio::test]
async fn a_load_that_brings_nothing_gives_its_lease_back_at_once() {
    type Answer = fn() -> Response;
    let endings: [(&str, Answer); 6] = [
        ("404", || StatusCode::NOT_FOUND.into_response()),
        ("503", || StatusCode::SERVICE_UNAVAILABLE.into_response()),
        ("private", || ([(header::CACHE_CONTROL, "private")], "yours").into_response()),
        ("a panic", || panic!("on purpose")),
        ("a body that breaks off", || {
            let (feed, body) = fed(Some(10));
            feed.fail();
            body.into_response()
        }),
        ("tags that panic", || ([("x-tags", "panic")], "body").into_response()),
    ];
    for (ending, answer) in endings {
        let nodes = nodes(2, policy(), |pages| {
            pages.tags_from(|parts, _| match parts.headers.contains_key("x-tags") {
                true => panic!("on purpose"),
                false => vec![],
            })
        })
        .await;
        nodes.answers(move |n| if n == 1 { answer() } else { "well".into_response() });
        let app = nodes.apps[0].clone();
        let mut first = tokio::task::JoinSet::new();
        first.spawn(async move { begin(&app, get("/")).await.into_body().collect().await.is_ok() });
        nodes.gate.reached().await;
        let other = ask_beside(&nodes.apps[1], vec![get("/")]).await;
        assert_eq!(nodes.origin.runs(), 1, "{ending}: it waits");
        nodes.gate.open();
        nodes.gate.open();
        settle().await;
        assert_eq!(first.join_all().await.len(), 1);
        assert_eq!(other.join_all().await[0].text(), "well", "{ending}");
        settle().await;
        assert_eq!((nodes.origin.runs(), nodes.leases()), (2, vec![0, 0]), "{ending}");
    }
}

/// The body's tags cannot be kept, which is known only at its end; or it takes longer than a load may.
#[tokio::test]
async fn a_body_that_streams_and_is_not_stored_in_the_end_gives_its_lease_back() {
    for slow in [false, true] {
        let nodes = nodes(2, policy().load_timeout(5 * SECOND), |pages| {
            pages.tags_from(|_, body| vec![format!("{body:?}").repeat(200)])
        })
        .await;
        let (feed, body) = fed(Some(10));
        let body = Arc::new(parking_lot::Mutex::new(Some(body)));
        nodes.answers(move |_| body.lock().take().map_or("".into_response(), IntoResponse::into_response));
        nodes.gate.open();
        let first = begin(&nodes.apps[0], get("/")).await;
        let other = ask_beside(&nodes.apps[1], vec![get("/")]).await;
        assert_eq!((nodes.origin.runs(), nodes.leases()), (1, vec![1, 0]));
        nodes.gate.open();
        if slow {
            nodes.world.pass(5 * SECOND).await;
        }
        feed.send("one two 3!");
        drop(feed);
        settle().await;
        assert_eq!(other.join_all().await.len(), 1);
        assert_eq!(whole(first).await.text(), "one two 3!");
        settle().await;
        assert_eq!((nodes.origin.runs(), nodes.leases()), (2, vec![0, 0]), "slow: {slow}");
    }
}

/// The client whose request leads goes away, and its process goes on making the answer that others wait for.
#[tokio::test]
async fn a_client_that_goes_away_leaves_the_lease_to_its_load() {
    let nodes = nodes(2, policy(), |pages| pages).await;
    let mut gone = ask_beside(&nodes.apps[0], vec![get("/")]).await;
    let other = ask_beside(&nodes.apps[1], vec![get("/")]).await;
    gone.shutdown().await;
    settle().await;
    assert_eq!(nodes.leases(), [1, 0]);
    nodes.gate.open();
    settle().await;
    assert_eq!(other.join_all().await[0].text(), "body 1");
    assert_eq!((nodes.origin.runs(), nodes.leases()), (1, vec![0, 0]));
}

/// A client goes away while his process waits for the answer of another: that one is not disturbed.
#[tokio::test]
async fn a_client_that_goes_away_while_another_process_loads_disturbs_nobody() {
    let nodes = nodes(2, policy(), |pages| pages).await;
    let first = ask_beside(&nodes.apps[0], vec![get("/")]).await;
    let mut gone = ask_beside(&nodes.apps[1], vec![get("/")]).await;
    gone.shutdown().await;
    settle().await;
    nodes.gate.open();
    settle().await;
    assert_eq!(first.join_all().await[0].text(), "body 1");
    assert_eq!((nodes.origin.runs(), nodes.leases()), (1, vec![0, 0]));
    assert!(nodes.caches.iter().all(|cache| cache.stats().flights == 0));
}

/// Ten processes wait for an answer that turns out to be its first client's alone: one after the other, each would wait for
/// the one before. Told why the lease has ended, they run side by side.
#[tokio::test]
async fn nobody_queues_behind_an_answer_that_is_for_one_client_alone() {
    let nodes = nodes(10, policy(), |pages| pages).await;
    nodes.answers(|n| ([(header::CACHE_CONTROL, "private")], format!("body {n}")).into_response());
    let mut asked = Vec::new();
    for app in &nodes.apps {
        asked.push(ask_beside(app, vec![get("/"), get("/")]).await);
    }
    assert_eq!(nodes.origin.runs(), 1);
    nodes.gate.open();
    settle().await;
    // The first client of each process, and the second one of the first.
    assert_eq!(nodes.origin.runs(), 11, "side by side, without anybody's answer");
    (0..20).for_each(|_| nodes.gate.open());
    let mut bodies = Vec::new();
    for asked in asked {
        bodies.extend(asked.join_all().await.iter().map(|reply| reply.text().to_owned()));
    }
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!((bodies.len(), nodes.leases()), (20, vec![0; 10]), "everybody has a body of their own");
}

/// Redis is away: each process loads for itself, at once.
#[tokio::test]
async fn without_the_remote_tier_nobody_waits_for_a_lease() {
    let nodes = nodes(2, policy(), |pages| pages).await;
    nodes.world.remote.set(|faults| faults.down = true);
    settle().await;
    let mut asked = Vec::new();
    for app in &nodes.apps {
        asked.push(ask_beside(app, vec![get("/")]).await);
    }
    assert_eq!(nodes.origin.runs(), 2);
    nodes.gate.open();
    nodes.gate.open();
    for asked in asked {
        assert_eq!(asked.join_all().await[0].status, StatusCode::OK);
    }
}

/// A stale answer is refreshed by one process; the others find what it has brought.
#[tokio::test]
async fn a_refresh_has_a_lease_too() {
    let nodes = nodes(3, policy().stale_while_revalidate(10 * MINUTE), |pages| pages).await;
    nodes.gate.open();
    for app in &nodes.apps {
        assert_eq!(ask(app, get("/")).await.text(), "body 1");
        settle().await;
    }
    nodes.world.runtime.advance(MINUTE);
    for app in &nodes.apps {
        assert_eq!(ask(app, get("/")).await.told(), "STALE body 1");
        settle().await;
    }
    assert_eq!((nodes.origin.runs(), nodes.leases()), (2, vec![1, 0, 0]));
    nodes.gate.open();
    settle().await;
    for app in &nodes.apps {
        assert_eq!(ask(app, get("/")).await.told(), "HIT body 2");
    }
    assert_eq!(nodes.origin.runs(), 2);
}
