//! Several nodes on one remote tier: what one invalidates, the others notice; what a node has missed, it knows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::*;
use larder_core::units::{MINUTE, SECOND};
use larder_core::{
    Arrival, BreakerState, Cache, Claim, Delivery, Epoch, Event, Fill, LogState, LookedUp, Outcome, Selector,
    Turn,
};

/// A second node, whose way to the log can be held up.
async fn gated(rig: &Rig) -> (Cache, Arc<GatedRemote>) {
    let gated = GatedRemote::new(rig.remote.clone());
    (rig.drive(rig.builder().remote(gated.clone()).build()).await.unwrap(), gated)
}

async fn value(docs: &Docs, source: &Arc<Source>, key: u64) -> u64 {
    let source = source.clone();
    *docs.get_or_load(key, move || source.read()).await.unwrap()
}

#[tokio::test]
async fn what_one_node_invalidates_no_other_serves_once_it_has_read_the_record() {
    for text in SELECTORS {
        let rig = Rig::new();
        let (here, there, source) = (rig.cache().await, rig.cache().await, Source::new());
        for cache in [&here, &there] {
            assert_eq!(read(docs(cache), source.clone()).await.0, 1);
        }
        source.write();
        let done = here.invalidate([selector(text)]).await;
        assert_eq!(done.state, Delivery::Delivered, "{text}");
        assert_eq!(there.arrive(done.token.unwrap()).await, Arrival::Arrived, "{text}");
        assert_eq!(read(docs(&there), source.clone()).await.0, 2, "{text}");
    }
}

#[tokio::test]
async fn what_one_node_expires_another_serves_stale_and_loads_again() {
    let rig = Rig::new();
    let (here, there, source) = (rig.cache().await, rig.cache().await, Source::new());
    assert_eq!(value(&docs(&there), &source, 1).await, 1);
    settle().await;
    source.write();
    let token = here.expire([Selector::under("doc")]).await.token.unwrap();
    let docs = docs(&there);
    let loading = docs.clone();
    let (loader, source) = (source.clone(), source);
    let hit = loading.loader(move |_: u64| loader.clone().read()).at_least(token).fetch(1).await.unwrap();
    assert_eq!((*hit.value, hit.outcome), (1, Outcome::Stale));
    settle().await;
    assert_eq!(value(&docs, &source, 1).await, 2);
}

/// The writer's client goes to another node with its token, faster than the record does. It must not read what it has
/// just replaced: the read waits until that node's log has come as far.
#[tokio::test]
async fn a_read_with_a_token_waits_until_its_node_has_come_as_far() {
    let rig = Rig::new();
    let here = rig.cache().await;
    let (there, gate) = gated(&rig).await;
    let source = Source::new();
    assert_eq!(value(&docs(&there), &source, 1).await, 1);
    gate.follows.set(false);
    source.write();
    let token = docs(&here).invalidate(1_u64).await.token;
    assert_eq!(value(&docs(&there), &source, 1).await, 1, "without the token it cannot know");

    let (reader, loads) = (docs(&there), source.clone());
    let with_token =
        spawn(async move { *reader.at_least(token).get_or_load(1_u64, || loads.read()).await.unwrap() });
    settle().await;
    assert!(!with_token.is_finished());
    gate.follows.set(true);
    assert_eq!(joined(with_token).await, 2);
    assert_eq!(value(&docs(&there), &source, 1).await, 2, "and what it loaded is stored");
}

#[tokio::test]
async fn a_read_whose_token_does_not_arrive_in_time_goes_past_the_cache() {
    let rig = Rig::new();
    let here = rig.cache().await;
    let (there, gate) = gated(&rig).await;
    let source = Source::new();
    value(&docs(&there), &source, 1).await;
    gate.follows.set(false);
    source.write();
    let token = docs(&here).invalidate(1_u64).await.token;
    let loader = source.clone();
    let loading = docs(&there).loader(move |_: u64| loader.clone().read());
    let hit = rig.drive(loading.at_least(token).fetch(1)).await.unwrap();
    assert_eq!((*hit.value, hit.outcome), (2, Outcome::Bypass));
    assert_eq!(rig.drive(docs(&there).at_least(token).get(1_u64)).await, None);
    assert_eq!(there.stats().namespaces["doc"].bypassed, 2);
}

/// A client sends tokens it has made up. Each would make a request wait, or look into Redis.
#[tokio::test]
async fn tokens_that_the_log_does_not_have_are_found_out_by_one_look_that_all_share() {
    let rig = Rig::new();
    let (cache, gate) = gated(&rig).await;
    let position: Epoch = cache.health().remote.unwrap().log.position.unwrap().parse().unwrap();
    let forged = [
        Epoch { at: position.at + 60_000_000, ..position },
        Epoch { line: position.line ^ 1, at: 1 },
        Epoch { line: 0, at: 0 },
    ];
    gate.heads.set(false);
    let before = gate.looked_so_far();
    let waiting: Vec<_> = (0..300)
        .map(|i| {
            let cache = cache.clone();
            spawn(async move { cache.arrive(forged[i % 3]).await })
        })
        .collect();
    settle().await;
    assert_eq!(gate.looked_so_far() - before, 1, "one look at a time");
    gate.heads.set(true);
    for waiting in waiting {
        assert_eq!(joined(waiting).await, Arrival::Unknown);
    }
    assert!(gate.looked_so_far() - before <= 2, "those who came during the first look share the second");
}

/// The node is cut off from the log, and knows no more what is valid. For `disconnected_ttl` it goes on as before; from
/// then on each entry lives so long from its own load, so that an outage of hours is no outage of the cache.
#[tokio::test]
async fn a_node_that_is_cut_off_serves_an_entry_for_the_disconnected_ttl_and_no_longer() {
    let rig = Rig::new();
    let gate = GatedRemote::new(rig.remote.clone());
    let build = rig.builder().remote(gate.clone()).disconnected_ttl(MINUTE).build();
    let cache = rig.drive(build).await.unwrap();
    let (docs, source) = (docs(&cache), Source::new());
    assert_eq!(value(&docs, &source, 1).await, 1);
    rig.pass(3 * MINUTE).await;
    assert_eq!(
        (value(&docs, &source, 1).await, source.loads()),
        (1, 1),
        "as long as it follows, all is well"
    );

    gate.follows.set(false);
    source.write();
    rig.pass(55 * SECOND).await;
    assert_eq!((value(&docs, &source, 1).await, source.loads()), (1, 1));
    assert_eq!(cache.health().remote.unwrap().log.state, LogState::Disconnected);
    rig.pass(10 * SECOND).await;
    assert_eq!(value(&docs, &source, 1).await, 2, "loaded, though memory and Redis both have it");
    rig.pass(59 * SECOND).await;
    assert_eq!(
        (value(&docs, &source, 1).await, source.loads()),
        (2, 2),
        "its own load, less than a minute ago"
    );
    rig.pass(2 * SECOND).await;
    value(&docs, &source, 1).await;
    assert_eq!(source.loads(), 3);

    gate.follows.set(true);
    rig.eventually("it follows again", || cache.health().remote.unwrap().log.state == LogState::Following)
        .await;
    rig.pass(3 * MINUTE).await;
    value(&docs, &source, 1).await;
    assert_eq!(source.loads(), 3);
}

#[tokio::test]
async fn a_log_that_vanishes_is_noticed_within_a_round_although_nobody_invalidates_anything() {
    let rig = Rig::new();
    let (cache, source) = (rig.cache().await, Source::new());
    let docs = docs(&cache);
    value(&docs, &source, 1).await;
    settle().await;
    source.write();
    rig.remote.lose_log();
    rig.pass(SECOND + SECOND / 10).await;
    settle().await;
    assert_eq!(cache.stats().log.unwrap().gaps, 1);
    assert!(rig.events.events().iter().any(|e| matches!(e, Event::Gap { .. })));
    assert_eq!(value(&docs, &source, 1).await, 2, "what cannot be verified is a miss");
}

/// Redis loses an acknowledged record, and with it all that other nodes would have read. The node that wrote it lives,
/// sees the loss, and writes it again.
#[tokio::test]
async fn an_acknowledged_invalidation_that_the_log_has_lost_is_sent_again() {
    let rig = Rig::new();
    let here = rig.cache().await;
    let done = here.invalidate([Selector::under("doc")]).await;
    assert_eq!(done.state, Delivery::Delivered);
    rig.remote.lose_log();
    // A node that starts now begins the new line: the record is in no snapshot.
    let there = rig.cache().await;
    assert_eq!(there.explain("doc:1").await.unwrap().last_invalidated, None);
    rig.pass(3 * SECOND).await;
    assert_eq!(here.stats().pending_invalidations, 0);
    let again = there.explain("doc:1").await.unwrap().last_invalidated.unwrap();
    assert_eq!((again.selector.as_str(), again.mode), ("doc:*", "h"));
}

/// The loaders read from replicas that lag by five seconds. What is loaded right after an invalidation may be what it has
/// replaced, and nothing will say so.
#[tokio::test]
async fn a_load_within_the_replicas_lag_after_an_invalidation_is_kept_only_that_long() {
    let rig = Rig::new();
    let (here, there) = (rig.cache().await, rig.cache().await);
    let lagging = policy().replica_lag(5 * SECOND);
    let docs = |cache: &Cache| cache.namespace::<u64>("doc", lagging.clone()).unwrap();
    let source = Source::new();
    let token = docs(&here).invalidate(1_u64).await.token.unwrap();
    assert_eq!(there.arrive(token).await, Arrival::Arrived);
    for cache in [&here, &there] {
        assert_eq!(value(&docs(cache), &source, 1).await, 1, "the old value, from a replica");
    }
    settle().await;
    source.write();
    rig.pass(4 * SECOND).await;
    assert_eq!(value(&docs(&there), &source, 1).await, 1);
    rig.pass(2 * SECOND).await;
    for cache in [&here, &there] {
        assert_eq!(value(&docs(cache), &source, 1).await, 2, "neither fresh nor stale");
    }
    let loads = source.loads();
    rig.pass(30 * SECOND).await;
    value(&docs(&there), &source, 1).await;
    assert_eq!(source.loads(), loads, "a load after the lag is kept as ever");
}

#[tokio::test]
async fn a_sweep_frees_what_is_dead_leaves_what_is_not_and_counts() {
    let rig = Rig::new();
    let (cache, source) = (rig.cache().await, Source::new());
    let (docs, others) = (docs(&cache), cache.namespace::<u64>("other", policy()).unwrap());
    for key in 0..1200_u64 {
        value(&docs, &source, key).await;
    }
    assert!(others.put(1_u64, 1));
    settle().await;
    assert_eq!(rig.remote.len(), 1201);
    let invalidated = cache.invalidate([selector("doc:*"), selector("doc:7:*")]).await;
    assert_eq!(value(&docs, &source, 7).await, 1, "loaded since");
    settle().await;
    let swept = rig.drive(invalidated.swept()).await;
    assert_eq!((swept.memory, swept.remote, swept.complete), (1199, 1199, true));
    assert_eq!((rig.remote.len(), cache.stats().memory_entries), (2, 2));
    assert!(docs.contains(7_u64).await && others.contains(1_u64).await);
    let swept = rig.drive(cache.invalidate([Selector::tag("none")]).await.swept()).await;
    assert_eq!((swept.memory, swept.remote), (0, 0));
    let expired = cache.expire([Selector::all()]).await;
    assert_eq!(rig.drive(expired.swept()).await.remote, 0, "what is stale is not dead");

    rig.remote.set(|f| f.down = true);
    let queued = cache.invalidate([Selector::all()]).await;
    assert!(!rig.drive(queued.swept()).await.complete);
}

/// A walk goes by every value of the server, however few it is for.
#[tokio::test]
async fn ten_keys_are_swept_in_one_walk() {
    let rig = Rig::new();
    let gated = GatedRemote::new(rig.remote.clone());
    let cache = rig.builder().remote(gated.clone()).build().await.unwrap();
    let (docs, others) = (docs(&cache), cache.namespace::<u64>("other", policy()).unwrap());
    for key in 0..1200_u64 {
        assert!(docs.put(key, 1) && others.put(key, 1));
        settle().await;
    }
    assert_eq!(rig.remote.len(), 2400);
    let mut pages = Vec::new();
    for keys in [0..1_u64, 1..11] {
        let both = keys.flat_map(|key| [Selector::key(("doc", key)), Selector::key(("other", key))]);
        let both: Vec<_> = both.collect();
        let count = both.len() as u64;
        let before = gated.paged_so_far();
        let swept = rig.drive(cache.invalidate(both).await.swept()).await;
        assert_eq!((swept.memory, swept.remote, swept.complete), (count, count, true));
        pages.push(gated.paged_so_far() - before);
    }
    assert!(pages[0] > 2 && pages[0] == pages[1], "{pages:?}");
}

/// Nobody waits for most sweeps: that one has stopped must be told all the same.
#[tokio::test]
async fn a_sweep_says_what_it_has_freed_and_why_it_stopped() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    assert!(docs(&cache).put(1_u64, 1));
    settle().await;
    rig.drive(cache.invalidate([selector("doc:*")]).await.swept()).await;
    rig.remote.set(|f| f.down = true);
    rig.drive(cache.invalidate([selector("#red")]).await.swept()).await;
    let swept = rig.events.events().into_iter().filter_map(|event| match event {
        Event::Swept { patterns, memory, remote, error } => Some((patterns.concat(), memory, remote, error)),
        _ => None,
    });
    let [whole, half] = swept.collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(whole, ("doc:*".to_owned(), 1, 1, None));
    assert_eq!((half.0.as_str(), half.2), ("#red", 0));
    assert!(half.3.unwrap().contains("not connected"));
}

#[tokio::test]
async fn an_explanation_names_the_record_that_killed_an_entry_and_who_wrote_it() {
    let rig = Rig::new();
    let (here, there, source) = (rig.cache().await, rig.cache().await, Source::new());
    read(docs(&there), source.clone()).await;
    settle().await;
    let explained = there.explain("doc:1").await.unwrap();
    assert_eq!(explained.parts, ["doc", "1"]);
    assert_eq!(explained.selectors, ["*", "doc:*", "doc:1:*", "doc:1", "#red"]);
    assert_eq!(explained.entries.iter().map(|e| e.verdict).collect::<Vec<_>>(), ["fresh", "fresh"]);
    assert_eq!(explained.last_invalidated, None);

    let nightly = here.because("nightly import").by("ops");
    let token = nightly.invalidate([Selector::tag("red"), Selector::under("x")]).await.token.unwrap();
    let _ = here.invalidate([Selector::key(("doc", 2))]).await;
    let last = here.because("again").invalidate([Selector::all()]).await.token.unwrap();
    assert_eq!(there.arrive(last).await, Arrival::Arrived);
    let explained = there.explain("doc:1").await.unwrap();
    for entry in &explained.entries {
        let culprit = entry.killed_by.as_ref().unwrap();
        assert_eq!((entry.verdict, culprit.selector.as_str()), ("dead", "#red"), "{:?}", entry.tier);
        assert_eq!((culprit.reason.as_str(), culprit.actor.as_str()), ("nightly import", "ops"));
        assert_eq!((culprit.epoch.as_str(), culprit.mode), (token.to_string().as_str(), "h"));
    }
    assert_eq!(explained.entries.len(), 2, "it changes nothing: the dead entries are there still");
    assert_eq!(explained.last_invalidated.unwrap().reason, "again");
    for no_key in ["#red", "doc:*", "*", ""] {
        assert!(there.explain(no_key).await.is_err(), "{no_key:?}");
    }
}

/// The page's list was dropped by its tag. Whoever asks about the page asks who that was.
#[tokio::test]
async fn the_last_invalidation_of_a_key_may_have_named_a_tag_of_its_entries() {
    let rig = Rig::new();
    let (cache, source) = (rig.cache().await, Source::new());
    read(docs(&cache), source.clone()).await;
    settle().await;
    let _ = cache.because("a new site").invalidate([Selector::tag("red")]).await;
    let explained = cache.explain("doc:1").await.unwrap();
    let last = explained.last_invalidated.unwrap();
    assert_eq!(
        (last.selector.as_str(), last.reason.as_str(), explained.incomplete),
        ("#red", "a new site", None)
    );
}

#[tokio::test]
async fn an_explanation_says_what_it_cannot_know() {
    let rig = Rig::new();
    let (cache, alone) = (rig.cache().await, alone(&rig.runtime).await);
    let incomplete = async |cache: &Cache| rig.drive(cache.explain("doc:1")).await.unwrap().incomplete;
    assert!(docs(&alone).put(1_u64, 1));
    assert!(incomplete(&alone).await.unwrap().contains("there is no log"));
    assert!(incomplete(&cache).await.unwrap().contains("its tags are not known"), "no tier has it");
    assert!(docs(&cache).put(1_u64, 1));
    settle().await;
    assert_eq!(incomplete(&cache).await, None);

    // A tier that does not answer is no tier that has nothing; nor is one that is not asked.
    rig.remote.set(|f| f.hang = true);
    for _ in 0..6 {
        let unanswered = incomplete(&cache).await.unwrap();
        assert!(unanswered.contains("what the remote tier has: no answer"), "{unanswered}");
        assert!(unanswered.contains("not all values could be looked through in time"), "{unanswered}");
    }
    assert_eq!(cache.health().remote.unwrap().breaker, BreakerState::Open);
    rig.remote.set(|f| f.hang = false);
    let unasked = incomplete(&cache).await.unwrap();
    assert_eq!(unasked, "what the remote tier has: no answer");
}

/// Redis takes no records. What was invalidated here a moment ago is in no log, and not told as the last invalidation.
#[tokio::test]
async fn an_explanation_says_that_invalidations_made_here_are_not_in_the_log_yet() {
    let rig = Rig::new();
    let gated = GatedRemote::new(rig.remote.clone());
    let cache = rig.builder().remote(gated.clone()).build().await.unwrap();
    gated.accepting.store(false, Ordering::SeqCst);
    assert_eq!(cache.invalidate([selector("doc:1")]).await.state, Delivery::Queued);
    let explained = rig.drive(cache.explain("doc:1")).await.unwrap();
    assert_eq!(explained.last_invalidated, None);
    let incomplete = explained.incomplete.unwrap();
    assert!(incomplete.contains("not in the log yet: 1 of what"), "{incomplete}");
}

/// A variant lies behind thousands of other values: one page of a walk does not show it.
#[tokio::test]
async fn an_explanation_has_the_variants_that_only_the_remote_tier_has() {
    let rig = Rig::new();
    let (here, there) = (rig.cache().await, rig.cache().await);
    let handle = docs(&here);
    for key in 100..3100_u64 {
        assert!(handle.put(key, 1));
        if key % 500 == 0 {
            settle().await;
        }
    }
    for variant in 0..5_u8 {
        let mut key = handle.key_writer();
        key.number(1);
        key.begin_variant();
        key.push_variant(&[b'a' + variant]);
        let Claim::Lead(lead) = handle.claim(key.as_bytes()) else { panic!("nobody loads it") };
        let LookedUp::Nothing(lead) = lead.look_up().await else { panic!("nothing is there") };
        let Turn::Load(mut lead) = lead.turn().await else { panic!("nothing bounds the loads") };
        lead.begin();
        lead.fill(Arc::new(1), &Fill::new());
    }
    rig.eventually("all are stored", || rig.remote.len() == 3005).await;
    let explained = there.explain("doc:1").await.unwrap();
    let keys: BTreeSet<_> = explained.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!((keys.len(), explained.incomplete), (5, None), "{keys:?}");
}

/// Redis is away while values are loaded: only memory has them. When it is back, they are given to it, so that the
/// other nodes need not load them as well.
#[tokio::test]
async fn what_was_loaded_during_an_outage_is_given_to_the_remote_tier_when_it_returns() {
    let rig = Rig::new();
    let (here, source) = (rig.cache().await, Source::new());
    let handle = docs(&here);
    value(&handle, &source, 1).await;
    settle().await;
    rig.remote.set(|f| f.down = true);
    for key in 2..200 {
        value(&handle, &source, key).await;
    }
    let _ = here.invalidate([Selector::key(("doc", 3))]).await;
    rig.remote.set(|f| f.down = false);
    rig.eventually("all are given back", || rig.remote.len() == 198).await;
    assert_eq!(here.stats().pushed_back, 197, "not the one it had, nor the one that was invalidated");
    assert!(rig.remote.bytes("doc:3").is_none());
    let there = rig.cache().await;
    assert_eq!((value(&docs(&there), &source, 150).await, source.loads()), (1, 199));
}

#[tokio::test]
async fn a_cache_that_is_dropped_stops_following() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    rig.pass(3 * SECOND).await;
    drop(cache);
    settle().await;
    assert_eq!(rig.runtime.sleepers(), 0);
}
