//! What was written, what is in force where, and whether an answer may be given: the oracle.
//!
//! The version of a key is the number of the last write that concerned it. A value of an older version was read from the
//! database before that write was committed, so its load began before: where the write's invalidation is in force, no
//! read may return it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use larder::{Epoch, Moment, Runtime};
use parking_lot::Mutex;

use crate::node::Got;
use crate::rows;
use crate::trial::{DISCONNECTED_TTL, STALE_WINDOW};

/// What the coarse clocks of the nodes may add to `disconnected_ttl`, and then some.
const SLACK: Duration = Duration::from_millis(100);
/// How late a node may believe an `expire` to have been, whose stale window begins there: what a call of the log may take.
const WINDOW_SLACK: Duration = Duration::from_millis(1100);
/// Violations kept in words.
const SHOWN: usize = 5;

#[derive(Debug)]
struct Write {
    selector: String,
    hard: bool,
    node: usize,
    /// When the answer to the invalidation came, and the token if it was delivered.
    returned: Option<(Moment, Option<Epoch>)>,
    /// Everything has settled since.
    settled: bool,
}

/// What a read may not fall below, as of its start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floor {
    began: Moment,
    token: Option<Epoch>,
    /// The last write to the key in all.
    committed: u64,
    /// The last one that no value is returned past.
    any: u64,
    /// The last one that no value is returned past as fresh.
    fresh: u64,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) reads: u64,
    /// Of which it is said how they were answered.
    pub(crate) said: u64,
    pub(crate) hits: u64,
    pub(crate) stale: u64,
    pub(crate) bypassed: u64,
    pub(crate) loads: u64,
    pub(crate) writes: u64,
    pub(crate) delivered: u64,
    pub(crate) queued: u64,
}

#[derive(Default)]
struct Books {
    writes: Vec<Write>,
    /// The numbers of the writes that concern a key, in order.
    of: HashMap<String, Vec<u64>>,
    /// How far the log of a node has come, by line.
    reached: HashMap<(usize, u64), u64>,
    /// Nodes that were stopped and whose clocks may stand still yet.
    asleep: HashSet<usize>,
    /// Within these times an acknowledged record may be lost with its primary.
    losses: Option<(Moment, Moment)>,
    tally: Tally,
    violations: Vec<String>,
}

pub(crate) struct Ledger {
    runtime: Arc<dyn Runtime>,
    started: Moment,
    books: Mutex<Books>,
}

impl Ledger {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Self {
        let books =
            Books { of: rows::all().into_iter().map(|key| (key, Vec::new())).collect(), ..Books::default() };
        Ledger { started: runtime.now(), runtime, books: Mutex::new(books) }
    }

    /// The database reads: the version of `key`.
    pub(crate) fn load(&self, key: &str) -> u64 {
        let mut books = self.books.lock();
        books.tally.loads += 1;
        books.of[key].last().copied().unwrap_or(0)
    }

    /// The database commits a write to all that `selector` names, which is about to be invalidated on `node`. Answers its
    /// number.
    pub(crate) fn commit(&self, node: usize, selector: &str, hard: bool) -> u64 {
        let mut books = self.books.lock();
        let write = Write { selector: selector.to_owned(), hard, node, returned: None, settled: false };
        books.writes.push(write);
        books.tally.writes += 1;
        let number = books.writes.len() as u64;
        for (key, writes) in &mut books.of {
            if rows::names(selector, key) {
                writes.push(number);
            }
        }
        number
    }

    /// The invalidation of a write has returned.
    pub(crate) fn returned(&self, number: u64, token: Option<Epoch>) {
        let now = self.runtime.now();
        let mut books = self.books.lock();
        let write = &mut books.writes[usize::try_from(number).unwrap() - 1];
        write.returned = Some((now, token));
        let node = write.node;
        match token {
            // Whoever invalidates has reached his own token when the call returns.
            Some(token) => {
                books.tally.delivered += 1;
                books.reach(node, token);
            }
            None => books.tally.queued += 1,
        }
    }

    /// The log of `node` has come so far.
    pub(crate) fn reached(&self, node: usize, position: Epoch) {
        self.books.lock().reach(node, position);
    }

    /// A node is about to be stopped. Until it is [`awake`](Self::awake) the time is not what it believes.
    pub(crate) fn asleep(&self, node: usize) {
        self.books.lock().asleep.insert(node);
    }

    pub(crate) fn awake(&self, node: usize) {
        self.books.lock().asleep.remove(&node);
    }

    /// From now on a primary loses what it acknowledges.
    pub(crate) fn losing(&self) {
        let now = self.runtime.now();
        self.books.lock().losses = Some((now, now.plus(Duration::from_secs(3600))));
    }

    /// From now on it does not any more.
    pub(crate) fn lost(&self) {
        let now = self.runtime.now();
        let mut books = self.books.lock();
        books.losses = books.losses.map(|(since, _)| (since, now));
    }

    /// Every invalidation that has returned is in force on every node from now on.
    pub(crate) fn settled(&self) {
        for write in &mut self.books.lock().writes {
            write.settled |= write.returned.is_some();
        }
    }

    /// What a read of `key` on `node` that begins now, not older than `token`, may not fall below.
    pub(crate) fn floor(&self, node: usize, key: &str, token: Option<Epoch>) -> Floor {
        let (began, books) = (self.runtime.now(), self.books.lock());
        let of_key = &books.of[key];
        let mut floor =
            Floor { began, token, committed: of_key.last().copied().unwrap_or(0), ..Floor::default() };
        let mut expired = Moment::default();
        for number in of_key.iter().rev() {
            let write = &books.writes[usize::try_from(*number).unwrap() - 1];
            let in_force = books.in_force(write, node, token, began);
            if !write.hard {
                // The window begins with the last record that expires the entry, which may be this one.
                expired = expired.max(books.window_end(write));
            }
            if in_force {
                floor.fresh = floor.fresh.max(*number);
                if write.hard || began > expired {
                    floor.any = *number;
                    break;
                }
            }
        }
        floor
    }

    /// Judges what a read of `key` on `node` has got.
    pub(crate) fn judge(&self, node: usize, key: &str, floor: &Floor, got: &Result<Got, String>) {
        let mut books = self.books.lock();
        books.tally.reads += 1;
        let got = match got {
            Ok(got) => got,
            Err(error) => return self.violated(&mut books, node, key, floor, &format!("fails: {error}")),
        };
        let fresh = match got.outcome.as_str() {
            "hit" => {
                books.tally.hits += 1;
                true
            }
            "stale" => {
                books.tally.stale += 1;
                false
            }
            "bypass" => {
                books.tally.bypassed += 1;
                true
            }
            outcome => outcome != "unsaid",
        };
        books.tally.said += u64::from(got.outcome != "unsaid");
        // What he has loaded himself is what the database had when he came.
        let loaded = matches!(got.outcome.as_str(), "miss" | "bypass");
        let least = match (loaded, fresh) {
            (true, _) => floor.committed,
            (false, true) => floor.fresh,
            (false, false) => floor.any,
        };
        if got.key != key || got.version < least {
            let what = format!("returns {got:?}, and the last that may be returned is {least}");
            self.violated(&mut books, node, key, floor, &what);
        }
        if let Some(token) = floor.token.filter(|_| !matches!(got.outcome.as_str(), "bypass" | "unsaid")) {
            books.reach(node, token);
        }
    }

    fn violated(&self, books: &mut Books, node: usize, key: &str, floor: &Floor, what: &str) {
        if books.violations.len() >= SHOWN {
            return;
        }
        let ms = |at: Moment| at.since(self.started).as_millis();
        let writes = books.of[key].iter().rev().take(6).map(|number| {
            let write = &books.writes[usize::try_from(*number).unwrap() - 1];
            let returned = write.returned.map(|(at, token)| format!("{} ms, {token:?}", ms(at)));
            format!("\n    {number}: {} hard {} on {}: {returned:?}", write.selector, write.hard, write.node)
        });
        let history: String = writes.collect();
        let reached: Vec<_> = books.reached.iter().filter(|((of, _), _)| *of == node).collect();
        let began = ms(floor.began);
        let ended = ms(self.runtime.now());
        books.violations.push(format!(
            "node {node}, {key}, asked at {began} ms, answered by {ended} ms: {what}\n  {floor:?}\n  \
             reached {reached:?}\n  last writes:{history}"
        ));
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.books.lock().violations.clone()
    }

    pub(crate) fn tally(&self) -> Tally {
        self.books.lock().tally
    }
}

impl Books {
    fn reach(&mut self, node: usize, position: Epoch) {
        let at = self.reached.entry((node, position.line)).or_default();
        *at = position.at.max(*at);
    }

    /// Does the guarantee say that `write` is in force for a read that begins `now` on `node`, not older than `asked`?
    fn in_force(&self, write: &Write, node: usize, asked: Option<Epoch>, now: Moment) -> bool {
        let Some((returned, token)) = write.returned else { return false };
        // (a): on the same node, whatever the call has returned.
        if write.node == node || write.settled {
            return true;
        }
        // Queued: the others hear when it is sent.
        let Some(token) = token else { return false };
        // (b): where the log has come so far, or the read waits for that.
        let reached = self.reached.get(&(node, token.line)).is_some_and(|at| *at >= token.at);
        if reached || asked.is_some_and(|asked| asked.line == token.line && asked.at >= token.at) {
            return true;
        }
        // (c): everywhere after `disconnected_ttl`, unless the primary may have lost it. A process that was stopped knows
        // that time has passed once the thread that sets its clock has run: the one thing that it may do late.
        let knows = !self.asleep.contains(&node) && !self.may_be_lost(returned);
        knows && now > returned.plus(DISCONNECTED_TTL + SLACK)
    }

    /// Until when may be returned, as stale, what an `expire` has made stale? One that was queued, or lost and sent again,
    /// has its record at an unknown time.
    fn window_end(&self, write: &Write) -> Moment {
        match write.returned {
            Some((returned, Some(_))) if !self.may_be_lost(returned) => {
                returned.plus(STALE_WINDOW + WINDOW_SLACK)
            }
            _ => Moment::from_nanos(u64::MAX),
        }
    }

    /// May a record that was acknowledged by then be lost with its primary?
    fn may_be_lost(&self, acknowledged: Moment) -> bool {
        self.losses.is_some_and(|(since, until)| (since..=until).contains(&acknowledged))
    }
}
