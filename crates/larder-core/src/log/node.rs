//! What one node knows of the log, and every decision that rests on it. Pure: no I/O, no clock.
//!
//! Its rules, and why each is there: `docs/design/coherence.md`. Order of publication, everywhere: rows, then `n`, then position;
//! readers take `n` first. A reader that sees an `n` therefore sees every row that belongs to it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::table::{Column, Row, Table};
use super::{Append, Epoch, Lineage, Mark, Mode, Opened, Record, RecordBody, Stamp};
use crate::runtime::Moment;
use crate::selector::{self, Selector, SelectorHash};

/// Invalidations that wait for the remote tier, at the most. One more, and they become "everything".
const PENDING_LIMIT: usize = 1024;
/// Selectors in one record.
const SELECTORS_PER_RECORD: usize = 256;
/// The `op` of what no call has sent yet.
const UNSENT: u64 = 0;

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

/// What becomes one record, told by its `op`.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) mode: Mode,
    pub(crate) selectors: Vec<Selector>,
    pub(crate) op: u64,
}

impl Batch {
    /// As many batches as it takes, each with an `op` of its own: the record that comes back says by its `op` what has
    /// arrived, so it must have carried all that goes by this name.
    pub(crate) fn of(mode: Mode, selectors: Vec<Selector>, mut op: impl FnMut() -> u64) -> Vec<Batch> {
        let mut op = || op().max(UNSENT + 1);
        if selectors.len() <= SELECTORS_PER_RECORD {
            return vec![Batch { mode, selectors, op: op() }];
        }
        let chunks = selectors.chunks(SELECTORS_PER_RECORD);
        chunks.map(|chunk| Batch { mode, selectors: chunk.to_vec(), op: op() }).collect()
    }
}

/// An own invalidation that has not come back through the log.
#[derive(Clone, Debug)]
struct Pending {
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
    /// By selector and mode: `expire` does not stand in for an `invalidate` that is on its way, nor the reverse.
    pending: HashMap<(SelectorHash, Mode), Pending>,
    /// The server's clock less this process's, in microseconds: turns positions into moments.
    ahead_us: i64,
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
        let row = self.table.newest(key, tags);
        let (soft, hard) = (row.get(Mode::Soft), row.get(Mode::Hard));
        // The floor after the rows: rows are forgotten only after it has risen.
        if seen < self.table.floor() || hard.n > seen {
            Verdict::Dead
        } else if soft.n > seen {
            Verdict::Stale
        } else {
            Verdict::Valid
        }
    }

    /// When was an entry with this key and these tags last expired softly?
    pub(crate) fn expired_at(&self, key: &[u8], tags: &[Box<[u8]>]) -> Moment {
        self.table.newest(key, tags).expired
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
        let row = self.table.newest(key, tags);
        let (soft, hard) = (row.get(Mode::Soft), row.get(Mode::Hard));
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

    /// The local step: from here on it holds in this process. With `on_its_way` it is also noted as to come back
    /// through the log.
    pub(crate) fn invalidate(&self, batch: &Batch, on_its_way: bool, now: Moment) {
        let mut state = self.state.write();
        let n = self.n() + 1;
        for selector in &batch.selectors {
            let hash = selector.hash();
            self.stamp(&mut state, hash, batch.mode, Column { n, at: 0 }, now);
            if on_its_way {
                let pending = Pending { op: batch.op, selector: selector.clone(), token: None };
                state.pending.insert((hash, batch.mode), pending);
            }
        }
        if state.pending.len() > PENDING_LIMIT {
            // Everything that was queued is part of "everything", which holds here from now on as well. No record under
            // way says so: it is still to be sent.
            state.pending.clear();
            let selector = Selector::all();
            let hash = selector.hash();
            self.stamp(&mut state, hash, Mode::Hard, Column { n, at: 0 }, now);
            state.pending.insert((hash, Mode::Hard), Pending { op: UNSENT, selector, token: None });
        }
        self.n.store(n, Ordering::Release);
    }

    /// What waits for the log, under new `op`s; the hard ones first.
    pub(crate) fn take_pending(&self, mut op: impl FnMut() -> u64) -> Vec<Batch> {
        let mut state = self.state.write();
        let mut taken = Vec::new();
        for mode in [Mode::Hard, Mode::Soft] {
            let waiting = state.pending.iter().filter(|((_, m), _)| *m == mode);
            let selectors: Vec<_> = waiting.map(|(_, pending)| pending.selector.clone()).collect();
            if !selectors.is_empty() {
                taken.extend(Batch::of(mode, selectors, &mut op));
            }
        }
        for batch in &taken {
            for selector in &batch.selectors {
                if let Some(pending) = state.pending.get_mut(&(selector.hash(), batch.mode)) {
                    (pending.op, pending.token) = (batch.op, None);
                }
            }
        }
        taken
    }

    /// Is there something to send that no call is sending?
    pub(crate) fn has_unsent(&self) -> bool {
        self.state.read().pending.values().any(|p| p.op == UNSENT)
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
            RecordBody::Invalidation(Append { mode, selectors, op, .. }) => {
                // An own record that is still awaited: it holds here since the call, and what was loaded since is good.
                let own = state.pending.values().any(|p| p.op == *op);
                n += u64::from(!own);
                let when = state.moment_of(record.epoch.at);
                // A row that is there already has been since the call: neither clock nor time of an own one moves.
                let (row_n, when) = if own { (0, Moment::default()) } else { (n, when) };
                for text in selectors {
                    let stamp = Column { n: row_n, at: record.epoch.at };
                    self.stamp(&mut state, Selector::from_log(text).hash(), *mode, stamp, when);
                }
                state.pending.retain(|_, p| p.op != *op);
            }
            RecordBody::Unknown => {
                n += 1;
                let stamp = Column { n, at: record.epoch.at };
                self.stamp(&mut state, Selector::all().hash(), Mode::Hard, stamp, Moment::default());
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

    /// Takes over the snapshot, whatever lay between. `now`: when the log was opened.
    pub(crate) fn synchronise(&self, opened: &Opened, stamps: &[Stamp], now: Moment) {
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
        state.ahead_us =
            micros(opened.server_ms.saturating_mul(1000)).saturating_sub(micros(now.as_micros()));
        // Rows from a lost tail count against all that is older than the barrier, and nothing newer.
        self.table.move_tail(beyond, start);
        for stamp in stamps {
            let row_n = if stamp.at > beyond { n } else { 0 };
            let when = state.moment_of(stamp.at);
            let hash = Selector::from_log(&stamp.selector).hash();
            self.stamp(&mut state, hash, stamp.mode, Column { n: row_n, at: stamp.at }, when);
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
    fn stamp(&self, state: &mut State, selector: SelectorHash, mode: Mode, stamp: Column, when: Moment) {
        state.highest = state.highest.max(stamp.at);
        // Not below anything written so far, the rows of this very step included.
        let now = Column { n: self.n() + 1, at: state.highest };
        let forgotten = self.table.write(selector, now, |row: &mut Row| {
            let column = row.column(mode);
            column.n = column.n.max(stamp.n);
            column.at = column.at.max(stamp.at);
            if mode == Mode::Soft {
                row.expired = row.expired.max(when);
            }
        });
        if let Some(at) = forgotten {
            state.covered = state.covered.max(at);
        }
    }
}

fn micros(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

impl State {
    /// When was the record at this position written? Positions are microseconds of the server's time, or a little more.
    fn moment_of(&self, at: u64) -> Moment {
        let us = u64::try_from(micros(at).saturating_sub(self.ahead_us)).unwrap_or(0);
        Moment::from_nanos(us.saturating_mul(1000))
    }

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
        selector::each_of(key, tags, |hash| {
            for m in [Mode::Soft, Mode::Hard] {
                if self.pending.contains_key(&(hash, m)) {
                    mode = mode.max(Some(m));
                }
            }
        });
        mode
    }
}

#[cfg(test)]
mod tests;
