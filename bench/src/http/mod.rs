//! `http-hit`, `http-miss`, `http-redis-hit`: what the response cache costs a route, seen from outside.
//!
//! Two servers, each with one route that gives 1 KiB of JSON: one with the cache in its router, one without. Each is a
//! process on core 0 with a single-threaded runtime; `wrk`, and Redis where there is one, are on core 1. Only one of them has work at a time.

mod by_hand;
mod load;
pub mod redis;
mod server;

use load::{Load, Script};
use server::Kind;

pub use self::server::{WORD, serve};
use crate::child::Server;
use crate::report::{Row, Target};
use crate::rounds::{Effort, alternating, median};

/// The core of the servers; `wrk` has the next.
const CORE: usize = 0;

pub fn hit(effort: Effort) -> Vec<Row> {
    let (ours, rival) =
        (Server::start(CORE, &Kind::Cached.words()), Server::start(CORE, &Kind::Plain.words()));
    let check = |load: &Load| {
        // The first request of all was the one miss.
        assert_eq!(load.counted.loads, 1, "nothing was loaded again");
        assert!(load.counted.hits >= load.requests, "every request was a hit");
    };
    row(
        effort,
        "http-hit",
        "hit in memory",
        0.90,
        "handler without cache",
        Script::SameUrl,
        [&ours, &rival],
        check,
    )
}

pub fn miss(effort: Effort) -> Vec<Row> {
    let (ours, rival) =
        (Server::start(CORE, &Kind::Cached.words()), Server::start(CORE, &Kind::Plain.words()));
    let check = |load: &Load| {
        assert_eq!(load.counted.hits, 0, "no URL came twice");
        assert!(load.counted.loads >= load.requests, "every request ran the handler");
    };
    row(
        effort,
        "http-miss",
        "miss, handler runs",
        0.65,
        "handler without cache",
        Script::NewUrls,
        [&ours, &rival],
        check,
    )
}

pub fn redis_hit(effort: Effort) -> Vec<Row> {
    let redis = redis::Redis::start(CORE + 1);
    let url = &redis.url;
    let ours = Server::start(CORE, &[WORD, Kind::RemoteCached.word(), url]);
    let rival = Server::start(CORE, &[WORD, Kind::HandWrittenGet.word(), url]);
    let check = |load: &Load| {
        assert_eq!(load.counted.loads, 1, "nothing was loaded again");
        assert!(load.counted.hits >= load.requests, "every request was a hit in Redis");
    };
    row(
        effort,
        "http-redis-hit",
        "hit in Redis",
        0.90,
        "hand-written GET",
        Script::SameUrl,
        [&ours, &rival],
        check,
    )
}

#[expect(
    clippy::too_many_arguments,
    reason = "one call per benchmark, which is easier to read than a builder"
)]
fn row(
    effort: Effort,
    name: &'static str,
    what: &str,
    limit: f64,
    rival_name: &str,
    script: Script,
    [ours, rival]: [&Server; 2],
    check: impl Fn(&Load),
) -> Vec<Row> {
    let seconds = effort.pick(5, 2);
    let (mut our_clock, mut their_clock) = (Vec::new(), Vec::new());
    let [of_ours, of_rival] = alternating(
        effort.pick(7, 3),
        [
            &mut || {
                let load = load::run(ours, CORE + 1, seconds, script);
                check(&load);
                our_clock.push(load.per_second);
                load.per_core_second
            },
            &mut || {
                let load = load::run(rival, CORE + 1, seconds, script);
                assert!(load.counted.handled >= load.requests, "every request ran the handler");
                their_clock.push(load.per_second);
                load.per_core_second
            },
        ],
    );
    let shown = |per_core_second: f64, per_second: Vec<f64>| {
        format!("{:.1} k/s ({:.1} by the clock)", per_core_second / 1000.0, median(per_second) / 1000.0)
    };
    vec![Row {
        name,
        what: format!("{what}, 1 KiB JSON"),
        ours: shown(of_ours, our_clock),
        rival: format!("{rival_name} {}", shown(of_rival, their_clock)),
        judged: of_ours / of_rival,
        unit: "x",
        target: Target::AtLeast(limit),
    }]
}
