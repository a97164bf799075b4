//! Tokens: gathered while a piece of work runs, and waited for by whoever presents one.

mod common;

use common::*;
use larder_core::testing::TestRemote;
use larder_core::{Arrival, Cache, Delivery, Epoch};

async fn drop_one(cache: &Cache) -> Option<Epoch> {
    cache.invalidate([selector("doc:1")]).await.token
}

#[tokio::test]
async fn work_answers_the_token_of_the_newest_invalidation_in_it() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let docs = docs(&cache);
    let work = async {
        drop_one(&cache).await;
        let _ = docs.expire(2_u64).await;
        docs.remove(3_u64).await.token
    };
    let (last, token) = cache.collect_tokens(work).await;
    assert!(last.is_some() && token == last);
    let (_, nothing) = cache.collect_tokens(docs.get(1_u64)).await;
    assert_eq!(nothing, None);
}

/// Invalidations side by side end in any order: the token is that of the last in the log, not of the last to end.
#[tokio::test]
async fn of_invalidations_side_by_side_it_is_the_last_in_the_log() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let work = async { tokio::join!(drop_one(&cache), drop_one(&cache), drop_one(&cache)) };
    let ((a, b, c), token) = cache.collect_tokens(work).await;
    assert_eq!(token.unwrap().at, [a, b, c].map(|t| t.unwrap().at).into_iter().max().unwrap());
}

#[tokio::test]
async fn scopes_nest_and_caches_do_not_mix() {
    let rig = Rig::new();
    let (mine, other) = (rig.cache().await, {
        let remote = TestRemote::new(rig.runtime.clone());
        Cache::builder().runtime(rig.runtime.clone()).remote(remote).build().await.unwrap()
    });
    let inner = async {
        let ((first, of_other), inner) = mine
            .collect_tokens(async {
                let first = drop_one(&mine).await;
                (first, other.collect_tokens(drop_one(&other)).await)
            })
            .await;
        assert_eq!((inner, of_other.0), (first, of_other.1));
        assert_ne!(first, of_other.0);
        drop_one(&mine.because("a clone is the same cache")).await
    };
    let ((last, of_mine), of_other) = other.collect_tokens(mine.collect_tokens(inner)).await;
    assert!(of_mine == last && of_other.is_some() && of_other != of_mine);
}

/// A token promises all of it. Redis goes away between two invalidations of one request: a client that presented the
/// first one's token elsewhere would not see the second.
#[tokio::test]
async fn there_is_no_token_if_any_of_it_was_queued_or_given_up() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let work = async {
        assert!(drop_one(&cache).await.is_some());
        rig.remote.set(|faults| faults.down = true);
        assert_eq!(cache.invalidate([selector("doc:2")]).await.state, Delivery::Queued);
        rig.remote.set(|faults| faults.down = false);
    };
    assert_eq!(rig.drive(cache.collect_tokens(work)).await.1, None);

    rig.eventually("the queue is empty", || cache.stats().pending_invalidations == 0).await;
    let given_up = async {
        assert!(drop_one(&cache).await.is_some());
        rig.remote.set(|faults| faults.hang = true);
        tokio::select! {
            biased;
            _ = drop_one(&cache) => panic!("Redis hangs"),
            () = settle() => {}
        }
        rig.remote.set(|faults| faults.hang = false);
    };
    assert_eq!(cache.collect_tokens(given_up).await.1, None);
}

#[tokio::test]
async fn a_spawned_task_is_outside_and_without_a_remote_tier_there_is_no_token() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let beside = cache.clone();
    let (outside, token) =
        cache.collect_tokens(async { joined(spawn(async move { drop_one(&beside).await })).await }).await;
    assert!(outside.is_some() && token.is_none());
    let alone = alone(&rig.runtime).await;
    assert_eq!(alone.collect_tokens(drop_one(&alone)).await, (None, None));
    alone.ignore_token();
    assert_eq!(alone.stats().tokens_ignored, 1);
}

/// Node B has version 1 in memory and is slow to follow. A write commits version 2 and invalidates on node A, whose client
/// gets a token; then the log is lost (FLUSHALL) before B has read the record. A has begun a new line already, on which
/// nobody knows the token. It is not made up, though: B must not say so while it still holds what it had before.
#[tokio::test]
async fn a_token_that_the_log_has_lost_is_unknown_only_once_this_node_knows_of_the_loss() {
    let rig = Rig::new();
    let (a, slow) = (rig.cache().await, GatedRemote::new(rig.remote.clone()));
    let b = rig.drive(rig.builder().remote(slow.clone()).build()).await.unwrap();
    let (docs, source) = (docs(&b), Source::new());
    assert_eq!(rig.drive(read(docs.clone(), source.clone())).await, (1, false));
    slow.follows.set(false);
    assert_eq!(source.write(), 2);
    let token = drop_one(&a).await.unwrap();
    rig.remote.flush();
    let line = |cache: &Cache| cache.health().remote.unwrap().log.position.unwrap()[..16].to_owned();
    let lost = line(&a);
    rig.eventually("A has begun a new line", || line(&a) != lost).await;

    assert_eq!(rig.drive(b.arrive(token)).await, Arrival::Late, "B has not heard of the loss");
    slow.follows.set(true);
    assert_eq!(rig.drive(b.arrive(token)).await, Arrival::Unknown);
    assert_eq!(rig.drive(read(docs, source)).await, (2, false), "what B held is gone");
}
