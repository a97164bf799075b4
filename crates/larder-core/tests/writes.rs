//! Writing by hand: put, update, remove, slots, and what they do to loads that are under way.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use larder_core::testing::{ManualRuntime, TestRemote};
use larder_core::units::{HOUR, KIB, MIB, MINUTE, SECOND};
use larder_core::{Cache, EPOCH_OFFSET, Fill, Policy, TokioRuntime, Updated};

#[tokio::test]
async fn what_was_put_is_there_until_it_is_removed_from_every_tier() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let docs = docs(&cache);
    assert!(!docs.contains(1_u64).await && docs.put(1_u64, 7) && docs.contains(1_u64).await);
    settle().await;
    let _ = docs.remove(1_u64).await;
    assert_eq!((docs.contains(1_u64).await, docs.get(1_u64).await, rig.remote.len()), (false, None, 0));
    let reads = &cache.stats().namespaces["doc"];
    assert_eq!((reads.hits, reads.misses), (0, 1), "`contains` counts as no read");
}

/// A load has read version 1 and is slow; the key is removed; the load ends (moka and foyer bring the value back).
#[tokio::test]
async fn a_remove_during_a_load_is_not_undone_by_it() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (docs, source) = (docs(&cache), Source::new());
    source.gate.set(false);
    let leader = spawn(read(docs.clone(), source.clone()));
    until("the load has begun", || source.loads() == 1).await;
    let _ = docs.remove(1_u64).await;
    source.gate.set(true);
    joined(leader).await;
    settle().await;
    assert_eq!((docs.get(1_u64).await, rig.remote.len()), (None, 0));
}

/// A load has read version 1 and is slow; a writer puts version 2 itself; the load ends (foyer: overwritten by the old
/// fetch).
#[tokio::test]
async fn a_put_during_a_load_is_not_overwritten_by_it() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (docs, source) = (docs(&cache), Source::new());
    source.gate.set(false);
    let leader = spawn(read(docs.clone(), source.clone()));
    until("the load has begun", || source.loads() == 1).await;
    assert!(docs.put(1_u64, 2));
    source.gate.set(true);
    joined(leader).await;
    settle().await;
    assert_eq!(docs.get(1_u64).await.as_deref(), Some(&2));
    drop((docs, cache));
    let cache = rig.cache().await;
    assert_eq!(common::docs(&cache).get(1_u64).await.as_deref(), Some(&2), "the next process");
}

/// A reader's GET has read version 1 from the remote tier and is on its way; a writer puts version 2; the answer comes and
/// would be promoted over it. Both have the same epoch, for nothing was invalidated.
#[tokio::test]
async fn a_put_during_a_remote_look_up_is_not_overwritten_by_the_promotion() {
    let rig = Rig::new();
    assert!(docs(&rig.cache().await).put(1_u64, 1));
    settle().await;
    rig.advance(MINUTE);
    let gated = GatedRemote::new(rig.remote.clone());
    let cache = rig.builder().remote(gated.clone()).build().await.unwrap();
    let (docs, source) = (docs(&cache), Source::new());
    for by_get in [false, true] {
        gated.gets.set(false);
        let before = gated.read_so_far();
        let (reader, source) = (docs.clone(), source.clone());
        let slow = spawn(async move {
            if by_get { reader.get(1_u64).await.is_some() } else { read(reader, source).await.0 > 0 }
        });
        until("the GET has read its bytes", || gated.read_so_far() > before).await;
        assert!(docs.put(1_u64, 2));
        gated.gets.set(true);
        joined(slow).await;
        assert_eq!(docs.get(1_u64).await.as_deref(), Some(&2));
        settle().await;
        let _ = docs.remove(1_u64).await;
        assert!(common::docs(&cache).put(1_u64, 1));
        settle().await;
        // Out of memory, but not out of the remote tier: as if it had been evicted.
        let bytes = rig.remote.bytes("doc:1").unwrap();
        let _ = docs.remove(1_u64).await;
        rig.remote.plant("doc:1", bytes);
    }
}

/// Something else is invalidated while a value is being read. The store carries the position at which the reading began, not
/// the one at which it ended: only that says what the value may not know of.
#[tokio::test]
async fn a_value_goes_to_the_remote_tier_with_the_epoch_of_its_load() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let position = || cache.health().remote.unwrap().log.position.unwrap();
    let (slot, before) = (docs(&cache).begin(1_u64), position());
    let _ = docs(&cache).invalidate(2_u64).await;
    assert_ne!(position(), before);
    assert!(slot.put(1));
    settle().await;
    let bytes = rig.remote.bytes("doc:1").unwrap();
    let at = u64::from_be_bytes(bytes[EPOCH_OFFSET + 8..EPOCH_OFFSET + 16].try_into().unwrap());
    assert!(before.ends_with(&format!("-{at}")), "{at} is not {before}");
}

/// Two values are put one right after the other. Their stores are tasks, and tasks begin in any order (a worker of Tokio
/// begins the younger first): the remote tier must end with the younger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_puts_the_later_one_stays_in_the_remote_tier() {
    for remote_only in [false, true] {
        let runtime = Arc::new(TokioRuntime::current());
        let remote = TestRemote::new(runtime.clone());
        let build = async || {
            let cache = Cache::builder().memory(MIB).remote(remote.clone()).runtime(runtime.clone());
            let cache = cache.build().await.unwrap();
            let policy = if remote_only { policy().remote_only() } else { policy() };
            (cache.namespace::<u64>("doc", policy).unwrap(), cache)
        };
        let (docs, cache) = build().await;
        let put = spawn(async move {
            for round in 0..200_u64 {
                assert!(docs.put(round, 1) && docs.put(round, 2));
                tokio::task::yield_now().await;
            }
        });
        put.await.unwrap();
        assert!(cache.shutdown(10 * SECOND).await);
        remote.reconnect();
        let (docs, _cache) = build().await;
        for round in 0..200_u64 {
            assert_eq!(docs.get(round).await.as_deref(), Some(&2), "{round}, remote only: {remote_only}");
        }
    }
}

#[tokio::test]
async fn an_update_changes_the_value_and_leaves_its_life_alone() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let docs = docs(&cache);
    assert_eq!(docs.update(1_u64, |v| Some(v + 1)).await, Updated::Absent);
    assert!(docs.put(1_u64, 1));
    settle().await;
    rig.advance(40 * MINUTE);
    assert_eq!(docs.update(1_u64, |_| None).await, Updated::Unchanged);
    assert_eq!(docs.update(1_u64, |v| Some(v + 1)).await, Updated::Stored(Arc::new(2)));
    settle().await;
    let next = common::docs(&rig.cache().await).loader(|_: u64| async { Err::<u64, ()>(()) });
    let hit = next.fetch(1_u64).await.unwrap();
    assert_eq!((*hit.value, hit.ttl), (2, 20 * MINUTE), "in the remote tier too");
    assert_eq!(
        next.update(1_u64, |v| Some(v + 1)).await,
        Updated::Stored(Arc::new(3)),
        "of a promoted value"
    );
}

/// Between reading the old value and writing the new one something else happens: it wins, whatever it is.
#[tokio::test]
async fn an_update_that_something_overtakes_writes_nothing() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let docs = docs(&cache);
    assert!(docs.put(1_u64, 1));
    let overtaken = docs.update(1_u64, |v| {
        assert!(docs.put(1_u64, 10));
        Some(v + 1)
    });
    assert_eq!(overtaken.await, Updated::Overtaken);
    assert_eq!(docs.get(1_u64).await.as_deref(), Some(&10));
    let (other, handle) = (cache.clone(), docs.clone());
    let overtaken = docs.update(1_u64, |v| {
        // The invalidation holds from its first poll on.
        let mut call = Box::pin(async move { drop((other.invalidate([selector("*")]).await, handle)) });
        let waker = std::task::Waker::noop();
        let _ = call.as_mut().poll(&mut std::task::Context::from_waker(waker));
        Some(v + 1)
    });
    assert_eq!(overtaken.await, Updated::Overtaken);
    assert_eq!(docs.get(1_u64).await, None);
}

/// Four threads count in one cached value. Each update reads, adds one and writes; if looking and writing were two steps,
/// some would be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_updates_lose_nothing() {
    const EACH: u64 = 3000;
    let cache = Cache::builder().memory(MIB).build().await.unwrap();
    let docs = cache.namespace::<u64>("doc", Policy::ttl(HOUR)).unwrap();
    assert!(docs.put(1_u64, 0));
    let retries = Arc::new(AtomicUsize::new(0));
    let counting: Vec<_> = (0..4)
        .map(|_| {
            let (docs, retries) = (docs.clone(), retries.clone());
            spawn(async move {
                for _ in 0..EACH {
                    while docs.update(1_u64, |v| Some(v + 1)).await == Updated::Overtaken {
                        retries.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for task in counting {
        task.await.unwrap();
    }
    assert_eq!(docs.get(1_u64).await.as_deref(), Some(&(4 * EACH)), "{retries:?} retries");
}

/// A small value is cached; what replaces it is too large to be. The small one must not be served on as if nothing had
/// happened (foyer#743), neither from memory nor from the remote tier.
#[tokio::test]
async fn a_value_that_is_not_kept_takes_the_older_one_with_it() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let texts = cache.namespace::<String>("text", policy().max_stored_size(1000)).unwrap();
    let long = Fill::new().tags(vec!["x".repeat(2000)]);
    for (value, fill) in [("x".repeat(2000), Fill::new()), ("small".to_owned(), long)] {
        assert!(texts.put(1_u64, "old".to_owned()));
        settle().await;
        assert!(!texts.begin(1_u64).put_with(value, &fill));
        settle().await;
        assert_eq!(texts.get(1_u64).await, None);
    }
}

/// The limit is on the value; what the cache adds to it for its own purposes is not the user's concern.
#[tokio::test]
async fn a_value_of_exactly_the_greatest_size_is_stored_and_one_byte_more_is_not() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let bytes = cache
        .namespace_in_memory::<Vec<u8>>("raw", Policy::ttl(HOUR).max_stored_size(100), |v: &Vec<u8>| v.len())
        .unwrap();
    assert!(bytes.put(1_u64, vec![0; 100]));
    assert!(!bytes.put(2_u64, vec![0; 101]));
    let loaded = bytes.get_or_load(3_u64, || async { Ok::<_, ()>(vec![0; 101]) }).await.unwrap();
    assert_eq!((loaded.len(), bytes.contains(3_u64).await), (101, false), "returned all the same");
}

/// Values of every size come and go: new keys, and known keys whose values grow where they lie. After each step memory
/// must be within its bound.
#[tokio::test]
async fn memory_stays_within_its_bound_whatever_comes_and_however_it_grows() {
    const BOUND: u64 = MIB;
    for seed in 0..4_u64 {
        let runtime = ManualRuntime::new(seed);
        let cache = Cache::builder().memory(BOUND).runtime(runtime.clone()).build().await.unwrap();
        let raw =
            cache.namespace_in_memory::<Vec<u8>>("raw", Policy::ttl(HOUR), |v: &Vec<u8>| v.len()).unwrap();
        let mut chance = Chance(seed);
        for step in 0..5000_u64 {
            let largest = if step % 1000 < 500 { 2 * KIB } else { 64 * KIB };
            let size = usize::try_from(chance.below(largest)).unwrap();
            raw.put(chance.below(200), vec![0; size]);
            let bytes = cache.stats().memory_bytes;
            assert!(bytes <= BOUND, "{bytes} bytes at step {step} of seed {seed}");
        }
        assert!(cache.stats().memory_bytes > BOUND / 2, "and it is used");
    }
}
