//! Lesson 25: two releases of a service side by side, with a type that has changed.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder::units::HOUR;
use larder::{Cache, Namespace, NoLoader, Policy, redis::Redis};
use larder_testkit::{RedisServer, wait_until};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::support::{SOON, calls, no_lease};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Before {
    height: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct After {
    height: String,
    county: u32,
}

type Trigs<V> = Namespace<larder::AnyKey, V, NoLoader>;

/// A process of a release. `schema`: both releases call their types the same, and only decoding tells them apart.
async fn process<V>(server: &RedisServer, schema: Option<&str>) -> (Cache, Trigs<V>)
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let cache = Cache::builder().remote(Redis::at(server.url())).remote_budget(SOON).build().await.unwrap();
    let trigs = cache.namespace::<V>("trig", Policy::ttl(HOUR).remote_only()).unwrap();
    let trigs = match schema {
        Some(schema) => trigs.schema(schema),
        None => trigs,
    };
    (cache, trigs)
}

async fn read<V: Clone + Send + Sync + 'static>(
    trigs: &Trigs<V>,
    key: u64,
    value: &V,
    loads: &Arc<AtomicUsize>,
) -> V {
    let (value, loads) = (value.clone(), loads.clone());
    let load = move || async move {
        loads.fetch_add(1, Ordering::SeqCst);
        Ok::<_, Infallible>(value)
    };
    (*trigs.get_or_load(key, load).await.unwrap()).clone()
}

/// Lesson 25 (FusionCache#324, #388, #386; Altinn PR#1535; rate-ukma#622): a deploy changes a type. Reads explode, or serve the old
/// shape, until somebody empties the cache. And with leases: the release that finds a value it cannot read is told again and again
/// that there is one, and asks for ever, or waits for a load of the other release that is of no use to it.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_25_two_releases_that_cannot_read_each_other_load_for_themselves_and_do_not_spin() {
    for schema in [None, Some("Trig")] {
        let server = RedisServer::start().await;
        let ((old_cache, old), (new_cache, new)) =
            (process::<Before>(&server, schema).await, process::<After>(&server, schema).await);
        let (before, after) = (Before { height: 636 }, After { height: "636 m".into(), county: 7 });
        let loads = Arc::new(AtomicUsize::new(0));

        // One after the other: each overwrites what it cannot read, once.
        assert_eq!(read(&old, 1, &before, &loads).await, before);
        no_lease(&server).await;
        assert_eq!(read(&new, 1, &after, &loads).await, after);
        no_lease(&server).await;
        assert_eq!(read(&new, 1, &after, &loads).await, after);
        assert_eq!(loads.load(Ordering::SeqCst), 2, "the second read of the new release is a hit");
        assert_eq!(read(&old, 1, &before, &loads).await, before);
        assert_eq!(loads.load(Ordering::SeqCst), 3);
        let rejected = |cache: &Cache| cache.stats().namespaces["trig"].rejected;
        assert!(rejected(&old_cache) >= 1 && rejected(&new_cache) >= 1, "it is counted");

        // All at once, on the same keys: everybody gets his own shape.
        const ROUNDS: u64 = 20;
        const READERS: u64 = 10;
        let (scripts_before, loads_before) = (calls(&server, "evalsha").await, loads.load(Ordering::SeqCst));
        let mut readers = JoinSet::new();
        for i in 0..ROUNDS * READERS {
            let (old, new, before, after) = (old.clone(), new.clone(), before.clone(), after.clone());
            let loads = loads.clone();
            readers.spawn(async move {
                let key = 100 + i % ROUNDS;
                let old_first = (i / ROUNDS).is_multiple_of(2);
                for is_old in [old_first, !old_first] {
                    match is_old {
                        true => assert_eq!(read(&old, key, &before, &loads).await, before),
                        false => assert_eq!(read(&new, key, &after, &loads).await, after),
                    }
                }
            });
        }
        readers.join_all().await;
        let loaded = loads.load(Ordering::SeqCst) - loads_before;
        let asked = calls(&server, "evalsha").await - scripts_before;
        println!(
            "lesson 25: {} reads of two releases, {loaded} loads, {asked} scripts",
            2 * ROUNDS * READERS
        );
        // Each read that cannot use what is there may load; and each load asks for its lease a few times.
        assert!(asked <= 20 * 2 * ROUNDS * READERS, "{asked} scripts: somebody asks and asks");
        for cache in [old_cache, new_cache] {
            wait_until(SOON, "every lease to be given back", || {
                let stats = cache.stats();
                (stats.flights, stats.leases) == (0, 0)
            })
            .await;
        }
    }
}
