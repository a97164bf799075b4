//! `log-memory`: what 10,000,000 distinct invalidations leave behind, here and in Redis, with the default limits.
//!
//! In a child process, whose allocator counts. The horizon is checked against what the limit and the rate say.

use std::time::Instant;

use larder_core::Selector;

use super::{SERVER_CORE, delivered, node};
use crate::http::redis::Redis;
use crate::report::{Row, Target};
use crate::rounds::Effort;
use crate::{alloc, child};

/// The word by which a child process is told to invalidate.
pub const WORD: &str = "invalidations";

/// Selectors of one generation, as by default.
const LIMIT: f64 = 65_536.0;
/// What two generations may take here, at 128 bytes a row.
const HERE: f64 = 2.0 * LIMIT * 128.0;
/// What two generations and the stream may take in Redis.
const THERE: f64 = 2.0 * LIMIT * 128.0 + 16.0 * 1024.0 * 1024.0;
const BATCH: usize = 256;

pub fn run(effort: Effort) -> Vec<Row> {
    let count: usize = effort.pick(10_000_000, 1_000_000);
    let redis = Redis::start(SERVER_CORE);
    let said = child::answer(&[WORD, &redis.url, &count.to_string()]);
    let [here, rows, there, horizon, expected] = said[..] else { panic!("five figures: {said:?}") };
    let mib = 1024.0 * 1024.0;
    let row = |what: String, ours: String, judged, unit, target| Row {
        name: "log-memory",
        what,
        ours,
        rival: String::new(),
        judged,
        unit,
        target,
    };
    vec![
        row(
            format!("{count} distinct invalidations, heap here"),
            format!("{:.1} MiB, {rows:.0} rows", here / mib),
            here / mib,
            "MiB",
            Target::AtMost(HERE / mib),
        ),
        row(
            "stamps and stream in Redis".to_owned(),
            format!("{:.1} MiB", there / mib),
            there / mib,
            "MiB",
            Target::AtMost(THERE / mib),
        ),
        row(
            "horizon, by limit and rate between 1 and 2".to_owned(),
            format!("{horizon:.2} s (limit / rate {expected:.2} s)"),
            horizon / expected,
            "x",
            Target::AtMost(2.1),
        ),
    ]
}

/// In the child: heap bytes of the node's log, its rows, bytes in Redis, the horizon in seconds, and limit / rate.
pub fn fill(url: &str, count: usize) -> Vec<f64> {
    let runtime = super::runtime();
    runtime.block_on(async {
        let cache = node(url).await;
        alloc::count();
        let began = Instant::now();
        for first in (0..count).step_by(BATCH) {
            let selectors = (first..count.min(first + BATCH)).map(|n| Selector::key(("order", n as u64)));
            delivered(&cache.invalidate(selectors).await);
        }
        let rate = count as f64 / began.elapsed().as_secs_f64();
        let (heap, stats) = (alloc::live() as f64, cache.stats());
        let horizon = stats.log.and_then(|log| log.horizon_ms).expect("the log is open") as f64 / 1000.0;
        let client = redis::Client::open(url).expect("an address");
        let mut bare = client.get_multiplexed_async_connection().await.expect("the server runs");
        let mut there = 0.0;
        for key in ["{larder}:state", "{larder}:old", "{larder}:log"] {
            let mut usage = redis::cmd("MEMORY");
            usage.arg("USAGE").arg(key).arg("SAMPLES").arg(0);
            there += usage.query_async::<f64>(&mut bare).await.expect("it exists");
        }
        assert!(horizon >= LIMIT / rate * 0.9, "the horizon is {horizon} s: shorter than one generation");
        vec![heap, stats.stamps as f64, there, horizon, LIMIT / rate]
    })
}
