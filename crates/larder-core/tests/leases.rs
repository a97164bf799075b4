//! One load for many processes: leases, who waits for them, and what happens when their holders go.
#![allow(clippy::unwrap_used, reason = "a test's helpers are a test too")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use larder_core::testing::{Path, TestRemote};
use larder_core::units::{HOUR, MINUTE, SECOND};
use larder_core::{Cache, Claim, LoadError, LookedUp, Policy, Turn};
use tokio::task::JoinHandle;

type Read = Result<u64, LoadError<&'static str>>;

/// A process of its own, with its own way to Redis.
async fn node(rig: &Rig, id: u64) -> (Cache, Arc<TestRemote>) {
    let remote = TestRemote::on(rig.remote.redis().clone(), rig.runtime.clone(), id);
    (rig.drive(rig.builder().remote(remote.clone()).build()).await.unwrap(), remote)
}

fn reads(docs: &Docs, source: &Arc<Source>) -> JoinHandle<Read> {
    let (docs, source) = (docs.clone(), source.clone());
    spawn(async move { docs.get_or_load(1_u64, move || source.read()).await.map(|value| *value) })
}

/// As it is when a load is under way: one process at it, the others waiting.
async fn under_way(rig: &Rig, nodes: &[Cache], source: &Arc<Source>) -> Vec<JoinHandle<Read>> {
    source.gate.set(false);
    let mut readers = Vec::new();
    for cache in nodes {
        readers.push(reads(&docs(cache), source));
        settle().await;
    }
    rig.pass(SECOND).await;
    assert_eq!(source.loads(), 1);
    readers
}

async fn caches(rig: &Rig, count: usize) -> Vec<Cache> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(rig.cache().await);
    }
    nodes
}

/// laravel#60920 and others: what is sold as protection from stampedes protects one process; every one of them loads.
#[tokio::test]
async fn five_processes_with_fifty_readers_each_load_once_and_all_hear_of_it_at_once() {
    let rig = Rig::new();
    let (nodes, source) = (caches(&rig, 5).await, Source::new());
    source.gate.set(false);
    let readers: Vec<_> = nodes
        .iter()
        .flat_map(|cache| (0..50).map(|_| reads(&docs(cache), &source)).collect::<Vec<_>>())
        .collect();
    rig.pass(2 * SECOND).await;
    assert_eq!(source.loads(), 1);
    source.gate.set(true);
    // No time passes: whoever waits is woken by the fill, not by his own next question.
    until("everybody is answered", || readers.iter().all(JoinHandle::is_finished)).await;
    for reader in readers {
        assert_eq!(joined(reader).await, Ok(1));
    }
    assert_eq!(source.loads(), 1);
    assert!(nodes.iter().all(|cache| cache.stats().leases == 0 && cache.stats().flights == 0));
}

#[tokio::test]
async fn a_ring_that_is_lost_costs_a_moment_and_nothing_else() {
    let rig = Rig::new();
    let ((one, _), (other, deaf)) = (node(&rig, 2).await, node(&rig, 3).await);
    let source = Source::new();
    deaf.set(|faults| faults.on(Path::Log).hang = true);
    let readers = under_way(&rig, &[one, other], &source).await;
    source.gate.set(true);
    rig.pass(SECOND / 4).await;
    for reader in readers {
        assert!(reader.is_finished());
        assert_eq!(joined(reader).await, Ok(1));
    }
    assert_eq!(source.loads(), 1);
}

/// However a load ends, the next one that waits takes over at once, and not when the lease would have run out.
#[tokio::test]
async fn a_lease_is_given_back_however_its_load_ends() {
    type Load = fn() -> larder_core::BoxFuture<'static, Result<u64, &'static str>>;
    let endings: [(&str, Load); 3] = [
        ("error", || Box::pin(async { Err("the source is away") })),
        ("panic", || Box::pin(async { panic!("on purpose") })),
        ("timeout", || Box::pin(std::future::pending())),
    ];
    for (ending, load) in endings {
        let rig = Rig::new();
        let nodes = caches(&rig, 2).await;
        let short = policy().load_timeout(2 * SECOND);
        let [one, other] = [0, 1].map(|i| nodes[i].namespace::<u64>("doc", short.clone()).unwrap());
        let gate = Arc::new(Gate::open());
        gate.set(false);
        let door = gate.clone();
        let first = spawn(async move {
            let load = move || async move {
                door.pass().await;
                load().await
            };
            one.get_or_load(1_u64, load).await.map(|value| *value)
        });
        settle().await;
        let source = Source::new();
        let second = reads(&other, &source);
        rig.pass(SECOND).await;
        assert_eq!((source.loads(), nodes[0].stats().leases), (0, 1), "{ending}: it waits");
        gate.set(true);
        if ending == "timeout" {
            rig.pass(SECOND + SECOND / 20).await;
        }
        until("the second one loads", || second.is_finished()).await;
        assert_eq!(joined(second).await, Ok(1), "{ending}");
        assert!(joined(first).await.is_err(), "{ending}");
        assert_eq!(nodes[0].stats().leases, 0, "{ending}");
    }
}

#[tokio::test]
async fn a_shutdown_gives_back_the_leases_of_loads_that_are_not_done() {
    let rig = Rig::new();
    let (nodes, source) = (caches(&rig, 2).await, Source::new());
    let readers = under_way(&rig, &nodes, &source).await;
    assert!(!rig.drive(nodes[0].shutdown(SECOND)).await, "not done in time");
    until("the other one loads", || source.loads() == 2).await;
    source.gate.set(true);
    for reader in readers {
        assert_eq!(rig.drive(reader).await.unwrap(), Ok(1));
    }
}

/// The holder is killed, or cut off for good: nobody gives its lease back. It runs out, and one of those who wait loads.
#[tokio::test]
async fn the_lease_of_a_holder_that_is_gone_runs_out_and_one_of_those_who_wait_takes_over() {
    let rig = Rig::new();
    let (one, way) = node(&rig, 2).await;
    let mut nodes = vec![one];
    nodes.extend(caches(&rig, 3).await);
    let source = Source::new();
    let readers = under_way(&rig, &nodes, &source).await;
    way.set(|faults| faults.down = true);
    rig.pass(8 * SECOND).await;
    assert_eq!(source.loads(), 1, "not yet");
    rig.pass(3 * SECOND).await;
    assert_eq!(source.loads(), 2, "one of three");
    source.gate.set(true);
    for reader in readers {
        assert_eq!(rig.drive(reader).await.unwrap(), Ok(1));
    }
}

#[tokio::test]
async fn a_load_that_takes_long_keeps_its_lease_for_as_long_as_it_may_take() {
    let rig = Rig::new();
    let (nodes, source) = (caches(&rig, 2).await, Source::new());
    let readers = under_way(&rig, &nodes, &source).await;
    rig.pass(25 * SECOND).await;
    assert_eq!(source.loads(), 1, "a lease lives for ten seconds");
    source.gate.set(true);
    for reader in readers {
        assert_eq!(rig.drive(reader).await.unwrap(), Ok(1));
    }
}

/// A load has read its data; then that is invalidated. What it brings is dead on arrival. Whoever comes now must not wait
/// for it.
#[tokio::test]
async fn nobody_waits_for_a_load_that_an_invalidation_has_overtaken() {
    for text in ["doc:1", "doc:*", "*"] {
        let rig = Rig::new();
        let (nodes, source) = (caches(&rig, 3).await, Source::new());
        let readers = under_way(&rig, &nodes[..2], &source).await;
        let new = source.write();
        let _ = nodes[1].invalidate([selector(text)]).await;
        let fresh = reads(&docs(&nodes[2]), &source);
        rig.pass(SECOND).await;
        assert!(source.loads() >= 2, "{text}: the new reader loads while the old load is under way");
        source.gate.set(true);
        assert_eq!(rig.drive(fresh).await.unwrap(), Ok(new), "{text}");
        for reader in readers {
            rig.drive(reader).await.unwrap().unwrap();
        }
        settle().await;
        for cache in &nodes {
            assert_eq!(docs(cache).get(1_u64).await.as_deref(), Some(&new), "{text}");
        }
    }
}

/// A holder is stopped (a long pause of its process), its lease runs out, another one loads and stores. Then the first goes
/// on and stores what it had read long ago, under the same epoch: nothing was invalidated. It must not take the place of the
/// newer value.
#[tokio::test]
async fn the_late_store_of_a_holder_that_was_stopped_is_refused() {
    let rig = Rig::new();
    let ((one, way), (other, _)) = (node(&rig, 2).await, node(&rig, 3).await);
    let source = Source::new();
    let first = under_way(&rig, std::slice::from_ref(&one), &source).await;
    // Stopped: nothing of it gets out, and then all of it does.
    way.set(|faults| faults.on(Path::Values).hang = true);
    let new = source.write();
    let second = reads(&docs(&other), &source);
    rig.pass(12 * SECOND).await;
    assert_eq!(source.loads(), 2);
    source.gate.set(true);
    assert_eq!(joined(second).await, Ok(new));
    for reader in first {
        assert_eq!(joined(reader).await, Ok(new - 1), "it answers its own caller");
    }
    settle().await;
    way.set(|faults| faults.on(Path::Values).hang = false);
    rig.pass(3 * SECOND).await;
    assert_eq!(docs(&rig.cache().await).get(1_u64).await.as_deref(), Some(&new));
    assert!(one.stats().namespaces["doc"].stores == 0);
}

#[tokio::test]
async fn a_value_put_by_hand_while_others_load_is_not_replaced_by_theirs() {
    let rig = Rig::new();
    let (nodes, source) = (caches(&rig, 3).await, Source::new());
    let readers = under_way(&rig, &nodes[..2], &source).await;
    assert!(docs(&nodes[2]).put(1_u64, 70));
    settle().await;
    source.gate.set(true);
    let answers = [rig.drive(async { joined_all(readers).await }).await];
    assert!(answers[0].contains(&Ok(70)), "who waited elsewhere has it: {answers:?}");
    assert_eq!(docs(&rig.cache().await).get(1_u64).await.as_deref(), Some(&70));
}

/// A holder is stopped, or somebody puts a value by hand: what the holder loads is refused by Redis. It went on serving it from
/// its memory for a whole ttl, while all others had the later one.
#[tokio::test]
async fn a_node_whose_store_is_refused_soon_has_what_the_others_have() {
    let rig = Rig::new();
    let (nodes, source) = (caches(&rig, 2).await, Source::new());
    let readers = under_way(&rig, &nodes[..1], &source).await;
    assert!(docs(&nodes[1]).put(1_u64, 70));
    settle().await;
    source.gate.set(true);
    let answers = rig.drive(async { joined_all(readers).await }).await;
    assert_eq!(answers, [Ok(1)], "its own callers have what was loaded for them");
    until("the store is refused", || nodes[0].stats().namespaces["doc"].stores_refused == 1).await;
    assert_eq!(rig.drive(reads(&docs(&nodes[0]), &source)).await.unwrap(), Ok(70));
    assert_eq!(source.loads(), 1);
}

async fn joined_all(readers: Vec<JoinHandle<Read>>) -> Vec<Read> {
    let mut answers = Vec::new();
    for reader in readers {
        answers.push(reader.await.unwrap());
    }
    answers
}

/// Without Redis there is nobody to ask: every process loads for itself, at once.
#[tokio::test]
async fn with_the_remote_tier_away_or_silent_loads_begin_without_a_lease() {
    for silent in [false, true] {
        let rig = Rig::new();
        let nodes = caches(&rig, 3).await;
        rig.remote.set(|faults| if silent { faults.hang = true } else { faults.down = true });
        let source = Source::new();
        source.gate.set(false);
        let readers: Vec<_> = nodes.iter().map(|cache| reads(&docs(cache), &source)).collect();
        rig.pass(SECOND / 4).await;
        assert_eq!(source.loads(), 3, "within the budget of one read, silent: {silent}");
        source.gate.set(true);
        for reader in readers {
            assert_eq!(rig.drive(reader).await.unwrap(), Ok(1));
        }
    }
}

/// The answer to a lease is lost: it was granted all the same. Nobody would load the key for ten seconds.
#[tokio::test]
async fn a_lease_whose_answer_was_lost_is_given_back() {
    let rig = Rig::new();
    let ((one, way), (other, _)) = (node(&rig, 2).await, node(&rig, 3).await);
    let source = Source::new();
    way.set(|faults| {
        let path = faults.on(Path::Values);
        path.delay = Some((Duration::from_millis(1), Duration::from_millis(1)));
        path.lose_answers = 1000;
    });
    source.fail(true);
    assert!(rig.drive(reads(&docs(&one), &source)).await.unwrap().is_err());
    rig.pass(SECOND / 4).await;
    source.fail(false);
    let second = reads(&docs(&other), &source);
    rig.pass(SECOND / 4).await;
    assert!(second.is_finished(), "it does not wait for a lease that nobody has");
    assert_eq!(joined(second).await, Ok(1));
}

/// Twenty processes hold the same stale value of a hot key (FusionCache#651): one load, not twenty, and nobody waits.
#[tokio::test]
async fn a_stale_value_that_many_processes_have_is_loaded_again_by_one() {
    let rig = Rig::new();
    let (nodes, source) = (caches(&rig, 20).await, Source::new());
    for cache in &nodes {
        assert_eq!(rig.drive(reads(&docs(cache), &source)).await.unwrap(), Ok(1));
        settle().await;
    }
    rig.advance(HOUR);
    let new = source.write();
    source.gate.set(false);
    for _ in 0..3 {
        for cache in &nodes {
            assert_eq!(rig.drive(reads(&docs(cache), &source)).await.unwrap(), Ok(1));
            settle().await;
        }
        rig.pass(SECOND).await;
    }
    assert_eq!(source.loads(), 2);
    source.gate.set(true);
    settle().await;
    for cache in &nodes {
        assert_eq!(rig.drive(reads(&docs(cache), &source)).await.unwrap(), Ok(new));
    }
    assert_eq!(source.loads(), 2);
}

/// An answer that is for its first caller alone: those who wait for the lease elsewhere need not queue for one another's.
#[tokio::test]
async fn who_waits_for_an_answer_that_is_not_for_sharing_loads_without_a_lease() {
    let rig = Rig::new();
    let nodes = caches(&rig, 4).await;
    let lead = |cache: &Cache| {
        let docs = docs(cache);
        async move {
            let mut key = docs.key_writer();
            key.number(1);
            let Claim::Lead(lead) = docs.claim(key.as_bytes()) else { panic!("nothing is there") };
            let LookedUp::Nothing(lead) = lead.look_up().await else { panic!("nothing is there") };
            let Turn::Load(mut lead) = lead.turn().await else { panic!("nothing bounds the loads") };
            lead.begin();
            lead
        }
    };
    let first = lead(&nodes[0]).await;
    let others: Vec<_> = nodes[1..].iter().map(|cache| spawn(lead(cache))).collect();
    rig.pass(SECOND).await;
    assert!(others.iter().all(|other| !other.is_finished()));
    first.unshared(true);
    until("all three load side by side", || others.iter().all(JoinHandle::is_finished)).await;
}

#[tokio::test]
async fn a_policy_without_lease_asks_for_none() {
    let rig = Rig::new();
    let (nodes, source) = (caches(&rig, 3).await, Source::new());
    source.gate.set(false);
    let free = Policy::ttl(MINUTE).without_lease();
    let readers: Vec<_> =
        nodes.iter().map(|cache| reads(&cache.namespace("doc", free.clone()).unwrap(), &source)).collect();
    settle().await;
    assert_eq!(source.loads(), 3);
    source.gate.set(true);
    for reader in readers {
        assert_eq!(joined(reader).await, Ok(1));
    }
}

/// The caller that leads waits for another process, and goes away (its client hung up). Those who wait with it must neither
/// hang nor all load.
#[tokio::test]
async fn a_caller_that_goes_away_while_it_waits_for_a_lease_leaves_the_wait_to_a_task() {
    let rig = Rig::new();
    let (nodes, source) = (caches(&rig, 2).await, Source::new());
    let mut readers = under_way(&rig, &nodes[..1], &source).await;
    let leads = reads(&docs(&nodes[1]), &source);
    settle().await;
    let joins: Vec<_> = (0..20).map(|_| reads(&docs(&nodes[1]), &source)).collect();
    settle().await;
    leads.abort();
    rig.pass(SECOND).await;
    assert_eq!(source.loads(), 1);
    source.gate.set(true);
    readers.extend(joins);
    for reader in readers {
        assert_eq!(rig.drive(reader).await.unwrap(), Ok(1));
    }
    assert_eq!(source.loads(), 1);
}
