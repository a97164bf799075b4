//! A node with Redis behind it, and its log: the driver runs as it does in a process.

use shuttle::future::block_on;

use super::{Database, Scheduled, Told, cache, end, explore, together};
use crate::codec::Json;
use crate::log::{Append, Arrival, Author, Mode};
use crate::namespace::{AnyKey, Namespace, NoLoader};
use crate::policy::Policy;
use crate::remote::Remote;
use crate::testing::TestRemote;
use crate::units::HOUR;

type Docs = Namespace<AnyKey, u64, NoLoader>;

/// Reads twice, and finds nothing older than what was told before each read.
fn reader(docs: &Docs, database: &Database, told: &Told) -> impl FnOnce() + Send + 'static {
    let (docs, database, told) = (docs.clone(), database.clone(), told.clone());
    move || {
        for _ in 0..2 {
            let (least, database) = (told.get(), database.clone());
            let value = *block_on(docs.get_or_load(1, || database.read())).expect("a load succeeds");
            assert!(value >= least, "read {value} after {least} was invalidated");
        }
    }
}

fn nothing_old_has_stayed(docs: &Docs) {
    let value = block_on(docs.get(1));
    assert!(value.is_none_or(|value| *value == 1), "an old value has stayed");
}

/// Two handles on one namespace: one keeps values in memory too, the other asks Redis at each read. A writer commits and
/// invalidates: here at once, in the log a moment later, and back through it. Loads that had read the old row store it in
/// memory, and in Redis, at any time in between.
#[test]
fn a_read_that_starts_after_an_invalidation_returns_nothing_older_from_redis_either() {
    explore(|| {
        let runtime = Scheduled::new();
        let remote = TestRemote::new(runtime.clone());
        let cache = cache(&runtime, Some(&remote));
        let docs = |policy| cache.front_door::<u64>("a", policy, Json, |_| 8).expect("nothing clashes");
        let (both, redis) = (docs(Policy::ttl(HOUR)), docs(Policy::ttl(HOUR).remote_only()));
        let (database, told) = (Database::default(), Told::default());
        let write = {
            let (docs, database, told) = (both.clone(), database.clone(), told.clone());
            move || {
                database.commit(1);
                let _ = block_on(docs.invalidate(1));
                told.set(1);
            }
        };
        let read = |docs| reader(docs, &database, &told);
        together([Box::new(write), Box::new(read(&both)), Box::new(read(&redis))]);
        [&both, &redis].into_iter().for_each(nothing_old_has_stayed);
        drop((both, redis));
        end(cache, &runtime);
    });
}

/// Another node writes and invalidates. Whoever here waits until this node has reached the record, and then reads, finds
/// nothing older: not in memory, where an entry from before lies and others look at it while the record is applied, nor in
/// Redis, nor from a load that had read the old row.
#[test]
fn a_read_on_a_node_that_has_reached_a_record_returns_nothing_older() {
    explore(|| {
        let runtime = Scheduled::new();
        let remote = TestRemote::new(runtime.clone());
        let cache = cache(&runtime, Some(&remote));
        let docs = |policy| cache.front_door::<u64>("a", policy, Json, |_| 8).expect("nothing clashes");
        let (both, redis) = (docs(Policy::ttl(HOUR)), docs(Policy::ttl(HOUR).remote_only()));
        let (database, told) = (Database::default(), Told::default());
        let old = database.clone();
        block_on(both.get_or_load(1, || old.read())).expect("a load succeeds");
        let write = {
            let cache = cache.clone();
            let (database, told) = (database.clone(), told.clone());
            move || {
                database.commit(1);
                let append = Append {
                    mode: Mode::Hard,
                    selectors: vec!["a:1".to_owned()],
                    op: 5,
                    author: Author::default(),
                };
                let token = block_on(remote.append(&append, None, 0)).expect("the log is there");
                assert_eq!(block_on(cache.arrive(token)), Arrival::Arrived);
                told.set(1);
            }
        };
        let read = |docs| reader(docs, &database, &told);
        together([Box::new(write), Box::new(read(&both)), Box::new(read(&both)), Box::new(read(&redis))]);
        [&both, &redis].into_iter().for_each(nothing_old_has_stayed);
        drop((both, redis));
        end(cache, &runtime);
    });
}
