//! `cold-key`: four processes with 250 requests each for one key that nobody has, at the same moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use larder_core::{Cache, Policy};
use larder_redis::Redis as Tier;

use super::runtime;
use crate::child;
use crate::http::redis::Redis;
use crate::report::{Row, Target};
use crate::rounds::{Effort, median};

/// What a child is told to do.
pub const WORD: &str = "cold-key";
const PROCESSES: usize = 4;
const REQUESTS: usize = 250;
const LOAD: Duration = Duration::from_millis(200);
/// For four processes to start, and to connect.
const START: Duration = Duration::from_secs(2);
const SERVER_CORE: usize = 1;

/// Microseconds of this machine's calendar, which its processes have in common.
fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64() * 1e6
}

/// In the child: makes its requests at `begin`, and says how many loads it ran, when the last one ended, and when its last
/// request was answered.
pub fn read(url: &str, begin: f64) -> Vec<f64> {
    let loads = Arc::new(AtomicU64::new(0));
    let ended = Arc::new(AtomicU64::new(0));
    let answered = runtime().block_on(async {
        let cache = Cache::builder().remote(Tier::at(url)).build().await.expect("the options are good");
        assert!(cache.health().remote.is_some_and(|remote| remote.connected), "Redis is there");
        let (counted, end) = (loads.clone(), ended.clone());
        let rows = cache.namespace::<u64>("row", Policy::default()).expect("nothing clashes");
        let rows = rows.loader(move |_: u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            let end = end.clone();
            async move {
                tokio::time::sleep(LOAD).await;
                end.store(now() as u64, Ordering::SeqCst);
                Ok::<_, std::io::Error>(7)
            }
        });
        let wait = begin - now();
        assert!(wait > 0.0, "it took too long to start");
        tokio::time::sleep(Duration::from_secs_f64(wait / 1e6)).await;
        let requests: Vec<_> = (0..REQUESTS)
            .map(|_| {
                let rows = rows.clone();
                tokio::spawn(async move {
                    assert_eq!(*rows.load(1_u64).await.expect("a load succeeds"), 7);
                    now()
                })
            })
            .collect();
        let mut last = 0.0_f64;
        for request in requests {
            last = last.max(request.await.expect("a request does not panic"));
        }
        last
    });
    vec![loads.load(Ordering::SeqCst) as f64, ended.load(Ordering::SeqCst) as f64, answered]
}

pub fn run(effort: Effort) -> Vec<Row> {
    let redis = Redis::start(SERVER_CORE);
    let rounds = effort.pick(9, 3);
    let (mut most, mut lates) = (0.0_f64, Vec::new());
    for _ in 0..rounds {
        redis.flush();
        let begin = (now() + START.as_secs_f64() * 1e6).to_string();
        let told: Vec<Vec<f64>> = thread::scope(|scope| {
            let child = || child::answer(&[WORD, &redis.url, &begin]);
            let children: Vec<_> = (0..PROCESSES).map(|_| scope.spawn(child)).collect();
            children.into_iter().map(|child| child.join().expect("a child does its work")).collect()
        });
        most = most.max(told.iter().map(|told| told[0]).sum());
        let end = told.iter().map(|told| told[1]).fold(0.0, f64::max);
        let answered = told.iter().map(|told| told[2]).fold(0.0, f64::max);
        lates.push((answered - end) / 1e3);
    }
    let latest = lates.iter().copied().fold(0.0, f64::max);
    let middle = median(lates);
    let row = |what: String, ours: String, judged, unit, limit| Row {
        name: "cold-key",
        what,
        ours,
        rival: String::new(),
        judged,
        unit,
        target: Target::AtMost(limit),
    };
    let crowd = format!("{PROCESSES} processes x {REQUESTS} requests");
    vec![
        row(format!("loads for {crowd}, most of {rounds} rounds"), format!("{most:.0}"), most, "", 1.0),
        row(
            format!("last answer after the load of 200 ms, {crowd}"),
            format!("{latest:.2} ms (middle {middle:.2})"),
            latest,
            "ms",
            40.0,
        ),
    ]
}
