//! Who loads of two processes, and what is left of a stale value when a load fails.
//!
//! Time stands still, so nobody asks again for a lease that he was refused: he goes on only if he is rung for.

use std::convert::Infallible;
use std::sync::Arc;

use shuttle::future::block_on;

use super::{Database, Scheduled, Told, cache, end, end_all, explore, together};
use crate::cache::Cache;
use crate::error::LoadError;
use crate::namespace::{AnyKey, Namespace, NoLoader};
use crate::policy::Policy;
use crate::testing::TestRemote;
use crate::units::HOUR;

type Docs = Namespace<AnyKey, u64, NoLoader>;

/// Two processes on one Redis.
fn nodes(runtime: &Arc<Scheduled>) -> [Cache; 2] {
    let first = TestRemote::new(runtime.clone());
    let second = TestRemote::on(first.redis().clone(), runtime.clone(), 2);
    [&first, &second].map(|remote| cache(runtime, Some(remote)))
}

fn docs(cache: &Cache) -> Docs {
    cache.namespace("a", Policy::ttl(HOUR)).expect("nothing clashes")
}

/// Two processes miss one key at the same time. One loads; the other asks for the lease before, while or after that, and is
/// rung for or finds the value, whenever the load, its store and the answers end.
#[test]
fn of_two_processes_one_loads_and_the_other_is_woken_by_its_fill() {
    explore(|| {
        let runtime = Scheduled::new();
        let caches = nodes(&runtime);
        let loads = Told::default();
        let read = |cache: &Cache| {
            let (docs, loads) = (docs(cache), loads.clone());
            move || {
                let load = move || async move {
                    loads.add(1);
                    Database::default().read().await
                };
                assert_eq!(*block_on(docs.get_or_load(1, load)).expect("a load succeeds"), 0);
            }
        };
        together([Box::new(read(&caches[0])), Box::new(read(&caches[1])), Box::new(read(&caches[1]))]);
        assert_eq!(loads.get(), 1, "once for both");
        assert!(caches.iter().all(|cache| cache.stats().leases == 0));
        end_all(caches, &runtime);
    });
}

/// The load of one process fails, at any time. The other one waits for its lease, or is about to: it takes over, and hangs in
/// no order of things.
#[test]
fn of_two_processes_the_other_takes_over_when_the_load_of_one_fails() {
    explore(|| {
        let runtime = Scheduled::new();
        let caches = nodes(&runtime);
        let [failing, other] = [0, 1].map(|i| docs(&caches[i]));
        let fail = move || {
            let load = || async {
                let Ok(_) = Database::default().read().await;
                Err::<u64, _>("the source is away")
            };
            // Or the other one was first, and it has his value.
            let _ = block_on(failing.get_or_load(1, load));
        };
        let take_over = move || {
            let load = || Database::default().read();
            assert_eq!(*block_on(other.get_or_load(1, load)).expect("a load succeeds"), 0);
        };
        together([Box::new(fail), Box::new(take_over)]);
        end_all(caches, &runtime);
    });
}

/// An entry is past its life, and may be served only if its load fails. Loads fail; meanwhile it is invalidated for good.
/// Whoever reads after that must not get it: not from the flight that kept it for him, nor from memory.
#[test]
fn what_is_kept_for_a_load_that_fails_is_not_served_after_an_invalidation() {
    explore(|| {
        let runtime = Scheduled::new();
        let cache = cache(&runtime, None);
        let policy = Policy::ttl(HOUR).stale_if_error(HOUR).jitter(0.0);
        let docs = cache.namespace::<u64>("a", policy).expect("nothing clashes");
        assert!(docs.put(1, 7));
        runtime.clock.set(runtime.clock.now().plus(HOUR + HOUR / 2));
        let told = Told::default();
        let read = || {
            let (docs, told) = (docs.clone(), told.clone());
            move || {
                for _ in 0..2 {
                    let invalidated = told.get() == 1;
                    let load = || async {
                        let Ok(_) = Database::default().read().await;
                        Err::<u64, _>("the source is away")
                    };
                    match block_on(docs.get_or_load(1, load)) {
                        Ok(value) => assert!(*value == 7 && !invalidated, "served after it was invalidated"),
                        Err(error) => assert!(matches!(error, LoadError::Loader(_)), "{error:?}"),
                    }
                }
            }
        };
        let invalidate = {
            let (docs, told) = (docs.clone(), told.clone());
            move || {
                let _ = block_on(docs.invalidate(1));
                told.set(1);
            }
        };
        together([Box::new(invalidate), Box::new(read()), Box::new(read())]);
        assert_eq!(
            block_on(docs.get_or_load(1, || async { Ok::<_, Infallible>(8) })).map(|value| *value),
            Ok(8)
        );
        drop(docs);
        end(cache, &runtime);
    });
}
