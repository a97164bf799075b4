//! Bounds on loads: how many run, how many wait, and what hangs.
#![allow(clippy::unwrap_used, reason = "a test's helpers are a test too")]

mod common;

use std::sync::Arc;

use common::*;
use larder_core::units::{HOUR, MINUTE, SECOND};
use larder_core::{Cache, Claim, Fill, Lead, LoadError, Outcome, Policy, Turn};
use tokio::task::JoinHandle;

type Read = Result<u64, LoadError<&'static str>>;

fn read(docs: &Docs, key: u64, source: &Arc<Source>) -> JoinHandle<Read> {
    let (docs, source) = (docs.clone(), source.clone());
    spawn(async move { docs.get_or_load(key, move || source.read()).await.map(|value| *value) })
}

/// A thousand keys expire at one moment, and the database takes five queries at a time.
#[tokio::test]
async fn at_most_so_many_loads_run_the_others_wait_their_turn_and_the_rest_is_told() {
    for with_remote in [false, true] {
        let rig = Rig::new();
        let cache = if with_remote { rig.cache().await } else { alone(&rig.runtime).await };
        let docs = cache.namespace::<u64>("doc", policy().max_loads(5).load_queue(10)).unwrap();
        let free = cache.namespace::<u64>(("doc", "free"), policy()).unwrap();
        let source = Source::new();
        source.gate.set(false);
        let readers: Vec<_> = (0..40).map(|key| read(&docs, key, &source)).collect();
        until("those beyond the queue are told", || readers.iter().filter(|r| r.is_finished()).count() == 25)
            .await;
        assert_eq!(source.loads(), 5);
        let other = read(&free, 1, &source);
        until("another resource has its own bound", || source.loads() == 6).await;
        source.gate.set(true);
        let mut told = 0;
        for reader in readers {
            match joined(reader).await {
                Err(LoadError::Overloaded) => told += 1,
                answer => assert_eq!(answer, Ok(1)),
            }
        }
        assert_eq!((told, joined(other).await), (25, Ok(1)));
        assert_eq!((source.loads(), cache.stats().leases), (16, 0));
        assert_eq!(joined(read(&docs, 39, &source)).await, Ok(1), "and there is room again");
    }
}

#[tokio::test]
async fn when_there_is_no_room_what_is_stale_is_served() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let policy = Policy::ttl(MINUTE).stale_if_error(HOUR).max_loads(1).load_queue(0).jitter(0.0);
    let docs = cache.namespace::<u64>("doc", policy).unwrap();
    let source = Source::new();
    for key in 0..2 {
        assert_eq!(joined(read(&docs, key, &source)).await, Ok(1));
    }
    settle().await;
    rig.advance(2 * MINUTE);
    source.gate.set(false);
    let slow = read(&docs, 0, &source);
    settle().await;
    assert_eq!(joined(read(&docs, 1, &source)).await, Ok(1), "stale");
    assert_eq!(joined(read(&docs, 2, &source)).await, Err(LoadError::Overloaded), "nothing is there");
    source.gate.set(true);
    assert_eq!(joined(slow).await, Ok(1));
}

#[tokio::test]
async fn a_caller_that_goes_away_while_it_waits_for_a_place_takes_none() {
    let rig = Rig::new();
    let cache = alone(&rig.runtime).await;
    let docs = cache.namespace::<u64>("doc", policy().max_loads(1).load_queue(2)).unwrap();
    let source = Source::new();
    source.gate.set(false);
    let first = read(&docs, 0, &source);
    settle().await;
    // Their loads go on without them: both wait, and the queue is full.
    for key in 1..3 {
        let gone = read(&docs, key, &source);
        settle().await;
        gone.abort();
        settle().await;
    }
    assert_eq!(joined(read(&docs, 9, &source)).await, Err(LoadError::Overloaded));
    source.gate.set(true);
    assert_eq!(joined(first).await, Ok(1));
    until("both have loaded", || source.loads() == 3 && cache.stats().flights == 0).await;
    assert_eq!(joined(read(&docs, 9, &source)).await, Ok(1));
}

#[tokio::test]
async fn a_place_that_does_not_come_in_time_is_as_none() {
    let rig = Rig::new();
    let cache = alone(&rig.runtime).await;
    let docs = cache.namespace::<u64>("doc", policy().max_loads(1).load_timeout(10 * SECOND)).unwrap();
    let source = Source::new();
    source.gate.set(false);
    let (first, second) = (read(&docs, 0, &source), read(&docs, 1, &source));
    settle().await;
    rig.pass(11 * SECOND).await;
    assert_eq!(joined(first).await, Err(LoadError::TimedOut));
    assert_eq!(source.loads(), 2, "the place of a load that was cancelled is free");
    source.gate.set(true);
    assert_eq!(joined(second).await, Ok(1));
}

#[tokio::test]
async fn what_is_too_small_or_too_large_is_returned_and_not_kept_nor_is_what_it_replaces() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let policy = policy().min_stored_size(100).max_stored_size(1000);
    let texts = cache.namespace::<String>("text", policy).unwrap().weigh(String::len);
    for (size, is_kept) in [(99, false), (100, true), (1000, true), (1001, false)] {
        assert!(texts.put(1_u64, "x".repeat(500)));
        settle().await;
        assert_eq!(texts.put(1_u64, "y".repeat(size)), is_kept, "{size}");
        settle().await;
        assert_eq!(texts.get(1_u64).await.map(|text| text.len()), is_kept.then_some(size), "{size}");
        assert_eq!(rig.remote.len(), usize::from(is_kept));
    }
}

async fn lead(docs: &Docs) -> Lead<u64> {
    let mut key = docs.key_writer();
    key.number(1);
    let Claim::Lead(lead) = docs.claim(key.as_bytes()) else { panic!("nothing is there") };
    let Turn::Load(lead) = lead.turn().await else { panic!("nothing bounds the loads") };
    lead
}

/// A loader blocks its thread: no timeout can cancel it (dialporten#4252: 96 requests queued behind one, health was green). It
/// must be seen, and those who wait, and those who come, must not wait for it.
#[tokio::test]
async fn a_load_that_blocks_its_thread_is_named_and_let_go_of() {
    let rig = Rig::new();
    let cache: Cache = rig.cache().await;
    let docs = cache.namespace::<u64>("doc", policy().load_timeout(2 * SECOND)).unwrap();
    let source = Source::new();
    let mut hung = lead(&docs).await;
    hung.begin();
    let waiter = read(&docs, 1, &source);
    rig.pass(SECOND).await;
    assert!(!waiter.is_finished());
    rig.pass(4 * SECOND).await;
    assert_eq!(joined(waiter).await, Err(LoadError::TimedOut));
    assert_eq!((cache.stats().hung_loads, cache.health().hung_loads, cache.stats().flights), (1, 1, 0));
    assert_eq!(rig.events.count("cache_load_overdue"), 1);
    rig.pass(10 * SECOND).await;
    assert_eq!(joined(read(&docs, 1, &source)).await, Ok(1), "the next one loads");
    let found = hung.fill(Arc::new(7), &Fill::new());
    assert_eq!((found.outcome, cache.stats().hung_loads), (Outcome::Miss, 0), "it came back after all");
}

/// The same, where another process waits: its callers are not the ones whose loader blocks, and may have much more time. What
/// hangs kept its lease until that ran out.
#[tokio::test]
async fn a_load_that_blocks_its_thread_loses_its_lease_and_shows_in_health() {
    let rig = Rig::new();
    let (cache, other) = (rig.cache().await, rig.cache().await);
    let docs = cache.namespace::<u64>("doc", policy().load_timeout(2 * SECOND)).unwrap();
    let source = Source::new();
    let mut hung = lead(&docs).await;
    hung.begin();
    let waiter = read(&other.namespace::<u64>("doc", policy()).unwrap(), 1, &source);
    rig.pass(2 * SECOND).await;
    assert!(!waiter.is_finished());
    assert_eq!((cache.stats().leases, cache.health().status), (1, "ok"));
    rig.pass(3 * SECOND).await;
    assert!(waiter.is_finished(), "a lease lives for ten seconds");
    assert_eq!(joined(waiter).await, Ok(1));
    let health = cache.health();
    assert_eq!((cache.stats().leases, health.status, health.hung_loads), (0, "degraded", 1));
    drop(hung);
    assert_eq!((cache.health().status, cache.health().hung_loads), ("ok", 0));
}

/// A process stands still for more than a second (its processor is taken away) while a leader is on his way to the load.
/// When it goes on, whoever waits for him passes by first, and loads. The leader must have his answer all the same: nothing was
/// wrong with his load.
#[tokio::test]
async fn a_leader_who_was_passed_by_has_the_answer_of_his_own_load() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (docs, source) = (docs(&cache), Source::new());
    rig.remote.set(|faults| faults.hang = true);
    let leads = read(&docs, 1, &source);
    settle().await;
    let waits = read(&docs, 1, &source);
    settle().await;
    rig.advance(5 * SECOND);
    assert_eq!(rig.drive(async { waits.await.unwrap() }).await, Ok(1));
    assert_eq!(rig.drive(async { leads.await.unwrap() }).await, Ok(1));
    assert_eq!(cache.stats().flights, 0);
}

/// The caller that leads has not come as far as the load, and is not polled any more. Nobody may wait for it for long.
#[tokio::test]
async fn a_leader_that_stops_on_its_way_to_the_load_is_replaced() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (docs, source) = (docs(&cache), Source::new());
    let mut key = docs.key_writer();
    key.number(1);
    let Claim::Lead(stopped) = docs.claim(key.as_bytes()) else { panic!("nothing is there") };
    let waiter = read(&docs, 1, &source);
    rig.pass(2 * SECOND).await;
    assert_eq!(joined(waiter).await, Ok(1));
    drop(stopped);
    assert_eq!(cache.stats().flights, 0);
}
