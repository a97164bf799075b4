//! Published occasions: who runs, what is joined, what a failure costs, what other nodes see, what is loaded again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use larder_core::testing::ManualRuntime;
use larder_core::units::HOUR;
use larder_core::{
    Append, Arrival, Cache, Event, FieldError, Namespace, Occasion, OnError, Outcome, Policy, PublishError,
    Reaction, Record, RecordBody, Remote as _, Rule, Selector,
};
use serde_json::json;

/// What was invalidated so far, oldest first, as `h trig:1:*`.
async fn appends(rig: &Rig) -> Vec<Vec<String>> {
    let records = rig.drive(rig.remote.history(None, 1000)).await.unwrap();
    let of =
        |append: Append| append.selectors.iter().map(|s| format!("{} {s}", append.mode.as_str())).collect();
    let invalidation = |record: Record| match record.body {
        RecordBody::Invalidation(append) => Some(of(append)),
        RecordBody::Marker | RecordBody::Unknown => None,
    };
    records.into_iter().rev().filter_map(invalidation).collect()
}

/// A refreshable handle whose values say how often the source was asked, by all handles together.
type Counted = Namespace<u64, u64, &'static str>;

fn counted(cache: &Cache, name: &str, policy: Policy, source: &Arc<Source>) -> Counted {
    let source = source.clone();
    let handle = cache.namespace::<u64>(name, policy).unwrap();
    handle.loader(move |_: u64| source.clone().read()).refreshable().unwrap()
}

fn rules(rules: serde_json::Value) -> Vec<Rule> {
    serde_json::from_value(rules).unwrap()
}

/// Two nodes listen to the same name. Each handler at the publisher runs once, none at the other node runs at all; and
/// yet the other node serves nothing of what was named.
#[tokio::test]
async fn handlers_run_once_at_the_publisher_and_the_effect_reaches_everybody() {
    let rig = Rig::new();
    let (here, there) = (rig.cache().await, rig.cache().await);
    let (ran_here, ran_there) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for (cache, ran) in [(&here, &ran_here), (&there, &ran_there)] {
        let ran = ran.clone();
        cache
            .on("doc_changed", move |e| {
                ran.fetch_add(1, Ordering::SeqCst);
                assert_eq!(e.name(), "doc_changed");
                Reaction::drop([Selector::key(("doc", e.payload()["id"].as_u64().unwrap()))])
            })
            .unwrap();
    }
    for cache in [&here, &there] {
        assert!(docs(cache).put(1_u64, 1) && docs(cache).put(2_u64, 1));
    }
    settle().await;
    let published = rig.drive(here.publish("doc_changed", json!({ "id": 1 }))).await.unwrap();
    assert_eq!((published.handlers, published.failures.len()), (1, 0));
    assert!(published.is_delivered() && published.expired.is_none());
    let token = published.token().expect("there is a log");
    assert_eq!(rig.drive(there.arrive(token)).await, Arrival::Arrived);
    for cache in [&here, &there] {
        assert_eq!((docs(cache).get(1_u64).await, docs(cache).get(2_u64).await.is_some()), (None, true));
    }
    assert_eq!((ran_here.load(Ordering::SeqCst), ran_there.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn what_all_handlers_name_is_one_append_of_each_mode_with_every_selector_once() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    for user in [1, 2] {
        let reaction = Reaction::drop([Selector::under(("points", user)), Selector::tag("board")])
            .and(Reaction::expire([Selector::under(("profile", user)), Selector::under("totals")]));
        cache.on("points_changed", move |_| reaction.clone()).unwrap();
    }
    let both = || [Reaction::refresh([selector("totals:*")]), Reaction::expire([selector("#board")])];
    cache.on("points_changed", move |_| both()).unwrap();
    cache.on("points_changed", |_| Reaction::none()).unwrap();
    let published = rig.drive(cache.publish("points_changed", json!(null))).await.unwrap();
    let hard = ["h points:1:*", "h #board", "h points:2:*"].map(str::to_owned).to_vec();
    let soft = ["s profile:1:*", "s totals:*", "s profile:2:*"].map(str::to_owned).to_vec();
    assert_eq!(appends(&rig).await, [hard, soft], "what is dropped is not expired as well");
    assert_eq!(published.handlers, 4);
    let tokens =
        [&published.dropped, &published.expired].map(|e| e.as_ref().unwrap().invalidated.token.unwrap());
    assert!(tokens[0].at < tokens[1].at && published.token() == Some(tokens[1]));
    let records = rig.drive(rig.remote.history(None, 1)).await.unwrap();
    assert!(
        matches!(&records[0].body, RecordBody::Invalidation(a) if a.author.reason == "event points_changed"),
        "{records:?}"
    );
}

/// Three handlers; the second panics, the third cannot read its payload. Nothing of what the first and the third want is
/// lost, and the report names the two by their places.
#[tokio::test]
async fn a_handler_that_fails_loses_nothing_of_what_others_want() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let docs = docs(&cache);
    assert!((1..=4_u64).all(|id| docs.put(id, 1)));
    settle().await;
    cache.on("import", |_| Reaction::drop([Selector::key(("doc", 1))])).unwrap();
    cache
        .on("import", |e| Reaction::drop([Selector::key(("doc", e.payload()["no"].as_u64().unwrap()))]))
        .unwrap();
    cache
        .on("import", |e| {
            let named = e.text("also.id").map(|id| Reaction::drop([Selector::key(("doc", id))]));
            Reaction::drop([Selector::key(("doc", 2))]).and(named)
        })
        .unwrap();
    cache
        .on("import", |e| -> Result<_, FieldError> {
            Ok(Reaction::drop([Selector::key(("doc", e.text("id")?))]))
        })
        .unwrap();
    let published = rig.drive(cache.publish("import", json!({ "id": 3 }))).await.unwrap();
    let failures: Vec<_> = published.failures.iter().map(|f| (f.handler, f.reason.as_str())).collect();
    assert_eq!(failures, [(2, "panicked"), (3, "the payload has no field also.id")]);
    let mut left = Vec::new();
    for id in 1..=4_u64 {
        left.push(docs.get(id).await.is_some());
    }
    assert_eq!(left, [false, false, false, true]);
    assert_eq!(cache.stats().handler_failures, 2);
    let said = rig.events.events();
    let said = said.iter().filter_map(|event| match event {
        Event::HandlerFailed { occasion, handler, .. } => Some((occasion.as_str(), *handler)),
        _ => None,
    });
    assert_eq!(said.collect::<Vec<_>>(), [("import", 2), ("import", 3)]);
}

#[tokio::test]
async fn what_nobody_listens_to_is_published_to_nobody_and_what_cannot_be_meant_is_refused() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let published = rig.drive(cache.publish("nobody", json!({ "id": 1 }))).await.unwrap();
    assert_eq!((published.handlers, published.token(), published.is_delivered()), (0, None, true));
    let long = "x".repeat(65);
    for name in ["", "a b", "a:b", "a*", "ä", long.as_str()] {
        let error = cache.on(name, |_| Reaction::none()).unwrap_err();
        assert!(matches!(error, OnError::Name { .. }), "{error}");
        let error = cache.publish(name, json!(null)).await.unwrap_err();
        assert!(matches!(error, PublishError::Name { .. }), "{error}");
    }
    cache.on("big", |_| Reaction::drop([Selector::all()])).unwrap();
    let most = 64 * 1024 - 2;
    assert_eq!(cache.publish("big", json!("x".repeat(most + 1))).await.unwrap_err(), PublishError::TooLarge);
    assert!(appends(&rig).await.is_empty(), "no handler has run");
    assert_eq!(rig.drive(cache.publish("big", json!("x".repeat(most)))).await.unwrap().handlers, 1);
    for _ in 0..63 {
        cache.on("big", |_| Reaction::none()).unwrap();
    }
    assert_eq!(cache.on("big", |_| Reaction::none()), Err(OnError::Handlers { name: "big".to_owned() }));
    for name in 1..1024 {
        cache.on(&format!("name-{name}"), |_| Reaction::none()).unwrap();
    }
    assert_eq!(cache.on("name-1024", |_| Reaction::none()), Err(OnError::Names));
    assert_eq!(cache.on("name-1023", |_| Reaction::none()), Ok(()));
}

/// A node refreshes an entry. Until its load has ended, both nodes serve the old value and nobody waits; afterwards the
/// publisher has the new one in memory, and the other node finds it in the remote tier without asking the source.
#[tokio::test]
async fn a_refresh_is_served_stale_everywhere_and_then_new_with_one_load() {
    let rig = Rig::new();
    let (here, there) = (rig.cache().await, rig.cache().await);
    let source = Source::new();
    let (mine, other) = [&here, &there].map(|cache| counted(cache, "doc", policy(), &source)).into();
    for handle in [&mine, &other] {
        assert_eq!(*rig.drive(handle.load(1)).await.unwrap(), 1);
        settle().await;
    }
    assert_eq!(source.loads(), 1);
    here.on("written", |_| Reaction::refresh([Selector::key(("doc", 1))])).unwrap();
    source.write();
    source.gate.set(false);
    let published = rig.drive(here.publish("written", json!(null))).await.unwrap();
    assert_eq!((published.refreshes, published.left), (1, 0));
    let arrival = rig.drive(there.arrive(published.token().unwrap())).await;
    assert_eq!(arrival, Arrival::Arrived);
    until("the load has begun", || source.loads() == 2).await;
    let old = mine.get(1_u64).await.unwrap();
    assert_eq!((*old, *other.get(1_u64).await.unwrap()), (1, 1), "stale, at once, on both");
    source.gate.set(true);
    settle().await;
    let new = mine.fetch(1).await.unwrap();
    assert_eq!((*new.value, new.outcome), (2, Outcome::Hit));
    let stale = rig.drive(other.fetch(1)).await.unwrap();
    assert_eq!((*stale.value, stale.outcome), (1, Outcome::Stale), "its first read refreshes");
    settle().await;
    assert_eq!(*other.fetch(1).await.unwrap().value, 2);
    assert_eq!(source.loads(), 2, "the other node found what the publisher had loaded");
}

/// The load of a key is under way, with data from before the change. A refresh that took it for its own would leave the
/// old value.
#[tokio::test]
async fn a_refresh_does_not_take_a_load_that_began_before_it_for_its_own() {
    for with_remote in [false, true] {
        let rig = Rig::new();
        let cache = if with_remote { rig.cache().await } else { alone(&rig.runtime).await };
        let source = Source::new();
        let handle = counted(&cache, "doc", policy(), &source);
        cache.on("written", |_| Reaction::refresh([Selector::key(("doc", 1))])).unwrap();
        source.gate.set(false);
        let early = spawn({
            let handle = handle.clone();
            async move { handle.load(1).await.map(|value| *value) }
        });
        until("the load has begun", || source.loads() == 1).await;
        source.write();
        assert_eq!(rig.drive(cache.publish("written", json!(null))).await.unwrap().refreshes, 1);
        settle().await;
        assert_eq!(source.loads(), 1, "one load of a key at a time");
        source.gate.set(true);
        assert!(joined(early).await.is_ok());
        settle().await;
        let hit = handle.fetch(1).await.unwrap();
        assert_eq!((*hit.value, hit.outcome, source.loads()), (2, Outcome::Hit, 2), "remote: {with_remote}");
    }
}

/// The entry is expired here, its record is on its way, and a reader comes and loads it. The refresh has nothing left to do.
#[tokio::test]
async fn a_refresh_does_not_load_what_a_reader_has_loaded_since() {
    let rig = Rig::new();
    let remote = GatedRemote::new(rig.remote.clone());
    let cache = rig.drive(rig.builder().remote(remote.clone()).build()).await.unwrap();
    let source = Source::new();
    let handle = counted(&cache, "doc", Policy::ttl(HOUR).jitter(0.0).memory_only(), &source);
    assert!(handle.put(1_u64, 0));
    settle().await;
    cache.on("written", |_| Reaction::refresh([Selector::key(("doc", 1))])).unwrap();
    remote.appends.set(false);
    let publisher = spawn({
        let cache = cache.clone();
        async move { cache.publish("written", json!(null)).await.map(|published| published.refreshes) }
    });
    settle().await;
    assert_eq!(*rig.drive(handle.load(1)).await.unwrap(), 1);
    assert!(!publisher.is_finished());
    remote.appends.set(true);
    assert_eq!(joined(publisher).await, Ok(1));
    settle().await;
    assert_eq!((source.loads(), handle.fetch(1).await.unwrap().outcome), (1, Outcome::Hit));
}

#[tokio::test]
async fn a_key_is_loaded_uncached_and_a_wider_selector_loads_what_memory_has() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let source = Source::new();
    // Without a stale window: what is expired is gone, and loaded all the same.
    let bare = Policy::ttl(HOUR).jitter(0.0);
    let handle = counted(&cache, "doc", bare.clone(), &source);
    let other = counted(&cache, "other", bare.clone(), &source);
    let plain = cache.namespace::<u64>("plain", bare.clone()).unwrap();
    let tagged = larder_core::Fill::new().tags(vec!["red".to_owned()]);
    assert!(plain.put(1_u64, 0) && other.put(1_u64, 0));
    assert!(handle.put(1_u64, 0) && handle.put(2_u64, 0) && handle.begin(3_u64).put_with(0, &tagged));
    let loaded = async |selectors: &[&str]| {
        let before = source.loads();
        let named: Vec<Selector> = selectors.iter().map(|text| selector(text)).collect();
        let name = format!("change-{}", cache.stats().namespaces["doc"].refreshes);
        cache.on(&name, move |_| Reaction::refresh(named.clone())).unwrap();
        let published = cache.publish(&name, json!(null)).await.unwrap();
        settle().await;
        assert_eq!((published.refreshes, published.left), (source.loads() - before, 0), "{selectors:?}");
        published.refreshes
    };
    assert_eq!(
        loaded(&["doc:9", "doc:9", "doc:x", "doc", "nobody:1"]).await,
        1,
        "only one is a key of a handle"
    );
    assert_eq!(loaded(&["doc:2:*"]).await, 1);
    assert_eq!(loaded(&["doc:7:*"]).await, 0, "memory has nothing below it");
    assert_eq!(loaded(&["#red"]).await, 1);
    assert_eq!(loaded(&["doc:*", "doc:1"]).await, 4, "1, 2, 3 and 9, each once");
    assert_eq!(loaded(&["#red"]).await, 0, "what was loaded has no tag");
    assert_eq!(loaded(&["*"]).await, 5);
    let _ = cache.invalidate([selector("doc:*")]).await;
    assert_eq!(loaded(&["*"]).await, 1, "what is dead is not brought back");
    runtime.advance(2 * HOUR);
    assert_eq!(loaded(&["*"]).await, 0, "nor what has outlived its ttl");
    assert_eq!(plain.get(1_u64).await, None, "expired, and without a loader");
}

#[tokio::test]
async fn sub_resources_and_codecs_are_those_of_the_handle_that_reads_them() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let asked = Arc::new(parking_lot::Mutex::new(BTreeSet::new()));
    let notes = asked.clone();
    let note = move |what: &str| {
        notes.lock().insert(what.to_owned());
        async { Ok::<_, &str>("loaded".to_owned()) }
    };
    let namespace = cache.namespace::<String>("trig", policy()).unwrap();
    let load = note.clone();
    let namespace = namespace
        .loader(move |(id, what, text): (u64, String, String)| load(&format!("trig {id} {what} {text}")));
    let namespace = namespace.refreshable().unwrap();
    let logs = || cache.namespace::<String>(("trig", "logs"), policy()).unwrap();
    let load = note.clone();
    let first = logs().loader(move |(id, text): (u64, String)| load(&format!("logs {id} {text}")));
    let first = first.refreshable().unwrap().schema("2");
    cache
        .on("change", |_| {
            let text = "a:b %*";
            Reaction::refresh([
                Selector::key(("trig", 1, "map", text)),
                Selector::key(("trig", 2, "logs", text)),
            ])
        })
        .unwrap();
    assert_eq!(rig.drive(cache.publish("change", json!(null))).await.unwrap().refreshes, 2);
    settle().await;
    assert_eq!(
        asked.lock().iter().map(String::as_str).collect::<Vec<_>>(),
        ["logs 2 a:b %*", "trig 1 map a:b %*"]
    );
    let next = rig.cache().await.namespace::<String>(("trig", "logs"), policy()).unwrap().schema("2");
    let there = rig.drive(next.get((2_u64, "a:b %*"))).await;
    assert_eq!(there.as_deref().map(String::as_str), Some("loaded"), "stored under its schema");
    let clash = namespace.clone().refreshable().map(drop);
    assert!(clash.is_ok(), "it is the same handle");
    let second = logs().loader(move |(id, text): (u64, String)| note(&format!("second {id} {text}")));
    assert_eq!(second.clone().refreshable().map(drop).unwrap_err().name, "trig:*:logs");
    drop(first);
    assert!(second.refreshable().is_ok(), "the first is gone");
}

#[tokio::test]
async fn one_publish_begins_a_bounded_number_of_loads_and_says_how_many_it_left() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let source = Source::new();
    let handle = counted(&cache, "doc", policy(), &source);
    assert!((0..300_u64).all(|id| handle.put(id, 0)));
    cache.on("change", |_| Reaction::refresh([Selector::under("doc")])).unwrap();
    source.gate.set(false);
    let begun = async || {
        let published = cache.publish("change", json!(null)).await.unwrap();
        settle().await;
        (published.refreshes, published.left)
    };
    assert_eq!(begun().await, (128, 172));
    assert_eq!(source.loads(), 128);
    source.gate.set(true);
    settle().await;
    assert_eq!(cache.stats().namespaces["doc"].refreshes, 128);
}

/// Everything that holds a cache is dropped: handles, the loader of a refreshable one (which holds the cache itself, as
/// loaders do that read from another namespace), the cache. What it has stored must be freed.
#[tokio::test]
async fn a_cache_that_nobody_holds_is_freed_refreshable_handles_or_not() {
    for with_remote in [false, true] {
        let rig = Rig::new();
        let cache = if with_remote { rig.cache().await } else { alone(&rig.runtime).await };
        let value = Arc::new(());
        let (stored, freed) = (value.clone(), Arc::downgrade(&value));
        drop(value);
        let handle = cache.namespace_in_memory::<Arc<()>>("held", Policy::ttl(HOUR), |_| 8).unwrap();
        let held = cache.clone();
        let handle = handle
            .loader(move |_: u64| {
                let (held, stored) = (held.clone(), stored.clone());
                async move { if held.is_enabled() { Ok(stored) } else { Err("off") } }
            })
            .refreshable()
            .unwrap();
        cache.on("change", |_| Reaction::refresh([Selector::key(("held", 1))])).unwrap();
        assert_eq!(rig.drive(cache.publish("change", json!(null))).await.unwrap().refreshes, 1);
        settle().await;
        assert!(handle.contains(1_u64).await);
        drop(cache);
        assert!(handle.contains(1_u64).await, "a handle holds its cache");
        drop(handle);
        rig.eventually("everything is freed", || freed.strong_count() == 0).await;
    }
}

/// The publisher gives up while the log does not answer. What its handlers have named holds here all the same, both
/// modes, and reaches the log.
#[tokio::test]
async fn a_publisher_that_goes_away_has_published() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let docs = docs(&cache);
    assert!(docs.put(1_u64, 1) && docs.put(2_u64, 1));
    settle().await;
    cache
        .on("change", |_| Reaction::drop([selector("doc:1")]).and(Reaction::expire([selector("doc:2")])))
        .unwrap();
    rig.remote.set(|faults| faults.hang = true);
    let publisher = spawn({
        let cache = cache.clone();
        async move { cache.publish("change", json!(null)).await.map(drop) }
    });
    settle().await;
    assert!(!publisher.is_finished(), "it waits for the log");
    publisher.abort();
    assert!(publisher.await.unwrap_err().is_cancelled());
    assert_eq!(rig.drive(docs.get(1_u64)).await, None);
    let stale = docs.clone().loader(|_: u64| async { Err("away") }).fetch(2).await.unwrap();
    assert_eq!(stale.outcome, Outcome::Stale);
    rig.remote.set(|faults| faults.hang = false);
    rig.eventually("the log has both", || cache.stats().pending_invalidations == 0).await;
    let sent: BTreeSet<String> = appends(&rig).await.into_iter().flatten().collect();
    assert_eq!(sent.iter().map(String::as_str).collect::<Vec<_>>(), ["h doc:1", "s doc:2"]);
}

#[tokio::test]
async fn with_the_remote_tier_away_it_is_queued_and_refreshed_here() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let source = Source::new();
    let handle = counted(&cache, "doc", policy(), &source);
    assert_eq!(*rig.drive(handle.load(1)).await.unwrap(), 1);
    settle().await;
    cache.on("change", |_| Reaction::refresh([selector("doc:1")])).unwrap();
    rig.remote.set(|faults| faults.down = true);
    source.write();
    let published = rig.drive(cache.publish("change", json!(null))).await.unwrap();
    assert_eq!((published.refreshes, published.token(), published.is_delivered()), (1, None, false));
    rig.eventually("the new value", || source.loads() == 2).await;
    settle().await;
    assert_eq!(*handle.fetch(1).await.unwrap().value, 2);
    rig.remote.set(|faults| faults.down = false);
    rig.eventually("the log has it", || cache.stats().pending_invalidations == 0).await;
    assert_eq!(appends(&rig).await, [["s doc:1".to_owned()]]);
}

/// The drop is in the log, the expiry is not: a client that presented the token of the drop elsewhere would see what was
/// expired as fresh.
#[tokio::test]
async fn there_is_no_token_while_part_of_it_is_queued() {
    let rig = Rig::new();
    let gated = GatedRemote::new(rig.remote.clone());
    let cache = rig.builder().remote(gated.clone()).build().await.unwrap();
    let both =
        |_: &Occasion<'_>| Reaction::drop([selector("doc:1")]).and(Reaction::expire([selector("#red")]));
    cache.on("change", both).unwrap();
    gated.hold_append(1);
    let published = rig.drive(cache.publish("change", json!(null))).await.unwrap();
    let effects = [published.dropped.as_ref().unwrap(), published.expired.as_ref().unwrap()];
    assert_eq!(effects.iter().filter(|effect| effect.invalidated.token.is_some()).count(), 1);
    assert_eq!((published.token(), published.is_delivered()), (None, false));
    gated.held.set(true);
    rig.eventually("the queue is sent", || cache.stats().pending_invalidations == 0).await;
    let published = rig.drive(cache.publish("change", json!(null))).await.unwrap();
    let tokens =
        [published.dropped.as_ref(), published.expired.as_ref()].map(|e| e.unwrap().invalidated.token);
    assert_eq!(published.token(), tokens.into_iter().flatten().max_by_key(|token| token.at));
}

#[tokio::test]
async fn declared_rules_do_what_handlers_do() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let source = Source::new();
    let _handle = counted(&cache, "points", policy(), &source);
    cache
        .declare(rules(json!([
            { "on": "points_changed", "drop": ["user:{user.id}:profile"], "refresh": ["points:{user.id}"] },
            { "on": "points_changed", "expire": ["#board-{season}"] },
            { "on": "recalculated", "drop": ["points:*", "user:*"] },
        ])))
        .unwrap();
    let payload = json!({ "user": { "id": 7 }, "season": "20*26" });
    let published = rig.drive(cache.publish("points_changed", payload)).await.unwrap();
    assert_eq!((published.handlers, published.failures.len(), published.refreshes), (2, 0, 1));
    let one = vec!["h user:7:profile".to_owned()];
    let two = ["s #board-20*26", "s points:7"].map(str::to_owned).to_vec();
    assert_eq!(appends(&rig).await, [one, two]);
}

/// A payload without the field that one selector needs: that selector is reported, the others of the rule go, and nothing
/// wider goes in its place.
#[tokio::test]
async fn a_rule_whose_payload_lacks_a_field_fails_loudly_and_in_part() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    cache
        .declare(rules(json!([
            { "on": "moved", "drop": ["trig:{trig_id}:*", "stats:*"], "expire": ["area:{area.id}", "#{tag}"] },
        ])))
        .unwrap();
    let payload = json!({ "area": { "id": [1] }, "tag": "", "trig": 1 });
    let published = rig.drive(cache.publish("moved", payload)).await.unwrap();
    let failures: Vec<_> = published.failures.iter().map(|f| (f.handler, f.reason.as_str())).collect();
    assert_eq!(
        failures,
        [
            (1, "drop trig:{trig_id}:*: the payload has no field trig_id"),
            (
                1,
                "expire area:{area.id}: the payload's area.id is an array, not a string, an integer or a boolean"
            ),
            (1, "expire #{tag}: with this payload it is a tag without a name"),
        ]
    );
    assert_eq!(appends(&rig).await, [["h stats:*".to_owned()]]);
}

#[tokio::test]
async fn rules_are_declared_all_or_none_and_a_mistake_names_rule_and_selector() {
    let cache = alone(&ManualRuntime::new(1)).await;
    let good = json!({ "on": "a", "drop": ["trig:*"] });
    let message = |bad: serde_json::Value| {
        let error = cache.declare(rules(json!([good.clone(), bad]))).unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    };
    assert_eq!(
        message(json!({ "on": "b", "drop": ["x:*"], "expire": ["trig:{id"] })),
        "rule 2 (on \"b\") cannot be declared: its expire \"trig:{id\" is no selector: braces that do not match: a field \
         is written {name}"
    );
    assert!(
        message(json!({ "on": "b", "refresh": ["trig:*:logs"] }))
            .contains("\"trig:*:logs\" is no selector: a `*`")
    );
    assert!(message(json!({ "on": "b" })).ends_with("it names nothing to drop, expire or refresh"));
    assert!(message(json!({ "on": "b c", "drop": ["x"] })).contains("\"b c\" is no name of an event"));
    assert!(
        message(json!({ "on": "b", "drop": vec!["x"; 65] })).ends_with("it has 65 selectors: at most 64")
    );
    assert!(serde_json::from_value::<Rule>(json!({ "on": "b", "dorp": ["x"] })).is_err());
    assert_eq!(cache.publish("a", json!(null)).await.unwrap().handlers, 0, "none of them listens");
    let most = rules(json!(vec![good; 65]));
    let error = cache.declare(most).unwrap_err();
    assert_eq!((error.rule, error.on.as_str()), (65, "a"));
    assert_eq!(cache.publish("a", json!(null)).await.unwrap().handlers, 0);
}
