//! The rules that were drawn from the defects of other caches, each with the defect it comes from: several nodes on one real
//! Redis. The seventh, about what is kept for how long, is in `lives.rs`.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use larder::units::{HOUR, SECOND};
use larder::{
    Arrival, Cache, Delivery, Epoch, Fill, Filled, LogState, Namespace, NoLoader, Policy, Selector,
    redis::Redis,
};
use larder_testkit::{Fault, FaultProxy, RedisServer, wait_for, wait_until};
use tokio::task::JoinSet;

use super::support::{Held, Process, SOON, Source, calls, no_lease};

/// In every command for a value, and in none of the log.
const VALUES: &[u8] = b"\r\nlarder:";
const LOG: &[u8] = b"{larder}:log";

fn policy() -> Policy {
    Policy::ttl(HOUR).jitter(0.0)
}

async fn start(url: &str, source: &Source) -> Process {
    Process::patient(Redis::at(url), source, &policy()).await
}

fn rows(process: &Process) -> Namespace<larder::AnyKey, u64, NoLoader> {
    process.cache.namespace("row", policy()).unwrap()
}

async fn arrive(node: &Process, token: Option<Epoch>) {
    assert_eq!(node.cache.arrive(token.expect("delivered")).await, Arrival::Arrived);
}

/// Rule 1 (cachet C1, C3; multi-tier-cache M2; moka L1a): a load is under way when a tag is invalidated that it is going to carry.
/// Its end is stored, or whoever comes after the invalidation joins it and is given what is dead.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a reader beside the test")]
async fn rule_1_who_comes_after_an_invalidation_is_not_given_what_the_load_from_before_it_brings() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let (x, y) = (start(&server.url(), &source).await, start(&server.url(), &source).await);
    let (held, slow) = (Arc::new(Held::new()), source.clone());
    let gate = held.clone();
    let tagged = y.cache.namespace::<u64>("tagged", policy()).unwrap().loader_with(move |_: String| {
        // The first one has read its data, and does not come to an end.
        let (value, door) = (slow.read(), (slow.reads() == 1).then(|| gate.passed()));
        async move {
            if let Some(door) = door {
                door.await;
            }
            Ok::<_, Infallible>(Filled::new(value).tag("red"))
        }
    });
    let handle = tagged.clone();
    let first = tokio::spawn(async move { *handle.load("a").await.unwrap() });
    wait_until(SOON, "the load to have read its data", || source.reads() == 1).await;
    let written = source.write();
    arrive(&y, x.cache.invalidate([Selector::tag("red")]).await.token).await;
    // He waits for what is under way, whose tags are known only at its end, and then he loads himself.
    let mut late = Box::pin(tagged.load("a"));
    let joined = poll_fn(|cx| Poll::Ready(late.as_mut().poll(cx).is_pending())).await;
    assert!(joined, "he waits with the others");
    held.let_go();
    assert_eq!(*late.await.unwrap(), written);
    assert_eq!(first.await.unwrap(), 0, "who came before the write may have the old value");
    wait_until(SOON, "the store", || y.cache.stats().namespaces["tagged"].stores == 1).await;
    for node in [&y, &x, &start(&server.url(), &source).await] {
        let rows = node.cache.namespace::<u64>("tagged", policy()).unwrap();
        assert_eq!(rows.get("a").await.as_deref(), Some(&written), "the late end has changed nothing");
    }
}

/// Rule 1 at another door (cachet C3, multi-tier-cache M3): a value is on its way from Redis into memory when its key is
/// invalidated. It is checked when it leaves, and not when it comes.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a reader beside the test")]
async fn rule_1_what_is_on_its_way_from_redis_into_memory_is_checked_when_it_arrives() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let proxy = FaultProxy::to(server.addr()).await;
    let (x, y) = (start(&server.url(), &source).await, start(&proxy.url(), &source).await);
    x.read("a").await;
    x.stored(1).await;
    let asked = async || calls(&server, "get").await + calls(&server, "mget").await;
    let before = asked().await;
    // The question arrives, and the answer does not yet.
    proxy.set_where(VALUES, Fault::HalfOpen);
    let handle = y.rows.clone();
    let reader = tokio::spawn(async move { *handle.load("a").await.unwrap() });
    wait_for(SOON, "Redis to have answered", async || asked().await > before).await;
    let written = source.write();
    arrive(&y, x.rows.invalidate("a").await.token).await;
    proxy.set(Fault::None);
    let read = reader.await.unwrap();
    assert!(read == 0 || read == written, "he came before the write: {read}");
    for _ in 0..2 {
        assert_eq!(y.read("a").await, written, "it has not entered memory");
    }
}

/// Rule 2 (hitbox H1: those who wait hang for ever; multi-tier-cache M2: 50 who wait, 51 loads): whoever leads a load goes away.
#[tokio::test(flavor = "multi_thread")]
async fn rule_2_a_leader_who_goes_away_neither_ends_the_load_nor_wakes_a_herd() {
    const READERS: usize = 50;
    let (server, source) = (RedisServer::start().await, Source::default());
    let nodes = [start(&server.url(), &source).await, start(&server.url(), &source).await];
    let (held, loads) = (Arc::new(Held::new()), Arc::new(AtomicUsize::new(0)));
    let read = |node: &Process| {
        let (handle, gate, loads) = (rows(node), held.clone(), loads.clone());
        async move {
            let load = move || async move {
                loads.fetch_add(1, Ordering::SeqCst);
                gate.passed().await;
                Ok::<_, Infallible>(7)
            };
            *handle.get_or_load("a", load).await.unwrap()
        }
    };
    let mut leader = JoinSet::new();
    leader.spawn(read(&nodes[0]));
    wait_until(SOON, "the load to begin", || loads.load(Ordering::SeqCst) == 1).await;
    let mut readers = JoinSet::new();
    for i in 0..2 * READERS {
        readers.spawn(read(&nodes[i % 2]));
    }
    wait_until(SOON, "the other node to wait, too", || nodes[1].cache.stats().flights == 1).await;
    leader.abort_all();
    assert!(leader.join_next().await.unwrap().unwrap_err().is_cancelled());
    held.let_go();
    assert!(readers.join_all().await.iter().all(|value| *value == 7));
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    for node in &nodes {
        node.idle().await;
    }
    no_lease(&server).await;
}

/// Rule 3 (cachet C2, http-cache W2, hitbox H8): an error of the remote tier is handed to the caller, or a good answer is thrown away
/// because it could not be stored.
#[tokio::test(flavor = "multi_thread")]
async fn rule_3_whatever_redis_answers_a_read_has_what_its_loader_has() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let x = start(&server.url(), &source).await;
    server.command(&["RPUSH", "larder:row:wrong type", "x"]).await.unwrap();
    assert_eq!(x.read("wrong type").await, 0, "an error in answer to the read");
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    assert_eq!(x.read("full").await, 0, "an error in answer to the store");
    x.idle().await;
    wait_until(SOON, "it to be counted", || x.cache.stats().namespaces["row"].store_errors >= 1).await;
    assert_eq!(x.rows.get("full").await.as_deref(), Some(&0), "memory has it all the same");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    server.command(&["CONFIG", "SET", "requirepass", "changed"]).await.unwrap();
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await.unwrap();
    assert_eq!(x.read("refused").await, 0, "nobody is let in");
    server.kill();
    assert_eq!(x.read("gone").await, 0, "there is no Redis");
    assert_eq!(x.cache.stats().namespaces["row"].load_failures, 0);
}

/// Rule 4 (FusionCache#613, multi-tier-cache M3, hitbox H9): tiers are cleared one after the other, a read in between brings the old
/// value back, and the call says that all is well although one of them has failed. The rule as it was drawn says "Redis first"; the
/// protocol (`docs/design/coherence.md`) found the reverse: the local step comes first, because its row also rejects what comes from
/// Redis, and there is no moment in which the record is out and the own node serves the old value.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a writer beside the test")]
async fn rule_4_an_invalidation_holds_here_before_redis_answers_and_says_whether_it_was_delivered() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let proxy = FaultProxy::to(server.addr()).await;
    let (x, y) = (start(&proxy.url(), &source).await, start(&server.url(), &source).await);
    assert_eq!((x.read("a").await, y.read("a").await), (0, 0));
    x.stored(1).await;
    proxy.set_where(LOG, Fault::BlackHole);
    let written = source.write();
    let rows = x.rows.clone();
    let call = tokio::spawn(async move { rows.invalidate("a").await });
    wait_until(SOON, "the local step", || x.cache.stats().pending_invalidations == 1).await;
    assert!(!call.is_finished(), "Redis has not answered");
    assert_eq!(x.rows.get("a").await, None, "neither from memory nor from Redis, where it is still");
    assert_eq!(server.command(&["EXISTS", "larder:row:a"]).await.unwrap().int(), Some(1));
    assert_eq!(x.read("a").await, written);
    let queued = call.await.unwrap();
    assert_eq!((queued.state, queued.token), (Delivery::Queued, None), "it does not say that all is well");
    assert_eq!(y.rows.get("a").await.as_deref(), Some(&0), "the other one cannot know");
    proxy.set(Fault::None);
    x.settled().await;
    wait_for(SOON, "it to hold there, too", async || y.rows.get("a").await.as_deref() != Some(&0)).await;
    assert_eq!(y.read("a").await, written);
    let delivered = x.rows.invalidate("a").await;
    assert_eq!(delivered.state, Delivery::Delivered);
    arrive(&y, delivered.token).await;
}

/// Rule 5 (multi-tier-cache M5, JetCache#714): the connection that tells of invalidations carries nothing, and nobody notices until
/// it breaks. Messages of that time are lost, and what they were about lives to its ttl.
#[tokio::test(flavor = "multi_thread")]
async fn rule_5_a_silent_log_is_noticed_while_it_is_silent_and_ends_what_cannot_be_vouched_for() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let proxy = FaultProxy::to(server.addr()).await;
    let x = start(&server.url(), &source).await;
    let builder = Cache::builder().remote(Redis::at(proxy.url())).remote_budget(SOON);
    let y = builder.disconnected_ttl(3 * SECOND).build().await.unwrap();
    let (handle, slow) = (y.namespace::<u64>("row", policy()).unwrap(), source.clone());
    let load = move || {
        let value = slow.read();
        async move { Ok::<_, Infallible>(value) }
    };
    let state = || y.health().remote.unwrap().log.state;
    wait_until(SOON, "it to follow the log", || state() == LogState::Following).await;
    assert_eq!(*handle.get_or_load("a", load.clone()).await.unwrap(), 0);
    proxy.set_where(LOG, Fault::BlackHole);
    let began = y.runtime().now();
    let written = source.write();
    assert_eq!(x.cache.invalidate([Selector::under("row")]).await.state, Delivery::Delivered);
    wait_until(SOON, "the silence to be noticed", || state() == LogState::Disconnected).await;
    wait_for(SOON, "the old value to end", async || {
        *handle.get_or_load("a", load.clone()).await.unwrap() == written
    })
    .await;
    let took = y.runtime().now().since(began);
    println!("rule 5: the old value was served for {took:?} of a silent log at the most");
    assert_eq!(state(), LogState::Disconnected, "long before anybody is connected again");
    proxy.set(Fault::Reset);
    proxy.set(Fault::None);
    wait_until(SOON, "it to follow again", || state() == LogState::Following).await;
    assert_eq!(*handle.get_or_load("a", load.clone()).await.unwrap(), written);
}

/// Rule 6 (tower-http-cache T5, T9; next-shared-cache#852): which entries a tag names is kept in an index of one process, or in one
/// that grows in Redis; a process without it serves on what was purged. Here a tag kills what lies in Redis without being
/// touched, for a process that has never seen entry, tag or record.
#[tokio::test(flavor = "multi_thread")]
async fn rule_6_tags_and_subtrees_are_checked_on_read_and_nothing_is_walked_through_or_deleted() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let x = start(&server.url(), &source).await;
    for (key, tag) in [("a", "red"), ("b", "blue"), ("sub:c", "blue")] {
        let filled = Fill::new().tags(vec![tag.to_owned()]);
        assert!(rows(&x).begin(key).put_with(1, &filled));
    }
    x.stored(3).await;
    let red = [Selector::tag("red"), Selector::under(("row", "sub:c"))];
    assert_eq!(x.cache.invalidate(red).await.state, Delivery::Delivered);
    let new = start(&server.url(), &source).await;
    new.settled().await;
    let mut found = Vec::new();
    for key in ["a", "b", "sub:c"] {
        found.push(rows(&new).get(key).await.as_deref().copied());
    }
    assert_eq!(found, [None, Some(1), None]);
    for command in ["keys", "scan"] {
        assert_eq!(calls(&server, command).await, 0, "{command}");
    }
    let values = server.keys().await;
    assert_eq!(
        values.iter().filter(|key| key.starts_with(b"larder:row:")).count(),
        3,
        "none of them was touched"
    );
}
