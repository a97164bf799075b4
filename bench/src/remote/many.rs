//! `many-reads`: the values of 100 keys at once, all of them in Redis.

use std::time::Instant;

use larder_core::Remote as _;
use redis::cmd;

use super::{SERVER_CORE, VALUES, bare, check, connected, fill, key, name, runtime};
use crate::http::redis::Redis;
use crate::report::{Row, Target};
use crate::rounds::{Effort, alternating};

const KEYS: usize = 100;
const LIMIT: f64 = 1.4;

pub fn run(effort: Effort) -> Vec<Row> {
    let redis = Redis::start(SERVER_CORE);
    let runtime = runtime();
    let (remote, mut bare) =
        runtime.block_on(async { (connected(&redis.url).await, bare(&redis.url).await) });
    runtime.block_on(fill(&mut bare));
    let calls = effort.pick(5000, 1500);
    let ours = move |numbers: [usize; KEYS]| {
        let remote = remote.clone();
        async move {
            let keys = numbers.map(key);
            let keys = keys.each_ref().map(String::as_bytes);
            let found = remote.get_many(&keys).await;
            assert_eq!(found.len(), KEYS);
            for (found, number) in found.into_iter().zip(numbers) {
                check(&found.expect("Redis answers").expect("it is there"), number);
            }
        }
    };
    let theirs = move |numbers: [usize; KEYS]| {
        let mut bare = bare.clone();
        async move {
            let mut get = cmd("MGET");
            for number in numbers {
                get.arg(name(number));
            }
            let found: Vec<Vec<u8>> = get.query_async(&mut bare).await.expect("Redis answers");
            assert_eq!(found.len(), KEYS);
            found.iter().zip(numbers).for_each(|(found, number)| check(found, number));
        }
    };
    // In a task: `block_on` itself runs outside the workers, and pays for every wake-up.
    let [of_ours, of_rival] = alternating(
        effort.pick(9, 5),
        [
            &mut || runtime.block_on(runtime.spawn(per_call(calls, ours.clone()))).expect("it was answered"),
            &mut || {
                runtime.block_on(runtime.spawn(per_call(calls, theirs.clone()))).expect("it was answered")
            },
        ],
    );
    vec![Row {
        name: "many-reads",
        what: "get_many of 100 values of 1 KiB in Redis".to_owned(),
        ours: format!("{of_ours:.0} us"),
        rival: format!("MGET on a bare client {of_rival:.0} us"),
        judged: of_ours / of_rival,
        unit: "x",
        target: Target::AtMost(LIMIT),
    }]
}

/// Microseconds a call.
async fn per_call<Fut: Future<Output = ()>>(calls: usize, read: impl Fn([usize; KEYS]) -> Fut) -> f64 {
    let mut random = fastrand::Rng::with_seed(7);
    let began = Instant::now();
    for _ in 0..calls {
        read(std::array::from_fn(|_| random.usize(..VALUES))).await;
    }
    began.elapsed().as_secs_f64() * 1e6 / calls as f64
}
