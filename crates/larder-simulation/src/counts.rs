//! How often what happened: a run that never met a fault proves nothing about it.

use std::collections::BTreeMap;
use std::fmt;

type Named = BTreeMap<&'static str, u64>;

/// Counters by name. Names sort into groups: `fault: ..`, `invalidate: ..`, `read: ..`. Those of `most: ..` are no sums, but the
/// greatest that there was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    storm: Named,
    /// What happened after all faults had ended: told, and proof of nothing.
    calm: Named,
    is_calm: bool,
}

/// What must have happened at least while there were faults, in a thousand seeds: half of what did when this was written. They are
/// there to notice when something is no longer reached at all, or hardly.
const FLOORS: &[(&str, u64)] = &[
    ("called: fresh, as heard", 96_000),
    ("called: stale, as heard", 4800),
    ("caller gone", 9500),
    ("early refresh", 61),
    ("expire: everything", 1500),
    ("expire: key", 11_000),
    ("expire: namespace", 2000),
    ("expire: subtree", 5100),
    ("expire: tag", 6600),
    ("fault: calendar step", 560),
    ("fault: connection reset", 650),
    ("fault: deposed primary answers", 650),
    ("fault: failover", 680),
    ("fault: failover of the log alone", 620),
    ("fault: flush", 660),
    ("fault: leases lost", 630),
    ("fault: link down", 730),
    ("fault: log lost", 680),
    ("fault: loss on the way", 710),
    ("fault: no writes", 690),
    ("fault: node killed", 650),
    ("fault: node paused", 650),
    ("fault: node shut down", 640),
    ("fault: old stamps lost", 680),
    ("fault: partition, all", 160),
    ("fault: partition, follower", 170),
    ("fault: partition, log", 170),
    ("fault: partition, values", 180),
    ("fault: records lost with a primary", 840),
    ("fault: refusals", 670),
    ("fault: restart with data", 670),
    ("fault: restart without data", 640),
    ("fault: rolled back to before a flush", 490),
    ("fault: server clock step", 250),
    ("fault: slow", 610),
    ("fault: source away", 660),
    ("fault: stamps lost", 690),
    ("fault: stores held", 670),
    ("fault: stream lost", 710),
    ("fault: trimmed unread", 200),
    ("fault: stream trimmed", 300),
    ("flood: one record", 700),
    ("flood: several records", 1100),
    ("invalidate: everything", 2500),
    ("invalidate: key", 23_000),
    ("invalidate: namespace", 4200),
    ("invalidate: subtree", 8400),
    ("invalidate: tag", 11_000),
    ("invalidated: delivered", 44_000),
    ("invalidated: queued", 18_000),
    ("judged: (a)", 260_000),
    ("judged: (b)", 400_000),
    ("judged: (c)", 390_000),
    ("judged: a cached value", 130_000),
    ("judged: at least a token", 3700),
    ("judged: soft (a)", 150_000),
    ("judged: soft (b)", 260_000),
    ("judged: soft (c)", 260_000),
    ("judged: times", 120_000),
    ("lease: ended by a fill", 52_000),
    ("lease: extended", 6300),
    ("lease: given back", 13_000),
    ("lease: late store refused", 1100),
    ("lease: lost by the store", 1100),
    ("lease: refused", 43_000),
    ("lease: run out", 97),
    ("lease: taken over in vain", 3800),
    ("lease: waiter woken", 4400),
    ("load: batch", 16_000),
    ("load: failed", 9200),
    ("load: hangs", 1200),
    ("load: no room", 1300),
    ("load: panicked", 540),
    ("load: with a lease", 71_000),
    ("no lease: no answer", 11_000),
    ("overlap: the older load is in vain", 5500),
    ("pairs of loads judged", 97_000),
    ("pushed back", 3300),
    ("queue overflowed", 180),
    ("read: at least a forged token", 1200),
    ("read: at least a token", 20_000),
    ("read: batch", 29_000),
    ("read: bypassed", 3700),
    ("read: hit in memory", 44_000),
    ("read: hit in redis", 28_000),
    ("read: joined", 23_000),
    ("read: loaded", 68_000),
    ("read: nothing", 13_000),
    ("read: refused", 1600),
    ("read: stale", 7800),
    ("refresh", 2600),
    ("seed of 11 nodes or more", 15),
    ("slot: filled", 13_000),
    ("stale: its key rests", 27),
    ("stale: its load failed", 22),
    ("stale: its load was slow", 19),
    ("steps: an unknown token", 2200),
    ("steps: arrived at a token", 12_000),
    ("steps: late for a token", 1800),
    ("sweep", 2500),
    ("update", 11_000),
];

/// What the oracle may have to let go, of a hundred: what it waived, what it judged instead, how many.
const CEILINGS: &[(&str, &str, u64)] = &[
    ("waived: (c), the node was misled", "judged: (c)", 10),
    ("waived: times, the server's clock was set", "judged: times", 30),
];

/// What the application has done in a seed, on average, at the least: reads, writes, fills; what came to nothing is none.
const LEAST_OPERATIONS: u64 = 500;
/// So many nodes make a seed a large one.
pub(crate) const MANY_NODES: u64 = 11;

/// Hits, of a hundred reads, at the least: a cache that always misses breaks no promise, and is of no use.
const LEAST_HITS: u64 = 30;

impl Counts {
    pub(crate) fn add(&mut self, name: &'static str) {
        self.many(name, 1);
    }

    pub(crate) fn many(&mut self, name: &'static str, times: u64) {
        put(if self.is_calm { &mut self.calm } else { &mut self.storm }, name, times);
    }

    /// From here on all faults have ended.
    pub(crate) fn calm_down(&mut self) {
        self.is_calm = true;
    }

    /// How often, while there were faults.
    pub fn of(&self, name: &str) -> u64 {
        self.storm.get(name).copied().unwrap_or_default()
    }

    /// Adds those of another run.
    pub fn join(&mut self, other: &Counts) {
        other.storm.iter().for_each(|(name, times)| put(&mut self.storm, name, *times));
        other.calm.iter().for_each(|(name, times)| put(&mut self.calm, name, *times));
    }

    /// Hits of a hundred reads.
    pub fn hit_rate(&self) -> u64 {
        let hits = self.of("read: hit in memory") + self.of("read: hit in redis") + self.of("read: stale");
        let others =
            ["read: joined", "read: loaded", "read: nothing", "read: failed"].map(|name| self.of(name));
        hits * 100 / (hits + others.iter().sum::<u64>()).max(1)
    }

    /// What happened less often than it must in so many seeds, or was waived more often than it may. Fewer than a hundred
    /// prove nothing either way.
    pub fn below_floor(&self, seeds: u64) -> Vec<String> {
        if seeds < 100 {
            return Vec::new();
        }
        let floors = FLOORS.iter().map(|(name, floor)| (*name, floor * seeds / 1000));
        let floors = floors.chain([("operation", LEAST_OPERATIONS * seeds), ("most: nodes", MANY_NODES)]);
        let rare = floors.filter(|(name, floor)| self.of(name) < *floor);
        let mut told: Vec<_> = rare
            .map(|(name, floor)| format!("{name}: {} times, at least {floor} wanted", self.of(name)))
            .collect();
        if self.hit_rate() < LEAST_HITS {
            told.push(format!("hits: {} % of all reads, at least {LEAST_HITS} % wanted", self.hit_rate()));
        }
        for (waived, judged, most) in CEILINGS {
            let share = self.of(waived) * 100 / (self.of(waived) + self.of(judged)).max(1);
            if share > *most {
                told.push(format!("{waived}: {share} % of what {judged:?} counts, at most {most} % wanted"));
            }
        }
        told
    }
}

fn put(there: &mut Named, name: &'static str, times: u64) {
    let count = there.entry(name).or_default();
    *count = if name.starts_with("most: ") { times.max(*count) } else { *count + times };
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12} {:>12}", "", "in the end")?;
        let mut names: Vec<_> = self.storm.keys().chain(self.calm.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let calm = self.calm.get(name).map(ToString::to_string).unwrap_or_default();
            writeln!(f, "{:>12} {calm:>12}  {name}", self.of(name))?;
        }
        writeln!(f, "{:>12} {:>11}%  hits of all reads", "", self.hit_rate())
    }
}
