//! The steps of the read path as a front door takes them: loads in tasks of its own, answers that may not be shared.
#![allow(clippy::unwrap_used, reason = "a test's helpers are a test too")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use larder_core::testing::ManualRuntime;
use larder_core::units::{HOUR, MINUTE, SECOND};
use larder_core::{Claim, Failure, Fill, Flown, Lead, LookedUp, Outcome, Policy, SkipReason, Turn};

fn claim(docs: &Docs, number: u64) -> Claim<u64> {
    let mut key = docs.key_writer();
    key.number(number);
    docs.claim(key.as_bytes())
}

/// The lead of a key that nobody loads, whose turn it is.
async fn lead(docs: &Docs, number: u64) -> Lead<u64> {
    let lead = match claim(docs, number) {
        Claim::Lead(lead) | Claim::Stale(_, Some(lead)) => lead,
        _ => panic!("somebody loads {number}"),
    };
    let LookedUp::Nothing(lead) = lead.look_up().await else { panic!("the remote tier has {number}") };
    let Turn::Load(mut lead) = lead.turn().await else { panic!("no place for {number}") };
    lead.begin();
    lead
}

async fn with_policy(runtime: &Arc<ManualRuntime>, policy: Policy) -> Docs {
    alone(runtime).await.namespace::<u64>("doc", policy).unwrap()
}

/// A hundred thousand loads hang. Whoever comes for something that is there, if past its ttl, need not hear that the cache
/// is overloaded.
#[tokio::test]
async fn where_no_more_loads_may_begin_what_is_stale_is_served() {
    let runtime = ManualRuntime::new(1);
    let docs = with_policy(&runtime, Policy::ttl(MINUTE).stale_if_error(HOUR).jitter(0.0)).await;
    assert!(docs.put(1_u64, 1));
    runtime.advance(MINUTE);
    let mut leads = Vec::new();
    for number in 2.. {
        match claim(&docs, number) {
            Claim::Lead(lead) => leads.push(lead),
            Claim::Apart(SkipReason::Overloaded) => break,
            _ => panic!("{number}"),
        }
    }
    assert_eq!(leads.len(), 100_000);
    let Claim::Stale(found, None) = claim(&docs, 1) else { panic!("something stale is there") };
    assert_eq!((*found.value, found.outcome), (1, Outcome::Stale));
    runtime.advance(HOUR);
    assert!(matches!(claim(&docs, 1), Claim::Apart(SkipReason::Overloaded)), "its window has ended");
}

/// A refresh finds that the page is gone, or private now. What is stale must not be served on as if nothing had happened.
#[tokio::test]
async fn an_answer_for_one_caller_alone_ends_what_is_stale_in_both_tiers() {
    let rig = Rig::new();
    let (cache, other) = (rig.cache().await, rig.cache().await);
    let docs = docs(&cache);
    assert!(docs.put(1_u64, 1));
    settle().await;
    rig.advance(HOUR);
    lead(&docs, 1).await.unshared(true);
    settle().await;
    assert_eq!((docs.get(1_u64).await, rig.remote.len()), (None, 0));
    assert_eq!(common::docs(&other).get(1_u64).await, None);
    assert!(matches!(claim(&docs, 1), Claim::Apart(SkipReason::Uncacheable)));
}

/// Somebody puts a new value while a refresh runs, which then ends with an answer for one caller alone: it began earlier, and
/// knows nothing of that value.
#[tokio::test]
async fn an_answer_for_one_caller_alone_does_not_end_what_was_put_since() {
    let rig = Rig::new();
    let docs = docs(&rig.cache().await);
    assert!(docs.put(1_u64, 1));
    settle().await;
    rig.advance(HOUR);
    let refresh = lead(&docs, 1).await;
    assert!(docs.put(1_u64, 2));
    refresh.unshared(true);
    settle().await;
    assert_eq!((docs.get(1_u64).await.as_deref(), rig.remote.len()), (Some(&2), 1));
}

/// An answer for one caller takes 20 s. Five seconds after it nobody remembered that, so the next reader led, others waited
/// 20 s for him, and then began to load for themselves.
#[tokio::test]
async fn that_an_answer_is_for_one_caller_is_remembered_for_as_long_again_as_it_took() {
    let runtime = ManualRuntime::new(1);
    let docs = with_policy(&runtime, policy()).await;
    let first = lead(&docs, 1).await;
    runtime.advance(20 * SECOND);
    first.unshared(true);
    let apart = || matches!(claim(&docs, 1), Claim::Apart(SkipReason::Uncacheable));
    runtime.advance(24 * SECOND);
    assert!(apart());
    let key = {
        let mut key = docs.key_writer();
        key.number(1);
        key.to_key()
    };
    let slot = docs.begin_at(&key);
    runtime.advance(20 * SECOND);
    assert!(!apart());
    slot.unshared();
    runtime.advance(24 * SECOND);
    assert!(apart(), "and one who has loaded it apart says so again");
    assert!(docs.begin_at(&key).put(1) && !apart(), "until there is something to share");
}

/// With early refresh a fresh value is loaded again before its time. The source is away: each of thousands of readers a
/// second would have tried again.
#[tokio::test]
async fn an_early_refresh_that_fails_is_not_tried_again_at_once() {
    let runtime = ManualRuntime::new(1);
    let docs = with_policy(&runtime, Policy::ttl(MINUTE).early_refresh(100.0).jitter(0.0)).await;
    let first = lead(&docs, 1).await;
    runtime.advance(SECOND);
    let _ = first.fill(Arc::new(1), &Fill::new());
    runtime.advance(59 * SECOND);
    let mut failed = 0;
    for _ in 0..500 {
        match claim(&docs, 1) {
            Claim::Found(found) => assert_eq!((*found.value, found.outcome), (1, Outcome::Hit)),
            Claim::Stale(found, Some(lead)) => {
                assert_eq!((*found.value, found.outcome), (1, Outcome::Hit));
                failed += 1;
                let _ = lead.fail(Failure::Panicked);
            }
            _ => panic!("it is fresh"),
        }
    }
    assert_eq!(failed, 1);
}

/// The load of a front door runs in a task. Its client waits for as long as the soft timeout if there is something stale for
/// him, else until the load timeout; then the load is on its own, and what it brings is counted as nobody's read.
#[tokio::test]
async fn a_client_beside_his_load_leaves_at_the_soft_timeout_or_the_hard_one() {
    let policy = Policy::ttl(MINUTE).stale_if_error(HOUR).soft_timeout(SECOND).load_timeout(5 * SECOND);
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let docs = cache.namespace::<u64>("doc", policy.jitter(0.0)).unwrap();
    assert!(docs.put(1_u64, 1));
    runtime.advance(MINUTE);
    let (with, without) = (lead(&docs, 1).await, lead(&docs, 2).await);
    let [stale, late] = [&with, &without].map(|lead| {
        let seat = lead.seat();
        spawn(async move { seat.beside(std::future::pending::<()>()).await })
    });
    settle().await;
    runtime.advance(SECOND);
    let Err(Some(found)) = joined(stale).await else { panic!("there is something stale") };
    assert_eq!((*found.value, found.outcome, found.age), (1, Outcome::Stale, MINUTE + SECOND));
    settle().await;
    assert!(!late.is_finished());
    runtime.advance(5 * SECOND);
    assert!(matches!(joined(late).await, Err(None)));
    let _ = with.fill(Arc::new(2), &Fill::new());
    let stats = &cache.stats().namespaces["doc"];
    assert_eq!((stats.stale, stats.misses, stats.refreshes), (1, 0, 1));
}

/// Of a load that fails softly the first caller has the answer to give; those who wait have what is stale.
#[tokio::test]
async fn a_load_fails_softly_only_where_there_is_something_stale() {
    let runtime = ManualRuntime::new(1);
    let docs = with_policy(&runtime, Policy::ttl(MINUTE).stale_if_error(HOUR).jitter(0.0)).await;
    assert!(docs.put(1_u64, 1));
    runtime.advance(MINUTE);
    let (with, without) = (lead(&docs, 1).await, lead(&docs, 2).await);
    let Claim::Join(waiting) = claim(&docs, 1) else { panic!("it is being loaded") };
    assert!(with.fails_softly() && !without.fails_softly());
    let found = with.fail(Failure::Panicked).expect("something stale is there");
    assert_eq!((*found.value, found.outcome), (1, Outcome::Stale));
    assert!(matches!(waiting.wait().await, Flown::Found(found) if *found.value == 1));
    assert!(matches!(claim(&docs, 1), Claim::Stale(_, None)), "it is not tried again at once");
    assert!(without.fail(Failure::Panicked).is_none());
}

#[tokio::test]
async fn what_is_loaded_apart_has_its_place_among_the_loads() {
    let runtime = ManualRuntime::new(1);
    let docs = with_policy(&runtime, policy().max_loads(1).load_queue(1)).await;
    let place = docs.begin(1_u64).turn().await.expect("nothing else runs");
    let second = spawn(docs.begin(2_u64).turn());
    settle().await;
    assert!(!second.is_finished() && docs.begin(3_u64).turn().await.is_none(), "the queue is full");
    assert!(place.put(1));
    assert!(joined_slot(second).await);
    runtime.advance(Duration::from_millis(1));
    assert!(docs.begin(3_u64).turn().await.is_some(), "a slot that is dropped gives its place back");
}

async fn joined_slot(task: tokio::task::JoinHandle<Option<larder_core::Slot<u64>>>) -> bool {
    until("a task ends", || task.is_finished()).await;
    task.await.unwrap().is_some()
}

/// Lesson 14: a load blocks its thread, ninety-six requests wait, and health was green.
#[tokio::test]
async fn a_load_that_does_not_come_back_shows_in_health_until_it_does() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let docs = docs(&cache);
    let hung = lead(&docs, 1).await;
    hung.watch();
    settle().await;
    assert_eq!((cache.health().status, cache.health().hung_loads), ("ok", 0));
    for _ in 0..40 {
        runtime.advance(SECOND);
        settle().await;
    }
    assert_eq!((cache.health().status, cache.health().hung_loads), ("degraded", 1));
    let _ = hung.fill(Arc::new(1), &Fill::new());
    assert_eq!((cache.health().status, cache.health().hung_loads), ("ok", 0));
}
