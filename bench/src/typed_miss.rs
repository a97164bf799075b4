//! `typed-miss`: what a read costs when it has to load.
//!
//! One task on a multi-thread runtime awaits reads in sequence, each of a key that was never read. The loader answers
//! at once, or lets others go first once, as one that waits for a socket does. The rival runs the same loader under
//! moka's single flight, with the same bound, a ttl and a weigher.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_core::units::{HOUR, MIB};
use larder_core::{Cache, Policy};

use crate::keys::key;
use crate::report::{Row, Target};
use crate::rounds::{Effort, alternating};

pub fn run(effort: Effort) -> Vec<Row> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let reads = effort.pick(100_000, 30_000);
    let rounds = effort.pick(11, 5);
    let keys: Arc<[String]> = (0..reads).map(key).collect();
    [(false, "load answers at once", 0.35), (true, "load yields once", 0.45)]
        .into_iter()
        .map(|(yields, what, limit)| {
            // In a task: `block_on` itself runs outside the workers, and pays for every wake-up.
            let on_worker = |work| runtime.block_on(runtime.spawn(work)).unwrap();
            let [ours, moka] = alternating(
                rounds,
                [&mut || on_worker(Box::pin(larder(keys.clone(), yields)) as Work), &mut || {
                    on_worker(Box::pin(moka(keys.clone(), yields)) as Work)
                }],
            );
            Row {
                name: "typed-miss",
                what: format!("{what}, ns per miss"),
                ours: format!("{ours:.0} ns"),
                rival: format!("moka {moka:.0} ns"),
                judged: ours / moka,
                unit: "x",
                target: Target::AtMost(limit),
            }
        })
        .collect()
}

type Work = std::pin::Pin<Box<dyn Future<Output = f64> + Send>>;

/// The loader of both sides.
async fn load(key: String, yields: bool) -> String {
    if yields {
        tokio::task::yield_now().await;
    }
    key
}

async fn larder(keys: Arc<[String]>, yields: bool) -> f64 {
    let cache = Cache::builder().build().await.unwrap();
    let typed = cache
        .namespace::<String>("profile", Policy::ttl(HOUR))
        .unwrap()
        .loader(move |key: String| async move { Ok::<_, Infallible>(load(key, yields).await) });
    let fresh = keys.to_vec();
    let began = Instant::now();
    for (key, expected) in fresh.into_iter().zip(&*keys) {
        assert_eq!(&*typed.load(key).await.unwrap(), expected);
    }
    let took = began.elapsed();
    let stats = cache.stats();
    let counted = &stats.namespaces["profile"];
    let reads = keys.len() as u64;
    assert_eq!((counted.misses, counted.loads, counted.hits), (reads, reads, 0), "every read loaded");
    assert_eq!(stats.memory_entries, keys.len(), "everything was stored");
    assert!(cache.shutdown(Duration::from_secs(1)).await);
    per_key(took, &keys)
}

async fn moka(keys: Arc<[String]>, yields: bool) -> f64 {
    let cache: moka::future::Cache<String, Arc<String>> = moka::future::Cache::builder()
        .max_capacity(256 * MIB)
        .weigher(|key: &String, value: &Arc<String>| (key.len() + value.len()) as u32)
        .time_to_live(HOUR)
        .build();
    let fresh = keys.to_vec();
    let began = Instant::now();
    for (key, expected) in fresh.into_iter().zip(&*keys) {
        let own = key.clone();
        let loaded =
            cache.try_get_with(key, async move { Ok::<_, Infallible>(Arc::new(load(own, yields).await)) });
        assert_eq!(&*loaded.await.unwrap(), expected);
    }
    let took = began.elapsed();
    cache.run_pending_tasks().await;
    assert_eq!(cache.entry_count(), keys.len() as u64, "everything was stored");
    per_key(took, &keys)
}

fn per_key(took: Duration, keys: &[String]) -> f64 {
    took.as_secs_f64() * 1e9 / keys.len() as f64
}
