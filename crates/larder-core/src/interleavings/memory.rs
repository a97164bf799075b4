//! A cache without Redis: loads, flights, memory and invalidations side by side.

use std::convert::Infallible;
use std::sync::Arc;

use shuttle::future::{block_on, yield_now};

use super::{Database, Scheduled, Told, cache, end, explore, together};
use crate::cache::Cache;
use crate::error::LoadError;
use crate::key::Key;
use crate::namespace::{AnyKey, Claim, Fill, Flown, Namespace, NoLoader};
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::selector::Selector;
use crate::units::HOUR;

/// More loads than there are.
const LATE: u64 = 1000;

type Docs = Namespace<AnyKey, u64, NoLoader>;

fn docs(cache: &Cache, policy: Policy) -> Docs {
    cache.namespace_in_memory("a", policy, |_| 8).expect("nothing clashes")
}

/// Writers commit, then invalidate. Readers hit, load and join; a load has read the old row when the new one is committed,
/// lands after the invalidation, and is stored, or handed to one who came after it. Other keys are invalidated as well, and
/// readers who then look the rows up date the entry up: to an `n` that the rows they saw belong to.
#[test]
fn a_read_that_starts_after_an_invalidation_returns_nothing_older() {
    explore(|| {
        let runtime = Scheduled::new();
        let cache = cache(&runtime, None);
        let docs = docs(&cache, Policy::ttl(HOUR));
        let (database, told) = (Database::default(), Told::default());
        let old = database.clone();
        block_on(docs.get_or_load(1, || old.read())).expect("a load succeeds");
        let write = {
            let (docs, database, told) = (docs.clone(), database.clone(), told.clone());
            move || {
                for value in 1..=2 {
                    // Something else, so that what is still valid is looked up, too.
                    let _ = block_on(docs.invalidate(2));
                    database.commit(value);
                    let _ = block_on(docs.invalidate(1));
                    told.set(value);
                }
            }
        };
        let read = || {
            let (docs, database, told) = (docs.clone(), database.clone(), told.clone());
            move || {
                for _ in 0..2 {
                    let (least, database) = (told.get(), database.clone());
                    let value = *block_on(docs.get_or_load(1, || database.read())).expect("a load succeeds");
                    assert!(value >= least, "read {value} after {least} was invalidated");
                }
            }
        };
        together([Box::new(write), Box::new(read()), Box::new(read())]);
        let value = *block_on(docs.get_or_load(1, || database.read())).expect("a load succeeds");
        assert_eq!(value, 2, "an old value has stayed");
        end(cache, &runtime);
    });
}

/// One read that tags what it loads, by the steps that front doors take.
async fn read_tagged(docs: &Docs, database: &Database) -> u64 {
    let key = Key::of(("a", 1));
    for _ in 0..4 {
        match docs.claim(key.as_bytes()) {
            Claim::Found(found) | Claim::Stale(found, _) => return *found.value,
            Claim::Lead(mut lead) => {
                lead.begin();
                let Ok(value) = database.clone().read().await;
                let tags = Fill::new().tags(vec!["t".to_owned()]);
                return *lead.fill(Arc::new(value), &tags).value;
            }
            Claim::Join(flying) => match flying.wait().await {
                Flown::Found(found) => return *found.value,
                Flown::Again => {}
                Flown::Unshared | Flown::Failed(_) => panic!("no load here ends so"),
            },
            Claim::Apart(reason) => panic!("nothing keeps them apart: {reason:?}"),
        }
    }
    let Ok(value) = database.clone().read().await;
    value
}

/// Only the load says which tags a value has, so nobody can tell from the key whether an invalidation of a tag concerns the
/// load that is under way. One who joins it after the invalidation must not get what it had read before.
#[test]
fn one_who_joins_after_a_tag_was_invalidated_gets_nothing_older() {
    explore(|| {
        let runtime = Scheduled::new();
        let cache = cache(&runtime, None);
        let docs = docs(&cache, Policy::ttl(HOUR));
        let (database, told) = (Database::default(), Told::default());
        let write = {
            let (cache, database, told) = (cache.clone(), database.clone(), told.clone());
            move || {
                database.commit(1);
                let _ = block_on(cache.invalidate([Selector::tag("t")]));
                told.set(1);
            }
        };
        let read = || {
            let (docs, database, told) = (docs.clone(), database.clone(), told.clone());
            move || {
                for _ in 0..2 {
                    let least = told.get();
                    let value = block_on(read_tagged(&docs, &database));
                    assert!(value >= least, "read {value} after {least} was invalidated");
                }
            }
        };
        together([Box::new(write), Box::new(read()), Box::new(read())]);
        end(cache, &runtime);
    });
}

/// An entry is fresh for an hour and is expired. Readers find out at the same time: each marks it stale and dates it up,
/// and between the two it must not look like a fresh one that was checked just now. Refreshes run beside them.
#[test]
fn an_entry_that_was_expired_is_never_fresh_again() {
    explore(|| {
        let runtime = Scheduled::new();
        let cache = cache(&runtime, None);
        let (database, told) = (Database::default(), Told::default());
        let docs = docs(&cache, Policy::ttl(HOUR).stale_while_revalidate(HOUR)).loader({
            let database = database.clone();
            move |_: u64| database.clone().read()
        });
        block_on(docs.load(1)).expect("a load succeeds");
        let write = {
            let (docs, told) = (docs.clone(), told.clone());
            move || {
                database.commit(1);
                let _ = block_on(docs.expire(1));
                told.set(1);
            }
        };
        let read = || {
            let (docs, told) = (docs.clone(), told.clone());
            move || {
                for _ in 0..2 {
                    let least = told.get();
                    let hit = block_on(docs.fetch(1)).expect("a load succeeds");
                    assert!(*hit.value >= least || hit.outcome == Outcome::Stale, "{:?} again", hit.outcome);
                }
            }
        };
        together([Box::new(write), Box::new(read()), Box::new(read())]);
        end(cache, &runtime);
    });
}

/// A cache is shut down while reads load. Those that have begun are waited for, and when that is over none begins any more;
/// everybody has an answer.
#[test]
fn when_a_shutdown_is_over_no_load_is_under_way_and_none_begins() {
    explore(|| {
        let runtime = Scheduled::new();
        let cache = cache(&runtime, None);
        let docs = docs(&cache, Policy::ttl(HOUR));
        let (begun, ended) = (Told::default(), Told::default());
        let read = |key: u64| {
            let (docs, begun, ended) = (docs.clone(), begun.clone(), ended.clone());
            move || {
                let load = || async move {
                    begun.set(begun.get() + 1);
                    yield_now().await;
                    yield_now().await;
                    ended.set(ended.get() + 1);
                    Ok::<_, Infallible>(7)
                };
                match block_on(docs.get_or_load(key, load)) {
                    Ok(value) => assert_eq!(*value, 7),
                    Err(error) => assert!(matches!(error, LoadError::ShuttingDown), "{error}"),
                }
            }
        };
        let (over, before) = (begun.clone(), ended.clone());
        let shut = {
            let (cache, runtime) = (cache.clone(), runtime.clone());
            move || {
                end(cache, &runtime);
                assert_eq!(over.get(), before.get(), "a load is still under way");
                before.set(LATE);
            }
        };
        together([Box::new(shut), Box::new(read(1)), Box::new(read(1)), Box::new(read(2))]);
        assert!(ended.get() == LATE, "a load has ended after all was over");
        end(cache, &runtime);
    });
}
