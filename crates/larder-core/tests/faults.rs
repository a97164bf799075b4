//! A remote tier that is away, silent or full of rubbish is never more than a miss.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::*;
use larder_core::units::{HOUR, SECOND};
use larder_core::{BreakerOptions, BreakerState, Cache, Codec, CodecError, EPOCH_OFFSET, Event, Json};

#[tokio::test]
async fn with_the_remote_tier_down_reads_load_and_stores_are_counted_not_raised() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    rig.remote.set(|f| f.down = true);
    for key in 0..10_u64 {
        let value = docs(&cache).get_or_load(key, move || async move { Ok::<_, ()>(key) }).await;
        assert_eq!(*value.unwrap(), key);
        settle().await;
    }
    let stats = &cache.stats().namespaces["doc"];
    assert_eq!((stats.misses, stats.loads, stats.load_failures, stats.stores), (10, 10, 0, 0));
    assert_eq!(stats.store_errors, 10);
    assert_eq!(rig.events.count("cache_store_error"), 10);
}

/// The remote tier takes calls and answers none. Each read pays its budget until the breaker opens; from then on the
/// remote tier costs nothing, and once a call succeeds again everything is as before.
#[tokio::test]
async fn a_silent_remote_tier_costs_a_few_budgets_and_then_nothing() {
    let rig = Rig::new();
    let options = BreakerOptions { failures: 3, open_for: 30 * SECOND };
    let cache = rig.builder().breaker(options).build().await.unwrap();
    let docs = docs(&cache);
    let load = |key: u64| {
        let docs = docs.clone();
        spawn(async move { docs.get_or_load(key, move || async move { Ok::<_, ()>(key) }).await })
    };
    rig.remote.set(|f| f.hang = true);
    for key in 0..3 {
        let reader = load(key);
        settle().await;
        rig.advance(Duration::from_millis(99));
        settle().await;
        assert!(!reader.is_finished(), "within its budget");
        rig.advance(Duration::from_millis(1));
        assert_eq!(*joined(reader).await.unwrap(), key);
    }
    let health = cache.health();
    assert_eq!((health.status, health.remote.unwrap().breaker), ("degraded", BreakerState::Open));
    for key in 10..60 {
        let value = docs.get_or_load(key, move || async move { Ok::<_, ()>(key) });
        assert!(value.await.is_ok(), "without a step of time");
    }
    settle().await;
    rig.remote.set(|f| f.hang = false);
    rig.advance(30 * SECOND);
    assert_eq!(*joined(load(100)).await.unwrap(), 100);
    settle().await;
    let health = cache.health();
    assert_eq!((health.status, health.remote.unwrap().breaker), ("ok", BreakerState::Closed));
    let changes: Vec<_> = rig.events.events().iter().filter_map(breaker_change).collect();
    let expected = [
        (BreakerState::Closed, BreakerState::Open),
        (BreakerState::Open, BreakerState::HalfOpen),
        (BreakerState::HalfOpen, BreakerState::Closed),
    ];
    assert_eq!(changes, expected);
}

/// The remote tier answers after half a second: too late for reads, in time for stores. The stores that get through must not
/// keep the breaker shut, or every miss pays the whole budget for as long as the tier is slow.
#[tokio::test]
async fn stores_that_get_through_slowly_do_not_keep_the_breaker_from_opening() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    for key in 0..5_u64 {
        rig.remote.set(|f| f.hang = true);
        let docs = docs(&cache);
        let reader = spawn(async move { docs.get_or_load(key, || async { Ok::<_, ()>(1) }).await.is_ok() });
        settle().await;
        rig.advance(Duration::from_millis(100));
        assert!(joined(reader).await);
        settle().await;
        rig.advance(Duration::from_millis(500));
        rig.remote.set(|f| f.hang = false);
        settle().await;
    }
    assert!(rig.remote.len() >= 4, "the stores got through");
    assert_eq!(cache.health().remote.unwrap().breaker, BreakerState::Open);
}

fn breaker_change(event: &Event) -> Option<(BreakerState, BreakerState)> {
    if let Event::Breaker { from, to } = event { Some((*from, *to)) } else { None }
}

/// What lies under the key was written by another program, another release, another type, or was damaged on the way. All
/// are misses and counted; only what is of use to nobody is removed.
#[tokio::test]
async fn bytes_that_are_no_entry_are_misses_and_only_damaged_ones_are_removed() {
    type Spoil = fn(&mut Vec<u8>);
    let cases: [(&str, Spoil, bool); 7] = [
        ("foreign", |b| *b = b"{\"some\":\"json\"}".to_vec(), false),
        ("foreign", Vec::clear, false),
        ("version", |b| b[2] = 9, false),
        ("checksum", |b| *b.last_mut().unwrap() ^= 1, true),
        ("checksum", |b| b[EPOCH_OFFSET + 15] ^= 1, true),
        ("truncated", |b| b.truncate(b.len() - 1), true),
        ("truncated", |b| b.truncate(40), true),
    ];
    for (reason, spoil, removed) in cases {
        let rig = Rig::new();
        let cache = rig.cache().await;
        assert!(docs(&cache).put(1_u64, 1));
        settle().await;
        let mut bytes = rig.remote.bytes("doc:1").unwrap().to_vec();
        spoil(&mut bytes);
        rig.remote.plant("doc:1", bytes.clone());
        drop(cache);
        let cache = rig.cache().await;
        assert_eq!(docs(&cache).get(1_u64).await, None, "{reason}");
        settle().await;
        assert_eq!(rig.remote.bytes("doc:1").is_none(), removed, "{reason}");
        assert_eq!(rejections(&rig), [reason]);
        let stats = &cache.stats().namespaces["doc"];
        assert_eq!((stats.rejected, stats.misses), (1, 1), "{reason}");
        assert_eq!(*docs(&cache).get_or_load(1_u64, || async { Ok::<_, ()>(2) }).await.unwrap(), 2);
        settle().await;
        drop(cache);
        let after = docs(&rig.cache().await).get(1_u64).await;
        assert_eq!(after.as_deref(), Some(&2), "{reason}: overwritten by the next load");
    }
}

fn rejections(rig: &Rig) -> Vec<&'static str> {
    let events = rig.events.events();
    events
        .iter()
        .filter_map(|e| if let Event::Rejected { reason, .. } = e { Some(*reason) } else { None })
        .collect()
}

/// Two keys may share a physical key (a hash of over-long names, a bug in a proxy). The key is compared whole.
#[tokio::test]
async fn an_entry_of_another_key_is_a_miss() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    assert!(docs(&cache).put(1_u64, 1));
    settle().await;
    rig.remote.plant("doc:2", rig.remote.bytes("doc:1").unwrap());
    assert_eq!(docs(&cache).get(2_u64).await, None);
    assert_eq!(rejections(&rig), ["key"]);
    assert!(rig.remote.bytes("doc:2").is_some());
}

/// A release changes the shape of a value; old and new nodes run side by side. Neither may explode on the other's entries,
/// nor delete them.
#[tokio::test]
async fn an_entry_of_another_schema_or_codec_is_a_miss_and_left_alone() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    assert!(docs(&cache).schema("v1").put(1_u64, 1));
    settle().await;
    let next = rig.cache().await;
    assert_eq!(docs(&next).schema("v2").get(1_u64).await, None);
    assert_eq!(docs(&next).schema("v1").codec(Odd).get(1_u64).await, None);
    assert_eq!(rejections(&rig), ["schema", "schema"]);
    assert_eq!(docs(&next).schema("v1").get(1_u64).await.as_deref(), Some(&1));
}

/// Writes like JSON, refuses odd numbers, reads nothing back.
struct Odd;

impl Codec<u64> for Odd {
    fn id(&self) -> u8 {
        200
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<(), CodecError> {
        if value % 2 == 1 { Err(CodecError::new("odd")) } else { Json.encode(value, out) }
    }

    fn decode(&self, _: &Bytes) -> Result<u64, CodecError> {
        Err(CodecError::new("unreadable"))
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_decoded_is_a_miss_and_one_that_cannot_be_encoded_is_returned() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let load = async |cache: &Cache, key: u64| {
        *docs(cache).codec(Odd).get_or_load(key, move || async move { Ok::<_, ()>(key) }).await.unwrap()
    };
    assert_eq!((load(&cache, 1).await, load(&cache, 2).await), (1, 2));
    settle().await;
    assert_eq!((rig.remote.len(), rig.events.count("cache_store_error")), (1, 1));
    let next = rig.cache().await;
    assert_eq!(load(&next, 2).await, 2);
    assert_eq!((rejections(&rig), next.stats().namespaces["doc"].loads), (vec!["decode"], 1));
}

/// A ttl from outside (a header, a row) is absurd. No arithmetic may panic on it, and nothing may live for ever.
#[tokio::test]
async fn an_absurd_ttl_is_cut_to_what_a_policy_allows() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let fill = larder_core::Fill::new().ttl(Duration::MAX);
    assert!(docs(&cache).begin(1_u64).put_with(1, &fill));
    settle().await;
    let next = rig.cache().await;
    assert_eq!(docs(&next).get(1_u64).await.as_deref(), Some(&1));
    assert!(docs(&next).fetch_ttl(1).await <= larder_core::Policy::MAX_TTL);
    let nothing = larder_core::Fill::new().ttl(Duration::ZERO);
    let bare = cache.namespace::<u64>("bare", larder_core::Policy::ttl(HOUR)).unwrap();
    assert!(!bare.begin(1_u64).put_with(1, &nothing), "a life of nothing is not stored");
    settle().await;
    assert_eq!((bare.get(1_u64).await, rig.remote.bytes("bare:1")), (None, None));
}

trait FetchTtl {
    async fn fetch_ttl(&self, key: u64) -> Duration;
}

impl FetchTtl for Docs {
    async fn fetch_ttl(&self, key: u64) -> Duration {
        self.clone().loader(|_: u64| async { Err::<u64, ()>(()) }).fetch(key).await.unwrap().ttl
    }
}
