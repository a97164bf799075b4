//! The log as a server keeps it: what the scripts of `larder-redis` do, line by line, without a server.
//!
//! A script changes nothing itself. It says what is to be done, as [`Step`]s, and both the server and its replicas do
//! that: the one now, the others later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::log::{Append, Epoch, Lineage, Mode, Record, RecordBody, Stamp};
use crate::remote::Head;

/// Positions stay below this, where Lua's numbers are exact.
const END_OF_TIME: u64 = 1 << 52;
/// Fields of the state that are no stamps. They count against its limit.
const CONTROL_FIELDS: usize = 5;

type Stamps = BTreeMap<(Mode, String), u64>;

/// `:log`, `:state` and `:old`.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    state: Option<State>,
    old: Option<(u64, Stamps)>,
    records: VecDeque<Arc<Record>>,
}

#[derive(Clone, Debug)]
struct State {
    control: Control,
    stamps: Stamps,
}

/// The fields of `:state` that are no stamps.
#[derive(Clone, Debug)]
pub(super) struct Control {
    last: Epoch,
    server: u64,
    lineage: Lineage,
    since: u64,
}

/// One thing that a script does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// UNLINK of all three keys.
    Forget,
    /// XADD, and HSET of the control fields. `kept`: the stream is trimmed to so many.
    Record { record: Arc<Record>, control: Control, kept: usize },
    /// HSET of stamps.
    Stamp { mode: Mode, selectors: Vec<String>, at: u64 },
    /// UNLINK of the old stamps, RENAME of the state, and a new one.
    Rotate { control: Control },
}

/// Who runs a script, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// The caller's position.
    pub(super) from: Option<Epoch>,
    /// The name of a line that may begin.
    pub(super) nonce: u64,
    /// The server's time, in microseconds.
    pub(super) now: u64,
    /// What `INFO replication` says.
    pub(super) server: u64,
    /// Stamps kept in a generation.
    pub(super) limit: usize,
    /// Records kept.
    pub(super) kept: usize,
}

impl Log {
    pub(super) fn apply(&mut self, step: &Step) {
        match step {
            Step::Forget => *self = Log::default(),
            Step::Record { record, control, kept } => {
                // A stream that is ahead of its state is not this log.
                if self.records.back().is_some_and(|last| last.epoch.at >= record.epoch.at) {
                    self.records.clear();
                }
                self.records.push_back(record.clone());
                while self.records.len() > *kept {
                    self.records.pop_front();
                }
                match &mut self.state {
                    Some(state) => state.control = control.clone(),
                    None => self.state = Some(State { control: control.clone(), stamps: Stamps::new() }),
                }
            }
            Step::Stamp { mode, selectors, at } => {
                let stamps = self.state.iter_mut().map(|state| &mut state.stamps);
                for stamps in stamps {
                    stamps.extend(selectors.iter().map(|selector| ((*mode, selector.clone()), *at)));
                }
            }
            Step::Rotate { control } => {
                let new = State { control: control.clone(), stamps: Stamps::new() };
                self.old = self.state.replace(new).map(|old| (old.control.since, old.stamps));
            }
        }
    }

    /// The first part of `open` and of `append`.
    fn enter(&self, call: &Call) -> Script {
        let mut script = Script { steps: Vec::new(), control: None, call: *call };
        let Some(state) = &self.state else {
            script.steps.push(Step::Forget);
            let last = Epoch { line: call.nonce, at: 0 };
            let control = Control { last, server: call.server, lineage: Lineage::default(), since: 0 };
            script.record(control, None, RecordBody::Marker);
            return script;
        };
        let mut control = state.control.clone();
        let before = control.last;
        let beyond = call.from.is_some_and(|from| from.line == before.line && from.at > before.at);
        if control.server != call.server || beyond {
            control.lineage.push(before);
            control.last.line = call.nonce;
        }
        control.server = call.server;
        let foreign = call.from.is_some_and(|from| {
            !(from.line == control.last.line && from.at <= control.last.at
                || control.lineage.cut(from.line).is_some_and(|cut| from.at <= cut))
        });
        if control.last.line != before.line || foreign {
            script.record(control, Some(before), RecordBody::Marker);
        } else {
            script.control = Some(control);
        }
        script
    }

    /// What `open` does, and answers but for what [`reach`](Self::reach) says afterwards.
    pub(super) fn open(&self, call: &Call) -> (Vec<Step>, Epoch, Lineage) {
        let script = self.enter(call);
        let control = script.control.expect("enter ends with a state");
        (script.steps, control.last, control.lineage)
    }

    /// What `append` does, and the position of its record.
    pub(super) fn append(&self, call: &Call, append: Append) -> (Vec<Step>, Epoch) {
        let mut script = self.enter(call);
        let control = script.control.take().expect("enter ends with a state");
        let (mode, selectors) = (append.mode, append.selectors.clone());
        let before = control.last;
        script.record(control, Some(before), RecordBody::Invalidation(append));
        let mut control = script.control.expect("a record was just made");
        let last = control.last;
        let forgotten = matches!(script.steps.first(), Some(Step::Forget));
        let there = self.state.as_ref().filter(|_| !forgotten).map(|state| &state.stamps);
        let new = selectors
            .iter()
            .filter(|selector| !there.is_some_and(|there| there.contains_key(&(mode, (*selector).clone()))));
        let rows = there.map_or(0, BTreeMap::len) + new.count();
        script.steps.push(Step::Stamp { mode, selectors, at: last.at });
        if rows + CONTROL_FIELDS > call.limit {
            control.since = last.at;
            script.steps.push(Step::Rotate { control });
        }
        (script.steps, last)
    }

    /// What a newer version would append: a record that nobody here can read, behind the last.
    pub(super) fn unknown(&self, now_us: u64, kept: usize) -> Option<(Step, Epoch)> {
        let mut control = self.state.as_ref()?.control.clone();
        let prev = Some(control.last);
        control.last.at = now_us.max(control.last.at + 1);
        let epoch = control.last;
        let record = Arc::new(Record { epoch, prev, body: RecordBody::Unknown });
        Some((Step::Record { record, control, kept }, epoch))
    }

    /// Where it stands.
    pub(super) fn head(&self) -> Option<Head> {
        let Control { last, lineage, .. } = self.state.as_ref()?.control.clone();
        Some(Head { epoch: last, lineage, since: self.reach() })
    }

    /// The stamps hold every invalidation after this position.
    pub(super) fn reach(&self) -> u64 {
        let state = self.state.as_ref().map_or(0, |state| state.control.since);
        self.old.as_ref().map_or(state, |(since, _)| *since)
    }

    /// Some rows of one of the two hashes, from behind `after` on; `None` at its end. What is there during the whole walk
    /// is seen.
    pub(super) fn scan(&self, old: bool, after: Option<&Stamp>, limit: usize) -> Option<Vec<Stamp>> {
        let stamps = match old {
            true => self.old.as_ref().map(|(_, stamps)| stamps),
            false => self.state.as_ref().map(|state| &state.stamps),
        };
        let from = match after {
            Some(stamp) => std::ops::Bound::Excluded((stamp.mode, stamp.selector.clone())),
            None => std::ops::Bound::Unbounded,
        };
        let rows = stamps?.range((from, std::ops::Bound::Unbounded)).take(limit);
        let rows: Vec<_> = rows
            .map(|((mode, selector), at)| Stamp { mode: *mode, selector: selector.clone(), at: *at })
            .collect();
        (!rows.is_empty()).then_some(rows)
    }

    /// XREAD: what stands behind a position, whatever its line.
    pub(super) fn behind(&self, at: u64, limit: usize) -> Vec<Record> {
        let from = self.records.partition_point(|record| record.epoch.at <= at);
        self.records.iter().skip(from).take(limit).map(|record| Record::clone(record)).collect()
    }

    /// XREVRANGE: what stands before a position, newest first.
    pub(super) fn before(&self, at: Option<u64>, limit: usize) -> Vec<Record> {
        let records = self.records.iter().rev();
        let records = records.filter(|record| at.is_none_or(|at| record.epoch.at < at));
        records.take(limit).map(|record| Record::clone(record)).collect()
    }

    /// The stream is trimmed to `kept` records.
    pub(super) fn trim(&mut self, kept: usize) {
        self.records.drain(..self.records.len().saturating_sub(kept));
    }

    /// `:log` is evicted.
    pub(super) fn lose_records(&mut self) {
        self.records.clear();
    }

    /// `:state` is evicted.
    pub(super) fn lose_state(&mut self) {
        self.state = None;
    }

    /// `:old` is evicted.
    pub(super) fn lose_old(&mut self) {
        self.old = None;
    }
}

/// What a script does, and where the log stands after it.
struct Script {
    steps: Vec<Step>,
    control: Option<Control>,
    call: Call,
}

impl Script {
    fn record(&mut self, mut control: Control, prev: Option<Epoch>, body: RecordBody) {
        let now = if self.call.now >= END_OF_TIME { 0 } else { self.call.now };
        control.last.at = now.max(control.last.at + 1);
        if prev.is_none() {
            control.since = control.last.at;
        }
        let record = Arc::new(Record { epoch: control.last, prev, body });
        self.steps.push(Step::Record { record, control: control.clone(), kept: self.call.kept });
        self.control = Some(control);
    }
}
