//! A fill that began before an invalidation is never served after it, whichever way it was filled and whatever the
//! selector.

mod common;

use std::sync::Arc;

use common::*;
use larder_core::testing::ManualRuntime;
use larder_core::units::{HOUR, MINUTE};
use larder_core::{Cache, Delivery, Fill};

/// Invalidates by `text`; by the handle's own verb where there is one.
async fn invalidate(cache: &Cache, docs: &Docs, text: &str) {
    let done = match text {
        "doc:1" => docs.invalidate(1_u64).await,
        "doc:*" => docs.invalidate_all().await,
        _ => cache.invalidate([selector(text)]).await,
    };
    assert_eq!(done.state, Delivery::Delivered, "{text}");
}

/// A load reads version 1 and is slow. Meanwhile version 2 is committed and the entry invalidated. The load ends: what it
/// brings may go to whoever waited from before, and to nobody else (moka, cachet and FusionCache#625 store it).
#[tokio::test]
async fn a_load_that_an_invalidation_overtakes_is_neither_stored_nor_given_to_later_readers() {
    for text in SELECTORS {
        let rig = Rig::new();
        let cache = rig.cache().await;
        let (docs, source) = (docs(&cache), Source::new());
        source.gate.set(false);
        let leader = spawn(read(docs.clone(), source.clone()));
        until("the load has read its data", || source.loads() == 1).await;
        let early = spawn(read(docs.clone(), source.clone()));
        settle().await;
        source.write();
        invalidate(&cache, &docs, text).await;
        let late = spawn(read(docs.clone(), source.clone()));
        settle().await;
        source.gate.set(true);
        assert_eq!(joined(late).await.0, 2, "{text}: a reader who came after the invalidation");
        assert!(joined(leader).await.0 <= 2 && joined(early).await.0 <= 2);
        assert_eq!(read(docs.clone(), source.clone()).await, (2, false), "{text}: the next reader");
        assert_eq!(source.loads(), 2, "{text}: one load more, and it stays");
    }
}

/// The same race without a remote tier: the local counter alone has to decide.
#[tokio::test]
async fn without_a_remote_tier_an_overtaken_load_is_as_dead() {
    for text in SELECTORS {
        let runtime = ManualRuntime::new(1);
        let cache = alone(&runtime).await;
        let (docs, source) = (docs(&cache), Source::new());
        source.gate.set(false);
        let leader = spawn(read(docs.clone(), source.clone()));
        until("the load has read its data", || source.loads() == 1).await;
        source.write();
        invalidate(&cache, &docs, text).await;
        source.gate.set(true);
        joined(leader).await;
        assert_eq!(read(docs, source).await, (2, false), "{text}");
    }
}

/// An entry goes stale and a reader sets off a refresh, which reads version 1 again and is slow. Version 2 is committed,
/// the entry invalidated, then the refresh ends (FusionCache#628).
#[tokio::test]
async fn a_refresh_that_an_invalidation_overtakes_does_not_bring_the_value_back() {
    for text in SELECTORS {
        let rig = Rig::new();
        let cache = rig.cache().await;
        let (docs, source) = (docs(&cache), Source::new());
        assert_eq!(read(docs.clone(), source.clone()).await.0, 1);
        settle().await;
        rig.advance(HOUR + MINUTE);
        source.gate.set(false);
        assert_eq!(read(docs.clone(), source.clone()).await, (1, true));
        until("the refresh has read its data", || source.loads() == 2).await;
        source.write();
        invalidate(&cache, &docs, text).await;
        source.gate.set(true);
        settle().await;
        assert_eq!(read(docs.clone(), source.clone()).await, (2, false), "{text}");
    }
}

/// A process has stored version 1 remotely and dies. Before that the entry was invalidated, so the bytes under the key
/// carry an epoch below the stamp. The next process must not take them.
#[tokio::test]
async fn a_remote_entry_older_than_an_invalidation_is_not_promoted() {
    for text in SELECTORS {
        let rig = Rig::new();
        let (cache, source) = (rig.cache().await, Source::new());
        read(docs(&cache), source.clone()).await;
        settle().await;
        source.write();
        invalidate(&cache, &docs(&cache), text).await;
        drop(cache);
        assert!(rig.remote.bytes("doc:1").is_some(), "the bytes are there");
        let cache = rig.cache().await;
        assert_eq!(read(docs(&cache), source.clone()).await, (2, false), "{text}");
        assert_eq!(cache.stats().namespaces["doc"].unverified, 1);
    }
}

/// A reader's GET has read version 1 and is on its way back. Version 2 is committed and the entry invalidated; then the
/// answer comes and would be promoted into memory (FusionCache#613).
#[tokio::test]
async fn a_remote_answer_that_an_invalidation_overtakes_is_not_promoted() {
    for text in SELECTORS {
        let rig = Rig::new();
        let (cache, source) = (rig.cache().await, Source::new());
        read(docs(&cache), source.clone()).await;
        settle().await;
        let gated = GatedRemote::new(rig.remote.clone());
        let cache = rig.builder().remote(gated.clone()).build().await.unwrap();
        let docs = docs(&cache);
        gated.gets.set(false);
        let first = spawn(read(docs.clone(), source.clone()));
        until("the GET has read its bytes", || gated.read_so_far() == 1).await;
        source.write();
        invalidate(&cache, &docs, text).await;
        let late = spawn(read(docs.clone(), source.clone()));
        settle().await;
        gated.gets.set(true);
        assert_eq!(joined(late).await.0, 2, "{text}: a reader who came after the invalidation");
        joined(first).await;
        assert_eq!(read(docs.clone(), source.clone()).await, (2, false), "{text}: the next reader");
    }
}

/// Code takes a slot, reads version 1, is slow; the entry is invalidated; the slot is filled.
#[tokio::test]
async fn a_slot_that_an_invalidation_overtakes_stores_nothing() {
    for text in SELECTORS {
        let rig = Rig::new();
        let cache = rig.cache().await;
        let (docs, source) = (docs(&cache), Source::new());
        let slot = docs.begin(1_u64);
        let value = source.clone().read().await.unwrap();
        source.write();
        invalidate(&cache, &docs, text).await;
        assert!(!slot.put_with(value, &Fill::new().tags(vec![TAG.to_owned()])), "{text}");
        settle().await;
        assert!(rig.remote.is_empty(), "{text}");
        assert_eq!(read(docs, source).await.0, 2, "{text}");
    }
}

/// A load has ended and is in memory; its store to the remote tier is held up. The entry is invalidated, the store goes
/// through. It must be dead on arrival for a process that starts later.
#[tokio::test]
async fn a_store_that_arrives_after_an_invalidation_is_dead_for_the_next_process() {
    for text in SELECTORS {
        let rig = Rig::new();
        let (cache, source) = (rig.cache().await, Source::new());
        rig.remote.set(|f| f.hold_stores = true);
        read(docs(&cache), source.clone()).await;
        settle().await;
        source.write();
        invalidate(&cache, &docs(&cache), text).await;
        rig.remote.set(|f| f.hold_stores = false);
        until("the store goes through", || rig.remote.len() == 1).await;
        drop(cache);
        let cache = rig.cache().await;
        assert_eq!(read(docs(&cache), source.clone()).await, (2, false), "{text}");
    }
}

/// A front door claims a key, reads its data, and fills without ever having said `begin`. An invalidation fell in between:
/// the claim is all the engine knows of the data's age, so the value is as old as the claim.
#[tokio::test]
async fn a_front_door_that_fills_without_saying_begin_is_fenced_from_its_claim_on() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (docs, source) = (docs(&cache), Source::new());
    let mut key = docs.key_writer();
    key.number(1);
    let larder_core::Claim::Lead(lead) = docs.claim(key.as_bytes()) else { panic!("nothing is there") };
    let value = source.clone().read().await.unwrap();
    source.write();
    cache.invalidate([selector("#red")]).await.token.unwrap();
    assert!(!lead.fill(Arc::new(value), &Fill::new().tags(vec![TAG.to_owned()])).stored);

    let larder_core::Claim::Lead(mut lead) = docs.claim(key.as_bytes()) else { panic!("nothing is there") };
    cache.invalidate([selector("#red")]).await.token.unwrap();
    lead.begin();
    let value = source.clone().read().await.unwrap();
    assert!(lead.fill(Arc::new(value), &Fill::new().tags(vec![TAG.to_owned()])).stored, "read after `begin`");
    assert_eq!(read(docs.clone(), source.clone()).await.0, 2);
}

/// User input ends with a space that is no ASCII space. The log holds selectors as text; whoever reads it back must mean
/// the same key, or the invalidation is lost on every other process.
#[tokio::test]
async fn selectors_mean_the_same_to_every_process_whatever_characters_they_hold() {
    let long = "x".repeat(5000);
    for name in ["\u{3000}", "tokyo\u{a0}", "a b", "*", "#", "", "~", "%", "\u{2003}x", long.as_str()] {
        for by_tag in [false, true] {
            let rig = Rig::new();
            let cache = rig.cache().await;
            let other = docs(&cache);
            assert!(other.put("bystander", 7));
            let tags = if by_tag { vec![format!("t{name}")] } else { Vec::new() };
            // A tag may be 1024 bytes long; longer ones are refused with their values.
            let tags: Vec<String> = tags.into_iter().filter(|tag| tag.len() <= 1024).collect();
            assert!(docs(&cache).begin(name).put_with(1, &Fill::new().tags(tags.clone())));
            settle().await;
            let selector = match tags.first() {
                Some(tag) => larder_core::Selector::tag(tag),
                None => larder_core::Selector::key(("doc", name)),
            };
            assert_eq!(cache.invalidate([selector]).await.state, Delivery::Delivered);
            assert_eq!(docs(&cache).get(name).await, None, "{name:?} here, from the remote tier");
            drop(cache);
            let cache = rig.cache().await;
            assert_eq!(docs(&cache).get(name).await, None, "{name:?} in the next process");
            assert!(docs(&cache).get("bystander").await.is_some(), "{name:?} took more than it named");
        }
    }
}
