//! Processes that end, servers that forget: nothing purged comes back, and no store is refused for ever.

use larder::units::HOUR;
use larder::{Delivery, Policy, Selector, redis::Redis};
use larder_testkit::RedisServer;

use super::support::{Process, Source};

/// How Redis loses what it knows, in whole or in part.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Nothing,
    FlushAll,
    State,
    Log,
    StateAndLog,
    Restart,
}

async fn lose(server: &RedisServer, loss: Loss) {
    match loss {
        Loss::Nothing => {}
        Loss::FlushAll => server.flush_all().await,
        Loss::State => drop(server.command(&["DEL", "{larder}:state"]).await.unwrap()),
        Loss::Log => drop(server.command(&["DEL", "{larder}:log"]).await.unwrap()),
        Loss::StateAndLog => {
            drop(server.command(&["DEL", "{larder}:state", "{larder}:log"]).await.unwrap());
        }
        Loss::Restart => {
            server.kill();
            server.restart().await;
        }
    }
}

const LOSSES: [Loss; 6] =
    [Loss::Nothing, Loss::FlushAll, Loss::State, Loss::Log, Loss::StateAndLog, Loss::Restart];

/// A process stores v0, the database is written, the key is invalidated; then Redis loses something, under the running
/// process or between two. v0 is never seen again, and what is loaded afterwards is stored and found.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_purged_comes_back_and_stores_go_on_whatever_redis_forgets() {
    for persistent in [false, true] {
        for loss in LOSSES {
            let server = RedisServer::builder().persistent(persistent).start().await;
            let (source, policy) = (Source::default(), Policy::ttl(HOUR));
            let first = Process::patient(Redis::at(server.url()), &source, &policy).await;
            assert_eq!(first.read("a").await, 0);
            first.stored(1).await;
            let v1 = source.write();
            let invalidated = first.rows.invalidate("a").await;
            assert_eq!(invalidated.state, Delivery::Delivered);

            lose(&server, loss).await;
            first.settled().await;
            assert_eq!(first.read("a").await, v1, "{loss:?}, same process");
            first.stop().await;

            let second = Process::patient(Redis::at(server.url()), &source, &policy).await;
            second.settled().await;
            assert_eq!(second.read("a").await, v1, "{loss:?}, next process");
            // Whatever was lost, this process stores, and the one after it finds it.
            assert_eq!(second.read("b").await, v1);
            second.stored(1).await;
            second.stop().await;
            let third = Process::patient(Redis::at(server.url()), &source, &policy).await;
            third.settled().await;
            assert_eq!(third.read("b").await, v1);
            assert_eq!(third.loads(), 0, "{loss:?}, persistent {persistent}: stored and found");
            third.stop().await;
        }
    }
}

/// The loss comes after the invalidation was answered and before the process has noticed anything; then it invalidates
/// again. Each time the entry must be gone, here and for the next process.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_process_goes_on_invalidating_and_storing_after_each_loss() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let process = Process::start(&server.url(), &source).await;
    for loss in LOSSES.iter().cycle().take(18) {
        process.read("a").await;
        lose(&server, *loss).await;
        process.settled().await;
        let written = source.write();
        let _ = process.cache.invalidate([Selector::under("row")]).await;
        assert_eq!(process.read("a").await, written, "{loss:?}");
        process.settled().await;

        let other = Process::start(&server.url(), &source).await;
        assert_eq!(other.read("a").await, written, "{loss:?}, another process");
        other.stop().await;
    }
    process.stop().await;
}

/// Redis is away while the database is written and the key invalidated: the answer is "queued", it holds here, and once
/// Redis is back with the old value in it, neither this process nor the next one serves it.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_made_while_redis_is_away_holds_here_and_is_published_when_it_returns() {
    let server = RedisServer::builder().persistent(true).start().await;
    let source = Source::default();
    let process = Process::start(&server.url(), &source).await;
    assert_eq!(process.read("a").await, 0);
    process.stored(1).await;

    server.kill();
    let v1 = source.write();
    let invalidated = process.rows.invalidate("a").await;
    assert_eq!((invalidated.state, invalidated.token), (Delivery::Queued, None));
    assert_eq!(process.read("a").await, v1, "it holds here");

    server.restart().await;
    process.settled().await;
    assert!(server.command(&["EXISTS", "larder:row:a"]).await.unwrap().int() == Some(1));
    let next = Process::start(&server.url(), &source).await;
    assert_eq!(next.read("a").await, v1, "the old value is in Redis still, and dead");
    next.stop().await;
    process.stop().await;
}

/// No Redis at the start: the cache starts, says so, serves from memory, and uses Redis as soon as there is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_starts_without_redis_and_uses_it_when_it_appears() {
    let (server, source) = (RedisServer::start().await, Source::default());
    server.kill();
    let process = Process::start(&server.url(), &source).await;
    assert_eq!(process.events.count("cache_local_only"), 1);
    assert_eq!(process.cache.health().status, "degraded");
    process.read("a").await;
    process.read("a").await;
    assert_eq!(process.loads(), 1, "memory works");

    server.restart().await;
    process.settled().await;
    process.read("b").await;
    process.stored(1).await;
    process.stop().await;
}
