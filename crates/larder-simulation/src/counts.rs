//! How often what happened: a run that never met a fault proves nothing about it.

use std::collections::BTreeMap;
use std::fmt;

/// Counters by name. Names sort into groups: `fault: ..`, `invalidate: ..`, `read: ..`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<&'static str, u64>);

/// What must have happened at least, in a thousand seeds. Of what every seed does there is a hundred times more; these are
/// there to notice when something is no longer reached at all, or hardly.
const FLOORS: &[(&str, u64)] = &[
    ("fault: calendar step", 200),
    ("fault: connection reset", 200),
    ("fault: deposed primary answers", 100),
    ("fault: failover", 200),
    ("fault: flush", 100),
    ("fault: link down", 200),
    ("fault: log lost", 50),
    ("fault: loss on the way", 200),
    ("fault: node killed", 200),
    ("fault: node paused", 200),
    ("fault: node shut down", 200),
    ("fault: old stamps lost", 50),
    ("fault: partition, all", 200),
    ("fault: partition, follower", 100),
    ("fault: partition, log", 100),
    ("fault: partition, values", 100),
    ("fault: records lost with a primary", 100),
    ("fault: refusals", 100),
    ("fault: restart with data", 100),
    ("fault: restart without data", 50),
    ("fault: server clock step", 50),
    ("fault: slow", 200),
    ("fault: stamps lost", 50),
    ("fault: stores held", 100),
    ("fault: stream lost", 50),
    ("fault: stream trimmed", 100),
    ("caller gone", 5000),
    ("expire: everything", 100),
    ("expire: key", 1000),
    ("expire: namespace", 300),
    ("expire: subtree", 500),
    ("expire: tag", 500),
    ("invalidate: everything", 200),
    ("invalidate: key", 2000),
    ("invalidate: namespace", 500),
    ("invalidate: subtree", 1000),
    ("invalidate: tag", 1000),
    ("invalidated: delivered", 5000),
    ("invalidated: queued", 500),
    ("load: failed", 1000),
    ("load: panicked", 50),
    ("load: hangs", 500),
    ("load: batch", 5000),
    ("load: no room", 200),
    ("load: with a lease", 20_000),
    ("early refresh", 20),
    ("lease: ended by a fill", 20_000),
    ("lease: extended", 1000),
    ("lease: given back", 2000),
    ("lease: late store refused", 100),
    ("lease: lost by the store", 300),
    ("lease: refused", 10_000),
    ("lease: run out", 50),
    ("lease: taken over in vain", 1000),
    ("lease: waiter woken", 2000),
    ("no lease: no answer", 1000),
    ("pairs of loads judged", 20_000),
    ("stale: its key rests", 10),
    ("stale: its load failed", 5),
    ("stale: its load was slow", 10),
    ("read: batch", 5000),
    ("read: at least a token", 5000),
    ("read: at least a forged token", 1000),
    ("read: bypassed", 100),
    ("read: hit in memory", 20_000),
    ("read: hit in redis", 2000),
    ("read: joined", 1000),
    ("read: loaded", 10_000),
    ("read: stale", 2000),
    ("refresh", 500),
    ("flood: one record", 50),
    ("flood: several records", 100),
    ("pushed back", 200),
    ("slot: filled", 1000),
    ("sweep", 500),
    ("update", 200),
];

/// Hits, of a hundred reads, at the least: a cache that always misses breaks no promise, and is of no use.
const LEAST_HITS: u64 = 30;

impl Counts {
    pub(crate) fn add(&mut self, name: &'static str) {
        self.many(name, 1);
    }

    pub(crate) fn many(&mut self, name: &'static str, times: u64) {
        *self.0.entry(name).or_default() += times;
    }

    /// How often.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Adds those of another run.
    pub fn join(&mut self, other: &Counts) {
        for (name, times) in &other.0 {
            *self.0.entry(name).or_default() += times;
        }
    }

    /// Hits of a hundred reads.
    pub fn hit_rate(&self) -> u64 {
        let hits = self.of("read: hit in memory") + self.of("read: hit in redis") + self.of("read: stale");
        let others =
            ["read: joined", "read: loaded", "read: nothing", "read: failed"].map(|name| self.of(name));
        hits * 100 / (hits + others.iter().sum::<u64>()).max(1)
    }

    /// What happened less often than it must in so many seeds. Fewer than a hundred prove nothing either way.
    pub fn below_floor(&self, seeds: u64) -> Vec<String> {
        if seeds < 100 {
            return Vec::new();
        }
        let floors = FLOORS.iter().map(|(name, floor)| (*name, floor * seeds / 1000));
        let rare = floors.filter(|(name, floor)| self.of(name) < *floor);
        let mut told: Vec<_> = rare
            .map(|(name, floor)| format!("{name}: {} times, at least {floor} wanted", self.of(name)))
            .collect();
        if self.hit_rate() < LEAST_HITS {
            told.push(format!("hits: {} % of all reads, at least {LEAST_HITS} % wanted", self.hit_rate()));
        }
        told
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, times) in &self.0 {
            writeln!(f, "{times:>12}  {name}")?;
        }
        writeln!(f, "{:>11}%  hits of all reads", self.hit_rate())
    }
}
