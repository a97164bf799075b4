//! How caches are described, what clashes, and how they end.

mod common;

use std::time::Duration;

use common::*;
use larder_core::testing::ManualRuntime;
use larder_core::units::{DAY, HOUR, SECOND};
use larder_core::{
    BreakerOptions, BuildError, Cache, CacheBuilder, Delivery, Event, LoadError, NamespaceError, Policy,
};

#[tokio::test]
async fn two_pieces_of_code_that_disagree_about_a_namespace_are_told_how() {
    let cache = alone(&ManualRuntime::new(1)).await;
    let first = Policy::ttl(HOUR);
    assert!(cache.namespace::<u64>("trig", first.clone()).is_ok());
    assert!(cache.namespace::<u64>("trig", first.clone()).is_ok(), "the same again is no clash");
    let sub = cache.namespace::<String>(("trig", "logs"), Policy::ttl(2 * HOUR));
    assert!(sub.is_ok(), "a sub-resource has a type and a policy of its own");

    let message = |result: Result<(), NamespaceError>| result.unwrap_err().to_string();
    let of_type = message(cache.namespace::<String>("trig", first).map(drop));
    assert_eq!(of_type, "trig is in use with another type: u64, now alloc::string::String");
    let of_policy = message(cache.namespace::<u64>("trig", Policy::ttl(2 * HOUR)).map(drop));
    assert!(of_policy.starts_with("trig is in use with another policy: Policy { ttl: 3600s"), "{of_policy}");
    assert!(of_policy.contains("now Policy { ttl: 7200s"), "{of_policy}");
    let of_sub = message(cache.namespace::<u64>(("trig", "logs"), Policy::ttl(2 * HOUR)).map(drop));
    assert!(of_sub.starts_with("trig:*:logs is in use with another type"), "{of_sub}");
}

#[tokio::test]
async fn names_that_could_be_mistaken_for_structure_are_refused() {
    let cache = alone(&ManualRuntime::new(1)).await;
    let long = "x".repeat(65);
    for name in ["", "a:b", "a b", "a*", "#a", "ä", "a~b", "a{b}", long.as_str()] {
        let plain = cache.namespace::<u64>(name, Policy::default()).map(drop).unwrap_err();
        assert_eq!(plain, NamespaceError::Name { name: name.to_owned() });
        if !name.is_empty() {
            assert!(cache.namespace::<u64>(("ok", name), Policy::default()).is_err(), "{name:?}");
        }
    }
}

#[tokio::test]
async fn a_policy_that_breaks_a_rule_is_refused_where_it_is_given() {
    let ok = Policy::ttl(HOUR);
    let bad = [
        ("ttl", Policy::ttl(Duration::ZERO)),
        ("ttl", Policy::ttl(3651 * DAY)),
        ("stale_while_revalidate", ok.clone().stale_while_revalidate(Duration::MAX)),
        ("load_timeout", ok.clone().load_timeout(Duration::ZERO)),
        ("load_timeout", ok.clone().load_timeout(Duration::MAX)),
        ("negative_ttl", ok.clone().negative_ttl(Duration::ZERO)),
        ("jitter", ok.clone().jitter(-0.1)),
        ("jitter", ok.clone().jitter(f64::NAN)),
        ("memory_only, remote_only", ok.clone().memory_only().remote_only()),
    ];
    let cache = alone(&ManualRuntime::new(1)).await;
    for (option, policy) in bad {
        let refused = cache.namespace::<u64>("doc", policy.clone()).map(drop).unwrap_err();
        let NamespaceError::Policy { name, source } = refused else { panic!("{option}: {refused}") };
        assert_eq!((name.as_str(), source.option), ("doc", option));
        let refused = Cache::builder().defaults(policy).build().await.map(drop).unwrap_err();
        assert!(matches!(refused, BuildError::Policy(e) if e.option == option));
    }
    assert!(cache.namespace::<u64>("doc", ok).is_ok(), "a refused policy takes no name");
}

#[tokio::test]
async fn an_option_of_the_cache_that_breaks_a_rule_is_named() {
    type Set = fn(CacheBuilder) -> CacheBuilder;
    let cases: [(&str, Set); 5] = [
        ("memory is 1: must be 0 (off) or at least 64 KiB", |b| b.memory(1)),
        ("remote_budget is 0ns: must be above zero and at most 60 s", |b| b.remote_budget(Duration::ZERO)),
        ("remote_budget is 61s: must be above zero and at most 60 s", |b| b.remote_budget(61 * SECOND)),
        ("breaker.failures is 0: must be at least 1", |b| {
            b.breaker(BreakerOptions { failures: 0, open_for: SECOND })
        }),
        ("stamp_limit is 15: must be at least 16", |b| b.stamp_limit(15)),
    ];
    for (message, set) in cases {
        let refused = set(Cache::builder()).build().await.map(drop).unwrap_err();
        assert_eq!(refused.to_string(), message);
    }
}

#[tokio::test]
async fn a_cache_that_is_switched_off_loads_every_time_and_stores_nothing() {
    let rig = Rig::new();
    let cache = rig.builder().enabled(false).build().await.unwrap();
    let source = Source::new();
    for _ in 0..3 {
        let source = source.clone();
        docs(&cache).get_or_load(1_u64, move || source.read()).await.unwrap();
    }
    assert!(!docs(&cache).put(1_u64, 1) && !docs(&cache).contains(1_u64).await);
    let done = docs(&cache).invalidate(1_u64).await;
    assert_eq!((done.state, source.loads(), rig.remote.len()), (Delivery::Delivered, 3, 0));
    assert_eq!(cache.health().status, "off");
}

#[tokio::test]
async fn a_pattern_that_folds_is_told_as_it_was_written_and_as_what_it_became() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let _ = cache.invalidate_str(&["doc:1*", "doc:1:*"]).await.unwrap();
    let folded = rig.events.events().into_iter().filter_map(|event| match event {
        Event::Folded { written, pattern } => Some((written, pattern)),
        _ => None,
    });
    assert_eq!(folded.collect::<Vec<_>>(), [("doc:1*".to_owned(), "doc:*".to_owned())]);
}

#[tokio::test]
async fn shutdown_waits_for_loads_and_their_stores() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (docs, source) = (docs(&cache), Source::new());
    source.gate.set(false);
    rig.remote.set(|f| f.hold_stores = true);
    let reader = spawn(read(docs.clone(), source.clone()));
    until("the load has begun", || source.loads() == 1).await;
    let ending = cache.clone();
    let ended = spawn(async move { ending.shutdown(10 * SECOND).await });
    settle().await;
    assert!(!ended.is_finished(), "a load is under way");
    let refused = docs.get_or_load(2_u64, || async { Ok::<_, ()>(1) }).await;
    assert!(matches!(refused, Err(LoadError::ShuttingDown)));
    source.gate.set(true);
    assert_eq!(joined(reader).await.0, 1);
    settle().await;
    assert!(!ended.is_finished(), "its store is under way");
    rig.remote.set(|f| f.hold_stores = false);
    assert!(joined(ended).await);
    assert_eq!(rig.remote.len(), 1);
}

#[tokio::test]
async fn shutdown_answers_false_when_the_deadline_comes_first() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    rig.remote.set(|f| f.hold_stores = true);
    assert!(docs(&cache).put(1_u64, 1));
    let ending = cache.clone();
    let ended = spawn(async move { ending.shutdown(SECOND).await });
    settle().await;
    rig.advance(SECOND);
    assert!(!joined(ended).await);
    let refused = docs(&cache).get_or_load(2_u64, || async { Ok::<_, ()>(1) }).await;
    assert!(matches!(refused, Err(LoadError::ShuttingDown)));
}

/// A cache is dropped without having been shut down. The task that follows the log must end with it, or every cache ever
/// made goes on for as long as the process.
#[tokio::test]
async fn a_cache_that_is_dropped_leaves_nothing_behind() {
    let rig = Rig::new();
    let held = std::sync::Arc::strong_count(&rig.remote);
    let cache = rig.cache().await;
    docs(&cache).put(1_u64, 1);
    settle().await;
    assert!(std::sync::Arc::strong_count(&rig.remote) > held);
    drop(cache);
    until("the driver ends", || std::sync::Arc::strong_count(&rig.remote) == held).await;
}

/// Entries that are loaded together do not end together, and none lives longer than its ttl.
#[tokio::test]
async fn jitter_spreads_the_ends_of_lives_and_only_shortens_them() {
    let cache = alone(&ManualRuntime::new(1)).await;
    let docs = cache.namespace::<u64>("doc", Policy::ttl(HOUR).jitter(0.1)).unwrap();
    let docs = docs.loader(|key: u64| async move { Ok::<_, ()>(key) });
    let mut ttls = Vec::new();
    for key in 0..200 {
        ttls.push(docs.fetch(key).await.unwrap().ttl);
    }
    ttls.sort();
    let (least, most) = (ttls[0], ttls[199]);
    assert!(least >= HOUR.mul_f64(0.9) && most <= HOUR, "{least:?} to {most:?}");
    assert!(most - least > HOUR.mul_f64(0.08), "{least:?} to {most:?}");
}
