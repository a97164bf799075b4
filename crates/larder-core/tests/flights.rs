//! One load for everybody: leaders that go away, panic, hang or fail, and those who wait for them.

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use common::*;
use larder_core::testing::ManualRuntime;
use larder_core::units::{MIB, SECOND};
use larder_core::{AnyKey, Cache, Claim, LoadError, Namespace, NoLoader, Policy};

type Read = Result<Arc<u64>, LoadError<&'static str>>;

/// `count` reads of `doc:1` that began while a load was under way.
async fn readers(docs: &Docs, source: &Arc<Source>, count: usize) -> Vec<tokio::task::JoinHandle<Read>> {
    let readers = (0..count).map(|_| {
        let (docs, source) = (docs.clone(), source.clone());
        spawn(async move { docs.get_or_load(1_u64, move || source.read()).await })
    });
    let readers = readers.collect();
    settle().await;
    readers
}

#[tokio::test]
async fn a_thousand_simultaneous_misses_load_once() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let (docs, source) = (docs(&cache), Source::new());
    source.gate.set(false);
    let readers = readers(&docs, &source, 1000).await;
    assert_eq!((source.loads(), cache.stats().flights), (1, 1));
    source.gate.set(true);
    for reader in readers {
        assert_eq!(*joined(reader).await.unwrap(), 1);
    }
    let stats = cache.stats();
    let doc = &stats.namespaces["doc"];
    assert_eq!((source.loads(), doc.misses, doc.coalesced, stats.flights), (1, 1, 999, 0));
}

/// The client whose request leads the load disconnects. Its future is dropped in the middle: the load must go on, for the
/// others and for the cache (hitbox: followers hang for ever; multi-tier-cache: every follower loads).
#[tokio::test]
async fn a_leader_whose_caller_goes_away_completes_its_load_for_the_others() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let (docs, source) = (docs(&cache), Source::new());
    source.gate.set(false);
    let mut readers = readers(&docs, &source, 50).await;
    readers.remove(0).abort();
    settle().await;
    source.gate.set(true);
    for reader in readers {
        assert_eq!(*joined(reader).await.unwrap(), 1);
    }
    assert_eq!(source.loads(), 1);
}

/// The leader's caller goes away while the remote tier is being asked, before anything was loaded. Exactly one of those
/// who wait takes over.
#[tokio::test]
async fn a_lead_dropped_during_the_remote_look_up_passes_on_to_one_waiter() {
    let rig = Rig::new();
    let gated = GatedRemote::new(rig.remote.clone());
    let cache = rig.builder().remote(gated.clone()).build().await.unwrap();
    let (docs, source) = (docs(&cache), Source::new());
    settle().await;
    // A new connection is tried with a GET.
    let before = gated.read_so_far();
    gated.gets.set(false);
    let mut readers = readers(&docs, &source, 50).await;
    assert_eq!((gated.read_so_far() - before, source.loads()), (1, 0));
    readers.remove(0).abort();
    settle().await;
    gated.gets.set(true);
    for reader in readers {
        assert_eq!(*joined(reader).await.unwrap(), 1);
    }
    assert_eq!((gated.read_so_far() - before, source.loads()), (2, 1));
    assert_eq!(cache.stats().flights, 0);
}

/// Loaders panic: before their first await, after it, and while being called. Everybody who waited hears of it, nobody
/// hangs, nobody else's task dies, and the key can be loaded again at once (hitbox keeps it locked for ever).
#[tokio::test]
async fn a_panic_reaches_every_waiter_as_an_error_and_the_key_loads_again() {
    #[derive(Clone, Copy, Debug)]
    enum When {
        Calling,
        FirstStep,
        LaterStep,
    }
    for when in [When::Calling, When::FirstStep, When::LaterStep] {
        let runtime = ManualRuntime::new(1);
        let cache = alone(&runtime).await;
        let (docs, gate) = (docs(&cache), Arc::new(Gate::open()));
        gate.set(false);
        let bad = docs.clone().loader({
            let gate = gate.clone();
            move |_: u64| {
                assert!(!matches!(when, When::Calling), "by design");
                let pass = gate.pass();
                async move {
                    assert!(!matches!(when, When::FirstStep), "by design");
                    pass.await;
                    assert!(!matches!(when, When::LaterStep), "by design");
                    Ok::<_, &'static str>(1)
                }
            }
        });
        let readers: Vec<_> = (0..20)
            .map(|_| {
                let bad = bad.clone();
                spawn(async move { bad.load(1_u64).await })
            })
            .collect();
        settle().await;
        gate.set(true);
        for reader in readers {
            assert!(matches!(joined(reader).await, Err(LoadError::Panicked)), "{when:?}");
        }
        let again = docs.get_or_load(1_u64, || async { Ok::<_, &'static str>(7) }).await;
        assert_eq!((*again.unwrap(), cache.stats().flights), (7, 0), "{when:?}");
    }
}

/// A loader hangs and holds a connection. Freeing the waiters is not enough (six production incidents in
/// Altinn/dialogporten#4252): the loader itself must be dropped, and the key be free.
#[tokio::test]
async fn a_loader_that_hangs_is_dropped_after_the_load_timeout_and_everybody_hears() {
    struct Connection(Arc<AtomicBool>);
    impl Drop for Connection {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let docs = cache.namespace::<u64>("doc", policy().load_timeout(5 * SECOND)).unwrap();
    let released = Arc::new(AtomicBool::new(false));
    let hanging = docs.clone().loader({
        let released = released.clone();
        move |_: u64| {
            let connection = Connection(released.clone());
            async move {
                std::future::pending::<()>().await;
                drop(connection);
                Ok::<_, &'static str>(1)
            }
        }
    });
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let hanging = hanging.clone();
            spawn(async move { hanging.load(1_u64).await })
        })
        .collect();
    settle().await;
    runtime.advance(5 * SECOND - Duration::from_millis(1));
    settle().await;
    assert!(!readers[0].is_finished() && !released.load(Ordering::SeqCst));
    runtime.advance(Duration::from_millis(1));
    for reader in readers {
        assert!(matches!(joined(reader).await, Err(LoadError::TimedOut)));
    }
    assert!(released.load(Ordering::SeqCst));
    assert_eq!(*docs.get_or_load(1_u64, || async { Ok::<_, Infallible>(7) }).await.unwrap(), 7);
}

#[tokio::test]
async fn an_error_is_shared_by_those_who_waited_and_remembered_by_nobody() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let (docs, source) = (docs(&cache), Source::new());
    source.gate.set(false);
    source.fail(true);
    let readers = readers(&docs, &source, 20).await;
    source.gate.set(true);
    let mut errors = Vec::new();
    for reader in readers {
        let Err(LoadError::Loader(error)) = joined(reader).await else { panic!("the loader failed") };
        errors.push(error);
    }
    assert!(errors.iter().all(|e| Arc::ptr_eq(e, &errors[0])), "one error, not twenty");
    assert_eq!(source.loads(), 1);
    source.fail(false);
    assert_eq!(*docs.get_or_load(1_u64, move || source.read()).await.unwrap(), 1);
}

/// Two pieces of code load the same key with errors of different types. The second cannot be told the first one's error:
/// its own loader runs, once, for all who are like it.
#[tokio::test]
async fn a_waiter_whose_error_type_differs_runs_its_own_load() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let (docs, source) = (docs(&cache), Source::new());
    source.gate.set(false);
    source.fail(true);
    let first = readers(&docs, &source, 1).await.remove(0);
    let own = Arc::new(AtomicUsize::new(0));
    let others: Vec<_> = (0..10)
        .map(|_| {
            let (docs, own) = (docs.clone(), own.clone());
            spawn(async move {
                let load = move || async move {
                    own.fetch_add(1, Ordering::SeqCst);
                    // Long enough for the others to come: the first wait of a load is over at once.
                    settle().await;
                    Err::<u64, u8>(9)
                };
                docs.get_or_load(1_u64, load).await
            })
        })
        .collect();
    settle().await;
    source.gate.set(true);
    assert_eq!(joined(first).await.unwrap_err().loader_error(), Some(&"the source is away"));
    for other in others {
        assert_eq!(joined(other).await.unwrap_err().loader_error(), Some(&9));
    }
    assert_eq!(own.load(Ordering::SeqCst), 1);
}

/// Readers overlap without a pause, so that somebody always still holds the last flight. If an ended flight could be
/// joined, they would hand its value on for ever (cachet: 1.7 million stale reads).
#[tokio::test]
async fn an_ended_flight_is_not_joined_however_long_somebody_holds_it() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let (docs, source) = (docs(&cache), Source::new());
    source.gate.set(false);
    let mut key = docs.key_writer();
    key.number(1);
    let leader = spawn(read(docs.clone(), source.clone()));
    until("the load has begun", || source.loads() == 1).await;
    let Claim::Join(held) = docs.claim(key.as_bytes()) else { panic!("a load is under way") };
    source.gate.set(true);
    joined(leader).await;
    source.write();
    let _ = docs.invalidate(1_u64).await;
    for _ in 0..100 {
        assert_eq!(read(docs.clone(), source.clone()).await.0, 2);
    }
    drop(held);
}

#[tokio::test]
async fn a_loader_may_load_another_key() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let docs = docs(&cache);
    let inner = docs.clone();
    let sum = docs
        .get_or_load(1_u64, move || async move {
            tokio::task::yield_now().await;
            let two = inner.get_or_load(2_u64, || async { Ok::<_, Infallible>(2) }).await.unwrap();
            Ok::<_, Infallible>(*two + 1)
        })
        .await;
    assert_eq!(*sum.unwrap(), 3);
}

/// A loader asks for the key it is loading, or for one whose loader asks for it, and so waits for itself. That is a mistake,
/// and it is told. Where another task asks, nobody can see it; then the load timeout ends it.
#[tokio::test]
async fn a_loader_that_waits_for_itself_is_told_and_from_another_task_ends_by_the_load_timeout() {
    type Of = LoadError<Infallible>;
    let rig = Rig::new();
    let cache = rig.builder().build().await.unwrap();
    let docs = cache.namespace::<u64>("doc", policy().load_timeout(SECOND)).unwrap();
    let other = |docs: Namespace<AnyKey, u64, NoLoader>, key: u64| async move {
        docs.get_or_load(key, || async { Ok::<_, Infallible>(2) }).await.map(|v| *v)
    };
    let inner = docs.clone();
    let outer = docs.get_or_load(1_u64, move || other(inner, 1)).await;
    assert!(matches!(outer.unwrap_err().loader_error(), Some(Of::Recursive)));
    let (first, second) = (docs.clone(), docs.clone());
    let around = docs.get_or_load(1_u64, move || async move {
        let of_two = first.get_or_load(2_u64, move || async move {
            tokio::task::yield_now().await;
            other(second, 1).await
        });
        of_two.await.map(|v| *v)
    });
    let around = around.await.unwrap_err();
    let of_two = around.loader_error().and_then(LoadError::loader_error);
    assert!(matches!(of_two, Some(Of::Recursive)), "{around:?}");
    let inner = docs.clone();
    let apart = docs.get_or_load(1_u64, move || async move { joined(spawn(other(inner, 1))).await });
    let result = rig.drive(apart).await;
    assert!(matches!(result, Err(LoadError::TimedOut)), "{result:?}");
    assert_eq!(cache.stats().flights, 0);
}

/// A load is superseded by a `put` and another load of the key begins: two flights of one key are open. The count of
/// flights must come back to zero, or `shutdown` waits for ever and the cache is overloaded one day.
#[tokio::test]
async fn flights_are_counted_right_when_a_put_supersedes_one() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let (docs, source) = (docs(&cache), Source::new());
    source.gate.set(false);
    let first = spawn(read(docs.clone(), source.clone()));
    until("the first has begun", || source.loads() == 1).await;
    assert!(docs.put(1_u64, 5));
    let _ = docs.invalidate(1_u64).await;
    let second = spawn(read(docs.clone(), source.clone()));
    until("the second has begun", || source.loads() == 2).await;
    assert_eq!(cache.stats().flights, 2);
    source.gate.set(true);
    joined(first).await;
    joined(second).await;
    assert_eq!(cache.stats().flights, 0);
    assert!(cache.shutdown(SECOND).await);
}

/// A reader misses memory, is overtaken by a load that begins and ends, and only then looks for a flight. It must find the
/// value, not begin a load of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_no_key_is_loaded_twice() {
    const KEYS: u64 = 20_000;
    let cache = Cache::builder().memory(64 * MIB).build().await.unwrap();
    let docs = cache.namespace::<u64>("doc", Policy::default()).unwrap();
    let loads = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (docs, loads) = (docs.clone(), loads.clone());
            spawn(async move {
                for key in 0..KEYS {
                    let loads = loads.clone();
                    let load = move || async move {
                        loads.fetch_add(1, Ordering::Relaxed);
                        Ok::<_, Infallible>(key)
                    };
                    docs.get_or_load(key, load).await.unwrap();
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(loads.load(Ordering::Relaxed) as u64, KEYS);
}

/// A busy machine suspends the thread of a leader between its look into memory and its load, for a tenth of a second. Those
/// who wait took it for gone, loaded once more, and the leader's own caller was told that his load had timed out.
#[tokio::test]
async fn a_leader_that_is_held_up_for_a_moment_on_its_way_to_the_load_keeps_it() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let (docs, source) = (docs(&cache), Source::new());
    let mut key = docs.key_writer();
    key.number(1);
    let Claim::Lead(mut lead) = docs.claim(key.as_bytes()) else { panic!("nothing is there") };
    let readers = readers(&docs, &source, 10).await;
    runtime.advance(Duration::from_millis(100));
    settle().await;
    lead.begin();
    settle().await;
    let found = lead.fill(Arc::new(7), &larder_core::Fill::new());
    assert_eq!(*found.value, 7);
    for reader in readers {
        assert_eq!(*joined(reader).await.unwrap(), 7);
    }
    assert_eq!(source.loads(), 0);
}

/// Real threads, no order but what the engine makes: the oracle of all the rest, under true concurrency. A writer commits
/// and invalidates; a read that starts afterwards must see at least that version.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_no_read_sees_what_was_invalidated_before_it_began() {
    let cache = Cache::builder().memory(16 * MIB).build().await.unwrap();
    let docs = cache.namespace::<u64>("doc", Policy::default()).unwrap();
    let (source, floor) = (Source::new(), Arc::new(AtomicUsize::new(0)));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (docs, source, floor) = (docs.clone(), source.clone(), floor.clone());
            spawn(async move {
                loop {
                    let least = floor.load(Ordering::SeqCst);
                    let source = source.clone();
                    let load = move || async move {
                        let version = source.clone().read().await;
                        tokio::task::yield_now().await;
                        version
                    };
                    let value = *docs.get_or_load(1_u64, load).await.unwrap();
                    assert!(usize::try_from(value).unwrap() >= least, "{value} after {least}");
                    if least >= 3000 {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    while floor.load(Ordering::SeqCst) < 3000 {
        let version = source.write();
        let _ = docs.invalidate(1_u64).await;
        floor.store(usize::try_from(version).unwrap(), Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

/// A caller that is alone with its load polls it itself. Then it stops polling, without going away (a branch of a `select!`
/// that is never come back to), and somebody else asks for the key: the load must not stand still with the first caller.
#[tokio::test]
async fn a_load_whose_caller_has_stopped_polling_goes_on_as_soon_as_somebody_else_needs_it() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let (docs, source) = (docs(&cache), Source::new());
    source.gate.set(false);
    let (own, of_source) = (docs.clone(), source.clone());
    let mut idle = Box::pin(async move { own.get_or_load(1_u64, move || of_source.read()).await });
    let first = std::future::poll_fn(|cx| std::task::Poll::Ready(idle.as_mut().poll(cx).is_pending()));
    assert!(first.await && source.loads() == 1);
    let second = readers(&docs, &source, 1).await.remove(0);
    source.gate.set(true);
    assert_eq!(joined(second).await.unwrap(), joined(spawn(idle)).await.unwrap());
    assert_eq!(source.loads(), 1);
}

/// Ten readers wait for one load whose value is too large to keep. They all get it, and none is told that a tier has it.
#[tokio::test]
async fn those_who_waited_hear_whether_the_value_was_stored() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    for (bound, stored) in [(1, false), (1000, true)] {
        let policy = Policy::ttl(60 * SECOND).max_stored_size(bound);
        let name = format!("sized{bound}");
        let handle = cache.namespace_in_memory::<Vec<u8>>(name.as_str(), policy, Vec::len).unwrap();
        let mut key = handle.key_writer();
        key.number(1);
        let Claim::Lead(mut lead) = handle.claim(key.as_bytes()) else { panic!("nothing is there") };
        let Claim::Join(waiter) = handle.claim(key.as_bytes()) else { panic!("a load is under way") };
        lead.begin();
        assert_eq!(lead.fill(Arc::new(vec![0; 100]), &larder_core::Fill::new()).stored, stored);
        let larder_core::Flown::Found(found) = waiter.wait().await else { panic!("the load went well") };
        assert_eq!((found.value.len(), found.stored), (100, stored));
    }
}

/// The same, but the second caller comes while the first one is still in the very first poll of the loader: before there is
/// anything to hand over. It must be handed over as soon as there is.
#[tokio::test]
async fn a_load_joined_during_its_first_poll_does_not_depend_on_its_first_caller_either() {
    let runtime = ManualRuntime::new(1);
    let cache = alone(&runtime).await;
    let (docs, source) = (docs(&cache), Source::new());
    source.gate.set(false);
    let early = Arc::new(parking_lot::Mutex::new(None));
    let (own, other, of_source, place) = (docs.clone(), docs.clone(), source.clone(), early.clone());
    let load = move || async move {
        let read =
            async move { other.get_or_load(1_u64, || async { Err::<u64, _>("one load for both") }).await };
        let mut second = Box::pin(read);
        // In a thread of its own: in this one it would be the loader that waits for itself.
        let once = || second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(std::thread::scope(|scope| scope.spawn(once).join().unwrap()), "it joins");
        *place.lock() = Some(second);
        of_source.read().await
    };
    let mut idle = Box::pin(async move { own.get_or_load(1_u64, load).await });
    let first = std::future::poll_fn(|cx| std::task::Poll::Ready(idle.as_mut().poll(cx).is_pending()));
    assert!(first.await);
    let second = spawn(early.lock().take().expect("it joined"));
    settle().await;
    source.gate.set(true);
    assert_eq!(joined(second).await.unwrap(), joined(spawn(idle)).await.unwrap());
    assert_eq!(source.loads(), 1);
}
