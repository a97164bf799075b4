//! The guarantee, as something that can be broken.
//!
//! "Let a write be committed in the database, then `invalidate(S)` be called on node X, hard. A read returns no value that
//! carries a selector of S and whose load began before the write, if the read starts (a) on X after the call returned,
//! whatever it returned, or (b) on any node after that node's log has reached the returned token. Soft: the same for values
//! returned as *fresh*; they may be returned as stale until their stale window, cut to begin now, ends. Besides, in time:
//! (c) no node returns such a value later than `disconnected_ttl` after the record was appended."
//!
//! Everything that matters for this gets a number in the order in which it happened ([`Seq`]): calls, returns, beginnings of
//! loads and of reads. Every value says which load it came from. So what a read may return is a comparison of two numbers:
//! for each selector that the value carries, its load must not have begun before the last call that is in force where and
//! when the read began. That is a little stricter than the sentence, which counts from the write: loads that begin between
//! the write and the call are dead as well ([`larder_core::Cache::invalidate`] promises so).
//!
//! What is outside the guarantee is outside the oracle by construction, not by exception:
//! - *Queued*: such a call returns no token, so nothing is in force elsewhere until its record is appended; then (c) counts.
//! - *A primary that loses acknowledged writes*: records lost with it are taken out of the ledger that (c) rests on
//!   ([`Oracle::lost`]); what is in force by (b) on nodes that had reached the token stays in force, "for good".
//! - *A deposed primary that still answers*: its records never enter the ledger; for a node that it misled (c) counts from
//!   when it last did ([`Reading::misled`]): "(c) does not hold for nodes stuck to one".
//! - *Old data, selectors of another version, invalidating before commit*: the simulated application does none of that.

mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use larder_core::{Epoch, Mode};

use crate::executor::{Process, Time};
use crate::heard::{self, Reader};
use crate::rules::Rules;

/// The order in which things happened.
pub(crate) type Seq = u64;

/// A selector, by number.
pub(crate) type Sel = u32;

/// The coarse clock may be 5 ms behind, and a read looks at it.
const COARSE: Time = 10_000_000;
/// Times that cross nodes go through the server's clock, as each node learned it: off by a trip, and a call takes at most
/// a second.
pub(crate) const LEARNED: Time = 3_000_000_000;

/// Selectors as text, numbered.
#[derive(Debug, Default)]
pub(crate) struct Names {
    by_text: BTreeMap<String, Sel>,
    all: Vec<String>,
}

impl Names {
    pub(crate) fn sel(&mut self, text: &str) -> Sel {
        if let Some(sel) = self.by_text.get(text) {
            return *sel;
        }
        let sel = Sel::try_from(self.all.len()).unwrap_or(Sel::MAX);
        self.by_text.insert(text.to_owned(), sel);
        self.all.push(text.to_owned());
        sel
    }

    pub(crate) fn text(&self, sel: Sel) -> &str {
        &self.all[sel as usize]
    }
}

/// A bound that rises: from when on (by `Seq`) loads must have begun at which `Seq` or later.
#[derive(Debug, Default)]
struct Steps(Vec<(Seq, Seq)>);

impl Steps {
    fn raise(&mut self, from: Seq, bound: Seq) {
        // A later step that is no higher says nothing.
        if self.0.last().is_none_or(|(_, last)| bound > *last) {
            self.0.push((from, bound));
        }
    }

    fn at(&self, seq: Seq) -> Seq {
        let before = self.0.partition_point(|(from, _)| *from <= seq);
        before.checked_sub(1).map_or(0, |at| self.0[at].1)
    }
}

type Bounds = BTreeMap<(Mode, Sel), Steps>;

/// What is in force in one process.
#[derive(Debug, Default)]
struct Known {
    /// (a): by its own calls.
    own: Bounds,
    /// (b): by tokens that its log has reached.
    heard: Bounds,
    /// Tokens that its log had not reached the last time anybody looked.
    ahead: Vec<usize>,
    /// Records of its own that it had not heard of then.
    unheard: Vec<(Epoch, Mode, Vec<Sel>)>,
}

/// A call of `invalidate` or `expire`.
#[derive(Debug)]
struct Call {
    process: Process,
    mode: Mode,
    selectors: Vec<Sel>,
    began: Seq,
    returned: bool,
}

/// A token that a call has returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) epoch: Epoch,
    call: usize,
}

/// A record in the history of the primary.
#[derive(Clone, Copy, Debug)]
struct Entry {
    epoch: Epoch,
    at: Time,
    bound: Seq,
    by: Process,
}

/// A read under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) process: Process,
    pub(crate) row: usize,
    /// Its key: the row, in one variant.
    pub(crate) key: usize,
    pub(crate) began: Seq,
    pub(crate) at: Time,
    /// When this node was last answered by a server that had been deposed.
    pub(crate) misled: Option<Time>,
    /// Not older than this token.
    token: Option<usize>,
    /// Who reads.
    pub(crate) reader: Reader,
}

/// How a read returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Returned {
    pub(crate) called: Called,
    pub(crate) at: Time,
    /// When its node was last told of the log by a server that had been deposed.
    pub(crate) misled: Option<Time>,
}

/// How a value was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    Fresh,
    Stale,
    /// Nothing says.
    Either,
}

/// Times that the oracle has to know.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    pub(crate) disconnected_ttl: Duration,
    /// Of each resource.
    pub(crate) rules: Vec<Rules>,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    seq: Seq,
    pub(crate) names: Names,
    times: Times,
    known: BTreeMap<Process, Known>,
    calls: Vec<Call>,
    tokens: Vec<Token>,
    /// The last call of a process for a selector.
    last: BTreeMap<(Process, Mode, Sel), Seq>,
    /// What the primary's history holds.
    ledger: BTreeMap<(Mode, Sel), Vec<Entry>>,
    /// When a selector was last expired softly: called, or appended.
    expired: BTreeMap<Sel, Time>,
    /// When a selector was last named, by a call or in a record.
    named: BTreeMap<Sel, Seq>,
    /// When selectors were named, each one.
    applied: Vec<(Seq, Time)>,
    /// The server's clock has been set: what depends on the time it shows is not checked any more.
    pub(crate) clock_was_set: bool,
}

/// The guarantee is broken.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) row: Option<usize>,
    pub(crate) what: String,
}

impl Oracle {
    pub(crate) fn new(names: Names, times: Times) -> Self {
        Oracle {
            seq: 0,
            names,
            times,
            known: BTreeMap::new(),
            calls: Vec::new(),
            tokens: Vec::new(),
            last: BTreeMap::new(),
            ledger: BTreeMap::new(),
            expired: BTreeMap::new(),
            named: BTreeMap::new(),
            applied: Vec::new(),
            clock_was_set: false,
        }
    }

    pub(crate) fn next(&mut self) -> Seq {
        self.seq += 1;
        self.seq
    }

    /// How far the numbers have come.
    pub(crate) fn now(&self) -> Seq {
        self.seq
    }

    fn names_all(&mut self, selectors: &[Sel], at: Time) {
        for &sel in selectors {
            self.named.insert(sel, self.seq);
            self.applied.push((self.seq, at));
        }
    }

    /// Was the selector named after that, by anybody?
    pub(crate) fn is_named_since(&self, sel: Sel, seq: Seq) -> bool {
        self.named.get(&sel).is_some_and(|named| *named >= seq)
    }

    /// How many selectors were named since then.
    pub(crate) fn applied_since(&self, at: Time) -> usize {
        self.applied.len() - self.applied.partition_point(|(_, when)| *when < at)
    }

    /// The same.
    pub(crate) fn applied_after(&self, seq: Seq) -> usize {
        self.applied.len() - self.applied.partition_point(|(when, _)| *when < seq)
    }

    /// Is a call younger than `seq` in force in a process that names one of these?
    pub(crate) fn in_force_since(&self, process: Process, mode: Mode, sels: &[Sel], seq: Seq) -> bool {
        let Some(known) = self.known.get(&process) else { return false };
        let bound = |bounds: &Bounds, sel: &Sel| bounds.get(&(mode, *sel)).map_or(0, |s| s.at(self.seq));
        sels.iter().any(|sel| bound(&known.own, sel).max(bound(&known.heard, sel)) > seq)
    }

    /// Does the history hold a record behind `epoch` that names one of these?
    pub(crate) fn has_later(&self, mode: Mode, sels: &[Sel], epoch: Epoch) -> bool {
        let of = |sel: &Sel| self.ledger.get(&(mode, *sel)).into_iter().flatten();
        let is_later = |entry: &Entry| entry.epoch.line == epoch.line && entry.epoch.at > epoch.at;
        sels.iter().any(|sel| of(sel).any(is_later))
    }

    /// Has a process called something that names one of these, and has not heard of it from the log since?
    pub(crate) fn is_pending(&self, process: Process, mode: Mode, sels: &[Sel]) -> bool {
        let named = |call: &Call| {
            call.process == process
                && call.mode == mode
                && sels.iter().any(|sel| call.selectors.contains(sel))
        };
        let ahead = self.known.get(&process).into_iter().flat_map(|known| &known.ahead);
        self.calls.iter().any(|call| !call.returned && named(call))
            || ahead.map(|token| &self.calls[self.tokens[*token].call]).any(named)
            || self.is_unheard(process, mode, sels)
            || self.is_queued(process, mode, sels)
    }

    /// Has a process written a record that names one of these, and not read it?
    fn is_unheard(&self, process: Process, mode: Mode, sels: &[Sel]) -> bool {
        let unheard = self.known.get(&process).into_iter().flat_map(|known| &known.unheard);
        unheard.into_iter().any(|(_, of, named)| *of == mode && sels.iter().any(|sel| named.contains(sel)))
    }

    /// Has a process called something that names one of these, and is not in the history?
    fn is_queued(&self, process: Process, mode: Mode, sels: &[Sel]) -> bool {
        sels.iter().any(|sel| {
            let called = self.last.get(&(process, mode, *sel));
            let entries = self.ledger.get(&(mode, *sel)).into_iter().flatten();
            let mut own = entries.filter(|entry| entry.by == process);
            called.is_some_and(|called| own.all(|entry| entry.bound < *called))
        })
    }

    /// A process begins. Nothing is in force in it yet; its log may reach any token.
    pub(crate) fn process_begins(&mut self, process: Process) {
        let ahead = (0..self.tokens.len()).collect();
        self.known.insert(process, Known { ahead, ..Known::default() });
    }

    /// A process dies: what it had only queued is gone with it.
    pub(crate) fn process_dies(&mut self, process: Process) {
        self.known.remove(&process);
    }

    pub(crate) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// `invalidate` or `expire` is called.
    pub(crate) fn call(&mut self, process: Process, mode: Mode, selectors: Vec<Sel>, at: Time) -> usize {
        let began = self.next();
        self.names_all(&selectors, at);
        for &sel in &selectors {
            self.last.insert((process, mode, sel), began);
            if mode == Mode::Soft {
                self.expired.insert(sel, at);
            }
        }
        self.calls.push(Call { process, mode, selectors, began, returned: false });
        self.calls.len() - 1
    }

    /// It returns: (a) from here on, and (b) wherever the log has reached the token.
    pub(crate) fn returned(&mut self, call: usize, token: Option<Epoch>) {
        let seq = self.next();
        let Call { process, mode, selectors, began, returned } = &mut self.calls[call];
        *returned = true;
        if let Some(known) = self.known.get_mut(process) {
            for &sel in selectors.iter() {
                known.own.entry((*mode, sel)).or_default().raise(seq, *began);
            }
        }
        if let Some(epoch) = token {
            self.tokens.push(Token { epoch, call });
            self.known.values_mut().for_each(|known| known.ahead.push(self.tokens.len() - 1));
        }
    }

    /// A record enters the primary's history: (c) counts from here. It carries whatever its writer had called before for
    /// these selectors; a hard "everything" carries all that its writer has called. True if nobody has called that: a queue
    /// has overflowed.
    pub(crate) fn appended(
        &mut self,
        process: Process,
        mode: Mode,
        selectors: &[Sel],
        epoch: Epoch,
        at: Time,
    ) -> bool {
        let everything = self.names.sel("*");
        self.next();
        self.names_all(selectors, at);
        let mut overflow = false;
        if let Some(known) = self.known.get_mut(&process) {
            known.unheard.push((epoch, mode, selectors.to_vec()));
        }
        for &sel in selectors {
            let called = self.last.get(&(process, mode, sel)).map(|seq| (mode, sel, *seq));
            let carried: Vec<_> = match called {
                called if sel == everything && mode == Mode::Hard => {
                    overflow |= called.is_none();
                    let all = self.last.range((process, Mode::Soft, 0)..=(process, Mode::Hard, Sel::MAX));
                    all.map(|((_, mode, sel), seq)| (*mode, *sel, *seq)).collect()
                }
                called => called.into_iter().collect(),
            };
            for (mode, sel, bound) in carried {
                self.ledger.entry((mode, sel)).or_default().push(Entry { epoch, at, bound, by: process });
                if mode == Mode::Soft {
                    self.expired.insert(sel, at);
                }
            }
        }
        overflow
    }

    /// A primary was lost, and these records with it.
    pub(crate) fn lost(&mut self, epochs: &[Epoch]) {
        let lost: BTreeSet<_> = epochs.iter().map(|epoch| (epoch.line, epoch.at)).collect();
        for entries in self.ledger.values_mut() {
            entries.retain(|entry| !lost.contains(&(entry.epoch.line, entry.epoch.at)));
        }
    }

    /// A read starts, on a node that says which tokens its log has reached.
    pub(crate) fn read_begins(
        &mut self,
        process: Process,
        key: usize,
        at: Time,
        misled: Option<Time>,
        token: Option<usize>,
        reached: impl Fn(Epoch) -> bool,
    ) -> Reading {
        self.look(process, reached);
        let reader = heard::polled();
        Reading { process, row: key / 2, key, began: self.next(), at, misled, token, reader }
    }

    /// Which tokens has a node reached by now?
    pub(crate) fn look(&mut self, process: Process, reached: impl Fn(Epoch) -> bool) {
        let seq = self.next();
        let Oracle { known, tokens, calls, .. } = self;
        let Some(known) = known.get_mut(&process) else { return };
        known.unheard.retain(|(epoch, _, _)| !reached(*epoch));
        let bounds = &mut known.heard;
        known.ahead.retain(|&token| {
            let ahead = !reached(tokens[token].epoch);
            if !ahead {
                let call = &calls[tokens[token].call];
                for &sel in &call.selectors {
                    bounds.entry((call.mode, sel)).or_default().raise(seq, call.began);
                }
            }
            ahead
        });
    }

    /// At the end all is well, and all must be in force everywhere: what a living process has called, delivered or not, and
    /// what is in the log, whoever wrote it.
    pub(crate) fn all_in_force(&mut self) {
        let seq = self.next();
        let mut force: Vec<(Mode, Sel, Seq)> = Vec::new();
        for call in self.calls.iter().filter(|call| call.returned && self.known.contains_key(&call.process)) {
            force.extend(call.selectors.iter().map(|&sel| (call.mode, sel, call.began)));
        }
        for ((mode, sel), entries) in &self.ledger {
            force.extend(entries.iter().map(|entry| (*mode, *sel, entry.bound)));
        }
        force.sort_unstable_by_key(|(_, _, bound)| *bound);
        for known in self.known.values_mut() {
            for &(mode, sel, bound) in &force {
                known.heard.entry((mode, sel)).or_default().raise(seq, bound);
            }
        }
    }
}

pub(crate) fn nanos(duration: Duration) -> Time {
    Time::try_from(duration.as_nanos()).unwrap_or(Time::MAX)
}
