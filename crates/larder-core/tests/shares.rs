//! Shares: no tenant, user or the like takes more than its part of memory, or of Redis.
#![allow(clippy::unwrap_used, reason = "a test's helpers are a test too")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use larder_core::testing::ManualRuntime;
use larder_core::units::{HOUR, KIB, MINUTE, SECOND};
use larder_core::{AnyKey, Cache, Event, Namespace, NoLoader, Policy, Remote, Selector, Share, SkipReason};
use tokio::sync::{AcquireError, Semaphore};

type Texts = Namespace<AnyKey, String, NoLoader>;

/// Keys `text:<tenant>:<id>`.
fn texts(cache: &Cache, policy: Policy) -> Texts {
    cache.namespace::<String>("text", policy).unwrap().weigh(String::len)
}

fn text(size: usize) -> String {
    "x".repeat(size)
}

/// What an entry weighs beside key and value.
async fn overhead(runtime: &Arc<ManualRuntime>, policy: Policy) -> u64 {
    let cache = alone(runtime).await;
    assert!(texts(&cache, policy).put(("a", 1_u64), text(0)));
    cache.stats().memory_bytes - "text:a:1".len() as u64
}

async fn has(texts: &Texts, tenant: &str, ids: std::ops::Range<u64>) -> Vec<u64> {
    let mut found = Vec::new();
    for id in ids {
        if texts.contains((tenant, id)).await {
            found.push(id);
        }
    }
    found
}

/// What Redis has counted to `text`'s tenant: `reserve` says yes to nothing more if that is within its limit.
async fn counted(rig: &Rig, tenant: &str) -> u64 {
    let share = format!("text:0:{tenant}");
    let (mut low, mut high) = (0, 1 << 40);
    while low < high {
        let limit = u64::midpoint(low, high);
        match rig.remote.reserve(share.as_bytes(), 0, SECOND, limit).await.unwrap() {
            true => high = limit,
            false => low = limit + 1,
        }
    }
    low
}

fn skips(rig: &Rig) -> usize {
    let shares = |event: &&Event| matches!(event, Event::Skip { reason: SkipReason::Share, .. });
    rig.events.events().iter().filter(shares).count()
}

/// One tenant runs a report over everything: without a bound its ten thousand entries would be all that memory has.
#[tokio::test]
async fn a_greedy_tenant_never_has_more_than_its_share_and_takes_nothing_from_others() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let texts = texts(&cache, policy().share(Share::of_segment(0).memory(100 * KIB)));
    for tenant in 0..20_u64 {
        for id in 0..50_u64 {
            assert!(texts.put((tenant, id), text(1000)));
        }
    }
    let others = cache.stats().memory_bytes;
    for id in 0..10_000_u64 {
        assert!(texts.put(("greedy", id), text(1000)));
        let greedy = cache.stats().memory_bytes - others;
        assert!(greedy <= 100 * KIB && (id < 80 || greedy > 98 * KIB), "{greedy} after {id}");
    }
    for tenant in 0..20_u64 {
        assert_eq!(has(&texts, &tenant.to_string(), 0..50).await.len(), 50);
    }
    let kept = has(&texts, "greedy", 0..10_000).await;
    assert_eq!(kept, (10_000 - kept.len() as u64..10_000).collect::<Vec<_>>(), "the oldest are gone");
    let stats = cache.stats();
    assert_eq!((stats.share_partitions, stats.namespaces["text"].share_refused), (21, 0));
    assert_eq!(stats.namespaces["text"].share_evicted, 10_000 - kept.len() as u64);
}

#[tokio::test]
async fn what_is_larger_than_the_whole_share_is_not_kept_nor_is_what_it_replaces() {
    let rig = Rig::new();
    let cache = rig.drive(rig.builder().build()).await.unwrap();
    let texts = texts(&cache, policy().memory_only().share(Share::of_segment(0).memory(10 * KIB)));
    assert!(texts.put(("a", 1), text(1000)) && texts.put(("a", 2), text(1000)));
    assert!(!texts.put(("a", 1), text(10_240)));
    assert_eq!(has(&texts, "a", 0..3).await, [2]);
    assert_eq!((skips(&rig), cache.stats().namespaces["text"].share_refused), (1, 1));
}

/// A key without the segment is nobody's: nothing bounds it.
#[tokio::test]
async fn a_key_that_names_nobody_counts_to_nobody() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let texts = texts(&cache, policy().share(Share::of_segment(1).memory(KIB)));
    for id in 0..100_u64 {
        assert!(texts.put(id, text(1000)));
    }
    let stats = cache.stats();
    assert_eq!((stats.memory_entries, stats.share_partitions), (100, 0));
}

/// Tenants and what they have, in the order of storing; the weight, and whether a look finds it gone.
type Model = BTreeMap<u64, Vec<(u64, u64, bool)>>;

/// Random operations against that. Whatever went wrong with the account (bytes that are not given back, or twice, an entry in
/// the wrong place of the order), another set of entries would be left.
#[tokio::test]
async fn the_entries_that_are_left_are_those_of_a_naive_model() {
    const BOUND: u64 = 8 * KIB;
    const TTL: Duration = MINUTE;
    #[expect(clippy::disallowed_methods, reason = "a test program: how to repeat a run is told from outside")]
    let seed = std::env::var("LARDER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seed.map_or(1..9, |seed| seed..seed + 1);
    for seed in seeds {
        println!("LARDER_SEED={seed}");
        let (runtime, mut chance) = (ManualRuntime::new(seed), Chance(seed));
        let policy = Policy::ttl(TTL).jitter(0.0).share(Share::of_segment(0).memory(BOUND));
        let overhead = overhead(&runtime, policy.clone()).await;
        let cache = alone(&runtime).await;
        let texts = texts(&cache, policy);
        let mut model = Model::new();
        for _ in 0..3000 {
            let (tenant, id) = (chance.below(4), chance.below(12));
            let mine = model.entry(tenant).or_default();
            let there = mine.iter().position(|entry| entry.0 == id);
            match chance.below(20) {
                0..12 => {
                    let size = chance.below(4) * chance.below(800) + chance.below(2) * chance.below(7900);
                    let weight = size + overhead + format!("text:{tenant}:{id}").len() as u64;
                    there.map(|at| mine.remove(at));
                    if weight <= BOUND {
                        mine.push((id, weight, false));
                    }
                    while mine.iter().map(|entry| entry.1).sum::<u64>() > BOUND {
                        mine.remove(0);
                    }
                    assert_eq!(
                        texts.put((tenant, id), text(usize::try_from(size).unwrap())),
                        weight <= BOUND
                    );
                }
                12 | 13 => {
                    there.map(|at| mine.remove(at));
                    let _ = texts.remove((tenant, id)).await;
                }
                14 => {
                    // Dead, and still there until somebody looks.
                    there.into_iter().for_each(|at| mine[at].2 = true);
                    let _ = texts.invalidate((tenant, id)).await;
                }
                15 => {
                    there.into_iter().for_each(|at| mine[at].2 = true);
                    let _ = texts.expire((tenant, id)).await;
                }
                16 if chance.below(10) == 0 => {
                    model.values_mut().flatten().for_each(|entry| entry.2 = true);
                    runtime.advance(TTL + SECOND);
                    // The clock that readers go by is a little behind.
                    settle().await;
                }
                17 => {
                    mine.iter_mut().for_each(|entry| entry.2 = true);
                    let _ = cache.invalidate([Selector::under(("text", tenant))]).await;
                }
                _ => {
                    let is_good = there.is_some_and(|at| !mine[at].2);
                    if let (Some(at), false) = (there, is_good) {
                        mine.remove(at);
                    }
                    assert_eq!(texts.get((tenant, id)).await.is_some(), is_good, "{tenant}:{id}");
                }
            }
            model.retain(|_, mine| !mine.is_empty());
            let entries = model.values().flatten();
            let bytes: u64 = entries.clone().map(|entry| entry.1).sum();
            let stats = cache.stats();
            assert_eq!((stats.memory_entries, stats.memory_bytes), (entries.count(), bytes));
            assert_eq!(stats.share_partitions, model.len());
        }
        for (tenant, mine) in &model {
            let mut good: Vec<_> = mine.iter().filter(|entry| !entry.2).map(|entry| entry.0).collect();
            good.sort_unstable();
            assert_eq!(has(&texts, &tenant.to_string(), 0..12).await, good);
        }
    }
}

#[tokio::test]
async fn what_is_read_from_redis_counts_in_memory_and_once() {
    let rig = Rig::new();
    let share = Share::of_segment(0).memory(10 * KIB);
    let policy = policy().memory_ttl(MINUTE).share(share);
    let (one, other) = (rig.cache().await, rig.cache().await);
    let [writer, reader] = [&one, &other].map(|cache| texts(cache, policy.clone()));
    for id in 0..50_u64 {
        assert!(writer.put(("a", id), text(1000)));
    }
    rig.eventually("all is in Redis", || rig.remote.len() == 50).await;
    for _ in 0..3 {
        assert_eq!(has(&reader, "a", 0..50).await.len(), 50);
        let stats = other.stats();
        assert!(stats.memory_bytes <= 10 * KIB && stats.memory_bytes > 8 * KIB, "{}", stats.memory_bytes);
        assert_eq!(stats.share_partitions, 1);
        // Memory serves it no longer: it is read again.
        rig.advance(2 * MINUTE);
    }
}

#[tokio::test]
async fn two_processes_share_one_bound_in_redis() {
    let rig = Rig::new();
    let (one, other) = (rig.cache().await, rig.cache().await);
    let policy = policy().share(Share::of_segment(0).remote(20 * KIB));
    let [first, second] = [&one, &other].map(|cache| texts(cache, policy.clone()));
    assert!(second.put(("b", 0), text(1000)));
    for id in 0..40_u64 {
        assert!(first.put(("a", 2 * id), text(1000)) && second.put(("a", 2 * id + 1), text(1000)));
        settle().await;
        let of_a = (0..80).filter_map(|id| rig.remote.bytes(&format!("text:a:{id}")));
        let bytes: u64 = of_a.map(|bytes| bytes.len() as u64).sum();
        assert!(bytes <= counted(&rig, "a").await && counted(&rig, "a").await <= 20 * KIB);
    }
    let stored = rig.remote.len() - 1;
    assert!((14..20).contains(&stored), "{stored}");
    assert!(counted(&rig, "a").await > 18 * KIB);
    assert!(rig.remote.bytes("text:b:0").is_some(), "another tenant has its own share");
    // Refused by Redis, each is in the memory of the process that put it.
    assert_eq!(has(&first, "a", 0..80).await.len(), 40 + stored / 2);
    let refused: u64 =
        [&one, &other].map(|cache| cache.stats().namespaces["text"].share_refused).iter().sum();
    assert_eq!((refused, skips(&rig)), (80 - stored as u64, 80 - stored));
    // When what is counted has ended there is room.
    rig.advance(3 * HOUR);
    assert!(first.put(("a", 100), text(1000)));
    settle().await;
    assert!(rig.remote.bytes("text:a:100").is_some());
}

/// Each store counts the new value before the old one is given back. One second after the other, for an hour: were any of it
/// not given back, the share would be full within a minute.
#[tokio::test]
async fn a_key_that_is_put_again_and_again_or_removed_in_between_does_not_fill_the_share() {
    for removes in [false, true] {
        let rig = Rig::new();
        let cache = rig.cache().await;
        let texts = texts(&cache, policy().share(Share::of_segment(0).remote(50 * KIB)));
        for second in 0..3600_usize {
            assert!(texts.put(("a", 1), text(1000 + second % 500)));
            settle().await;
            if removes {
                let _ = texts.remove(("a", 1)).await;
            }
            rig.advance(SECOND);
            if second % 600 == 599 {
                settle().await;
                let there = rig.remote.bytes("text:a:1").map_or(0, |bytes| bytes.len() as u64 + 108);
                assert_eq!((counted(&rig, "a").await, removes), (there, there == 0));
            }
        }
        assert_eq!((skips(&rig), cache.stats().namespaces["text"].share_refused), (0, 0));
    }
}

/// Fills the share of `a` but for less than one more value of 1000 bytes. How many keys there are.
async fn fill(texts: &Texts, rig: &Rig) -> u64 {
    for id in 0.. {
        let before = skips(rig);
        texts.put(("a", id), text(1000));
        settle().await;
        if skips(rig) > before {
            return id;
        }
    }
    unreachable!("a share is bounded")
}

#[tokio::test]
async fn a_partition_that_has_its_share_still_renews_what_it_has() {
    let rig = Rig::new();
    let (one, other) = (rig.cache().await, rig.cache().await);
    let policy = policy().share(Share::of_segment(0).remote(20 * KIB));
    let [first, second] = [&one, &other].map(|cache| texts(cache, policy.clone()));
    let count = fill(&first, &rig).await;
    let counted_before = counted(&rig, "a").await;
    for id in 0..count {
        assert!(first.put(("a", id), format!("{}y", text(999))));
        settle().await;
        assert!(second.get(("a", id)).await.unwrap().ends_with('y'), "{id}");
    }
    assert_eq!((counted(&rig, "a").await, skips(&rig)), (counted_before, 1));

    // A larger one does not fit. The old one would be served on: by others at once, here when memory has forgotten the new.
    assert!(first.put(("a", 0), text(4000)));
    settle().await;
    assert_eq!(skips(&rig), 2);
    assert!(rig.remote.bytes("text:a:0").is_none());
    assert_eq!(first.get(("a", 0)).await.unwrap().len(), 4000);
    let third = rig.cache().await;
    assert!(texts(&third, policy).get(("a", 0)).await.is_none());
    // What the old one had is free again.
    assert!(first.put(("a", 1000), text(900)));
    settle().await;
    assert!(rig.remote.bytes("text:a:1000").is_some());
}

/// Somebody reads his data and is slow; something else is invalidated, and another process stores what it has read since. The
/// slow one's value is not for Redis: with room in the share, and without.
#[tokio::test]
async fn a_value_that_comes_too_late_removes_nothing_newer_and_counts_for_nothing() {
    for is_full in [false, true] {
        let rig = Rig::new();
        let (one, other) = (rig.cache().await, rig.cache().await);
        let policy = policy().share(Share::of_segment(0).remote(20 * KIB));
        let [first, second] = [&one, &other].map(|cache| texts(cache, policy.clone()));
        let slot = first.begin(("a", 7777));
        let _ = rig.drive(other.invalidate([Selector::key("elsewhere")])).await;
        assert!(second.put(("a", 7777), text(1000)));
        settle().await;
        if is_full {
            fill(&second, &rig).await;
        }
        let (newer, bytes) = (rig.remote.bytes("text:a:7777").unwrap(), counted(&rig, "a").await);
        slot.put(text(1000));
        settle().await;
        assert_eq!(rig.remote.bytes("text:a:7777"), Some(newer));
        assert_eq!(counted(&rig, "a").await, bytes);
        assert_eq!(one.stats().namespaces["text"].stores_refused, 1);
    }
}

/// Five processes miss one key, and one of them loads it, for all. Its value has no room in Redis: if the others went on waiting
/// for each other, the last would wait for five loads.
#[tokio::test]
async fn processes_that_wait_for_a_value_without_room_load_it_side_by_side() {
    let rig = Rig::new();
    let policy = policy().share(Share::of_segment(0).remote(KIB));
    let mut nodes = Vec::new();
    for _ in 0..5 {
        nodes.push(rig.cache().await.namespace::<u64>("doc", policy.clone()).unwrap());
    }
    for id in 0..10 {
        assert!(nodes[0].put(("a", id), 1));
        settle().await;
    }
    assert!(skips(&rig) > 0, "the share is full");
    // Each load answers when one more is let through.
    let (loads, through) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let load = |docs: Docs| {
        let (loads, through) = (loads.clone(), through.clone());
        let load = move || async move {
            loads.fetch_add(1, Ordering::SeqCst);
            through.acquire().await.map(|one| one.forget())?;
            Ok::<u64, AcquireError>(1)
        };
        spawn(async move { docs.get_or_load(("a", 999), load).await.map(|value| *value) })
    };
    let readers: Vec<_> = nodes.into_iter().map(load).collect();
    rig.pass(SECOND).await;
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    through.add_permits(1);
    rig.pass(SECOND).await;
    assert_eq!(readers.iter().filter(|reader| reader.is_finished()).count(), 1);
    assert_eq!(loads.load(Ordering::SeqCst), 5);
    through.add_permits(4);
    for reader in readers {
        assert_eq!(joined(reader).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_store_that_fails_or_cannot_be_counted_is_no_store_and_the_share_is_right_afterwards() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let texts = texts(&cache, policy().share(Share::of_segment(0).remote(20 * KIB)));
    rig.remote.set(|faults| faults.down = true);
    assert!(texts.put(("a", 1), text(1000)));
    rig.pass(5 * SECOND).await;
    assert_eq!(cache.stats().namespaces["text"].store_errors, 1);
    rig.remote.set(|faults| faults.down = false);
    rig.eventually("memory has given it back", || rig.remote.len() == 1).await;
    let value = rig.remote.bytes("text:a:1").unwrap().len() as u64;
    assert_eq!(counted(&rig, "a").await, value + 108);
}
