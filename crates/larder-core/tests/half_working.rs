//! Servers and ways that work by half: what takes no writes, what cannot be read, what answers late.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use larder_core::units::{HOUR, MINUTE, SECOND};
use larder_core::{Cache, LogState, Outcome, Policy, Selector};

/// A node whose way to the log can be held up, and which believes what it knows for a minute.
async fn gated(rig: &Rig) -> (Cache, Arc<GatedRemote>) {
    let gated = GatedRemote::new(rig.remote.clone());
    let build = rig.builder().remote(gated.clone()).disconnected_ttl(MINUTE).build();
    (rig.drive(build).await.unwrap(), gated)
}

/// The disk of Redis is full, or its replicas are gone: it refuses every write, the renewal of the log among them, and
/// answers reads. Nobody can invalidate anything then; a node that reads the log on knows that, and serves on.
#[tokio::test]
async fn a_log_that_takes_no_writes_is_followed_on() {
    let rig = Rig::new();
    let (cache, gate) = gated(&rig).await;
    let (docs, source) = (docs(&cache), Source::new());
    let (first, again) = (source.clone(), source.clone());
    let _ = docs.get_or_load(1_u64, || first.read()).await.unwrap();
    settle().await;
    for writes in [&gate.opening, &gate.accepting] {
        writes.store(false, Ordering::SeqCst);
    }
    rig.pass(5 * MINUTE).await;
    assert_eq!(cache.health().remote.unwrap().log.state, LogState::Following);
    let _ = docs.get_or_load(1_u64, || again.read()).await.unwrap();
    assert_eq!(source.loads(), 1, "an hour fresh, and nothing says otherwise");
    assert!(gate.opened_so_far() > 5, "it goes on trying: {}", gate.opened_so_far());
}

/// Somebody writes something else to the stream. It is there after each snapshot again, until the next record.
#[tokio::test]
async fn what_cannot_be_read_is_not_read_again_without_a_pause() {
    let rig = Rig::new();
    let (cache, gate) = gated(&rig).await;
    let before = gate.opened_so_far();
    gate.garbled.store(true, Ordering::SeqCst);
    rig.pass(20 * SECOND).await;
    let snapshots = gate.opened_so_far() - before;
    assert!((5..=40).contains(&snapshots), "{snapshots} snapshots in 20 s");
    gate.garbled.store(false, Ordering::SeqCst);
    rig.eventually("it follows again", || cache.health().remote.unwrap().log.state == LogState::Following)
        .await;
}

/// A holder and a reader are cut off from the log; the holder has read the old row when it is written and invalidated. Before
/// its time is over the reader asks, and waits for the holder's lease. What comes then comes too late: the reader knows nothing
/// any more of what happened to it.
#[tokio::test]
async fn what_comes_at_the_end_of_a_long_wait_is_judged_by_what_is_known_then() {
    let rig = Rig::new();
    let ((holder, deaf), (reader, deaf_too), writer) =
        (gated(&rig).await, gated(&rig).await, rig.cache().await);
    let source = Source::new();
    let slow = |cache: &Cache| cache.namespace::<u64>("doc", policy().load_timeout(10 * MINUTE)).unwrap();
    for gate in [&deaf, &deaf_too] {
        gate.follows.set(false);
    }
    source.gate.set(false);
    let read = |cache: &Cache| {
        let (docs, source) = (slow(cache), source.clone());
        spawn(async move { *docs.get_or_load(1_u64, || source.read()).await.unwrap() })
    };
    let held = read(&holder);
    until("it has read the old row", || source.loads() == 1).await;
    source.write();
    let _ = slow(&writer).invalidate(1_u64).await;
    rig.pass(50 * SECOND).await;
    let waiting = read(&reader);
    rig.pass(30 * SECOND).await;
    source.gate.set(true);
    assert_eq!(rig.drive(joined(held)).await, 1, "it was asked before");
    assert_eq!(rig.drive(joined(waiting)).await, 2);
}

/// A value is on its way when it is expired. `get` loads nothing, and has no stale window here: it must not say what it
/// would not have said a moment later.
#[tokio::test]
async fn get_does_not_tell_what_was_expired_while_it_asked() {
    let rig = Rig::new();
    let (here, (there, gate)) = (rig.cache().await, gated(&rig).await);
    let policy = Policy::ttl(HOUR).stale_if_error(HOUR).jitter(0.0);
    let docs = |cache: &Cache| cache.namespace::<u64>("doc", policy.clone()).unwrap();
    assert!(docs(&here).put(1_u64, 1));
    settle().await;
    gate.gets.set(false);
    let before = gate.read_so_far();
    let (asking, has) = (docs(&there), docs(&there));
    let got = spawn(async move { asking.get(1_u64).await });
    let contained = spawn(async move { has.contains(1_u64).await });
    until("the values are on their way", || gate.read_so_far() == before + 2).await;
    rig.advance(Duration::from_millis(10));
    let _ = docs(&there).expire(1_u64).await;
    rig.advance(Duration::from_millis(10));
    gate.gets.set(true);
    assert_eq!(joined(got).await, None);
    assert!(!joined(contained).await);
}

/// One call names more than may wait in the queue. Nothing waits: the log is there. Nothing else may go with it.
#[tokio::test]
async fn an_invalidation_of_many_selectors_spares_everything_else() {
    let rig = Rig::new();
    let (here, there) = (rig.cache().await, rig.cache().await);
    let source = Source::new();
    for cache in [&here, &there] {
        let loader = source.clone();
        let _ = docs(cache).get_or_load(9_999_999_u64, || loader.read()).await.unwrap();
    }
    settle().await;
    let many = || (0..5000_u64).map(|i| Selector::key(("doc", i)));
    let token = here.invalidate(many()).await.token.unwrap();
    let _ = here.expire(many()).await;
    for cache in [&here, &there] {
        assert_eq!(cache.arrive(token).await, larder_core::Arrival::Arrived);
        let again = source.clone();
        let loading = docs(cache).loader(move |_: u64| again.clone().read());
        assert_eq!(loading.fetch(9_999_999).await.unwrap().outcome, Outcome::Hit);
    }
    assert_eq!(source.loads(), 1);
    assert_eq!(here.stats().pending_invalidations, 0);
}

/// Redis is away. Who invalidated what meanwhile, and why, is asked afterwards, on another node.
#[tokio::test]
async fn an_invalidation_that_had_to_wait_still_says_who_made_it_and_why() {
    let rig = Rig::new();
    let (here, there) = (rig.cache().await, rig.cache().await);
    rig.remote.set(|f| f.down = true);
    let _ = here.because("a typo").by("ada").invalidate([Selector::key(("doc", 1))]).await;
    rig.remote.set(|f| f.down = false);
    rig.eventually("it is sent", || here.stats().pending_invalidations == 0).await;
    let told = there.explain("doc:1").await.unwrap().last_invalidated.unwrap();
    assert_eq!((told.reason.as_str(), told.actor.as_str()), ("a typo", "ada"));
}
