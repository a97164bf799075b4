//! When a value is fresh, and what is served while its source is slow or fails.
#![allow(clippy::unwrap_used, reason = "a test's helpers are a test too")]

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use larder_core::units::{HOUR, MINUTE, SECOND};
use larder_core::{AnyKey, Cache, Filled, LoadError, Namespace, NoLoader, Outcome, Policy};

/// A minute fresh; an hour more if its load fails, and only then.
fn on_error() -> Policy {
    Policy::ttl(MINUTE).stale_if_error(HOUR).retry_after(10 * SECOND).jitter(0.0)
}

fn with(cache: &Cache, policy: Policy) -> Docs {
    cache.namespace::<u64>("doc", policy).unwrap()
}

async fn get(docs: &Docs, source: &Arc<Source>) -> Result<u64, LoadError<&'static str>> {
    let source = source.clone();
    docs.get_or_load(1_u64, move || source.read()).await.map(|value| *value)
}

/// Ways in which a load comes to no good.
#[derive(Clone, Copy, Debug)]
enum Ill {
    Fails,
    Panics,
    Hangs,
}

async fn ill(docs: &Docs, how: Ill) -> Result<u64, LoadError<&'static str>> {
    let load = move || async move {
        match how {
            Ill::Fails => Err("the source is away"),
            Ill::Panics => panic!("on purpose"),
            Ill::Hangs => std::future::pending().await,
        }
    };
    docs.get_or_load(1_u64, load).await.map(|value| *value)
}

#[tokio::test]
async fn while_loads_fail_panic_or_hang_what_is_stale_is_served_until_its_window_ends() {
    for how in [Ill::Fails, Ill::Panics, Ill::Hangs] {
        for with_remote in [false, true] {
            let rig = Rig::new();
            let cache = if with_remote { rig.cache().await } else { alone(&rig.runtime).await };
            let (docs, source) = (with(&cache, on_error()), Source::new());
            assert_eq!(get(&docs, &source).await, Ok(1));
            settle().await;
            for _ in 0..4 {
                rig.advance(10 * MINUTE);
                assert_eq!(rig.drive(ill(&docs, how)).await, Ok(1), "{how:?}, remote: {with_remote}");
            }
            let stats = cache.stats().namespaces["doc"].clone();
            assert_eq!((stats.stale, stats.misses, stats.load_failures), (4, 1, 4), "{how:?}");
            assert_eq!(cache.stats().flights, 0);
            rig.advance(30 * MINUTE);
            assert!(rig.drive(ill(&docs, how)).await.is_err(), "its window is over");
            source.write();
            assert_eq!(get(&docs, &source).await, Ok(2), "and the source is back");
        }
    }
}

/// A process that has just started has nothing in memory. What Redis has is stale, and the source is away.
#[tokio::test]
async fn what_is_stale_in_the_remote_tier_serves_as_well() {
    let rig = Rig::new();
    let (old, source) = (rig.cache().await, Source::new());
    get(&with(&old, on_error()), &source).await.unwrap();
    settle().await;
    rig.advance(10 * MINUTE);
    source.fail(true);
    let new = rig.cache().await;
    let (one, other) = (with(&new, on_error()), with(&new, on_error()));
    source.gate.set(false);
    let readers: Vec<_> = [one.clone(), other]
        .map(|docs| {
            spawn({
                let source = source.clone();
                async move { get(&docs, &source).await }
            })
        })
        .into();
    settle().await;
    source.gate.set(true);
    for reader in readers {
        assert_eq!(joined(reader).await, Ok(1), "who led, and who waited");
    }
    let remote_only = with(&rig.cache().await, on_error().remote_only());
    assert_eq!(get(&remote_only, &source).await, Ok(1));
}

/// The source is away for half a minute. Each reader of a stale key would ask it again, and a source that is struggling is
/// not helped by that.
#[tokio::test]
async fn a_failed_load_is_not_tried_again_for_a_while_as_long_as_something_stale_is_there() {
    let both = Policy::ttl(MINUTE).stale_while_revalidate(HOUR).retry_after(10 * SECOND).jitter(0.0);
    for policy in [on_error(), both] {
        let rig = Rig::new();
        let cache = rig.cache().await;
        let (docs, source) = (with(&cache, policy), Source::new());
        get(&docs, &source).await.unwrap();
        settle().await;
        rig.advance(2 * MINUTE);
        source.fail(true);
        for _ in 0..300 {
            assert_eq!(get(&docs, &source).await, Ok(1));
            settle().await;
            rig.advance(SECOND / 10);
        }
        assert_eq!(source.loads(), 1 + 3, "half a minute, ten seconds each");
        source.fail(false);
        source.write();
        rig.advance(10 * SECOND);
        let _ = get(&docs, &source).await;
        settle().await;
        assert_eq!(get(&docs, &source).await, Ok(2));
        assert!(cache.invalidate([selector("doc:1")]).await.token.is_some());
        source.fail(true);
        assert!(get(&docs, &source).await.is_err(), "nothing stale is there: it is tried, and fails");
        assert!(get(&docs, &source).await.is_err());
        assert_eq!(source.loads(), 7);
    }
}

/// FusionCache#648: an entry is cleared for good; its loader fails; fail-safe brings the cleared value back. Here on every
/// path that serves stale values, on the node that invalidates and on another one.
#[tokio::test]
async fn a_hard_invalidation_beats_every_stale_path_on_every_node() {
    let paths = [
        ("revalidate", Policy::ttl(MINUTE).stale_while_revalidate(HOUR)),
        ("error", on_error()),
        ("soft timeout", on_error().soft_timeout(SECOND)),
        ("memory ttl", on_error().memory_ttl(SECOND)),
        ("remote only", on_error().remote_only()),
    ];
    for (path, policy) in paths {
        for selector_text in SELECTORS.into_iter().filter(|text| !text.starts_with('#')) {
            let rig = Rig::new();
            let (here, there, source) = (rig.cache().await, rig.cache().await, Source::new());
            let nodes = [&here, &there].map(|cache| with(cache, policy.clone().jitter(0.0)));
            for docs in &nodes {
                get(docs, &source).await.unwrap();
                settle().await;
            }
            rig.advance(2 * MINUTE);
            // A load that began before, and fails after: both its leader and who waits have something stale at hand.
            source.fail(true);
            source.gate.set(false);
            let under_way: Vec<_> = nodes
                .clone()
                .into_iter()
                .flat_map(|docs| {
                    [docs.clone(), docs].map(|docs| {
                        let source = source.clone();
                        spawn(async move { get(&docs, &source).await })
                    })
                })
                .collect();
            settle().await;
            let token = here.invalidate([selector(selector_text)]).await.token;
            rig.eventually("the other node hears of it", || {
                larder_core::testing::has_reached(&there, token.unwrap())
            })
            .await;
            rig.advance(2 * SECOND);
            source.gate.set(true);
            for reader in under_way {
                let answer = rig.drive(reader).await.unwrap();
                // Served before the call is no harm.
                assert!(answer.is_err() || path == "revalidate", "{path}, {selector_text}: {answer:?}");
            }
            for docs in &nodes {
                for _ in 0..3 {
                    let answer = rig.drive(get(docs, &source)).await;
                    assert!(answer.is_err(), "{path}, {selector_text}: {answer:?}");
                    assert_eq!(docs.get(1_u64).await, None, "{path}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_slow_load_leaves_its_callers_something_stale_and_fills_the_cache_all_the_same() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (docs, source) = (with(&cache, on_error().soft_timeout(SECOND)), Source::new());
    source.gate.set(false);
    let first = spawn({
        let (docs, source) = (docs.clone(), source.clone());
        async move { get(&docs, &source).await }
    });
    rig.pass(5 * SECOND).await;
    assert!(!first.is_finished(), "with nothing stale at hand a caller waits");
    source.gate.set(true);
    assert_eq!(joined(first).await, Ok(1));
    rig.advance(2 * MINUTE);
    source.write();
    source.gate.set(false);
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (docs, source) = (docs.clone(), source.clone());
            spawn(async move { get(&docs, &source).await })
        })
        .collect();
    settle().await;
    rig.pass(SECOND / 2).await;
    assert!(callers.iter().all(|caller| !caller.is_finished()), "it may still come");
    rig.pass(SECOND).await;
    for caller in callers {
        assert_eq!(joined(caller).await, Ok(1));
    }
    assert_eq!((source.loads(), cache.stats().flights), (2, 1), "the load goes on");
    source.gate.set(true);
    rig.eventually("it ends", || cache.stats().flights == 0).await;
    assert_eq!(docs.get(1_u64).await.as_deref(), Some(&2));
    let stats = cache.stats().namespaces["doc"].clone();
    assert_eq!((stats.stale, stats.misses, stats.refreshes), (3, 1, 1), "nobody read what it brought");
}

/// A fresh value is refreshed early, and the load is slow. Meanwhile the value is expired. Whoever waits for that load and is
/// left with the value by the soft timeout must be told that it is stale: it was fresh when it was put aside for him.
#[tokio::test]
async fn what_was_put_aside_while_it_was_fresh_is_stale_once_it_is_expired() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let policy = on_error().soft_timeout(SECOND).early_refresh(100.0);
    let (docs, source, runtime) = (with(&cache, policy), Source::new(), rig.runtime.clone());
    let rows = docs.clone().loader({
        let source = source.clone();
        move |_: u64| {
            let (source, runtime) = (source.clone(), runtime.clone());
            async move {
                larder_core::Runtime::sleep(&*runtime, SECOND).await;
                source.read().await
            }
        }
    });
    rig.drive(rows.load(1_u64)).await.unwrap();
    source.gate.set(false);
    rig.advance(MINUTE / 2);
    for _ in 0..100 {
        assert_eq!(rig.drive(rows.fetch(1_u64)).await.unwrap().outcome, Outcome::Hit);
    }
    settle().await;
    rig.pass(2 * SECOND).await;
    assert_eq!((source.loads(), cache.stats().flights), (2, 1), "it is refreshed early");
    let _ = cache.expire([selector("doc:1")]).await;
    assert_eq!(rig.drive(rows.fetch(1_u64)).await.unwrap().outcome, Outcome::Stale);
}

/// A load hangs for good. Callers are let go at the soft timeout; the load itself is cancelled at the hard one, and what it
/// held is released (dialporten#4252: a hung loader kept the key's lock through six incidents).
#[tokio::test]
async fn a_load_that_hangs_is_cancelled_and_lets_go_of_everything() {
    let rig = Rig::new();
    let (cache, other) = (rig.cache().await, rig.cache().await);
    let policy = on_error().soft_timeout(SECOND).load_timeout(5 * SECOND).max_loads(1);
    let (docs, source) = (with(&cache, policy.clone()), Source::new());
    get(&docs, &source).await.unwrap();
    settle().await;
    rig.advance(2 * MINUTE);
    let dropped = Arc::new(());
    let held = dropped.clone();
    let hang = move || async move {
        let _held = held;
        std::future::pending::<Result<u64, &'static str>>().await
    };
    assert_eq!(rig.drive(docs.get_or_load(1_u64, hang)).await.map(|value| *value), Ok(1));
    assert_eq!((Arc::strong_count(&dropped), cache.stats().leases), (2, 1));
    rig.pass(5 * SECOND).await;
    assert_eq!((Arc::strong_count(&dropped), cache.stats().leases, cache.stats().flights), (1, 0, 0));
    source.write();
    assert_eq!(
        rig.drive(get(&with(&other, policy), &source)).await,
        Ok(2),
        "the other node does not wait for its lease"
    );
    assert_eq!(docs.get(1_u64).await.as_deref(), Some(&1), "stale, and not tried again for a while");
    rig.advance(10 * SECOND);
    assert_eq!(rig.drive(get(&docs, &source)).await, Ok(2));
}

#[tokio::test]
async fn there_is_none_is_kept_for_the_negative_ttl_and_what_there_is_for_its_own() {
    type Found = Namespace<AnyKey, Option<u64>, NoLoader>;
    let rig = Rig::new();
    let cache = rig.cache().await;
    let policy = Policy::ttl(HOUR).negative_ttl(MINUTE).jitter(0.0);
    let found: Found = cache.namespace("found", policy.clone()).unwrap();
    let loads = AtomicUsize::new(0);
    let read = async |key: u64| {
        loads.fetch_add(1, Ordering::SeqCst);
        found
            .get_or_load(key, move || async move { Ok::<_, Infallible>((key == 1).then_some(7)) })
            .await
            .unwrap()
    };
    assert_eq!((*read(1).await, *read(2).await), (Some(7), None));
    settle().await;
    rig.advance(MINUTE - SECOND);
    assert!(found.contains(1_u64).await && found.contains(2_u64).await);
    rig.advance(SECOND);
    assert!(found.contains(1_u64).await && !found.contains(2_u64).await);
    let empty =
        cache.namespace_in_memory::<Vec<u8>>("empty", policy, Vec::len).unwrap().absent(Vec::is_empty);
    assert!(empty.put(1_u64, vec![]) && empty.put(2_u64, vec![1]));
    rig.advance(MINUTE);
    assert!(!empty.contains(1_u64).await && empty.contains(2_u64).await);
}

/// Twenty processes read one hot key all the time. With early refresh its load is over before it expires, nobody waits, and
/// not everybody loads.
#[tokio::test]
async fn a_hot_key_is_refreshed_before_it_expires_by_one_of_many_and_nobody_waits() {
    const NODES: usize = 20;
    let rig = Rig::new();
    let policy = Policy::ttl(MINUTE).early_refresh(1.0).jitter(0.0);
    let source = Source::new();
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(with(&rig.cache().await, policy.clone()));
    }
    let read = |docs: &Docs| {
        let (docs, source, runtime) = (docs.clone(), source.clone(), rig.runtime.clone());
        async move {
            let load = move || async move {
                larder_core::Runtime::sleep(&*runtime, SECOND).await;
                source.read().await
            };
            docs.get_or_load(1_u64, load).await.map(|value| *value)
        }
    };
    for docs in &nodes {
        rig.drive(read(docs)).await.unwrap();
        settle().await;
    }
    assert_eq!(source.loads(), 1);
    for _ in 0..600 {
        for docs in &nodes {
            let mut read = Box::pin(read(docs));
            let now = std::future::poll_fn(|cx| std::task::Poll::Ready(read.as_mut().poll(cx)));
            let std::task::Poll::Ready(answer) = now.await else { panic!("a reader waits") };
            answer.unwrap();
        }
        rig.pass(SECOND / 2).await;
    }
    // Five minutes: at least five loads, and some more because each comes early.
    let loads = source.loads();
    assert!((5..=12).contains(&loads), "{loads} loads in five lives of the entry");
}

#[tokio::test]
async fn a_ttl_that_learns_grows_while_nothing_changes_and_shrinks_when_it_does() {
    for with_remote in [false, true] {
        let rig = Rig::new();
        let cache = if with_remote { rig.cache().await } else { alone(&rig.runtime).await };
        let policy =
            Policy::ttl(MINUTE).adaptive_ttl(MINUTE / 2, 3 * MINUTE).stale_while_revalidate(HOUR).jitter(0.0);
        let (docs, source) = (with(&cache, policy), Source::new());
        let ttl = async || {
            let load = source.clone();
            let load = docs.clone().loader(move |_: u64| load.clone().read());
            load.load(1_u64).await.unwrap();
            rig.eventually("a refresh ends", || cache.stats().flights == 0).await;
            let ttl = load.fetch(1_u64).await.unwrap().ttl;
            rig.advance(10 * MINUTE);
            ttl
        };
        let mut seen = Vec::new();
        for round in 0..8 {
            if round > 4 {
                source.write();
            }
            seen.push(ttl().await.as_secs_f64().round());
        }
        let expected = [60.0, 90.0, 135.0, 180.0, 180.0, 90.0, 45.0, 30.0];
        assert_eq!(seen, expected, "remote: {with_remote}");
    }
}

/// Memory is to show what Redis has after ten seconds at the latest, whatever else happens: another program may have put
/// something there.
#[tokio::test]
async fn memory_asks_the_remote_tier_again_after_its_own_ttl_and_serves_on_if_nothing_else_is_left() {
    let rig = Rig::new();
    let (one, other, source) = (rig.cache().await, rig.cache().await, Source::new());
    let policy = on_error().memory_ttl(10 * SECOND);
    let (here, there) = (with(&one, policy.clone()), with(&other, policy));
    assert_eq!(get(&here, &source).await, Ok(1));
    settle().await;
    rig.advance(SECOND);
    assert!(there.put(1_u64, 7));
    settle().await;
    rig.advance(8 * SECOND);
    assert_eq!(get(&here, &source).await, Ok(1));
    rig.advance(SECOND);
    assert_eq!((get(&here, &source).await, source.loads()), (Ok(7), 1));
    let asked = rig.remote.gets();
    for _ in 0..10 {
        assert_eq!(get(&here, &source).await, Ok(7));
    }
    assert_eq!(rig.remote.gets(), asked, "for another ten seconds");
    rig.advance(10 * SECOND);
    for _ in 0..10 {
        assert_eq!(get(&here, &source).await, Ok(7));
    }
    assert_eq!(rig.remote.gets(), asked + 1, "the same value as before, for ten more");
    rig.advance(30 * SECOND);
    rig.remote.set(|faults| faults.down = true);
    source.fail(true);
    assert_eq!(get(&here, &source).await, Ok(7), "neither Redis nor the source answers");
}

#[tokio::test]
async fn a_loader_says_how_long_its_value_is_kept_and_by_which_tags_it_goes() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let docs = with(&cache, policy());
    let load = |ttl: Duration, value: u64| async move {
        Ok::<_, Infallible>(Filled::new(value).ttl(ttl).tags(["red", "blue"]))
    };
    docs.get_or_load_with(1_u64, move || load(MINUTE, 1)).await.unwrap();
    let by_key = docs.clone().loader_with(move |key: u64| load(Duration::from_secs(key * 60), key));
    assert_eq!(by_key.fetch(3_u64).await.unwrap().ttl, 3 * MINUTE);
    assert_eq!(by_key.fetch(1_u64).await.unwrap().ttl, MINUTE);
    let _ = cache.invalidate([selector("#blue")]).await;
    assert_eq!((docs.get(1_u64).await, docs.get(3_u64).await), (None, None));
    assert_eq!(by_key.fetch(3_u64).await.unwrap().outcome, Outcome::Miss);
}
