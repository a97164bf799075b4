//! `log-invalidate`: what an invalidation costs the caller, by the number of values it concerns.
//!
//! One Redis holds 1 value below one key and 1,000,000 below another. Each subtree is invalidated in turn, with a bare PING
//! on a connection of its own before it, which is timed too: so both find the same server, and a node that has read the last
//! record.

use std::time::Instant;

use larder_core::{Cache, Selector};

use super::{SERVER_CORE, delivered, node, runtime};
use crate::http::redis::Redis;
use crate::report::{Row, Target};
use crate::rounds::{Effort, median};

/// Round trips.
const LIMIT: f64 = 3.0;
/// More is no noise.
const SAME: f64 = 1.15;

pub fn run(effort: Effort) -> Vec<Row> {
    let runtime = runtime();
    let redis = Redis::start(SERVER_CORE);
    let many = effort.pick(1_000_000, 100_000);
    let [one, all, ping] = runtime.block_on(async {
        let mut bare = bare(&redis.url).await;
        plant(&mut bare, "one", 1).await;
        plant(&mut bare, "many", many).await;
        let size: usize = redis::cmd("DBSIZE").query_async(&mut bare).await.expect("an answer");
        assert!(size > many, "all values are there: {size}");
        let cache = node(&redis.url).await;
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..effort.pick(5000, 1000) {
            for (place, level) in ["one", "many"].into_iter().enumerate() {
                let began = Instant::now();
                let _: String = redis::cmd("PING").query_async(&mut bare).await.expect("an answer");
                times[2].push(began.elapsed().as_secs_f64() * 1e6);
                times[place].push(invalidate(&cache, level).await);
            }
        }
        times.map(median)
    });
    let row = |what: String, ours: f64, rival: String, judged, target| Row {
        name: "log-invalidate",
        what,
        ours: format!("{ours:.0} us"),
        rival,
        judged,
        unit: "x",
        target,
    };
    vec![
        row(
            format!("a subtree of {many} values in Redis"),
            all,
            format!("of 1 value {one:.0} us"),
            all / one,
            Target::AtMost(SAME),
        ),
        row(
            "in round trips".to_owned(),
            all,
            format!("one PING {ping:.0} us"),
            all / ping,
            Target::AtMost(LIMIT),
        ),
    ]
}

async fn bare(url: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(url).expect("an address");
    client.get_multiplexed_async_connection().await.expect("the server runs")
}

/// Values as another program would count them: their keys lie below `level`.
async fn plant(bare: &mut redis::aio::MultiplexedConnection, level: &str, count: usize) {
    let mut planted = 0;
    while planted < count {
        let mut batch = redis::pipe();
        for number in planted..count.min(planted + 10_000) {
            batch.cmd("SET").arg(format!("larder:{level}:{number}")).arg("x").ignore();
        }
        planted = count.min(planted + 10_000);
        batch.query_async::<()>(bare).await.expect("they fit");
    }
}

/// Microseconds until the call has returned.
async fn invalidate(cache: &Cache, level: &str) -> f64 {
    let began = Instant::now();
    let done = cache.invalidate([Selector::under(level)]).await;
    let took = began.elapsed();
    delivered(&done);
    took.as_secs_f64() * 1e6
}
