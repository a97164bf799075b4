//! Stale values: served while they are refreshed, once, and not longer than their window.

mod common;

use std::time::Duration;

use common::*;
use larder_core::testing::ManualRuntime;
use larder_core::units::{HOUR, MINUTE};
use larder_core::{LoadError, Outcome, Policy};

#[tokio::test]
async fn a_stale_value_is_served_while_exactly_one_refresh_runs() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (docs, source) = (docs(&cache), Source::new());
    read(docs.clone(), source.clone()).await;
    settle().await;
    rig.advance(HOUR);
    source.write();
    source.gate.set(false);
    for _ in 0..100 {
        assert_eq!(read(docs.clone(), source.clone()).await, (1, true));
        settle().await;
    }
    assert_eq!(source.loads(), 2);
    source.gate.set(true);
    settle().await;
    for _ in 0..100 {
        assert_eq!(read(docs.clone(), source.clone()).await, (2, false));
    }
    assert_eq!((source.loads(), cache.stats().namespaces["doc"].refreshes), (2, 1));
}

/// Two processes hold the same stale value. The first has refreshed it; the second must find that out instead of asking
/// the database again (FusionCache#651).
#[tokio::test]
async fn a_refresh_asks_the_remote_tier_first() {
    let rig = Rig::new();
    let source = Source::new();
    let (first, second, third) = (rig.cache().await, rig.cache().await, rig.cache().await);
    read(docs(&first), source.clone()).await;
    settle().await;
    assert_eq!(read(docs(&second), source.clone()).await, (1, false));
    assert_eq!(read(docs(&third), source.clone()).await, (1, false));
    rig.advance(HOUR);
    source.write();
    assert!(read(docs(&first), source.clone()).await.1);
    settle().await;
    assert_eq!(source.loads(), 2);
    assert_eq!(read(docs(&third), source.clone()).await, (1, true), "a front door");
    let (typed, load) = (docs(&second), source.clone());
    assert_eq!(*typed.get_or_load(1_u64, move || load.read()).await.unwrap(), 1, "a typed handle");
    settle().await;
    for cache in [second, third] {
        assert_eq!(read(docs(&cache), source.clone()).await, (2, false));
    }
    assert_eq!(source.loads(), 2, "the others found what the first had loaded");
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_stale_value_until_its_window_ends() {
    for with_remote in [false, true] {
        let rig = Rig::new();
        let cache = if with_remote { rig.cache().await } else { alone(&rig.runtime).await };
        let (docs, source) = (docs(&cache), Source::new());
        let get = || {
            let (docs, source) = (docs.clone(), source.clone());
            async move { docs.get_or_load(1_u64, move || source.read()).await }
        };
        get().await.unwrap();
        settle().await;
        source.fail(true);
        rig.advance(HOUR);
        for _ in 0..59 {
            assert_eq!(*get().await.unwrap(), 1);
            settle().await;
            rig.advance(MINUTE);
        }
        rig.advance(MINUTE);
        assert!(matches!(get().await, Err(LoadError::Loader(_))), "remote: {with_remote}");
    }
}

/// A value is expired at noon with an hour's window, and nobody reads it until evening. "Stale for an hour" counts from
/// noon: whoever comes in the evening must not get it.
#[tokio::test]
async fn the_window_of_an_expired_value_begins_with_the_call_not_with_the_next_read() {
    for with_remote in [false, true] {
        let rig = Rig::new();
        let cache = if with_remote { rig.cache().await } else { alone(&rig.runtime).await };
        let day = Policy::ttl(24 * HOUR).stale_while_revalidate(HOUR).jitter(0.0);
        let docs = cache.namespace::<u64>("day", day).unwrap();
        assert!(docs.put(1_u64, 1) && docs.put(2_u64, 1));
        settle().await;
        rig.advance(HOUR);
        let _ = cache.expire([selector("day:*")]).await;
        rig.advance(59 * MINUTE);
        assert!(docs.get(1_u64).await.is_some());
        rig.advance(MINUTE);
        assert_eq!(docs.get(1_u64).await, None, "read within the window, remote: {with_remote}");
        assert_eq!(docs.get(2_u64).await, None, "not read within the window, remote: {with_remote}");
    }
}

/// An expired value lies in memory and in the remote tier; its loader fails. When its window has ended in memory, the copy
/// in the remote tier must not begin another one, nor must it after a restart.
#[tokio::test]
async fn the_remote_copy_of_an_expired_value_has_no_window_of_its_own() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let day = Policy::ttl(24 * HOUR).stale_while_revalidate(HOUR).jitter(0.0);
    let docs = cache.namespace::<u64>("day", day.clone()).unwrap();
    assert!(docs.put(1_u64, 1));
    settle().await;
    rig.advance(MINUTE);
    let _ = docs.expire(1_u64).await;
    for _ in 0..59 {
        rig.advance(MINUTE);
        let hit = docs.clone().loader(|_: u64| async { Err("away") }).fetch(1_u64).await.unwrap();
        assert_eq!(hit.outcome, Outcome::Stale);
        settle().await;
    }
    let next = rig.cache().await.namespace::<u64>("day", day).unwrap();
    assert!(next.get(1_u64).await.is_some(), "the next process: in its window");
    rig.advance(2 * MINUTE);
    let again = docs.get_or_load(1_u64, || async { Err::<u64, _>("away") }).await;
    assert!(again.is_err(), "{again:?}");
    assert_eq!(next.get(1_u64).await, None, "the next process: past its window");
}

#[tokio::test]
async fn expire_is_stale_with_a_window_and_a_miss_without() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (with, source) = (docs(&cache), Source::new());
    read(with.clone(), source.clone()).await;
    settle().await;
    source.write();
    source.gate.set(false);
    let _ = with.expire(1_u64).await;
    assert_eq!(read(with.clone(), source.clone()).await, (1, true));
    source.gate.set(true);
    settle().await;
    assert_eq!(read(with.clone(), source.clone()).await, (2, false));

    let without = cache.namespace::<u64>("bare", Policy::ttl(HOUR)).unwrap();
    assert!(without.put(1_u64, 1));
    settle().await;
    let _ = without.expire(1_u64).await;
    assert_eq!(without.get(1_u64).await, None);
}

/// A value is expired while its load is under way: what the load brings was read before, so it may be served as stale at
/// the most, and a reader who came after the call must not get it as fresh.
#[tokio::test]
async fn a_load_that_an_expire_overtakes_is_stale_at_once() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let (docs, source) = (docs(&cache), Source::new());
    source.gate.set(false);
    let leader = spawn(read(docs.clone(), source.clone()));
    until("the load has begun", || source.loads() == 1).await;
    source.write();
    let _ = docs.expire(1_u64).await;
    let late = spawn(read(docs.clone(), source.clone()));
    settle().await;
    source.gate.set(true);
    let late = joined(late).await;
    assert!(late == (1, true) || late == (2, false), "{late:?}");
    joined(leader).await;
    settle().await;
    assert_eq!(read(docs.clone(), source.clone()).await, (2, false));
}

/// With the remote tier alone, readers may come to wait for a refresh. If it fails they have a stale value to go back to.
#[tokio::test]
async fn without_memory_a_failing_refresh_does_not_fail_those_who_waited_for_it() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let docs = cache.namespace::<u64>("doc", policy().remote_only()).unwrap();
    let source = Source::new();
    assert!(docs.put(1_u64, 1));
    settle().await;
    rig.advance(HOUR);
    source.fail(true);
    source.gate.set(false);
    let get = || {
        let (docs, source) = (docs.clone(), source.clone());
        spawn(async move { docs.get_or_load(1_u64, move || source.read()).await })
    };
    assert_eq!(*joined(get()).await.unwrap(), 1);
    until("the refresh has begun", || source.loads() == 1).await;
    let waiting = get();
    settle().await;
    source.gate.set(true);
    assert_eq!(*joined(waiting).await.unwrap(), 1);
}

/// Memory has a newer value than the remote tier, which was away when it was stored; both are stale. The refresh looks into
/// the remote tier: what it finds there must not replace the newer value.
#[tokio::test]
async fn a_refresh_does_not_bring_back_an_older_stale_value_from_the_remote_tier() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (docs, source) = (docs(&cache), Source::new());
    assert!(docs.put(1_u64, 1));
    settle().await;
    rig.remote.set(|f| f.down = true);
    rig.advance(Duration::from_secs(10));
    assert!(docs.put(1_u64, 2));
    settle().await;
    rig.remote.set(|f| f.down = false);
    settle().await;
    rig.advance(HOUR);
    source.gate.set(false);
    assert_eq!(read(docs.clone(), source.clone()).await, (2, true));
    until("the refresh has looked", || source.loads() == 1).await;
    assert_eq!(read(docs.clone(), source.clone()).await, (2, true));
}
