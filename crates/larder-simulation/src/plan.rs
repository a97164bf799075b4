//! What a seed decides before anything happens: how many nodes, how long things live, what may go wrong. Every seed leaves
//! most faults out, so that each is met alone, in few company and in much.

use std::time::Duration;

use larder_core::BreakerOptions;
use larder_core::testing::RedisOptions;

use crate::chance::Chance;
use crate::database::RESOURCES;
use crate::faults::Fault;
use crate::oracle::Times;
use crate::rules::Rules;

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) operations: usize,
    pub(crate) rows: u64,
    /// Of each resource.
    pub(crate) rules: Vec<Rules>,
    pub(crate) disconnected_ttl: Duration,
    pub(crate) stamp_limit: usize,
    pub(crate) redis: RedisOptions,
    pub(crate) breaker: BreakerOptions,
    /// How long a trip between node and server takes.
    pub(crate) delay: (Duration, Duration),
    /// Between operations, on average.
    pub(crate) gap_ms: u64,
    /// Of a hundred steps, how many break something.
    pub(crate) fault_rate: u64,
    pub(crate) faults: Vec<Fault>,
    /// Selectors that name nothing, so that tables and stamps fill up: of how many.
    pub(crate) noise: u64,
    /// Of memory, in bytes, and what one entry weighs.
    pub(crate) memory: (u64, usize),
    /// Of a thousand operations, how many are floods of such selectors.
    pub(crate) floods: u64,
    /// Of a hundred nodes, how many read values from a replica.
    pub(crate) replica_readers: u64,
}

impl Plan {
    pub(crate) fn new(chance: &mut Chance) -> Self {
        let nodes = match chance.below(100) {
            0..60 => chance.between(2, 3),
            60..88 => chance.between(4, 6),
            88..97 => chance.between(7, 10),
            _ => chance.between(11, 20),
        };
        let rules = RESOURCES.map(|_| Rules::new(chance)).into();
        let calm = chance.percent(12);
        let clocks = chance.percent(35);
        let some = chance.pick(&[15, 30, 60]);
        let faults: Vec<_> = Fault::ALL
            .into_iter()
            .filter(|fault| (*fault != Fault::ServerClock || clocks) && chance.percent(some))
            .collect();
        let least = chance.between(50, 500);
        Plan {
            nodes: usize::try_from(nodes).unwrap_or(2),
            operations: 500 + chance.index(100),
            rows: chance.between(1, 4),
            rules,
            disconnected_ttl: if chance.percent(50) {
                chance.millis(3000, 4000)
            } else {
                chance.millis(4000, 15_000)
            },
            stamp_limit: chance.pick(&[16, 16, 64, 256, 65_536]),
            redis: RedisOptions {
                stamp_limit: chance.pick(&[8, 12, 16, 65_536]),
                records: chance.pick(&[4, 16, 10_000]),
                replica: chance.percent(75).then(|| chance.millis(1, 400)),
            },
            breaker: BreakerOptions { failures: 5, open_for: chance.millis(1000, 8000) },
            delay: (Duration::from_micros(least), Duration::from_micros(least * chance.between(1, 20))),
            gap_ms: chance.between(40, 400),
            fault_rate: if calm || faults.is_empty() { 0 } else { chance.between(2, 12) },
            faults,
            noise: chance.pick(&[0, 4, 40, 400]),
            memory: if chance.percent(15) { (64 * 1024, 9000) } else { (1024 * 1024, 64) },
            floods: if chance.percent(10) { 15 } else { 0 },
            replica_readers: chance.pick(&[0, 0, 50]),
        }
    }

    pub(crate) fn times(&self) -> Times {
        Times { disconnected_ttl: self.disconnected_ttl, rules: self.rules.clone() }
    }
}
