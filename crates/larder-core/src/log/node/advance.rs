//! How a node's view moves with the log: own calls, records, rounds, snapshots.

use super::own::Batch;
use super::{Node, State};
use crate::log::table::{Column, Row};
use crate::log::{Append, Epoch, Mode, Opened, Record, RecordBody, Stamp};
use crate::remote::Round;
use crate::runtime::Moment;
use crate::selector::{Selector, SelectorHash};
use crate::sync::atomic::Ordering;

/// Where a node stood when it asked for a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundStart {
    /// Where it wants to read on from.
    pub(crate) position: Epoch,
    sent: Moment,
    answers: u64,
}

/// What a round showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// Nothing lies between. `moved`: there were records, and they are applied. `lost`: an own invalidation that had been
    /// in the log is there no more.
    Well { moved: bool, lost: bool },
    /// Something lies between this node and the log: synchronise. Why, for people.
    Gap(&'static str),
}

/// What a record did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// It follows the position, which has moved on.
    Next,
    /// Something lies between: synchronise.
    Gap,
}

impl Node {
    /// The local step: from here on it holds in this process. With `on_its_way` it is also noted as to come back
    /// through the log. True if the queue for that has overflowed, and become "everything".
    pub(crate) fn invalidate(&self, batch: &Batch, on_its_way: bool, now: Moment) -> bool {
        let mut state = self.state.write();
        let n = self.n() + 1;
        for selector in &batch.selectors {
            self.stamp(&mut state, selector.hash(), batch.mode, Column { n, at: 0 }, now);
            if on_its_way {
                state.own.call(selector, batch.mode, batch.op, &batch.author, now);
            }
        }
        self.n.store(n, Ordering::Release);
        // What it becomes is for others: what was called holds here by its own rows.
        state.own.overflow(now)
    }

    /// What waits for the log and nobody sends, under new `op`s; the hard ones first.
    pub(crate) fn take_unsent(&self, op: impl FnMut() -> u64) -> Vec<Batch> {
        self.state.write().own.take(op)
    }

    /// Is there something to send that no call is sending?
    pub(crate) fn has_unsent(&self) -> bool {
        self.state.read().own.has_unsent()
    }

    /// The log has answered the append of `op`: its record stands at `token`.
    pub(crate) fn answered(&self, op: u64, token: Epoch) {
        let mut state = self.state.write();
        state.own.answered(op, token);
        state.settle();
    }

    /// The append of `op` has failed, or nobody knows whether it has. True if the queue has overflowed by that.
    pub(crate) fn unanswered(&self, op: u64, now: Moment) -> bool {
        let mut state = self.state.write();
        state.own.unanswered(op);
        state.own.overflow(now)
    }

    /// Before a round is asked for at `now`; `None`: this node has no position to read on from.
    pub(crate) fn round(&self, now: Moment) -> Option<RoundStart> {
        let state = self.state.read();
        let answers = state.own.answers();
        state.position.map(|position| RoundStart { position, sent: now, answers })
    }

    /// What a round has brought by `now`.
    pub(crate) fn look(&self, start: &RoundStart, round: &Round, now: Moment) -> Looked {
        if round.records.iter().any(|record| self.apply(record, now) == Applied::Gap) {
            return Looked::Gap("records have gone by unseen");
        }
        let moved = !round.records.is_empty();
        let asked_from = start.position;
        match round.head {
            _ if moved => {}
            Some(head) if head == asked_from => {}
            None => return Looked::Gap("the log is gone"),
            Some(head) if head.line != asked_from.line => {
                return Looked::Gap("the log has begun another line");
            }
            Some(head) if head.at > asked_from.at => return Looked::Gap("records have gone by unseen"),
            Some(_) => return Looked::Gap("the log has lost its end"),
        }
        let mut state = self.state.write();
        let State { own, lineage, position, .. } = &mut *state;
        let Some(here) = *position else { return Looked::Well { moved, lost: false } };
        // Records that come without a pause do not keep a node from being caught up: what counts is where the log stood
        // when it was asked.
        if !round.head.is_some_and(|head| head.line == here.line && head.at <= here.at) {
            return Looked::Well { moved, lost: false };
        }
        let reached = |token: Epoch| lineage.holds(here.line, token) && token.at <= here.at;
        let lost = own.find_lost(here.line, start.answers, start.sent, reached);
        self.caught_up(start.sent);
        Looked::Well { moved, lost }
    }

    /// The next record of the log, read at `now`.
    pub(super) fn apply(&self, record: &Record, now: Moment) -> Applied {
        let mut state = self.state.write();
        if state.position.is_none() || record.prev != state.position {
            return Applied::Gap;
        }
        if let Some(old) = state.position.filter(|old| old.line != record.epoch.line) {
            state.lineage.push(old);
        }
        let mut n = self.n();
        // Whatever the server's clock says: it was not there when this node was last known to be caught up.
        let when = state.moment_of(record.epoch.at).min(now).max(self.synced().unwrap_or_default());
        match &record.body {
            RecordBody::Marker => {}
            RecordBody::Invalidation(Append { mode, selectors, op, .. }) => {
                // An own record that is still awaited: it holds here since the call, and what was loaded since is good.
                let own = state.own.awaits(*op);
                n += u64::from(!own);
                // A row that is there already has been since the call: neither clock nor time of an own one moves.
                let (row_n, when) = if own { (0, Moment::default()) } else { (n, when) };
                for text in selectors {
                    let stamp = Column { n: row_n, at: record.epoch.at };
                    self.stamp(&mut state, Selector::from_log(text).hash(), *mode, stamp, when);
                }
                state.own.came_back(*op, record.epoch);
            }
            RecordBody::Unknown => {
                n += 1;
                let stamp = Column { n, at: record.epoch.at };
                self.stamp(&mut state, Selector::all().hash(), Mode::Hard, stamp, when);
            }
        }
        self.n.store(n, Ordering::Release);
        state.position = Some(record.epoch);
        Applied::Next
    }

    /// Takes over the snapshot, whatever lay between. `asked`: when the log was asked to open; `now`: when it had answered.
    pub(crate) fn synchronise(&self, opened: &Opened, stamps: &[Stamp], asked: Moment, now: Moment) {
        let mut state = self.state.write();
        let (start, since) = (opened.head.at, opened.since);
        // Up to `base` this node's history and the log's are the same.
        let base = state.position.and_then(|mine| {
            let cut = if mine.line == opened.head.line { Some(start) } else { opened.lineage.cut(mine.line) };
            cut.map(|cut| mine.at.min(cut))
        });
        let n = self.n() + 1;
        let beyond = base.unwrap_or(0);
        state.learn_server_time(opened.server_ms, now);
        // Rows from a lost tail count against all that is older than the barrier, and nothing newer.
        self.table.move_tail(beyond, start);
        state.highest = start;
        for stamp in stamps {
            let row_n = if stamp.at > beyond { n } else { 0 };
            let when = state.moment_of(stamp.at).min(now);
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
        // All that was in the log when it was asked is known here now, or counts as invalidated.
        self.caught_up(asked);
    }

    /// What the server's clock shows at `now`.
    pub(crate) fn learn_server_time(&self, server_ms: u64, now: Moment) {
        self.state.write().learn_server_time(server_ms, now);
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
            row.set_when(mode, when);
        });
        if let Some(at) = forgotten {
            state.covered = state.covered.max(at);
        }
    }
}

impl State {
    /// Own invalidations that the position has passed are no longer on their way.
    fn settle(&mut self) {
        let State { own, position, lineage, .. } = self;
        own.settle_reached(|token| {
            position.is_some_and(|p| lineage.holds(p.line, token) && token.at <= p.at)
        });
    }

    fn learn_server_time(&mut self, server_ms: u64, now: Moment) {
        self.ahead_us = micros(server_ms.saturating_mul(1000)).saturating_sub(micros(now.as_micros()));
    }

    /// When was the record at this position written? Positions are microseconds of the server's time, or a little more.
    fn moment_of(&self, at: u64) -> Moment {
        let us = u64::try_from(micros(at).saturating_sub(self.ahead_us)).unwrap_or(0);
        Moment::from_nanos(us.saturating_mul(1000))
    }
}

fn micros(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}
