//! Processes that end and begin again, logs that are lost, invalidations that wait for a remote tier to come back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod common;

use std::sync::atomic::Ordering;

use common::*;
use larder_core::testing::{Path, TestRemote};
use larder_core::units::{HOUR, MINUTE, SECOND};
use larder_core::{Cache, Delivery, Event, LogState, Selector};

type Loss = fn(&Rig);

/// Every way a log can be lost, with and without a new connection after it.
fn losses() -> [(&'static str, Loss); 4] {
    [
        ("the log alone", |rig| rig.remote.lose_log()),
        ("everything", |rig| rig.remote.flush()),
        ("the log alone, noticed", |rig| {
            rig.remote.lose_log();
            rig.remote.reconnect();
        }),
        ("everything, noticed", |rig| {
            rig.remote.flush();
            rig.remote.reconnect();
        }),
    ]
}

#[tokio::test]
async fn a_restarted_process_finds_what_the_last_one_stored() {
    let rig = Rig::new();
    let source = Source::new();
    read(docs(&rig.cache().await), source.clone()).await;
    settle().await;
    rig.advance(MINUTE);
    let cache = rig.cache().await;
    let hit = docs(&cache).get(1_u64).await;
    assert_eq!(hit.as_deref(), Some(&1));
    assert_eq!((source.loads(), cache.stats().namespaces["doc"].hits_remote), (1, 1));
}

/// The log vanishes (FLUSHALL, eviction, an empty restart). Values may still lie there, with epochs nobody can verify any
/// more. They must be misses; and new loads must be stored and found again, not be refused for ever because the old
/// positions were higher.
#[tokio::test]
async fn after_the_log_is_lost_nothing_purged_comes_back_and_stores_are_found_again() {
    for (what, lose) in losses() {
        let rig = Rig::new();
        let source = Source::new();
        let cache = rig.cache().await;
        read(docs(&cache), source.clone()).await;
        settle().await;
        source.write();
        let _ = cache.invalidate([Selector::all()]).await;
        lose(&rig);
        settle().await;
        assert_eq!(read(docs(&cache), source.clone()).await.0, 2, "{what}: the same process");
        settle().await;
        drop(cache);

        let cache = rig.cache().await;
        assert_eq!(read(docs(&cache), source.clone()).await.0, 2, "{what}: the next process");
        settle().await;
        drop(cache);

        let loads = source.loads();
        let cache = rig.cache().await;
        assert_eq!(read(docs(&cache), source.clone()).await.0, 2, "{what}: the one after");
        assert_eq!(source.loads(), loads, "{what}: a fresh load was stored and found again");
    }
}

/// The log is lost while the process runs, and it is the process itself that goes on: its position is on a line that no
/// longer exists. Invalidating must work at once, and must end the confusion.
#[tokio::test]
async fn an_invalidation_after_the_log_is_lost_is_delivered_and_holds_in_the_next_process() {
    for (what, lose) in losses() {
        let rig = Rig::new();
        let source = Source::new();
        let cache = rig.cache().await;
        read(docs(&cache), source.clone()).await;
        settle().await;
        lose(&rig);
        source.write();
        let done = rig.drive(cache.invalidate([selector("doc:1")])).await;
        assert_eq!(done.state, Delivery::Delivered, "{what}");
        assert_eq!(read(docs(&cache), source.clone()).await.0, 2, "{what}");
        settle().await;
        let loads = source.loads();
        drop(cache);
        let cache = rig.cache().await;
        assert_eq!(read(docs(&cache), source.clone()).await.0, 2, "{what}: the next process");
        assert_eq!(source.loads(), loads, "{what}: what was loaded after the loss was stored");
    }
}

/// The remote tier goes away, the entry is invalidated, the remote tier comes back with the old value in it.
#[tokio::test]
async fn an_invalidation_made_while_the_remote_tier_is_away_holds_here_and_is_published_on_return() {
    for text in SELECTORS {
        let rig = Rig::new();
        let source = Source::new();
        let cache = rig.cache().await;
        read(docs(&cache), source.clone()).await;
        settle().await;
        rig.remote.set(|f| f.down = true);
        source.write();
        let done = cache.invalidate([selector(text)]).await;
        assert_eq!((done.state, done.token), (Delivery::Queued, None), "{text}");
        assert_eq!(cache.stats().pending_invalidations, 1);
        assert_eq!(read(docs(&cache), source.clone()).await.0, 2, "{text}: it holds here");

        rig.remote.set(|f| f.down = false);
        until("the queue is sent", || cache.stats().pending_invalidations == 0).await;
        assert_eq!(read(docs(&cache), source.clone()).await.0, 2, "{text}: it holds here still");
        drop(cache);
        let cache = rig.cache().await;
        assert_eq!(read(docs(&cache), source.clone()).await.0, 2, "{text}: the next process has heard");
    }
}

/// While an invalidation waits in the queue, values can be read again: the old one lies in the remote tier, at an epoch
/// that no stamp there contradicts. Only the queue itself knows better.
#[tokio::test]
async fn what_waits_in_the_queue_already_counts_against_remote_values() {
    let rig = Rig::new();
    let source = Source::new();
    let first = rig.cache().await;
    read(docs(&first), source.clone()).await;
    settle().await;
    let gated = GatedRemote::new(rig.remote.clone());
    let cache = rig.builder().remote(gated.clone()).build().await.unwrap();
    gated.accepting.store(false, Ordering::SeqCst);
    source.write();
    let done = cache.invalidate([selector("doc:1")]).await;
    assert_eq!(done.state, Delivery::Queued);
    let old = rig.remote.bytes("doc:1");
    assert_eq!(read(docs(&cache), source.clone()).await.0, 2);
    settle().await;
    assert_eq!(rig.remote.bytes("doc:1"), old, "what is loaded now has no epoch that is new enough");
    gated.accepting.store(true, Ordering::SeqCst);
    rig.eventually("it is sent", || cache.stats().pending_invalidations == 0).await;
    assert_eq!(read(docs(&cache), source.clone()).await.0, 2);
}

/// A cache whose invalidation is queued and was refused a moment ago: what is called now goes out before the queue does.
async fn with_a_queue(rig: &Rig, queue: impl AsyncFnOnce(&Cache)) -> Cache {
    let gated = GatedRemote::new(rig.remote.clone());
    let cache = rig.builder().remote(gated.clone()).build().await.unwrap();
    rig.remote.set(|f| f.down = true);
    settle().await;
    queue(&cache).await;
    gated.accepting.store(false, Ordering::SeqCst);
    rig.remote.set(|f| f.down = false);
    settle().await;
    gated.accepting.store(true, Ordering::SeqCst);
    cache
}

/// `invalidate` is queued; then `expire` of the same key is called, and arrives first. The record that comes back says
/// "expired", and must not be taken for the invalidation: the old value would be served as stale by the next process.
#[tokio::test]
async fn an_expire_does_not_take_the_place_of_a_queued_invalidate() {
    let rig = Rig::new();
    assert!(docs(&rig.cache().await).put(1_u64, 1));
    settle().await;
    let queue = async |cache: &Cache| {
        assert_eq!(docs(cache).invalidate(1_u64).await.state, Delivery::Queued);
    };
    let cache = with_a_queue(&rig, queue).await;
    let expiring = docs(&cache);
    assert_eq!(expiring.expire(1_u64).await.state, Delivery::Delivered);
    rig.eventually("the queue is sent", || cache.stats().pending_invalidations == 0).await;
    drop(cache);
    assert_eq!(docs(&rig.cache().await).get(1_u64).await, None, "not even stale");
}

/// More is queued than the queue holds: it becomes "everything", and an event says so. The next call gets its own record
/// through, and that must not pass for the rest.
#[tokio::test]
async fn a_queue_that_overflows_becomes_everything_and_that_is_sent() {
    let rig = Rig::new();
    assert!(docs(&rig.cache().await).put(1_u64, 1));
    settle().await;
    let queue = async |cache: &Cache| {
        for key in 0..1024_u64 {
            assert_eq!(docs(cache).invalidate(key).await.state, Delivery::Queued);
        }
        assert_eq!(cache.stats().pending_invalidations, 1024);
        assert_eq!(docs(cache).invalidate(1024_u64).await.state, Delivery::Queued);
        assert_eq!(cache.stats().pending_invalidations, 1, "everything");
    };
    let cache = with_a_queue(&rig, queue).await;
    let overflows = rig.events.events().iter().filter(|e| matches!(e, Event::QueueOverflowed)).count();
    assert_eq!(overflows, 1);
    let last = docs(&cache);
    assert_eq!(last.invalidate(5000_u64).await.state, Delivery::Delivered);
    assert_eq!(cache.stats().pending_invalidations, 1, "everything");
    rig.eventually("the queue is sent", || cache.stats().pending_invalidations == 0).await;
    drop(cache);
    assert_eq!(docs(&rig.cache().await).get(1_u64).await, None);
}

/// One call names more selectors than a record holds, and more than the queue holds. It takes several records; the first
/// one to come back must not pass for all of them, and what overflowed must not lie in the queue for ever.
#[tokio::test]
async fn an_invalidation_of_many_selectors_reaches_the_next_process_whole() {
    for many in [257_u64, 1000, 1500] {
        let rig = Rig::new();
        let cache = rig.cache().await;
        for i in [0, 255, 256, many - 1] {
            assert!(docs(&cache).put(i, 1));
        }
        settle().await;
        let second = rig.cache().await;
        let selectors: Vec<_> = (0..many).map(|i| Selector::key(("doc", i))).collect();
        assert_eq!(second.invalidate(selectors).await.state, Delivery::Delivered);
        rig.eventually("nothing is queued", || second.stats().pending_invalidations == 0).await;
        drop((cache, second));
        let cache = rig.cache().await;
        for i in [0, 255, 256, many - 1] {
            assert_eq!(docs(&cache).get(i).await, None, "{i} of {many}");
        }
    }
}

/// Several records are needed, and the connection breaks after the first. Meanwhile another call has read the first one
/// back from the log: that must not make the node forget the rest.
#[tokio::test]
async fn an_invalidation_cut_off_between_two_records_is_finished_later() {
    let rig = Rig::new();
    let first = docs(&rig.cache().await);
    assert!(first.put(0_u64, 1) && first.put(299_u64, 1));
    settle().await;
    let gated = GatedRemote::new(rig.remote.clone());
    let cache = rig.builder().remote(gated.clone()).build().await.unwrap();
    gated.hold_append(1);
    let (selectors, calling) = ((0..300_u64).map(|i| Selector::key(("doc", i))), cache.clone());
    let cut = spawn(async move { calling.invalidate(selectors).await });
    settle().await;
    assert_eq!(docs(&cache).invalidate(1000_u64).await.state, Delivery::Delivered);
    assert_eq!(cache.stats().pending_invalidations, 300 - 256);
    rig.remote.set(|f| f.down = true);
    gated.held.set(true);
    assert_eq!(joined(cut).await.state, Delivery::Queued);
    rig.remote.set(|f| f.down = false);
    rig.eventually("the queue is sent", || cache.stats().pending_invalidations == 0).await;
    drop(cache);
    let next = docs(&rig.cache().await);
    assert_eq!((next.get(0_u64).await, next.get(299_u64).await), (None, None));
}

/// The remote tier flaps: every connection breaks before anything useful was done on it. Once it stays, the node must
/// catch up by itself, however many attempts went before, and without anybody calling.
#[tokio::test]
async fn a_flapping_connection_never_leaves_the_queue_behind() {
    let rig = Rig::new();
    let source = Source::new();
    let cache = rig.cache().await;
    read(docs(&cache), source.clone()).await;
    settle().await;
    rig.remote.set(|f| f.down = true);
    source.write();
    let _ = docs(&cache).invalidate(1_u64).await;
    for i in 0..50 {
        rig.remote.set(|f| f.down = i % 2 == 1);
        rig.remote.set(|f| f.hang = i % 3 != 0);
        for _ in 0..i % 5 {
            tokio::task::yield_now().await;
        }
        rig.advance(SECOND * (i % 4));
    }
    rig.remote.set(|f| (f.down, f.hang) = (false, false));
    rig.eventually("the queue is sent", || cache.stats().pending_invalidations == 0).await;
    assert!(cache.health().remote.unwrap().connected);
    drop(cache);
    let cache = rig.cache().await;
    assert_eq!(read(docs(&cache), source).await.0, 2);
}

/// The remote tier accepts calls and never answers, for minutes: pauses between attempts grow, but they end.
#[tokio::test]
async fn after_a_long_silence_the_queue_is_sent_without_a_new_connection() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    rig.remote.set(|f| f.hang = true);
    let done = rig.drive(docs(&cache).invalidate(1_u64)).await;
    assert_eq!(done.state, Delivery::Queued);
    for _ in 0..300 {
        settle().await;
        rig.advance(SECOND);
    }
    rig.remote.set(|f| f.hang = false);
    for _ in 0..7 {
        settle().await;
        rig.advance(SECOND);
    }
    settle().await;
    assert_eq!(cache.stats().pending_invalidations, 0, "within the longest pause");
}

#[tokio::test]
async fn a_process_that_starts_without_its_remote_tier_takes_it_up_when_it_comes() {
    let rig = Rig::new();
    let source = Source::new();
    rig.remote.set(|f| f.down = true);
    let cache = rig.cache().await;
    assert_eq!(rig.events.count("cache_local_only"), 1);
    assert_eq!(cache.health().status, "degraded");
    assert_eq!(read(docs(&cache), source.clone()).await.0, 1);
    rig.remote.set(|f| f.down = false);
    until("the log is open", || cache.health().remote.unwrap().log.position.is_some()).await;
    assert_eq!(cache.health().status, "ok");
    settle().await;
    assert_eq!(rig.remote.len(), 0, "loaded before any position was known: never stored remotely");
    let _ = docs(&cache).invalidate(1_u64).await;
    read(docs(&cache), source).await;
    until("a load of now is stored", || rig.remote.len() == 1).await;
}

/// Redis is connected, and the log is read; but it takes no records (full, read only). Other nodes hear of nothing, and that
/// must not look well.
#[tokio::test]
async fn a_log_that_takes_no_records_degrades_health_and_says_why_once() {
    let rig = Rig::new();
    let gated = GatedRemote::new(rig.remote.clone());
    let cache = rig.builder().remote(gated.clone()).build().await.unwrap();
    let log = || cache.health().remote.unwrap().log;
    assert_eq!((cache.health().status, log().reason, log().oldest_pending_ms), ("ok", None, None));
    gated.accepting.store(false, Ordering::SeqCst);
    assert_eq!(docs(&cache).invalidate(1_u64).await.state, Delivery::Queued);
    assert_eq!(cache.health().status, "ok", "a moment is nothing unusual");
    rig.pass(10 * SECOND).await;
    let _ = docs(&cache).invalidate(1_u64).await;
    let reason = log().reason.unwrap();
    assert!(reason.contains("no appends now"), "{reason}");
    assert_eq!((cache.health().status, log().state), ("degraded", LogState::Following));
    assert!(log().oldest_pending_ms.unwrap() >= 10_000, "{:?}", log());
    assert_eq!(rig.events.count("cache_log_trouble"), 1, "not once per attempt");

    gated.accepting.store(true, Ordering::SeqCst);
    rig.eventually("it is sent", || cache.stats().pending_invalidations == 0).await;
    assert_eq!((cache.health().status, log().reason, log().oldest_pending_ms), ("ok", None, None));
    assert_eq!(rig.events.count("cache_log_trouble"), 2, "that it is over, too");
}

#[tokio::test]
async fn while_the_log_is_out_of_reach_health_says_why() {
    let rig = Rig::new();
    let gated = GatedRemote::new(rig.remote.clone());
    let cache = rig.builder().remote(gated.clone()).build().await.unwrap();
    let reason = || cache.health().remote.unwrap().log.reason;
    gated.follows.set(false);
    rig.pass(5 * SECOND).await;
    assert!(reason().unwrap().contains("no answer in time"), "{:?}", reason());
    gated.follows.set(true);
    rig.eventually("it is read again", || reason().is_none()).await;
    rig.remote.set(|f| f.on(Path::Log).down = true);
    assert_eq!(reason().as_deref(), Some("switched off"));
}

/// The calendar of the machine jumps by a quarter of an hour, in both directions. Nothing may live longer or shorter for it.
#[tokio::test]
async fn steps_of_the_machines_calendar_change_no_ones_age() {
    let rig = Rig::new();
    let source = Source::new();
    for step in [15 * 60_000, -30 * 60_000] {
        let cache = rig.cache().await;
        let _ = docs(&cache).invalidate(1_u64).await;
        read(docs(&cache), source.clone()).await;
        settle().await;
        drop(cache);
        rig.runtime.step_wall(step);
        rig.advance(50 * MINUTE);
        let cache = rig.cache().await;
        assert_eq!(read(docs(&cache), source.clone()).await, (1, false), "still fresh");
        rig.advance(20 * MINUTE);
        assert!(read(docs(&cache), source.clone()).await.1, "stale by now");
        settle().await;
        rig.advance(3 * HOUR);
    }
}

/// The process is told to end while Redis is away, after a write that is queued. Redis may be back in a moment; if it is not,
/// whoever ends the process is told that others have not heard.
#[tokio::test]
async fn a_shutdown_waits_for_a_log_that_is_away_and_answers_false_if_it_stays_away() {
    for back in [false, true] {
        let rig = Rig::new();
        let there = rig.cache().await;
        assert!(docs(&there).put(1_u64, 1));
        let remote = TestRemote::on(rig.remote.redis().clone(), rig.runtime.clone(), 2);
        let here = rig.drive(rig.builder().remote(remote.clone()).build()).await.unwrap();
        remote.set(|f| f.down = true);
        assert_eq!(rig.drive(docs(&here).invalidate(1_u64)).await.state, Delivery::Queued);
        let ended = spawn(async move { here.shutdown(SECOND).await });
        rig.pass(SECOND / 2).await;
        assert!(!ended.is_finished(), "its deadline has not come");
        remote.set(|f| f.down = !back);
        rig.eventually("it ends", || ended.is_finished()).await;
        assert_eq!(joined(ended).await, back);
        rig.pass(2 * SECOND).await;
        assert_eq!(docs(&there).get(1_u64).await.is_none(), back, "another node hears");
    }
}

/// The process is told to end right after a write. What it has promised to send is sent first.
#[tokio::test]
async fn a_shutdown_waits_for_the_invalidations_that_are_on_their_way() {
    let rig = Rig::new();
    let gated = GatedRemote::new(rig.remote.clone());
    let cache = rig.builder().remote(gated.clone()).build().await.unwrap();
    gated.accepting.store(false, Ordering::SeqCst);
    assert_eq!(cache.invalidate([Selector::under("doc")]).await.state, Delivery::Queued);
    let ending = cache.clone();
    let ended = spawn(async move { ending.shutdown(10 * SECOND).await });
    settle().await;
    assert!(!ended.is_finished());
    gated.accepting.store(true, Ordering::SeqCst);
    rig.eventually("it ends", || ended.is_finished()).await;
    assert!(joined(ended).await);
    let next = rig.cache().await;
    assert!(next.explain("doc:1").await.unwrap().last_invalidated.is_some());
}
