//! Entries of one tenant that come and go side by side.

use shuttle::future::block_on;

use super::{Scheduled, cache, end, explore, together};
use crate::policy::{Policy, Share};
use crate::units::HOUR;

/// Room for one entry, and two that come at one time. Each makes room for itself: what the other has counted may be the
/// oldest before it is in its place, and would stay there, counted by nobody. Or both make room, and nothing is left.
#[test]
fn what_is_counted_to_a_share_is_what_is_there() {
    explore(|| {
        let runtime = Scheduled::new();
        let cache = cache(&runtime, None);
        let policy = Policy::ttl(HOUR).share(Share::of_segment(0).memory(700));
        let docs = cache.namespace_in_memory::<u64>("a", policy, |_| 100).expect("nothing clashes");
        let put = |first: u64| {
            let docs = docs.clone();
            move || {
                for key in [first, first + 1] {
                    docs.put(("tenant", key), key);
                }
            }
        };
        together([Box::new(put(1)), Box::new(put(2))]);
        let stats = cache.stats();
        assert_eq!((stats.memory_entries, stats.share_partitions), (1, 1), "entries, tenants with one");
        for key in 1..=3_u64 {
            let _ = block_on(docs.remove(("tenant", key)));
        }
        let stats = cache.stats();
        assert_eq!((stats.memory_entries, stats.share_partitions), (0, 0), "entries, tenants with one");
        drop(docs);
        end(cache, &runtime);
    });
}
