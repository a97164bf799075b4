//! Functions and caches: who shares what with whom.

use std::sync::Arc;

use larder::{Cache, Event, cached, units::*};
use larder_core::testing::Recorder;

use crate::{Count, Fault, cache};

#[cached(namespace = "count", key = ())]
async fn count(cache: &Cache, loads: &Count) -> Result<usize, Fault> {
    Ok(loads.up())
}

/// The same name, and another function: one of them would answer with what the other has kept.
#[cached(namespace = "count", key = ())]
async fn other_count(cache: &Cache, loads: &Count) -> Result<usize, Fault> {
    Ok(100 + loads.up())
}

#[cached(namespace = "odd", key = (), jitter = 2.0)]
async fn odd(cache: &Cache, loads: &Count) -> Result<usize, Fault> {
    Ok(loads.up())
}

fn mistakes(recorder: &Recorder) -> Vec<String> {
    let said = |event: Event| match event {
        Event::Misconfigured { function, reason } => Some(format!("{function}: {reason}")),
        _ => None,
    };
    recorder.events().into_iter().filter_map(said).collect()
}

#[tokio::test]
async fn a_function_whose_name_is_taken_runs_uncached_and_says_so_once() {
    let (cache, _, recorder) = cache().await;
    let loads = Count::default();
    for _ in 0..3 {
        assert_eq!(count(&cache, &loads).await, Ok(1));
    }
    assert_eq!(mistakes(&recorder), [""; 0]);
    for n in 2..5 {
        assert_eq!(other_count(&cache, &loads).await, Ok(100 + n));
    }
    let [mistake] = &mistakes(&recorder)[..] else { panic!("{:?}", mistakes(&recorder)) };
    assert!(
        mistake.starts_with("cached::sites::other_count (crates/larder/tests/cached/sites.rs:"),
        "{mistake}"
    );
    assert!(mistake.contains("count is in use by cached::sites::count (crates/larder/tests"), "{mistake}");
    assert_eq!(recorder.count("cache_misconfigured"), 1);
}

#[tokio::test]
async fn so_does_one_whose_policy_is_wrong_or_whose_name_a_handle_has_with_another_type() {
    let (cache, _, recorder) = cache().await;
    let loads = Count::default();
    let _handle = cache.namespace::<String>("count", cache.defaults()).unwrap();
    for n in [1, 3, 5] {
        assert_eq!(odd(&cache, &loads).await, Ok(n));
        assert_eq!(count(&cache.by("somebody"), &loads).await, Ok(n + 1));
    }
    let [policy, kind] = &mistakes(&recorder)[..] else { panic!("{:?}", mistakes(&recorder)) };
    assert!(
        policy.ends_with("the policy of odd is wrong: jitter is 2: must be a part of the ttl, 0 to 1"),
        "{policy}"
    );
    assert!(kind.contains("count is in use with another type"), "{kind}");
}

#[tokio::test]
async fn two_caches_share_nothing() {
    let ((one, ..), (other, ..)) = (cache().await, cache().await);
    let (here, there) = (Count::default(), Count::default());
    for _ in 0..2 {
        assert_eq!(count(&one, &here).await, Ok(1));
        assert_eq!(count(&other, &there).await, Ok(1));
    }
    let _ = one.invalidate_str(&["count"]).await.unwrap();
    assert_eq!((count(&one, &here).await, count(&other, &there).await), (Ok(2), Ok(1)));
}

#[tokio::test]
async fn a_cache_that_is_dropped_is_freed_although_functions_have_handles_in_it() {
    let (cache, runtime, recorder) = cache().await;
    let loads = Count::default();
    count(&cache, &loads).await.unwrap();
    other_count(&cache, &loads).await.unwrap();
    let clone = cache.because("test");
    drop(cache);
    count(&clone, &loads).await.unwrap();
    assert!(Arc::strong_count(&recorder) > 1, "the engine tells it what happens");
    drop(clone);
    runtime.advance(DAY);
    assert_eq!(Arc::strong_count(&recorder), 1, "the engine is gone");
}
