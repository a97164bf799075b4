//! Values put by hand while a load of the same key is under way.

use std::convert::Infallible;

use shuttle::future::{block_on, yield_now};
use tokio::sync::watch;

use super::{Scheduled, cache, end, explore, together};
use crate::envelope::Envelope;
use crate::policy::Policy;
use crate::testing::TestRemote;
use crate::units::HOUR;

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
            let (docs, read_old) = (docs.clone(), read_old.clone());
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
        let here = block_on(docs.get(1));
        drop(docs);
        // Waits for the stores under way.
        end(cache, &runtime);
        let there =
            remote.bytes("a:1").map(|bytes| Envelope::decode(&bytes).expect("it is an entry").payload);
        assert_eq!((here.as_deref(), there.as_deref()), (Some(&1), Some(&b"1"[..])), "memory, Redis");
    });
}
