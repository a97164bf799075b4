//! `typed-hit`: what a read costs when the value is in memory.
//!
//! 10,000 keys of 40 bytes, values of 1 KiB, read in the same Zipf order by Larder, by a bare map and by moka. Larder's
//! side is the everyday one: `load` on a handle with a registered loader, with ttl, flights and statistics on. The
//! futures are polled by hand, because a hit is ready at the first poll and a runtime would only add its own cost to
//! both sides; that it is ready is checked.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use larder_core::units::HOUR;
use larder_core::{Cache, Namespace, Policy};

use crate::keys::{key, zipf};
use crate::report::{Row, Target};
use crate::rounds::{Effort, alternating};

const KEYS: usize = 10_000;
const VALUE: usize = 1024;
const LIMIT: f64 = 2.0;

type Typed = Namespace<String, String, Infallible>;
type Bare = quick_cache::sync::Cache<String, Arc<String>>;
type Moka = moka::future::Cache<String, Arc<String>>;

pub fn run(effort: Effort) -> Vec<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let (cache, typed) = runtime.block_on(larder(&keys));
    let bare = Bare::new(2 * KEYS);
    let moka = Moka::builder().max_capacity(2 * KEYS as u64).time_to_live(HOUR).build();
    for key in &keys {
        bare.insert(key.clone(), Arc::new(value()));
        runtime.block_on(moka.insert(key.clone(), Arc::new(value())));
    }
    runtime.block_on(moka.run_pending_tasks());

    let reads = effort.pick(2_000_000, 500_000);
    let rounds = effort.pick(15, 5);
    [1, 2]
        .into_iter()
        .flat_map(|threads| {
            let orders: Vec<Vec<usize>> = (0..threads).map(|t| zipf(KEYS, 0.99, reads, t as u64)).collect();
            let [ours, quick, moka] = alternating(
                rounds,
                [
                    &mut || {
                        let before = hits(&cache);
                        let nanos =
                            per_read(&orders, |at| at_once(typed.load(keys[at].as_str())).unwrap().len());
                        let read = (threads * reads) as u64;
                        assert_eq!(hits(&cache) - before, read, "every read was a hit in memory");
                        nanos
                    },
                    &mut || per_read(&orders, |at| bare.get(keys[at].as_str()).expect("a hit").len()),
                    &mut || {
                        per_read(&orders, |at| at_once(moka.get(keys[at].as_str())).expect("a hit").len())
                    },
                ],
            );
            let row = |rival: &str, nanos: f64, target| Row {
                name: "typed-hit",
                what: format!("{threads} thread{}, ns per hit", if threads == 1 { "" } else { "s" }),
                ours: format!("{ours:.0} ns"),
                rival: format!("{rival} {nanos:.0} ns"),
                judged: ours / nanos,
                unit: "x",
                target,
            };
            [row("quick_cache", quick, Target::AtMost(LIMIT)), row("moka", moka, Target::Open)]
        })
        .collect()
}

/// A cache with every key in it, each loaded once.
async fn larder(keys: &[String]) -> (Cache, Typed) {
    let cache = Cache::builder().build().await.unwrap();
    let typed = cache
        .namespace::<String>("profile", Policy::ttl(HOUR))
        .unwrap()
        .loader(|_: String| async { Ok::<_, Infallible>(value()) });
    for key in keys {
        typed.load(key).await.unwrap();
    }
    assert_eq!(cache.stats().namespaces["profile"].loads, KEYS as u64);
    (cache, typed)
}

fn value() -> String {
    "v".repeat(VALUE)
}

fn hits(cache: &Cache) -> u64 {
    let stats = &cache.stats().namespaces["profile"];
    assert_eq!(stats.loads, KEYS as u64, "nothing was loaded again");
    stats.hits_memory
}

/// Polls once.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ready) => ready,
        Poll::Pending => panic!("a hit is ready at the first poll"),
    }
}

/// Nanoseconds a read takes the thread that does it. Each thread reads in an order of its own; all begin together.
fn per_read(orders: &[Vec<usize>], read: impl Fn(usize) -> usize + Sync) -> f64 {
    let start = Barrier::new(orders.len());
    let took: Duration = std::thread::scope(|scope| {
        let threads: Vec<_> = orders
            .iter()
            .map(|order| {
                scope.spawn(|| {
                    start.wait();
                    let began = Instant::now();
                    let bytes: usize = order.iter().map(|&at| read(at)).sum();
                    let took = began.elapsed();
                    assert_eq!(bytes, order.len() * VALUE, "every value has its size");
                    took
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let reads: usize = orders.iter().map(Vec::len).sum();
    took.as_secs_f64() * 1e9 / reads as f64
}
