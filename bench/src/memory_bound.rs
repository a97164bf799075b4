//! `memory-bound`: does a process stay as small as it was told to?
//!
//! A bound on weights is worth what the weights are worth. So a bound of 256 MiB is filled three times over, by two
//! tasks at once, with what is hard to weigh, and the largest size the process ever had is held against the bound. Each
//! kind of value has a process of its own.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::Request;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use larder_core::units::{HOUR, MIB};
use larder_core::{Cache, Policy};
use larder_http::ResponseCache;
use tower::ServiceExt as _;

use crate::report::{Row, Target};
use crate::rounds::{Effort, median};
use crate::{child, machine};

/// The word by which a child process is told to fill a cache.
pub const WORD: &str = "fill";

const BOUND: u64 = 256 * MIB;
const TIMES: u64 = 3;
const TASKS: u64 = 2;
const MIB_F: f64 = MIB as f64;

const KINDS: [(&str, &str); 3] = [
    ("strings", "lists of 16 strings of 32 B"),
    ("tiny", "lists of 256 strings of 2 B"),
    ("bodies", "HTTP bodies of 200 B to 100 KB"),
];

pub fn run(effort: Effort) -> Vec<Row> {
    let limit = 1.3 * BOUND as f64 / MIB_F + 64.0;
    KINDS
        .into_iter()
        .map(|(kind, what)| {
            let said: Vec<Vec<f64>> = (0..effort.pick(3, 1)).map(|_| child::answer(&[WORD, kind])).collect();
            let middle = |at: usize| median(said.iter().map(|figures| figures[at]).collect()) / MIB_F;
            let (peak, weight, put) = (middle(0), middle(1), middle(2));
            Row {
                name: "memory-bound",
                what: format!("256 MiB, {put:.0} MiB of {what}"),
                ours: format!("{peak:.0} MiB (weights {weight:.0} MiB)"),
                rival: String::new(),
                judged: peak,
                unit: "MiB",
                target: Target::AtMost(limit),
            }
        })
        .collect()
}

/// In the child: the largest size of the process, the weight of what is in the cache, and how much was put in.
pub fn fill(kind: &str) -> Vec<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cache = Cache::builder().memory(BOUND).build().await.unwrap();
        let put = match kind {
            "strings" => lists(&cache, 16, 32).await,
            "tiny" => lists(&cache, 256, 2).await,
            "bodies" => bodies(&cache).await,
            other => panic!("no kind is called {other}"),
        };
        let stats = cache.stats();
        assert!(stats.memory_bytes <= BOUND, "the weights keep the bound");
        assert!(stats.memory_bytes > BOUND / 10 * 8, "and use it: {}", stats.memory_bytes);
        let counted = &stats.namespaces["filling"];
        assert_eq!((counted.hits, counted.misses), (0, counted.loads), "everything was loaded");
        vec![machine::most_resident(), stats.memory_bytes as f64, put as f64]
    })
}

/// Loads `Vec<String>` values until they have taken the bound three times over. What a value takes: its strings'
/// bytes, and pointer, length and capacity of each.
async fn lists(cache: &Cache, strings: usize, length: usize) -> u64 {
    let typed = cache.namespace::<Vec<String>>("filling", Policy::ttl(HOUR)).unwrap().loader(
        move |n: u64| async move {
            let string = |at: usize| format!("{:0length$}", (n as usize + at) % 100);
            Ok::<_, Infallible>((0..strings).map(string).collect::<Vec<_>>())
        },
    );
    let one = (strings * (length + size_of::<String>())) as u64;
    let each = TIMES * BOUND / one / TASKS;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let typed = typed.clone();
            tokio::spawn(async move {
                for n in task * each..(task + 1) * each {
                    let value = typed.load(n).await.unwrap();
                    assert!(value.len() == strings && value[0].len() == length);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    one * each * TASKS
}

/// Asks a cached route for URLs that were never asked for, until their bodies have taken the bound three times over.
async fn bodies(cache: &Cache) -> u64 {
    let layer = ResponseCache::new(cache, "filling", Policy::ttl(HOUR)).unwrap();
    let handler = async |Path(n): Path<u64>| Bytes::from(vec![b'x'; length(n)]);
    let router = Router::new().route("/{n}", get(handler).layer(layer));
    let next = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (router, next) = (router.clone(), next.clone());
            tokio::spawn(async move {
                let mut put = 0;
                while put < TIMES * BOUND / TASKS {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let request = Request::get(format!("/{n}")).body(Body::empty()).unwrap();
                    let response = router.clone().oneshot(request).await.unwrap();
                    assert_eq!(response.headers()["x-cache-status"], "MISS");
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(body.len(), length(n));
                    put += body.len() as u64;
                }
                put
            })
        })
        .collect();
    let mut put = 0;
    for task in tasks {
        put += task.await.unwrap();
    }
    put
}

/// Of body `n`: 200 B to 100 KB, each order of magnitude as often as the others.
fn length(n: u64) -> usize {
    let part = fastrand::Rng::with_seed(n).f64();
    (200.0 * 500.0_f64.powf(part)) as usize
}
