//! `log-visible`: how long after the call an invalidation holds on another node, in a process of its own as far as the
//! log goes (two caches, two connections, one Redis).

use std::time::{Duration, Instant};

use larder_core::{Arrival, Selector};

use super::{SERVER_CORE, delivered, node, runtime};
use crate::http::redis::Redis;
use crate::report::{Row, Target};
use crate::rounds::Effort;

pub fn run(effort: Effort) -> Vec<Row> {
    let runtime = runtime();
    let redis = Redis::start(SERVER_CORE);
    let samples = effort.pick(5000, 500);
    let mut times: Vec<f64> = runtime.block_on(async {
        let (here, there) = (node(&redis.url).await, node(&redis.url).await);
        let mut times = Vec::with_capacity(samples);
        for number in 0..samples {
            let began = Instant::now();
            let token = delivered(&here.invalidate([Selector::key(("doc", number as u64))]).await);
            assert_eq!(there.arrive(token).await, Arrival::Arrived);
            times.push(began.elapsed().as_secs_f64() * 1e3);
            // So that each begins on a follower that waits, as it does in a service, and none on one that is still busy.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times
    });
    times.sort_by(f64::total_cmp);
    let row = |part: &str, at: usize, limit| Row {
        name: "log-visible",
        what: format!("on another node after the call, {part} of {samples}"),
        ours: format!("{:.2} ms", times[at]),
        rival: String::new(),
        judged: times[at],
        unit: "ms",
        target: Target::AtMost(limit),
    };
    vec![row("p50", samples / 2, 1.0), row("p99", samples * 99 / 100, 5.0)]
}
