//! `many-reads`: the values of 100 keys at once, all of them in Redis.

use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_core::{AnyKey, Cache, Namespace, NoLoader, Policy, Raw, Remote as _};
use larder_redis::Redis as Tier;
use redis::cmd;

use super::{SERVER_CORE, VALUES, bare, check, connected, fill, key, name, runtime, value};
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
    let row = |what: &str, of_ours: f64, of_rival: f64| Row {
        name: "many-reads",
        what: format!("{what} of 100 values of 1 KiB in Redis"),
        ours: format!("{of_ours:.0} us"),
        rival: format!("MGET on a bare client {of_rival:.0} us"),
        judged: of_ours / of_rival,
        unit: "x",
        target: Target::AtMost(LIMIT),
    };
    let mut rows = vec![row("the port's get_many", of_ours, of_rival)];
    let cache = runtime.block_on(cached(&redis.url));
    let loads = move |numbers: [usize; KEYS]| {
        let handle = cache.1.clone();
        async move {
            let load = |_: Vec<u64>| async { Err::<Vec<(u64, Bytes)>, _>("all of them are in Redis") };
            let found = handle.get_many_or_load(numbers.map(|number| number as u64), load).await;
            for (found, number) in found.into_iter().zip(numbers) {
                check(&found.expect("Redis answers").expect("it is there"), number);
            }
        }
    };
    let [of_ours, of_rival] = alternating(
        effort.pick(9, 5),
        [
            &mut || runtime.block_on(runtime.spawn(per_call(calls, loads.clone()))).expect("it was answered"),
            &mut || {
                runtime.block_on(runtime.spawn(per_call(calls, theirs.clone()))).expect("it was answered")
            },
        ],
    );
    rows.push(row("get_many_or_load", of_ours, of_rival));
    rows
}

type Handle = Namespace<AnyKey, Bytes, NoLoader>;

/// A cache whose reads all go to Redis, where it has put every value.
async fn cached(url: &str) -> (Cache, Handle) {
    let cache = Cache::builder().remote(Tier::at(url).prefix("cached")).build().await.expect("good options");
    let policy = Policy::ttl(Duration::from_secs(3600)).remote_only();
    let handle = cache.front_door::<Bytes>("doc", policy, Raw, |value| value.len()).expect("a good name");
    for number in 0..VALUES {
        assert!(handle.put(number as u64, value(number).into()));
        while cache.stats().namespaces["doc"].stores + 500 < number as u64 {
            tokio::task::yield_now().await;
        }
    }
    while cache.stats().namespaces["doc"].stores < VALUES as u64 {
        tokio::task::yield_now().await;
    }
    (cache, handle)
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
