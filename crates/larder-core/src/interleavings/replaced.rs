//! Values put by hand while others load and put the same key.

use std::convert::Infallible;

use shuttle::future::{block_on, yield_now};
use tokio::sync::watch;

use super::{Scheduled, cache, end, explore, together};
use crate::cache::Cache;
use crate::codec::{Codec, Json};
use crate::envelope::Envelope;
use crate::namespace::{AnyKey, Namespace, NoLoader};
use crate::policy::Policy;
use crate::testing::TestRemote;
use crate::units::HOUR;

type Docs = Namespace<AnyKey, u64, NoLoader>;

/// What memory has in the end, and Redis.
fn stored(docs: Docs, cache: Cache, runtime: &Scheduled, remote: &TestRemote) -> (Option<u64>, Option<u64>) {
    let here = block_on(docs.get(1)).map(|value| *value);
    drop(docs);
    // Waits for the stores under way.
    end(cache, runtime);
    let there = remote.bytes("a:1").map(|bytes| {
        let entry = Envelope::decode(&bytes).expect("it is an entry");
        Json.decode(&entry.payload).expect("it is a number")
    });
    (here, there)
}

/// A load has read the old row. The writer commits and puts the new value by hand; the load ends before, between and after
/// the steps of that. It may store nothing over what was put, in memory or in Redis.
#[test]
fn a_load_that_was_under_way_stores_nothing_over_what_was_put() {
    explore(|| {
        let runtime = Scheduled::new();
        let remote = TestRemote::new(runtime.clone());
        let cache = cache(&runtime, Some(&remote));
        let docs = cache.namespace::<u64>("a", Policy::ttl(HOUR)).expect("nothing clashes");
        let read_old = watch::Sender::new(false);
        let put = {
            let (docs, mut read_old) = (docs.clone(), read_old.subscribe());
            move || {
                block_on(read_old.wait_for(|read| *read)).expect("the sender lives as long as the test");
                assert!(docs.put(1, 1));
            }
        };
        let read = {
            let (docs, read_old) = (docs.clone(), read_old);
            move || {
                let load = move || async move {
                    read_old.send_replace(true);
                    yield_now().await;
                    yield_now().await;
                    Ok::<_, Infallible>(0)
                };
                block_on(docs.get_or_load(1, load)).expect("a load succeeds");
            }
        };
        together([Box::new(put), Box::new(read)]);
        assert_eq!(stored(docs, cache, &runtime, &remote), (Some(1), Some(1)), "memory, Redis");
    });
}

/// Two puts at one time, and each takes two steps: into memory, and into the queue for Redis. Memory and Redis must not end
/// with different values.
#[test]
fn memory_and_redis_end_with_the_same_of_two_values_that_are_put() {
    explore(|| {
        let runtime = Scheduled::new();
        let remote = TestRemote::new(runtime.clone());
        let cache = cache(&runtime, Some(&remote));
        let docs = cache.namespace::<u64>("a", Policy::ttl(HOUR)).expect("nothing clashes");
        let put = |value| {
            let docs = docs.clone();
            move || assert!(docs.put(1, value))
        };
        together([Box::new(put(1)), Box::new(put(2))]);
        let (here, there) = stored(docs, cache, &runtime, &remote);
        assert!(here.is_some() && here == there, "memory has {here:?}, Redis {there:?}");
    });
}
