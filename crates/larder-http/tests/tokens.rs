//! Read-your-writes over HTTP: what a client has written on one node it sees on every other, and a made-up token gets
//! nobody anything.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, Method, Request};
use axum::response::IntoResponse;
use axum::{Extension, Router, body::Body, routing};
use common::*;
use larder_core::testing::{ManualRuntime, TestRemote};
use larder_core::{Cache, Delivery, Epoch, Runtime, Selector};
use larder_http::{LARDER_EPOCH, Late, ReadYourWrites};

/// A database of one row, and two nodes that serve it. The second is slow to hear where a test says so.
struct World {
    runtime: Arc<ManualRuntime>,
    remote: Arc<TestRemote>,
    held: Arc<Held>,
    row: Arc<AtomicU64>,
    runs: Count,
    caches: [Cache; 2],
    /// The response cache lies around reads and writes.
    a: Router,
    b: Router,
}

impl World {
    async fn new() -> Self {
        let runtime = ManualRuntime::new(7);
        let remote = TestRemote::new(runtime.clone() as Arc<dyn Runtime>);
        let held = Held::new(remote.clone());
        let builder = || Cache::builder().runtime(runtime.clone());
        let caches = [
            builder().remote(remote.clone()).build().await.unwrap(),
            builder().remote(held.clone()).build().await.unwrap(),
        ];
        let (row, runs) = (Arc::new(AtomicU64::new(1)), Count::default());
        let (a, b) = (site(&caches[0], &row, &runs), site(&caches[1], &row, &runs));
        World { runtime, remote, held, row, runs, caches, a, b }
    }

    /// Writes on the first node, and answers the token.
    async fn write(&self) -> String {
        let reply = ask(&self.a, put("/row")).await;
        assert!(reply.header("larder-epoch").parse::<Epoch>().is_ok(), "{reply:?}");
        reply.header("larder-epoch").to_owned()
    }

    /// Version 1 is warm on both nodes, and the second stops hearing.
    async fn warm_and_deaf(&self) {
        assert_eq!(ask(&self.a, get("/row")).await.told(), "MISS 1");
        settle().await;
        assert_eq!(ask(&self.b, get("/row")).await.told(), "HIT 1");
        self.held.hears.send_replace(false);
    }

    /// Asks in a task, and moves time on until the answer is there.
    async fn late(&self, app: &Router, request: Request<Body>) -> Reply {
        let mut asked = ask_beside(app, vec![request]).await;
        assert!(asked.try_join_next().is_none(), "it waits for the log");
        self.runtime.advance(Duration::from_millis(500));
        asked.join_next().await.unwrap().unwrap()
    }
}

/// `GET /row` answers the row's version; PUT, POST, PATCH and DELETE count it up and invalidate.
fn site(cache: &Cache, row: &Arc<AtomicU64>, runs: &Count) -> Router {
    let (read, runs) = (row.clone(), runs.clone());
    let show = move || async move {
        runs.up();
        read.load(Ordering::SeqCst).to_string()
    };
    let (own, row) = (cache.clone(), row.clone());
    let change = move || async move {
        row.fetch_add(1, Ordering::SeqCst);
        let _ = own.invalidate([Selector::under("page")]).await;
        "written"
    };
    let methods = routing::get(show).put(change.clone()).post(change.clone()).patch(change.clone());
    Router::new().route("/row", methods.delete(change).layer(layer(cache)))
}

fn put(uri: &str) -> Request<Body> {
    by(Method::PUT, uri)
}

fn by(method: Method, uri: &str) -> Request<Body> {
    let mut request = get(uri);
    *request.method_mut() = method;
    request
}

fn naming(token: &str) -> Request<Body> {
    with("/row", &[("larder-epoch", token)])
}

#[tokio::test]
async fn the_answer_to_every_write_carries_its_token_and_no_other_answer_does() {
    let world = World::new().await;
    let mut last = 0;
    for method in [Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
        let reply = ask(&world.a, by(method.clone(), "/row")).await;
        let token: Epoch = reply.header("larder-epoch").parse().unwrap_or_else(|e| panic!("{method}: {e}"));
        assert!(token.at > last, "{method}");
        last = token.at;
    }
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        let reply = ask(&world.a, by(method, "/row")).await;
        assert!(!reply.headers.contains_key(LARDER_EPOCH), "{reply:?}");
    }
}

/// The second node holds version 1 and is slow to hear of the write. A read that names its token waits until it has
/// heard; one that does not is answered from what is there.
#[tokio::test]
async fn a_read_that_names_the_token_waits_and_sees_the_write() {
    let world = World::new().await;
    world.warm_and_deaf().await;
    let token = world.write().await;
    assert_eq!(ask(&world.b, get("/row")).await.told(), "HIT 1");
    let mut waiting = ask_beside(&world.b, vec![naming(&token), naming(&token)]).await;
    assert!(waiting.try_join_next().is_none());
    world.held.hears.send_replace(true);
    while let Some(reply) = waiting.join_next().await {
        let reply = reply.unwrap();
        assert_eq!((reply.text(), reply.header("larder-epoch")), ("2", "-"));
    }
    assert_eq!(ask(&world.b, naming(&token)).await.told(), "HIT 2");
    assert_eq!(world.caches[1].stats().tokens_ignored, 0);
}

/// The node does not hear in time: the handler answers. What it answers may be stored under the position this node
/// stands at, so it is dead as soon as the node hears of the write; and a second write is not hidden by it.
#[tokio::test]
async fn a_node_that_is_late_is_passed_by_and_nothing_old_is_left_behind() {
    let world = World::new().await;
    world.warm_and_deaf().await;
    let token = world.write().await;
    let reply = world.late(&world.b, naming(&token)).await;
    assert_eq!(reply.told(), "BYPASS 2");
    assert_eq!(reply.header("cache-status"), "larder; fwd=request; stored; detail=late");
    let bypassed = || world.caches[1].stats().namespaces["page"].bypassed;
    assert_eq!(bypassed(), 1);

    let only = with("/row", &[("larder-epoch", &token), ("cache-control", "only-if-cached")]);
    assert_eq!(world.late(&world.b, only).await.status.as_u16(), 504);

    let newer = world.write().await;
    world.held.hears.send_replace(true);
    settle().await;
    assert_eq!(ask(&world.b, naming(&newer)).await.text(), "3");
    assert_eq!(ask(&world.b, get("/row")).await.told(), "HIT 3");
    assert_eq!(bypassed(), 1);
}

#[tokio::test]
async fn while_the_log_is_out_of_reach_a_named_token_costs_no_wait() {
    let world = World::new().await;
    world.warm_and_deaf().await;
    let token = world.write().await;
    world.remote.set(|faults| faults.down = true);
    let reply = ask(&world.b, naming(&token)).await;
    assert_eq!(
        (reply.told(), reply.header("cache-status").ends_with("detail=late")),
        ("BYPASS 2".into(), true)
    );
    // The node that made it has reached it: no need to go past anything.
    world.row.store(9, Ordering::SeqCst);
    assert_eq!(ask(&world.a, naming(&token)).await.told(), "MISS 9");
    assert_eq!(ask(&world.a, naming(&token)).await.told(), "HIT 9");
}

/// A client makes tokens up: of lines that never were, ahead of the log, unreadable, too many. It must not get past the
/// cache by that, and must not slow anybody down: all its requests share one look at the log at a time.
#[tokio::test]
async fn a_thousand_made_up_tokens_cost_one_look_at_a_time_and_no_load() {
    let world = World::new().await;
    assert_eq!(ask(&world.b, get("/row")).await.told(), "MISS 1");
    let real: Epoch = world.write().await.parse().unwrap();
    assert_eq!(ask(&world.b, get("/row")).await.told(), "MISS 2");
    let (runs, (looks, _)) = (world.runs.get(), world.held.peeked());
    let forged = |n: u64| match n % 4 {
        0 => Epoch { line: n, at: real.at }.to_string(),
        1 => Epoch { line: real.line, at: real.at + 1_000_000 + n }.to_string(),
        2 => format!("made-up-{n}"),
        _ => (0..20).map(|line| Epoch { line, at: n }.to_string()).collect::<Vec<_>>().join(","),
    };
    world.held.peeks.send_replace(false);
    let asked = ask_beside(&world.b, (0..1000).map(|n| naming(&forged(n))).collect()).await;
    assert_eq!(world.held.peeked().0, looks + 1, "all of them wait for the same look");
    world.held.peeks.send_replace(true);
    for reply in asked.join_all().await {
        assert_eq!(reply.told(), "HIT 2");
    }
    let (now, at_once) = world.held.peeked();
    assert!(now <= looks + 8 && at_once == 1, "{} looks, {at_once} at one time", now - looks);
    assert_eq!((world.runs.get(), world.caches[1].stats().tokens_ignored), (runs, 1000));
}

/// A client that writes in several places sends all it was given: the newest of each line counts.
#[tokio::test]
async fn of_several_tokens_every_one_that_is_real_is_waited_for() {
    let world = World::new().await;
    world.warm_and_deaf().await;
    let (old, new) = (world.write().await, world.write().await);
    let made_up = Epoch { line: 1, at: 1 }.to_string();
    let request = with("/row", &[("larder-epoch", &format!("x, {new}")), ("larder-epoch", &made_up)]);
    let mut waiting = ask_beside(&world.b, vec![request, naming(&format!("{new}, {old}"))]).await;
    assert!(waiting.try_join_next().is_none());
    world.held.hears.send_replace(true);
    while let Some(reply) = waiting.join_next().await {
        assert_eq!(reply.unwrap().text(), "3");
    }
    assert_eq!(world.caches[1].stats().tokens_ignored, 1);
}

/// Redis is away, so no node but this one will see the write: there is nothing to promise.
#[tokio::test]
async fn a_queued_write_has_no_token() {
    let world = World::new().await;
    world.remote.set(|faults| faults.down = true);
    let reply = ask(&world.a, put("/row")).await;
    assert_eq!((reply.text(), reply.header("larder-epoch")), ("written", "-"));
    let alone = built(Cache::builder()).await.0;
    let reply = ask(&site(&alone, &world.row, &world.runs), put("/row")).await;
    assert_eq!((reply.text(), reply.header("larder-epoch")), ("written", "-"));
    let app = site(&alone, &world.row, &world.runs);
    assert_eq!(ask(&app, naming(&Epoch { line: 1, at: 1 }.to_string())).await.word(), "MISS");
    assert_eq!(alone.stats().tokens_ignored, 1);
}

/// A handler of a GET sets the header (it proxies, say): its own client sees it, and nobody after it.
#[tokio::test]
async fn the_header_is_in_no_stored_answer() {
    let world = World::new().await;
    let page = || async { ([(LARDER_EPOCH, "00000000000000aa-1")], "page") };
    for cache in &world.caches {
        let app = Router::new().route("/", routing::get(page).layer(layer(cache)));
        for _ in 0..2 {
            let reply = ask(&app, get("/")).await;
            assert_eq!((reply.text(), reply.header("larder-epoch")), ("page", "-"));
        }
        settle().await;
    }
    assert_eq!(world.caches[1].stats().namespaces["page"].hits_remote, 1);
}

/// Typed handles behind a router-wide layer: on B the layer waits, so the handle inside is new enough.
#[tokio::test]
async fn around_a_router_it_makes_typed_handles_read_your_writes() {
    let world = World::new().await;
    let apps: Vec<Router> = world.caches.iter().map(|cache| typed(cache, &world.row)).collect();
    assert_eq!(ask(&apps[1], get("/typed")).await.text(), "1");
    world.held.hears.send_replace(false);
    let token = ask(&apps[0], put("/typed")).await.header("larder-epoch").to_owned();
    assert_eq!(ask(&apps[1], get("/typed")).await.text(), "1", "without the token");
    let named = || with("/typed", &[("larder-epoch", &token)]);

    let mut waiting = ask_beside(&apps[1], vec![named()]).await;
    assert!(waiting.try_join_next().is_none());
    world.held.hears.send_replace(true);
    let reply = waiting.join_next().await.unwrap().unwrap();
    assert_eq!((reply.text(), reply.header("x-late"), reply.header("x-token")), ("2", "-", "-"));

    // Not in time: the request goes on, and says so to handlers that ask.
    world.held.hears.send_replace(false);
    let newer = ask(&apps[0], put("/typed")).await.header("larder-epoch").to_owned();
    let named = |path: &str| with(path, &[("larder-epoch", &newer)]);
    let reply = world.late(&apps[1], named("/typed")).await;
    assert_eq!((reply.text(), reply.header("x-late")), ("2", newer.as_str()));
    world.remote.set(|faults| faults.down = true);
    assert_eq!(ask(&apps[1], named("/exact")).await.text(), "3", "a handler that reads at_least");
}

/// A write reads before it writes, through a handle. On B it names the token of the write on A: what it reads must not be
/// older, or it writes over what it has not seen.
#[tokio::test]
async fn a_write_that_names_a_token_waits_before_it_reads() {
    let world = World::new().await;
    let cache = &world.caches[1];
    let rows = cache.namespace::<u64>("row", policy()).unwrap();
    let (own, row) = (cache.clone(), world.row.clone());
    let add = move || async move {
        let row = row.clone();
        let load = move || async move { Ok::<_, std::io::Error>(row.load(Ordering::SeqCst)) };
        let before = rows.get_or_load(7_u64, load).await.unwrap();
        let _ = own.invalidate([Selector::under("row")]).await;
        before.to_string()
    };
    let b = Router::new().route("/add", routing::post(add)).layer(ReadYourWrites::new(cache));
    let a = typed(&world.caches[0], &world.row);
    assert_eq!(ask(&typed(cache, &world.row), get("/typed")).await.text(), "1", "B has it in memory");
    world.held.hears.send_replace(false);

    let token = ask(&a, put("/typed")).await.header("larder-epoch").to_owned();
    let mut named = by(Method::POST, "/add");
    named.headers_mut().insert(LARDER_EPOCH, token.parse().unwrap());
    let mut waiting = ask_beside(&b, vec![named]).await;
    assert!(waiting.try_join_next().is_none());
    world.held.hears.send_replace(true);
    let reply = waiting.join_next().await.unwrap().unwrap();
    assert_eq!(reply.text(), "2");
    let own: Epoch = reply.header("larder-epoch").parse().unwrap();
    assert!(own.at > token.parse::<Epoch>().unwrap().at);
}

/// `GET /typed` reads through a handle, `GET /exact` with `at_least` where the node is late.
fn typed(cache: &Cache, row: &Arc<AtomicU64>) -> Router {
    let load = {
        let row = row.clone();
        move |_: u64| {
            let row = row.clone();
            async move { Ok::<_, std::io::Error>(row.load(Ordering::SeqCst)) }
        }
    };
    let rows = cache.namespace::<u64>("row", policy()).unwrap().loader(load);
    let exact = rows.clone();
    let show = move |late: Option<Extension<Late>>, headers: HeaderMap| async move {
        let text = rows.load(7_u64).await.unwrap().to_string();
        let late = late.map(|Extension(late)| [("x-late", late.token.to_string())]);
        let token = headers.contains_key(LARDER_EPOCH).then_some([("x-token", "is still there")]);
        (late, token, text).into_response()
    };
    let show_exact = move |late: Option<Extension<Late>>| async move {
        let late = late.map(|Extension(late)| late.token);
        exact.at_least(late).load(7_u64).await.unwrap().to_string()
    };
    let (own, row) = (cache.clone(), row.clone());
    let change = move || async move {
        row.fetch_add(1, Ordering::SeqCst);
        let _ = own.invalidate([Selector::under("row")]).await;
    };
    Router::new()
        .route("/typed", routing::get(show).put(change))
        .route("/exact", routing::get(show_exact))
        .layer(ReadYourWrites::new(cache))
}

/// The handler's invalidation runs in a task of its own: it says its token by hand. Around it lies a second layer, which
/// knows of it by the header alone.
#[tokio::test]
async fn a_handler_may_tell_its_token_by_hand() {
    let world = World::new().await;
    let cache = world.caches[0].clone();
    let change = move || async move {
        let own = cache.clone();
        let (done, token) = tokio::sync::oneshot::channel();
        cache.runtime().spawn(Box::pin(async move {
            let invalidated = own.invalidate([Selector::all()]).await;
            assert_eq!(invalidated.state, Delivery::Delivered);
            let _ = done.send(invalidated.token.unwrap());
        }));
        let token: Epoch = token.await.unwrap();
        ([("x-token", token.to_string())], Extension(token))
    };
    let app = Router::new()
        .route("/", routing::post(change).layer(layer(&world.caches[0])))
        .layer(ReadYourWrites::new(&world.caches[0]));
    let reply = ask(&app, by(Method::POST, "/")).await;
    assert!(reply.header("x-token").parse::<Epoch>().is_ok());
    assert_eq!(reply.header("larder-epoch"), reply.header("x-token"));
}
