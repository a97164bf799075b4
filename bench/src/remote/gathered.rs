//! `gathered-reads`: 256 tasks that read values from one Redis, each one after the other; and one task alone.

use std::time::Instant;

use larder_core::Remote as _;
use redis::cmd;

use super::{SERVER_CORE, VALUES, bare, check, connected, fill, key, name, runtime};
use crate::http::redis::Redis;
use crate::report::{Row, Target};
use crate::rounds::{Effort, alternating};

const TASKS: usize = 256;
const LIMIT: f64 = 1.2;

pub fn run(effort: Effort) -> Vec<Row> {
    let redis = Redis::start(SERVER_CORE);
    let runtime = runtime();
    let (remote, mut bare) =
        runtime.block_on(async { (connected(&redis.url).await, bare(&redis.url).await) });
    runtime.block_on(fill(&mut bare));
    let ours = move |number| {
        let remote = remote.clone();
        async move {
            let found = remote.get(key(number).as_bytes()).await.expect("Redis answers");
            check(&found.expect("it is there"), number);
        }
    };
    let theirs = move |number| {
        let mut bare = bare.clone();
        async move {
            let found: Vec<u8> =
                cmd("GET").arg(name(number)).query_async(&mut bare).await.expect("Redis answers");
            check(&found, number);
        }
    };
    let row = |tasks, reads, what: &str, target| {
        let [of_ours, of_rival] = alternating(
            effort.pick(9, 5),
            [&mut || runtime.block_on(per_second(tasks, reads, ours.clone())), &mut || {
                runtime.block_on(per_second(tasks, reads, theirs.clone()))
            }],
        );
        Row {
            name: "gathered-reads",
            what: format!("{what}, values of 1 KiB in Redis"),
            ours: format!("{:.0} k reads/s", of_ours / 1000.0),
            rival: format!("GET on a bare client {:.0} k", of_rival / 1000.0),
            judged: of_ours / of_rival,
            unit: "x",
            target,
        }
    };
    vec![
        row(TASKS, effort.pick(2000, 1000), "256 readers", Target::AtLeast(LIMIT)),
        row(1, effort.pick(40_000, 20_000), "a lone reader", Target::Open),
    ]
}

/// Reads a second of `tasks` that make `reads` each.
async fn per_second<Fut>(
    tasks: usize,
    reads: usize,
    read: impl Fn(usize) -> Fut + Clone + Send + 'static,
) -> f64
where
    Fut: Future<Output = ()> + Send,
{
    let began = Instant::now();
    let readers: Vec<_> = (0..tasks)
        .map(|task| {
            let read = read.clone();
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(task as u64);
                for _ in 0..reads {
                    read(random.usize(..VALUES)).await;
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.expect("every read was answered");
    }
    (tasks * reads) as f64 / began.elapsed().as_secs_f64()
}
