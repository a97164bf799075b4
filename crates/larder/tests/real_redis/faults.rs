//! Redis killed, stopped, black-holed and restarted under load: nobody who asks notices more than a late answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::routing::get;
use http_body_util::BodyExt;
use larder::http::ResponseCache;
use larder::units::HOUR;
use larder::{BreakerState, Policy};
use larder_testkit::{Fault, FaultProxy, RedisServer, wait_for, wait_until};
use parking_lot::Mutex;
use tower::ServiceExt;

use super::support::{Process, SOON, Source};

/// What a load takes.
const LOAD: Duration = Duration::from_millis(20);
/// How long a read waits for Redis, by default.
const BUDGET: Duration = Duration::from_millis(100);
/// What scheduling may add on a busy machine; far less than any time after which a hang ends.
const SLACK: Duration = Duration::from_secs(1);
/// Requests of one client in one phase.
const REQUESTS: u64 = 40;
const CLIENTS: u64 = 4;

/// The answers of one phase.
#[derive(Default)]
struct Tally {
    requests: AtomicU64,
    failures: AtomicU64,
    slowest: Mutex<Duration>,
}

/// Asks for rows, a few of them again and again, with the memory tier off: every request meets Redis, or its absence.
async fn load(app: &Router, process: &Process) -> Tally {
    let tally = Arc::new(Tally::default());
    let runtime = process.cache.runtime().clone();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (app, tally, runtime) = (app.clone(), tally.clone(), runtime.clone());
        clients.spawn(async move {
            for i in 0..REQUESTS {
                let path = format!("/rows/{}", (client * 7 + i) % 12);
                let began = runtime.now();
                let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
                let response = app.clone().oneshot(request).await.unwrap();
                let good = response.status().is_success();
                let body = response.into_body().collect().await;
                let took = runtime.now().since(began);
                tally.requests.fetch_add(1, Ordering::AcqRel);
                if !good || body.is_err() {
                    tally.failures.fetch_add(1, Ordering::AcqRel);
                }
                let mut slowest = tally.slowest.lock();
                *slowest = (*slowest).max(took);
            }
        });
    }
    clients.join_all().await;
    Arc::into_inner(tally).expect("all clients are done")
}

/// Redis is killed, restarted, stopped (SIGSTOP), continued, black-holed and healed while four clients ask. Every answer
/// is a 2xx, none takes longer than Redis's budget and the load together, the breaker opens when Redis does not answer
/// and closes when it does, and all of it shows in health and events.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_redis_under_load_every_answer_is_good_and_in_time() {
    let server = RedisServer::builder().persistent(true).start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let process = Process::start(&proxy.url(), &Source::default()).await;
    let runtime = process.cache.runtime().clone();
    let layer = ResponseCache::new(&process.cache, "rows", Policy::ttl(HOUR).remote_only()).unwrap().id("id");
    let handler = move |Path(id): Path<u64>| {
        let sleep = runtime.sleep(LOAD);
        async move {
            sleep.await;
            format!("row {id}")
        }
    };
    let app = Router::new().route("/rows/{id}", get(handler).layer(layer));
    let breaker = || process.cache.health().remote.map(|r| r.breaker);
    let open = || breaker() != Some(BreakerState::Closed);
    let limit = BUDGET + LOAD + SLACK;
    let phase = async |name: &str| {
        let tally = load(&app, &process).await;
        let (requests, slowest) = (tally.requests.into_inner(), tally.slowest.into_inner());
        println!("{name}: {requests} requests, slowest {slowest:?} (limit {limit:?})");
        assert_eq!(tally.failures.into_inner(), 0, "{name}: answers that are no 2xx");
        assert!(requests > 0 && slowest <= limit, "{name}: slowest {slowest:?}, limit {limit:?}");
    };

    // Well again means: asked again. An open breaker lets one read try, once its pause is over.
    let well = async || {
        wait_for(SOON, "reads to reach Redis again", async || {
            let request = axum::http::Request::get("/rows/0").body(Body::empty()).unwrap();
            let _ = app.clone().oneshot(request).await;
            process.cache.health().status == "ok"
        })
        .await;
    };

    phase("warming up").await;
    phase("healthy").await;

    server.kill();
    phase("killed").await;
    wait_until(SOON, "the breaker to open or the link to be down", || {
        let remote = process.cache.health().remote.unwrap();
        !remote.connected || open()
    })
    .await;
    server.restart().await;
    well().await;
    phase("restarted").await;

    server.pause();
    phase("stopped").await;
    assert!(process.events.count("cache_breaker") >= 1, "the breaker opened: {:?}", breaker());
    server.resume();
    well().await;
    assert_eq!(breaker(), Some(BreakerState::Closed));
    phase("continued").await;

    proxy.set(Fault::BlackHole);
    phase("black-holed").await;
    assert_ne!(process.cache.health().status, "ok");
    proxy.set(Fault::None);
    well().await;
    phase("healed").await;

    let events = process.events.events();
    let breaker_events =
        |to| events.iter().filter(|e| matches!(e, larder::Event::Breaker { to: t, .. } if *t == to)).count();
    assert!(breaker_events(BreakerState::Open) >= 1, "{:?}", process.events.names());
    assert!(breaker_events(BreakerState::Closed) >= 1, "{:?}", process.events.names());
    let stats = process.cache.stats().namespaces["rows"].clone();
    assert!(stats.hits_remote > 0, "Redis was of use in between: {stats:?}");
    process.stop().await;
}
