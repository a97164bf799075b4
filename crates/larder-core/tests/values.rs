//! Values on their way through the remote tier: codecs, compression, and nodes of two releases side by side.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::*;
use larder_core::{
    AnyKey, BuildError, Cache, Codec, CodecError, Compression, Event, Json, MsgPack, Namespace,
    NamespaceError, NoLoader, Policy, Postcard, Raw,
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

type Texts = Namespace<AnyKey, String, NoLoader>;

fn texts(cache: &Cache, policy: Policy) -> Texts {
    cache.namespace::<String>("text", policy).unwrap()
}

/// 10 kB that compress well.
fn long() -> String {
    "a value of some length, and again ".repeat(300)
}

fn rejections(rig: &Rig) -> Vec<&'static str> {
    let events = rig.events.events();
    let reason = |e: &Event| if let Event::Rejected { reason, .. } = e { Some(*reason) } else { None };
    events.iter().filter_map(reason).collect()
}

/// Byte 21 says how the payload is compressed, and a checksum covers it: as another release would have written it.
fn with_compression(id: u8, entry: &[u8]) -> Vec<u8> {
    const HEADER: usize = 88;
    let mut entry = entry.to_vec();
    entry[21] = id;
    let field = |at: usize| u32::from_be_bytes(*entry[at..].first_chunk().unwrap()) as usize;
    let head = HEADER + field(60) + field(64);
    let mut sum = Xxh3::new();
    sum.update(&entry[..HEADER - 8]);
    sum.update(&entry[HEADER..head]);
    let sum = sum.digest().to_be_bytes();
    entry[HEADER - 8..HEADER].copy_from_slice(&sum);
    entry
}

#[tokio::test]
async fn a_compressed_value_comes_back_from_the_remote_tier_and_takes_less_there() {
    let rig = Rig::new();
    let plain = rig.cache().await;
    assert!(texts(&plain, policy()).put(1_u64, long()));
    settle().await;
    let size = rig.remote.bytes("text:1").unwrap().len();
    for compression in [Compression::zstd(), Compression::zstd_level(19), Compression::lz4()] {
        let rig = Rig::new();
        let policy = policy().compress(compression);
        assert!(texts(&rig.cache().await, policy.clone()).put(1_u64, long()));
        settle().await;
        let entry = rig.remote.bytes("text:1").unwrap();
        assert!(entry.len() < size / 10 && entry[21] != 0, "{compression:?}: {} of {size}", entry.len());
        let next = texts(&rig.cache().await, policy);
        assert_eq!(next.get(1_u64).await.as_deref(), Some(&long()));
        assert_eq!(rejections(&rig), [""; 0]);
    }
}

/// One release compresses, one does not, one does it another way: each reads what the others wrote.
#[tokio::test]
async fn a_changed_compression_makes_no_misses() {
    let rig = Rig::new();
    let policies = [
        policy(),
        policy().compress(Compression::zstd()),
        policy().compress(Compression::lz4()),
        policy().compress(Compression::zstd().above(1_000_000)),
    ];
    for writer in &policies {
        assert!(texts(&rig.cache().await, writer.clone()).put(1_u64, long()));
        settle().await;
        for reader in &policies {
            let reader = texts(&rig.cache().await, reader.clone());
            assert_eq!(reader.get(1_u64).await.as_deref(), Some(&long()));
        }
    }
    assert_eq!(rejections(&rig), [""; 0]);
}

/// A rolling deploy switches compression on: nodes of the new release write what those of the old one, which were built
/// without the feature, cannot read. They must load for themselves, and must not remove what the others have written.
#[tokio::test]
async fn nodes_with_and_without_an_algorithm_leave_each_others_entries_alone() {
    let rig = Rig::new();
    let new = policy().compress(Compression::zstd());
    assert!(texts(&rig.cache().await, new.clone()).put(1_u64, long()));
    settle().await;
    // To a build without it the id is one that it does not know, like this one here.
    let entry = with_compression(99, &rig.remote.bytes("text:1").unwrap());
    rig.remote.plant("text:1", entry.clone());
    let old = rig.cache().await;
    assert_eq!(texts(&old, policy()).get(1_u64).await, None);
    settle().await;
    assert_eq!(rig.remote.bytes("text:1").as_deref(), Some(&entry[..]), "left alone");
    assert_eq!(rejections(&rig), ["version"]);
    assert_eq!(old.stats().namespaces["text"].rejected, 1);
    // What it loads is good for both.
    let load = || async { Ok::<_, ()>("loaded".to_owned()) };
    assert_eq!(*texts(&old, policy()).get_or_load(1_u64, load).await.unwrap(), "loaded");
    settle().await;
    assert_eq!(texts(&rig.cache().await, new).get(1_u64).await.unwrap().as_str(), "loaded");
}

/// A release lowers `max_stored_size`. Nodes of the one before still use what they have stored.
#[tokio::test]
async fn an_entry_beyond_a_lowered_limit_is_a_miss_and_stays_for_those_who_take_it() {
    let rig = Rig::new();
    let compressed = policy().compress(Compression::lz4());
    let large = "x".repeat(200_000);
    assert!(texts(&rig.cache().await, compressed.clone()).put(1_u64, large.clone()));
    settle().await;
    let lowered = compressed.clone().max_stored_size(20_000);
    assert_eq!(texts(&rig.cache().await, lowered).get(1_u64).await, None);
    settle().await;
    assert_eq!(rejections(&rig), ["too_large"]);
    assert_eq!(texts(&rig.cache().await, compressed).get(1_u64).await.as_deref(), Some(&large));
}

/// The checksums fit and the frame does not: of use to nobody, so it is removed.
#[tokio::test]
async fn a_payload_that_is_not_what_its_compression_says_is_removed() {
    let rig = Rig::new();
    assert!(texts(&rig.cache().await, policy()).put(1_u64, long()));
    settle().await;
    let entry = with_compression(1, &rig.remote.bytes("text:1").unwrap());
    // Its first bytes are no length of anything, or of far too much.
    rig.remote.plant("text:1", entry);
    let next = rig.cache().await;
    assert_eq!(texts(&next, policy().max_stored_size(usize::MAX)).get(1_u64).await, None);
    settle().await;
    assert_eq!((rejections(&rig), rig.remote.bytes("text:1")), (vec!["truncated"], None));
}

#[tokio::test]
async fn a_level_that_zstd_does_not_have_is_refused_where_the_policy_is_used() {
    let refused =
        |level| Cache::builder().defaults(Policy::default().compress(Compression::zstd_level(level)));
    let rig = Rig::new();
    for level in [0, 20] {
        let error = refused(level).runtime(rig.runtime.clone()).build().await.map(drop).unwrap_err();
        let expected = format!("compress is zstd level {level}: must be a level from 1 to 19");
        assert!(matches!(&error, BuildError::Policy(e) if e.to_string() == expected), "{error}");
    }
    let cache = rig.cache().await;
    let docs = cache.namespace::<u64>("doc", policy().compress(Compression::zstd_level(-1)));
    assert!(matches!(docs.map(drop), Err(NamespaceError::Policy { .. })));
}

/// Amounts in pence: a form that no codec of Larder writes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Price {
    pence: u32,
}

struct Pence;

impl Codec<Price> for Pence {
    fn id(&self) -> u8 {
        128
    }

    fn encode(&self, price: &Price, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&price.pence.to_be_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &Bytes) -> Result<Price, CodecError> {
        let bytes = bytes[..].try_into().map_err(|e| CodecError::because("not four bytes", e))?;
        Ok(Price { pence: u32::from_be_bytes(bytes) })
    }
}

type Prices = Namespace<AnyKey, Price, NoLoader>;

/// A deploy changes the codec. Nothing it finds is read as what it is not, and nothing of the others is removed.
#[tokio::test]
async fn every_codec_reads_its_own_entries_and_misses_those_of_the_others() {
    let rig = Rig::new();
    let set: [fn(Prices) -> Prices; 4] =
        [|p| p.codec(Json), |p| p.codec(MsgPack), |p| p.codec(Postcard), |p| p.codec(Pence)];
    let handle = async |n: usize| set[n](rig.cache().await.namespace::<Price>("price", policy()).unwrap());
    for writer in 0..set.len() {
        assert!(handle(writer).await.put(1_u64, Price { pence: 205 }));
        settle().await;
        let entry = rig.remote.bytes("price:1").unwrap();
        for reader in 0..set.len() {
            let found = handle(reader).await.get(1_u64).await;
            let expected = (reader == writer).then_some(Price { pence: 205 });
            assert_eq!(found.as_deref(), expected.as_ref(), "{reader} of {writer}");
            settle().await;
            assert_eq!(rig.remote.bytes("price:1").as_ref(), Some(&entry));
        }
    }
    let rejected = rejections(&rig);
    assert_eq!((rejected.len(), rejected.iter().all(|reason| *reason == "schema")), (12, true));
}

/// A deploy changes a type. Under the name that the type had, its entries are tried, found to be
/// something else, counted, loaded again and overwritten. No read fails, none gets the old shape.
#[tokio::test]
async fn a_type_that_a_deploy_has_changed_costs_a_load_and_nothing_else() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Before {
        name: String,
        height: u32,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct After {
        name: String,
        height: i32,
        county: u32,
    }
    async fn deploy<C: Codec<Before> + Codec<After> + Copy>(codec: C, compression: Option<Compression>) {
        let rig = Rig::new();
        let policy = compression.into_iter().fold(policy(), |policy, with| policy.compress(with.above(0)));
        let old = rig.cache().await.namespace::<Before>("trig", policy.clone()).unwrap();
        let name = "Kinder Scout ".repeat(20);
        assert!(old.codec(codec).schema("Trig").put(1_u64, Before { name: name.clone(), height: 636 }));
        settle().await;
        let cache = rig.cache().await;
        let new = cache.namespace::<After>("trig", policy).unwrap().codec(codec).schema("Trig");
        let after = || After { name: name.clone(), height: -1, county: 7 };
        let loaded = after();
        let read = new.get_or_load(1_u64, || async { Ok::<_, ()>(loaded) }).await.unwrap();
        assert_eq!(*read, after());
        settle().await;
        let stats = &cache.stats().namespaces["trig"];
        assert_eq!((rejections(&rig), stats.rejected, stats.loads), (vec!["decode"], 1, 1));
        let next = rig.cache().await.namespace::<After>("trig", common::policy()).unwrap();
        let found: Option<Arc<After>> = next.codec(codec).schema("Trig").get(1_u64).await;
        assert_eq!(found.as_deref(), Some(&after()));
    }
    for compression in [None, Some(Compression::zstd()), Some(Compression::lz4())] {
        deploy(Json, compression).await;
        deploy(MsgPack, compression).await;
        deploy(Postcard, compression).await;
    }
}

#[tokio::test]
async fn raw_bytes_are_stored_as_they_are() {
    let rig = Rig::new();
    let bytes = b"\0\xff any bytes".to_vec();
    let raw = async || rig.cache().await.namespace::<Vec<u8>>("raw", policy()).unwrap().codec(Raw);
    assert!(raw().await.put(1_u64, bytes.clone()));
    settle().await;
    assert!(rig.remote.bytes("raw:1").unwrap().ends_with(&bytes));
    assert_eq!(raw().await.get(1_u64).await.as_deref(), Some(&bytes));
}
