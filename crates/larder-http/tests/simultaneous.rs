//! Many requests for one thing at one moment: who waits for whom, and who does not.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing;
use common::*;
use larder_core::Cache;
use larder_http::ResponseCache;
use tokio::task::JoinSet;

const MANY: usize = 100;
const AT_MOST: Duration = Duration::from_millis(250);

type Respond = fn(usize) -> Response;

/// The answers of the first two (of an uncacheable kind) after 100 ms each: by the first all learn that there is nothing
/// to share, then they run side by side. Answers how long the slowest took.
#[expect(clippy::disallowed_methods, reason = "the point is how long it takes by the wall's clock")]
async fn slowest_of_many(respond: Respond) -> Duration {
    let cache = Cache::builder().build().await.unwrap();
    let count = Count::default();
    let handler = {
        let (count, runtime) = (count.clone(), cache.runtime().clone());
        move || async move {
            let n = count.up();
            // A handler that takes its time.
            runtime.sleep(Duration::from_millis(100)).await;
            respond(n)
        }
    };
    let pages = ResponseCache::new(&cache, "page", policy().max_stored_size(1000)).unwrap();
    let app = Router::new().route("/", routing::get(handler).layer(pages));
    let start = std::time::Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..MANY {
        let app = app.clone();
        tasks.spawn(async move { (ask(&app, get("/")).await, start.elapsed()) });
    }
    let all = tasks.join_all().await;
    let mut bodies: Vec<_> = all.iter().map(|(reply, _)| reply.text().to_owned()).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), MANY, "everybody has a body of their own");
    assert_eq!(count.get(), MANY);
    all.iter().map(|(_, took)| *took).max().unwrap_or_default()
}

/// A machine busy with other things gets three tries; requests one after the other would take ten seconds each time.
#[expect(clippy::print_stdout, reason = "how close it came is worth knowing")]
async fn never_one_after_the_other(what: &str, respond: Respond) {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        best = best.min(slowest_of_many(respond).await);
        if best <= AT_MOST {
            break;
        }
    }
    println!("{what}: the slowest of {MANY} took {best:?}");
    assert!(best <= AT_MOST, "{what}: {best:?}");
}

/// Attack 35 and lesson H2: the first answer turns out to be nobody else's business. Those who waited for it must not
/// get it, and must not be let through one by one either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_may_not_be_shared_are_made_side_by_side() {
    never_one_after_the_other("private", |n| {
        ([(header::CACHE_CONTROL, "private")], format!("body {n}")).into_response()
    })
    .await;
    never_one_after_the_other("Set-Cookie", |n| {
        ([(header::SET_COOKIE, format!("session={n}"))], format!("body {n}")).into_response()
    })
    .await;
    never_one_after_the_other("over the limit", |n| format!("{n:0>2000}").into_response()).await;
    never_one_after_the_other("500", |n| {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("body {n}")).into_response()
    })
    .await;
}

#[tokio::test]
async fn a_load_that_can_be_shared_runs_once_for_everybody() {
    let (cache, _) = cache().await;
    let (gate, count) = (Gate::new(), Count::default());
    let handler = {
        let (gate, count) = (gate.clone(), count.clone());
        move || async move {
            gate.pass().await;
            format!("body {}", count.up())
        }
    };
    let app = Router::new().route("/", routing::get(handler).layer(layer(&cache)));
    let tasks = ask_beside(&app, (0..50).map(|_| get("/")).collect()).await;
    gate.open();
    let replies = tasks.join_all().await;
    assert!(replies.iter().all(|r| r.told() == "MISS body 1"));
    let collapsed = replies
        .iter()
        .filter(|r| r.header("cache-status") == "larder; fwd=uri-miss; collapsed; stored; ttl=60");
    assert_eq!(collapsed.count(), 49);
    assert_eq!(ask(&app, get("/")).await.told(), "HIT body 1");
}

/// Lesson H1: the client whose request leads the load closes its connection. Everybody else hung until the next request.
/// Here the handler runs on, once, and its answer is for those who wait and for the cache.
#[tokio::test]
async fn a_leader_that_goes_away_takes_nobody_with_it() {
    let (cache, _) = cache().await;
    let (gate, count) = (Gate::new(), Count::default());
    let handler = {
        let (gate, count) = (gate.clone(), count.clone());
        move || async move {
            let n = count.up();
            gate.pass().await;
            format!("body {n}")
        }
    };
    let app = Router::new().route("/", routing::get(handler).layer(layer(&cache)));
    let mut leader = ask_beside(&app, vec![get("/")]).await;
    gate.reached().await;
    let waiters = ask_beside(&app, vec![get("/"), head("/"), get("/")]).await;
    leader.shutdown().await;
    let late = ask_beside(&app, vec![get("/")]).await;
    gate.open();
    for reply in waiters.join_all().await.into_iter().chain(late.join_all().await) {
        assert_eq!((reply.status, reply.header("content-length")), (StatusCode::OK, "6"));
    }
    assert_eq!(count.get(), 1);
    assert_eq!(ask(&app, get("/")).await.told(), "HIT body 1");
}

/// The same over a real connection, with nobody else waiting: the fill goes on all the same.
#[tokio::test]
async fn a_client_that_hangs_up_before_the_answer_leaves_a_warm_cache_behind() {
    let (cache, _) = cache().await;
    let (gate, done) = (Gate::new(), Gate::new());
    let handler = {
        let (gate, done) = (gate.clone(), done.clone());
        move || async move {
            gate.pass().await;
            done.pass().await;
            "body"
        }
    };
    let app = Router::new().route("/", routing::get(handler).layer(layer(&cache)));
    let server = serve(app.clone()).await;
    let mut client = server.connect().await;
    tokio::io::AsyncWriteExt::write_all(&mut client, b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        .await
        .unwrap();
    gate.reached().await;
    drop(client);
    settle().await;
    gate.open();
    done.reached().await;
    // The server has seen the connection close by now, or sees it while the handler ends.
    done.open();
    let reply = ask(&app, get("/")).await;
    assert_eq!(reply.text(), "body");
    assert_eq!(cache.stats().namespaces["page"].loads, 1);
}

/// Lessons H3 and 15: a handler panics while others wait. Nobody hangs, everybody hears of it, and the next request
/// runs the handler again.
#[tokio::test]
async fn a_panic_is_a_500_for_everybody_who_waits_and_is_not_remembered() {
    let (cache, _) = cache().await;
    let (gate, count) = (Gate::new(), Count::default());
    let handler = {
        let (gate, count) = (gate.clone(), count.clone());
        move || async move {
            if count.up() == 1 {
                gate.pass().await;
                panic!("on purpose");
            }
            "well again"
        }
    };
    let app = Router::new().route("/", routing::get(handler).layer(layer(&cache)));
    let tasks = ask_beside(&app, (0..10).map(|_| get("/")).collect()).await;
    gate.open();
    for reply in tasks.join_all().await {
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(reply.header("content-type"), "application/problem+json");
        assert_eq!(reply.header("cache-control"), "no-store");
        assert!(!reply.text().contains("on purpose"), "rule 58: no internals");
    }
    assert_eq!(count.get(), 1);
    assert_eq!(ask(&app, get("/")).await.told(), "MISS well again");
}

/// Lesson 14: a loader hangs. Freeing those who wait is not enough: the load itself must end, with all it holds.
#[tokio::test]
async fn a_handler_that_hangs_is_dropped_and_everybody_hears_504_at_the_deadline() {
    struct Held(Arc<AtomicBool>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    let (cache, runtime) = cache().await;
    let (gate, dropped) = (Gate::new(), Arc::new(AtomicBool::new(false)));
    let handler = {
        let (gate, dropped) = (gate.clone(), dropped.clone());
        move || async move {
            let _held = Held(dropped);
            gate.pass().await;
            "too late"
        }
    };
    let pages = ResponseCache::new(&cache, "page", policy().load_timeout(Duration::from_secs(2))).unwrap();
    let app = Router::new().route("/", routing::get(handler).layer(pages));
    let mut tasks = ask_beside(&app, (0..10).map(|_| get("/")).collect()).await;
    runtime.advance(Duration::from_millis(1999));
    settle().await;
    assert!(tasks.try_join_next().is_none() && !dropped.load(Ordering::SeqCst));
    runtime.advance(Duration::from_millis(1));
    for reply in tasks.join_all().await {
        assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(reply.header("content-type"), "application/problem+json");
    }
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(cache.stats().flights, 0);
}

/// A layer on the router and the same layer on a route: the inner one would wait for the load that the outer one leads,
/// which is the very one it is part of.
#[tokio::test]
async fn a_route_that_lies_in_two_layers_of_one_key_does_not_wait_for_itself() {
    let (cache, _) = cache().await;
    let count = Count::default();
    let handler = {
        let count = count.clone();
        move || async move { format!("body {}", count.up()) }
    };
    let pages = layer(&cache).fixed_id("x");
    let app = Router::new().route("/", routing::get(handler).layer(pages.clone())).layer(pages);
    let mut tasks = ask_beside(&app, vec![get("/")]).await;
    let first = tasks.try_join_next().expect("an answer, at once").unwrap();
    assert_eq!(first.told(), "MISS body 1");
    assert_eq!(first.headers.get_all("cache-status").iter().count(), 1);
    assert_eq!(ask(&app, get("/")).await.told(), "HIT body 1");
}

/// A closure of the route's own that panics must not leave a load behind that everybody waits for.
#[tokio::test]
async fn tags_that_panic_cost_the_storing_and_nothing_else() {
    let (cache, _) = cache().await;
    let gate = Gate::new();
    let handler = {
        let gate = gate.clone();
        move || async move {
            gate.pass().await;
            "body"
        }
    };
    let pages = layer(&cache).tags_from(|_, _| panic!("on purpose"));
    let app = Router::new().route("/", routing::get(handler).layer(pages));
    let tasks = ask_beside(&app, vec![get("/"), get("/")]).await;
    gate.open();
    gate.open();
    for reply in tasks.join_all().await {
        assert_eq!(reply.told(), "BYPASS body");
    }
    assert_eq!(cache.stats().memory_entries, 0);
}
