//! The local stamp table: selector -> when it was last invalidated, by both clocks. Bounded; it says how far back it
//! reaches.

use std::collections::HashMap;

use super::Mode;
use crate::runtime::Moment;
use crate::selector::{self, SelectorHash};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{FastHash, RwLock};
use crate::tag::Tag;

/// A generation holds a quarter more than it is asked to: parts do not fill alike, and a snapshot of two generations must
/// not make a node that starts forget some of it while it reads.
const SPARE: usize = 4;

/// Locks of the table. A reader meets a writer only if their selectors fall into the same part.
const SHARDS: usize = 16;

/// When a selector was last invalidated. Zero: not within the table's reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) n: u64,
    pub(super) at: u64,
}

/// The two columns of a selector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    columns: [Column; 2],
    /// When each was: from there on stale windows run, and replicas catch up. Orders nothing.
    when: [Moment; 2],
}

impl Row {
    pub(super) fn column(&mut self, mode: Mode) -> &mut Column {
        &mut self.columns[mode as usize]
    }

    pub(super) fn get(&self, mode: Mode) -> Column {
        self.columns[mode as usize]
    }

    pub(super) fn when(&self, mode: Mode) -> Moment {
        self.when[mode as usize]
    }

    pub(super) fn set_when(&mut self, mode: Mode, when: Moment) {
        let there = &mut self.when[mode as usize];
        *there = when.max(*there);
    }

    fn join(self, other: Row) -> Row {
        let max = |m: Mode| Column {
            n: self.get(m).n.max(other.get(m).n),
            at: self.get(m).at.max(other.get(m).at),
        };
        let when = |m: Mode| self.when(m).max(other.when(m));
        Row { columns: [max(Mode::Soft), max(Mode::Hard)], when: [when(Mode::Soft), when(Mode::Hard)] }
    }
}

type Rows = HashMap<SelectorHash, Row, FastHash>;

/// Two generations: when the younger is full the older is forgotten and the younger takes its place.
#[derive(Default)]
struct Shard {
    young: Rows,
    old: Rows,
    /// Where both clocks stood when `young` began: what was forgotten lies before.
    began: Column,
}

impl Shard {
    fn get(&self, selector: SelectorHash) -> Row {
        let row = |rows: &Rows| rows.get(&selector).copied().unwrap_or_default();
        row(&self.young).join(row(&self.old))
    }
}

/// The rows. Writers are serialised by the caller; readers need nobody's leave.
pub(super) struct Table {
    shards: [RwLock<Shard>; SHARDS],
    touched: Touched,
    /// Rows in one generation of one shard.
    limit: usize,
    /// The table knows every invalidation applied after `n = floor`.
    floor: AtomicU64,
}

/// Selectors by place: the highest `n` of all that were ever written and fall into the same. Never less than the row says,
/// so what an entry has seen all of needs no row, and no lock.
struct Touched(Box<[AtomicU64]>);

/// Places at the most: 256 KiB, which a core's cache holds beside other things. What shares a place costs a look at the rows.
const PLACES: usize = 1 << 15;

impl Touched {
    /// For a table with generations of `limit` selectors.
    fn new(limit: usize) -> Self {
        let places = limit.next_power_of_two().clamp(64, PLACES);
        Touched((0..places).map(|_| AtomicU64::new(0)).collect())
    }

    fn place(&self, selector: SelectorHash) -> &AtomicU64 {
        let places = self.0.len() as u64;
        &self.0[usize::try_from(selector % places).unwrap_or_default()]
    }

    fn at(&self, selector: SelectorHash, n: u64) {
        self.place(selector).fetch_max(n, Ordering::AcqRel);
    }

    #[inline]
    fn since(&self, selector: SelectorHash, seen: u64) -> bool {
        self.place(selector).load(Ordering::Acquire) > seen
    }
}

impl Table {
    /// A table of two generations of `limit` selectors, and a little more.
    pub(super) fn new(limit: usize) -> Self {
        Table {
            shards: Default::default(),
            touched: Touched::new(limit),
            limit: ((limit + limit / SPARE) / SHARDS).max(1),
            floor: AtomicU64::new(0),
        }
    }

    fn shard(&self, selector: SelectorHash) -> &RwLock<Shard> {
        // The upper bits: the maps inside use the lower ones.
        &self.shards[usize::try_from(selector >> 60).unwrap_or_default() % SHARDS]
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    pub(super) fn raise_floor(&self, n: u64) {
        self.floor.fetch_max(n, Ordering::AcqRel);
    }

    /// Changes the row of a selector. If that makes the table forget older rows, answers how far back it reached until
    /// now by the second clock (`at`); `now` says where the clocks stand.
    pub(super) fn write(
        &self,
        selector: SelectorHash,
        now: Column,
        change: impl FnOnce(&mut Row),
    ) -> Option<u64> {
        let mut shard = self.shard(selector).write();
        let mut forgotten = None;
        if shard.young.len() >= self.limit && !shard.young.contains_key(&selector) {
            let boundary = std::mem::replace(&mut shard.began, now);
            shard.old = std::mem::take(&mut shard.young);
            if boundary != Column::default() || !shard.old.is_empty() {
                // What `old` held until now is gone; it all lay before `boundary`.
                self.raise_floor(boundary.n);
                forgotten = Some(boundary.at);
            }
        }
        let mut row = shard.get(selector);
        change(&mut row);
        self.touched.at(selector, row.get(Mode::Soft).n.max(row.get(Mode::Hard).n));
        shard.young.insert(selector, row);
        forgotten
    }

    /// Moves every `at` above `beyond`, which is no higher than `to`, to `to`. From then on none lies above that.
    pub(super) fn move_tail(&self, beyond: u64, to: u64) {
        for shard in &self.shards {
            let shard = &mut *shard.write();
            // The older generation may be forgotten next: it reached as far as its highest row. Not as far as positions that
            // are gone: a line that begins anew may be behind them, if the server's clock is.
            shard.began.at = shard.began.at.min(to);
            for row in shard.young.values_mut().chain(shard.old.values_mut()) {
                for column in &mut row.columns {
                    if column.at > beyond {
                        column.at = to;
                        shard.began.at = to;
                    }
                }
            }
        }
    }

    /// Was nothing written since `n = seen` that names an entry? Without a lock; false: the rows know more.
    #[inline]
    pub(super) fn is_untouched(&self, key: &[u8], tags: &[Tag], seen: u64) -> bool {
        let mut untouched = true;
        selector::each_of(key, tags, |hash| untouched &= !self.touched.since(hash, seen));
        untouched && seen >= self.floor()
    }

    /// The highest of everything over all selectors of an entry.
    pub(super) fn newest(&self, key: &[u8], tags: &[Tag]) -> Row {
        let mut newest = Row::default();
        selector::each_of(key, tags, |hash| newest = newest.join(self.shard(hash).read().get(hash)));
        newest
    }

    /// How many rows there are, in both generations.
    pub(super) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| {
                let shard = shard.read();
                shard.young.len() + shard.old.len()
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_forgets_says_how_far_back_it_reaches() {
        let table = Table::new(SHARDS * 4);
        let mut reach = 0;
        for n in 1..=1000_u64 {
            let selector = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let forgotten = table.write(selector, Column { n, at: n }, |row| {
                *row.column(Mode::Hard) = Column { n, at: n };
            });
            reach = reach.max(forgotten.unwrap_or(0));
        }
        assert!(table.len() <= SHARDS * 8, "{} rows", table.len());
        assert!(table.floor() > 0 && reach == table.floor());
        for n in table.floor() + 1..=1000 {
            let selector = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert_eq!(table.shard(selector).read().get(selector).get(Mode::Hard).n, n);
        }
    }

    /// A look without locks may send its caller to the rows in vain, but not too often, and never away from them.
    #[test]
    fn what_is_called_untouched_has_no_row_since_and_most_of_what_has_none_is_called_so() {
        let table = Table::new(1024);
        let selector = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for n in 10..510 {
            table
                .write(selector(n), Column { n, at: n }, |row| *row.column(Mode::Soft) = Column { n, at: n });
        }
        assert!((10..510).all(|n| table.touched.since(selector(n), n - 1)));
        let untouched = (1000..2000).filter(|&i| !table.touched.since(selector(i), 9)).count();
        assert!(untouched > 400, "{untouched} of 1000, though half of the places are free");
        assert!(table.is_untouched(b"a", &[], 509));
        table.raise_floor(510);
        assert!(!table.is_untouched(b"a", &[], 509), "beyond what the table knows");
    }
}
