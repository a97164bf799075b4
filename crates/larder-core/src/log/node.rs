//! What one node knows of the log, and every decision that rests on it. Pure: no I/O, no clock.
//!
//! The rules are those of `docs/design/coherence.md`. Order of publication, everywhere: rows, then `n`, then position;
//! readers take `n` first. A reader that sees an `n` therefore sees every row that belongs to it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::table::{Column, Table};
use super::{Epoch, Lineage, Mark, Mode, Opened, Record, RecordBody, Stamp};
use crate::selector::{self, Selector, SelectorHash};

/// Invalidations that wait for the remote tier, at the most. One more, and they become "everything".
const PENDING_LIMIT: usize = 1024;

/// What the log says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Not invalidated.
    Valid,
    /// Expired softly: stale.
    Stale,
    /// Invalidated, or not verifiable.
    Dead,
}

/// An own invalidation that has not come back through the log.
#[derive(Clone, Debug)]
struct Pending {
    mode: Mode,
    op: u64,
    selector: Selector,
    /// Its position, once the log has answered.
    token: Option<Epoch>,
}

#[derive(Default)]
struct State {
    position: Option<Epoch>,
    lineage: Lineage,
    /// The table knows every invalidation on the line above this position.
    covered: u64,
    /// The highest `at` ever written to a row: what the table forgets lies at or below.
    highest: u64,
    pending: HashMap<SelectorHash, Pending>,
}

/// One node's view.
pub(crate) struct Node {
    n: AtomicU64,
    table: Table,
    state: RwLock<State>,
}

/// What a record did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It follows the position, which has moved on.
    Next,
    /// Something lies between: synchronise.
    Gap,
}

impl Node {
    pub(crate) fn new(limit: usize) -> Self {
        Node { n: AtomicU64::new(1), table: Table::new(limit), state: RwLock::default() }
    }

    /// The counter of everything applied here.
    #[inline]
    pub(crate) fn n(&self) -> u64 {
        self.n.load(Ordering::Acquire)
    }

    /// Both clocks, as one pair, for a load that begins now.
    pub(crate) fn mark(&self) -> Mark {
        let state = self.state.read();
        Mark { n: self.n(), epoch: state.position }
    }

    pub(crate) fn position(&self) -> Option<Epoch> {
        self.state.read().position
    }

    pub(crate) fn pending(&self) -> usize {
        self.state.read().pending.len()
    }

    /// Rows in the stamp table.
    pub(crate) fn rows(&self) -> usize {
        self.table.len()
    }

    /// What happened, since the counter stood at `seen`, to an entry with this key and these tags?
    pub(crate) fn check_since(&self, key: &[u8], tags: &[Box<[u8]>], seen: u64) -> Verdict {
        let [soft, hard] = self.table.newest(key, tags);
        // The floor after the rows: rows are forgotten only after it has risen.
        if seen < self.table.floor() || hard.n > seen {
            Verdict::Dead
        } else if soft.n > seen {
            Verdict::Stale
        } else {
            Verdict::Valid
        }
    }

    /// May an entry that was read from the remote tier be used? Answers the `n` it is good for, too.
    pub(crate) fn check_remote(&self, key: &[u8], tags: &[Box<[u8]>], epoch: Epoch) -> (Verdict, u64) {
        let n = self.n();
        let state = self.state.read();
        let on_lineage = state.position.is_some_and(|p| state.lineage.holds(p.line, epoch));
        if !on_lineage || epoch.at < state.covered {
            return (Verdict::Dead, n);
        }
        // The lock is kept: rows must not be forgotten, nor leave `pending`, between these look-ups.
        let pending = state.pending_mode(key, tags);
        let [soft, hard] = self.table.newest(key, tags);
        let verdict = if pending == Some(Mode::Hard) || hard.at > epoch.at {
            Verdict::Dead
        } else if pending.is_some() || soft.at > epoch.at {
            Verdict::Stale
        } else {
            Verdict::Valid
        };
        (verdict, n)
    }

    /// Is an invalidation of this entry on its way to the log? Then what was loaded is not stored there yet.
    pub(crate) fn is_pending(&self, key: &[u8], tags: &[Box<[u8]>]) -> bool {
        self.state.read().pending_mode(key, tags).is_some()
    }

    /// The local step: from here on it holds in this process. With `op` it is also noted as on its way to the log.
    pub(crate) fn invalidate(&self, mode: Mode, selectors: &[Selector], op: Option<u64>) {
        let mut state = self.state.write();
        let n = self.n() + 1;
        for selector in selectors {
            self.stamp(&mut state, selector.hash(), mode, n, 0);
            if let Some(op) = op {
                let pending = state.pending.entry(selector.hash()).or_insert_with(|| Pending {
                    mode,
                    op,
                    selector: selector.clone(),
                    token: None,
                });
                pending.mode = pending.mode.max(mode);
                (pending.op, pending.token) = (op, None);
            }
        }
        if state.pending.len() > PENDING_LIMIT {
            // Everything that was queued is part of "everything", which holds here from now on as well.
            state.pending.clear();
            let (selector, op) = (Selector::all(), op.unwrap_or_default());
            self.stamp(&mut state, selector.hash(), Mode::Hard, n, 0);
            state.pending.insert(selector.hash(), Pending { mode: Mode::Hard, op, selector, token: None });
        }
        self.n.store(n, Ordering::Release);
    }

    /// What waits for the log, under a new `op`: hard ones, and soft ones.
    pub(crate) fn take_pending(&self, ops: [u64; 2]) -> [Vec<Selector>; 2] {
        let mut batches = [Vec::new(), Vec::new()];
        for pending in self.state.write().pending.values_mut() {
            (pending.op, pending.token) = (ops[pending.mode as usize], None);
            batches[pending.mode as usize].push(pending.selector.clone());
        }
        batches
    }

    /// The log has answered the append of `op`: its record stands at `token`.
    pub(crate) fn answered(&self, op: u64, token: Epoch) {
        let mut state = self.state.write();
        state.pending.values_mut().filter(|p| p.op == op).for_each(|p| p.token = Some(token));
        state.settle();
    }

    /// The next record of the log.
    pub(crate) fn apply(&self, record: &Record) -> Applied {
        let mut state = self.state.write();
        if state.position.is_none() || record.prev != state.position {
            return Applied::Gap;
        }
        if let Some(old) = state.position.filter(|old| old.line != record.epoch.line) {
            state.lineage.push(old);
        }
        let mut n = self.n();
        match &record.body {
            RecordBody::Marker => {}
            RecordBody::Invalidation { mode, selectors, op } => {
                // An own record that is still awaited: it holds here since the call, and what was loaded since is good.
                let own = state.pending.values().any(|p| p.op == *op);
                n += u64::from(!own);
                for text in selectors {
                    // A selector of a later release that this one cannot read may name anything.
                    let hash = Selector::parse(text).unwrap_or_else(|_| Selector::all()).hash();
                    let row_n = if own { 0 } else { n };
                    self.stamp(&mut state, hash, *mode, row_n, record.epoch.at);
                }
                state.pending.retain(|_, p| p.op != *op);
            }
            RecordBody::Unknown => {
                n += 1;
                self.stamp(&mut state, Selector::all().hash(), Mode::Hard, n, record.epoch.at);
            }
        }
        self.n.store(n, Ordering::Release);
        state.position = Some(record.epoch);
        Applied::Next
    }

    /// Has this node's log come as far as `token`?
    pub(crate) fn reached(&self, token: Epoch) -> bool {
        self.state.read().reached(token)
    }

    /// Takes over the snapshot, whatever lay between.
    pub(crate) fn synchronise(&self, opened: &Opened, stamps: &[Stamp]) {
        let mut state = self.state.write();
        let (start, since) = (opened.head.at, opened.since);
        // Up to `base` this node's history and the log's are the same.
        let base = state.position.and_then(|mine| {
            let cut = if mine.line == opened.head.line { Some(start) } else { opened.lineage.cut(mine.line) };
            cut.map(|cut| mine.at.min(cut))
        });
        let n = self.n() + 1;
        let beyond = base.unwrap_or(0);
        state.highest = state.highest.max(start);
        // Rows from a lost tail count against all that is older than the barrier, and nothing newer.
        self.table.each(|row| {
            for mode in [Mode::Soft, Mode::Hard] {
                let column = row.column(mode);
                if column.at > beyond {
                    column.at = start;
                }
            }
        });
        for stamp in stamps {
            let hash = Selector::parse(&stamp.selector).unwrap_or_else(|_| Selector::all()).hash();
            let row_n = if stamp.at > beyond { n } else { 0 };
            self.stamp(&mut state, hash, stamp.mode, row_n, stamp.at);
        }
        let first = state.position.is_none();
        let gap = base.is_none_or(|base| base < since);
        if gap {
            self.table.raise_floor(n);
        }
        state.covered = match base {
            None if first => since.max(state.covered),
            None => start,
            Some(base) if state.covered > base => start,
            Some(_) if gap => since.max(state.covered),
            Some(_) => state.covered,
        };
        self.n.store(n, Ordering::Release);
        state.lineage = opened.lineage.clone();
        state.position = Some(opened.head);
        state.settle();
    }

    /// Writes one row, and keeps `covered` true if that makes the table forget another.
    fn stamp(&self, state: &mut State, selector: SelectorHash, mode: Mode, n: u64, at: u64) {
        state.highest = state.highest.max(at);
        // Not below anything written so far, the rows of this very step included.
        let now = Column { n: self.n() + 1, at: state.highest };
        let forgotten = self.table.write(selector, now, |row| {
            let column = row.column(mode);
            column.n = column.n.max(n);
            column.at = column.at.max(at);
        });
        if let Some(at) = forgotten {
            state.covered = state.covered.max(at);
        }
    }
}

impl State {
    fn reached(&self, token: Epoch) -> bool {
        self.position.is_some_and(|p| self.lineage.holds(p.line, token) && token.at <= p.at)
    }

    /// Own invalidations that are behind the position are no longer on their way.
    fn settle(&mut self) {
        let (position, lineage) = (self.position, &self.lineage);
        self.pending.retain(|_, p| {
            let reached = |t: Epoch| position.is_some_and(|at| lineage.holds(at.line, t) && t.at <= at.at);
            !p.token.is_some_and(reached)
        });
    }

    fn pending_mode(&self, key: &[u8], tags: &[Box<[u8]>]) -> Option<Mode> {
        if self.pending.is_empty() {
            return None;
        }
        let mut mode = None;
        selector::each_of(key, tags, |hash| mode = mode.max(self.pending.get(&hash).map(|p| p.mode)));
        mode
    }
}
