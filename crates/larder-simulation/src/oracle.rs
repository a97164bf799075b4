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

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use larder_core::{Epoch, Mode};

use crate::counts::Counts;
use crate::database::{Database, Doc};
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

    /// A read has returned a value: which promises does that break?
    ///
    /// What is beyond the time in which it is served stale at once may have been served because it could not be loaded:
    /// `excuse` says whether.
    pub(crate) fn check(
        &self,
        reading: &Reading,
        doc: Doc,
        returned: Returned,
        db: &Database,
        counts: &mut Counts,
        excuse: impl FnOnce() -> bool,
    ) -> Vec<String> {
        if doc.row != reading.row {
            return vec![format!("the value of another row, {}", db.rows[doc.row].name)];
        }
        let Some(load) = db.loads.get(doc.load) else { return vec!["a value that nobody loaded".to_owned()] };
        let row = &db.rows[doc.row];
        let carried: Vec<_> = row.selectors.iter().chain(&load.tags).copied().collect();
        let mut judged = Judged { counts, in_cache: load.ended_at < reading.at, broken: Vec::new() };
        judged.count("judged: a cached value");
        // A value that was there before the read began is judged by when it is returned. The result of a load is handed to those
        // who wait when it ends, whenever they began.
        let returned = match load.ended_at < reading.at {
            true => returned,
            false => Returned { at: reading.at, misled: reading.misled, ..returned },
        };
        for &sel in &carried {
            self.check_orders(reading, sel, Mode::Hard, load.began, &mut judged);
            self.check_time(returned, sel, Mode::Hard, load.began, &mut judged);
        }
        let is_expired =
            |sel: Sel| self.bounds(reading, sel, Mode::Soft).any(|(_, bound)| load.began < bound);
        if returned.called == Called::Fresh {
            for &sel in &carried {
                self.check_orders(reading, sel, Mode::Soft, load.began, &mut judged);
                self.check_time(returned, sel, Mode::Soft, load.began, &mut judged);
            }
        }
        if self.clock_was_set {
            judged.count("waived: times, the server's clock was set");
            return judged.broken;
        }
        judged.count("judged: times");
        let rules = &self.times.rules[row.resource];
        // A flight's result is handed to those who wait when the load ends, whenever they began to read.
        if returned.called == Called::Fresh && is_past(reading, load.ended_at, rules.fresh.1) {
            judged.broken.push("it was called fresh beyond its ttl".to_owned());
        }
        let is_beyond = |window| {
            if is_past(reading, load.ended_at, rules.fresh.1 + window) {
                return Err("it was returned beyond its ttl and stale window".to_owned());
            }
            // The window begins with an expiry: the last one, for an entry that nobody has looked at in between ("a soft
            // row's n > seen: its fresh life ends now, it is marked stale, its stale window begins").
            let expired = carried.iter().copied().filter(|sel| is_expired(*sel));
            let Some(sel) = expired.max_by_key(|sel| self.expired.get(sel)) else {
                return Ok(());
            };
            let last = carried.iter().filter_map(|sel| self.expired.get(sel)).max().copied();
            match last.is_some_and(|last| is_past(reading, last, window)) {
                true => Err(format!("`{}` was expired, and its stale window is over", self.names.text(sel))),
                false => Ok(()),
            }
        };
        judged.broken.extend(is_beyond(rules.window).err());
        if let Err(beyond) = is_beyond(rules.revalidate)
            && !excuse()
        {
            judged.broken.push(format!("{beyond}, and nothing kept it from being loaded"));
        }
        judged.broken
    }

    /// The last calls that name a selector and were in force when a read began, and by which promise.
    fn bounds(&self, reading: &Reading, sel: Sel, mode: Mode) -> impl Iterator<Item = (&'static str, Seq)> {
        let known = self.known.get(&reading.process);
        let at = |of: fn(&Known) -> &Bounds| {
            let steps = known.and_then(|known| of(known).get(&(mode, sel)));
            steps.map_or(0, |steps| steps.at(reading.began))
        };
        let bounds = [("(a)", at(|known| &known.own)), ("(b)", at(|known| &known.heard))];
        bounds.into_iter().filter(|(_, bound)| *bound > 0)
    }

    /// (a) and (b), and what the caller has asked for by a token.
    fn check_orders(&self, reading: &Reading, sel: Sel, mode: Mode, began: Seq, judged: &mut Judged<'_>) {
        for (by, bound) in self.bounds(reading, sel, mode) {
            judged.count(match (mode, by) {
                (Mode::Hard, "(a)") => "judged: (a)",
                (Mode::Hard, _) => "judged: (b)",
                (Mode::Soft, "(a)") => "judged: soft (a)",
                (Mode::Soft, _) => "judged: soft (b)",
            });
            if began < bound {
                judged.broken.push(format!(
                    "{by}: its load began at {began}; `{}` was {} at {bound}, which was in force on this node when the read \
                     began at {}{}",
                    self.names.text(sel),
                    done(mode),
                    reading.began,
                    called_fresh(mode)
                ));
            }
        }
        let Some(token) = reading.token else { return };
        let call = &self.calls[self.tokens[token].call];
        if call.mode != mode || !call.selectors.contains(&sel) {
            return;
        }
        judged.count("judged: at least a token");
        if began < call.began {
            judged.broken.push(format!(
                "at least: its load began at {began}; the read wanted at least the token {} of the call at {}, by which \
                 `{}` was {}{}",
                self.tokens[token].epoch,
                call.began,
                self.names.text(sel),
                done(mode),
                called_fresh(mode)
            ));
        }
    }

    /// (c).
    fn check_time(&self, returned: Returned, sel: Sel, mode: Mode, began: Seq, judged: &mut Judged<'_>) {
        let grace = nanos(self.times.disconnected_ttl) + COARSE;
        let long_ago = |at: Time| at.saturating_add(grace) < returned.at;
        let mut entries =
            self.ledger.get(&(mode, sel)).into_iter().flatten().filter(|entry| long_ago(entry.at)).peekable();
        if entries.peek().is_none() {
            return;
        }
        if returned.misled.is_some_and(|at| !long_ago(at)) {
            judged.count("waived: (c), the node was misled");
            return;
        }
        judged.count(if mode == Mode::Hard { "judged: (c)" } else { "judged: soft (c)" });
        if let Some(entry) = entries.filter(|entry| began < entry.bound).min_by_key(|entry| entry.at) {
            judged.broken.push(format!(
                "(c): its load began at {began}; `{}` was {} at {}, and {} ms have passed since that was appended at {}{}",
                self.names.text(sel),
                done(mode),
                entry.bound,
                (returned.at - entry.at) / 1_000_000,
                entry.epoch,
                called_fresh(mode)
            ));
        }
    }
}

/// What comes of a read that is judged.
struct Judged<'a> {
    counts: &'a mut Counts,
    /// Its load was over when the read began: only such reads prove something about what is kept.
    in_cache: bool,
    broken: Vec<String>,
}

impl Judged<'_> {
    fn count(&mut self, name: &'static str) {
        if self.in_cache {
            self.counts.add(name);
        }
    }
}

fn called_fresh(mode: Mode) -> &'static str {
    match mode {
        Mode::Hard => "",
        Mode::Soft => ", and it was called fresh (soft)",
    }
}

/// Did a read begin when something that began at `since` was over for sure?
fn is_past(reading: &Reading, since: Time, life: Duration) -> bool {
    reading.at > since.saturating_add(nanos(life)).saturating_add(LEARNED)
}

fn done(mode: Mode) -> &'static str {
    match mode {
        Mode::Hard => "invalidated",
        Mode::Soft => "expired",
    }
}

pub(crate) fn nanos(duration: Duration) -> Time {
    Time::try_from(duration.as_nanos()).unwrap_or(Time::MAX)
}
