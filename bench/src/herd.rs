//! `herd`: a thousand readers of one key that is not there.
//!
//! A load of 200 ms must run once, and everybody must have its value soon after it ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_core::units::HOUR;
use larder_core::{Cache, Policy};
use tokio::sync::Barrier;

use crate::report::{Row, Target};
use crate::rounds::{Effort, alternating};

const READERS: u64 = 1000;
const LOAD: Duration = Duration::from_millis(200);
const LIMIT_MS: f64 = 30.0;

pub fn run(effort: Effort) -> Vec<Row> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let rounds = effort.pick(7, 3);
    let [ours, moka] =
        alternating(rounds, [&mut || runtime.block_on(larder()), &mut || runtime.block_on(moka())]);
    vec![Row {
        name: "herd",
        what: "1 load of 200 ms for 1,000 readers; last answer after it".to_owned(),
        ours: format!("{ours:.1} ms"),
        rival: format!("moka {moka:.1} ms"),
        judged: ours,
        unit: "ms",
        target: Target::AtMost(LIMIT_MS),
    }]
}

/// The loader of both sides: it counts its calls and notes when it ended, in microseconds after `began`.
#[derive(Clone)]
struct Slow {
    began: Instant,
    loads: Arc<AtomicU64>,
    ended: Arc<AtomicU64>,
}

impl Slow {
    fn new() -> Self {
        Slow { began: Instant::now(), loads: Arc::default(), ended: Arc::default() }
    }

    async fn load(self) -> Result<u64, Infallible> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(LOAD).await;
        self.ended.store(self.micros(), Ordering::Relaxed);
        Ok(42)
    }

    fn micros(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

async fn larder() -> f64 {
    let cache = Cache::builder().build().await.unwrap();
    let slow = Slow::new();
    let loader = slow.clone();
    let typed = cache
        .namespace::<u64>("herd", Policy::ttl(HOUR))
        .unwrap()
        .loader(move |_: u64| loader.clone().load());
    let late = stampede(&slow, || {
        let typed = typed.clone();
        async move { *typed.load(1).await.unwrap() }
    });
    let late = late.await;
    let counted = &cache.stats().namespaces["herd"];
    assert_eq!((counted.loads, counted.misses, counted.coalesced), (1, 1, READERS - 1));
    assert!(cache.shutdown(Duration::from_secs(1)).await);
    late
}

async fn moka() -> f64 {
    let cache: moka::future::Cache<u64, u64> =
        moka::future::Cache::builder().max_capacity(1000).time_to_live(HOUR).build();
    let slow = Slow::new();
    stampede(&slow, || {
        let (cache, slow) = (cache.clone(), slow.clone());
        async move { cache.try_get_with(1, slow.load()).await.unwrap() }
    })
    .await
}

/// Milliseconds between the end of the load and the last answer.
async fn stampede<Fut>(slow: &Slow, read: impl Fn() -> Fut) -> f64
where
    Fut: Future<Output = u64> + Send + 'static,
{
    let together = Arc::new(Barrier::new(READERS as usize));
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (together, slow, read) = (together.clone(), slow.clone(), read());
            tokio::spawn(async move {
                together.wait().await;
                assert_eq!(read.await, 42);
                slow.micros()
            })
        })
        .collect();
    let mut last = 0;
    for reader in readers {
        last = last.max(reader.await.unwrap());
    }
    assert_eq!(slow.loads.load(Ordering::Relaxed), 1, "one load for everybody");
    last.saturating_sub(slow.ended.load(Ordering::Relaxed)) as f64 / 1000.0
}
