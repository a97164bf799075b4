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
    /// When everything has settled since.
    settled: Option<Moment>,
}

/// Why the guarantee says that a write is in force for a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Force {
    /// The read is on the node that has invalidated: (a).
    Own,
    /// The log of the node has come so far, or the read asks that it has: (b).
    Reached,
    /// Enough time has passed: (c).
    Late,
    /// All was mended since, and every node has caught up.
    Settled,
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
    /// Why that one is in force.
    by: Option<Force>,
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
    /// Reads answered by no load of their own whose floor was another node's write: by (b), by (c).
    pub(crate) by_reached: u64,
    pub(crate) by_late: u64,
}

impl Tally {
    /// What was counted since `before`.
    pub(crate) fn since(&self, before: &Tally) -> Tally {
        Tally {
            reads: self.reads - before.reads,
            said: self.said - before.said,
            hits: self.hits - before.hits,
            stale: self.stale - before.stale,
            bypassed: self.bypassed - before.bypassed,
            loads: self.loads - before.loads,
            writes: self.writes - before.writes,
            delivered: self.delivered - before.delivered,
            queued: self.queued - before.queued,
            by_reached: self.by_reached - before.by_reached,
            by_late: self.by_late - before.by_late,
        }
    }
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
        let write = Write { selector: selector.to_owned(), hard, node, returned: None, settled: None };
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
        let now = self.runtime.now();
        for write in &mut self.books.lock().writes {
            if write.returned.is_some() {
                write.settled.get_or_insert(now);
            }
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
            let force = books.in_force(write, node, token, began);
            if !write.hard {
                // The window begins with the last record that expires the entry, which may be this one.
                expired = expired.max(books.window_end(write));
            }
            if force.is_some() {
                if floor.fresh == 0 {
                    (floor.fresh, floor.by) = (*number, force);
                }
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
        match floor.by.filter(|_| !loaded) {
            Some(Force::Reached) => books.tally.by_reached += 1,
            Some(Force::Late) => books.tally.by_late += 1,
            Some(Force::Own | Force::Settled) | None => {}
        }
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

    /// Does the guarantee say that `write` is in force for a read that begins `now` on `node`, not older than `asked`? Why?
    fn in_force(&self, write: &Write, node: usize, asked: Option<Epoch>, now: Moment) -> Option<Force> {
        let (returned, token) = write.returned?;
        // Whatever the call has returned.
        if write.node == node {
            return Some(Force::Own);
        }
        if write.settled.is_some() {
            return Some(Force::Settled);
        }
        // Queued: the others hear when it is sent.
        let token = token?;
        let reached = self.reached.get(&(node, token.line)).is_some_and(|at| *at >= token.at);
        if reached || asked.is_some_and(|asked| asked.line == token.line && asked.at >= token.at) {
            return Some(Force::Reached);
        }
        // Unless the primary may have lost it. A process that was stopped knows that time has passed once the thread that
        // sets its clock has run: the one thing that it may do late.
        let knows = !self.asleep.contains(&node) && !self.may_be_lost(returned);
        (knows && now > returned.plus(DISCONNECTED_TTL + SLACK)).then_some(Force::Late)
    }

    /// Until when may be returned, as stale, what an `expire` has made stale? One that was queued, or lost and sent again,
    /// has its record at an unknown time, but before all was well again.
    fn window_end(&self, write: &Write) -> Moment {
        let recorded = match write.returned {
            Some((returned, Some(_))) if !self.may_be_lost(returned) => Some(returned),
            _ => write.settled,
        };
        recorded.map_or(Moment::from_nanos(u64::MAX), |at| at.plus(STALE_WINDOW + WINDOW_SLACK))
    }

    /// May a record that was acknowledged by then be lost with its primary?
    fn may_be_lost(&self, acknowledged: Moment) -> bool {
        self.losses.is_some_and(|(since, until)| (since..=until).contains(&acknowledged))
    }
}

/// The oracle itself: what each clause forbids is found, and what it does not forbid is not.
#[cfg(test)]
mod tests {
    use larder::testing::ManualRuntime;

    use super::*;

    const KEY: &str = "row:1:1";
    const TOKEN: Epoch = Epoch { line: 7, at: 100 };
    const X: usize = 0;
    const Y: usize = 1;

    struct Case {
        runtime: Arc<ManualRuntime>,
        ledger: Ledger,
    }

    impl Case {
        fn new() -> Self {
            let runtime = ManualRuntime::new(1);
            Case { ledger: Ledger::new(runtime.clone()), runtime }
        }

        /// A case in which X has written and invalidated.
        fn written(hard: bool, token: Option<Epoch>) -> Self {
            let case = Case::new();
            case.write(hard, token);
            case
        }

        fn write(&self, hard: bool, token: Option<Epoch>) {
            let number = self.ledger.commit(X, KEY, hard);
            self.ledger.returned(number, token);
        }

        fn pass(&self, time: Duration) {
            self.runtime.advance(time);
        }

        /// Is it a violation if a read on a node gets `version` now, answered so?
        fn is_wrong(&self, node: usize, token: Option<Epoch>, version: u64, outcome: &str) -> bool {
            let floor = self.ledger.floor(node, KEY, token);
            self.is_wrong_by(node, &floor, version, outcome)
        }

        fn is_wrong_by(&self, node: usize, floor: &Floor, version: u64, outcome: &str) -> bool {
            let before = self.ledger.violations().len();
            let got = Got { key: KEY.to_owned(), version, outcome: outcome.to_owned() };
            self.ledger.judge(node, KEY, floor, &Ok(got));
            self.ledger.violations().len() > before
        }
    }

    #[test]
    fn on_the_node_that_invalidated_the_old_value_is_wrong_as_soon_as_the_call_has_returned() {
        for token in [Some(TOKEN), None] {
            for outcome in ["hit", "stale", "coalesced", "unsaid"] {
                let case = Case::new();
                let number = case.ledger.commit(X, KEY, true);
                let before = case.ledger.floor(X, KEY, None);
                case.ledger.returned(number, token);
                assert!(!case.is_wrong_by(X, &before, 0, outcome), "a read from before the call returned");
                assert!(case.is_wrong(X, None, 0, outcome), "(a), {outcome}, {token:?}");
                assert!(!case.is_wrong(X, None, 1, outcome));
                assert!(!case.is_wrong(Y, None, 0, outcome), "nothing is said of another node yet");
            }
        }
    }

    #[test]
    fn on_another_node_it_is_wrong_once_the_log_has_come_so_far_or_the_read_asks_for_it() {
        let case = Case::written(true, Some(TOKEN));
        for (of_another_line, before) in [(8, TOKEN.at + 1), (TOKEN.line, TOKEN.at - 1)] {
            case.ledger.reached(Y, Epoch { line: of_another_line, at: before });
        }
        assert!(!case.is_wrong(Y, None, 0, "hit"));
        assert!(case.is_wrong(Y, Some(TOKEN), 0, "hit"), "(b), by the token that was asked for");
        let case = Case::written(true, Some(TOKEN));
        case.ledger.reached(Y, TOKEN);
        assert!(case.is_wrong(Y, None, 0, "hit"), "(b), by the position of the node");
        assert!(case.is_wrong(Y, None, 0, "stale"), "hard: stale neither");
        assert_eq!(case.ledger.tally().by_reached, 2);
        let case = Case::written(true, Some(TOKEN));
        assert!(!case.is_wrong(Y, Some(TOKEN), 1, "hit"));
        assert!(
            case.is_wrong(Y, None, 0, "hit"),
            "what one read was given in answer to a token holds for the next"
        );
    }

    #[test]
    fn everywhere_it_is_wrong_when_time_is_up_unless_it_was_queued_or_lost_or_the_node_slept() {
        let late = DISCONNECTED_TTL + SLACK * 2;
        let case = Case::written(true, Some(TOKEN));
        case.pass(DISCONNECTED_TTL);
        assert!(!case.is_wrong(Y, None, 0, "hit"));
        case.pass(SLACK * 2);
        assert!(case.is_wrong(Y, None, 0, "hit"), "(c)");
        assert!(case.is_wrong(Y, None, 0, "unsaid"), "(c)");
        assert_eq!((case.ledger.tally().by_reached, case.ledger.tally().by_late), (0, 2));

        let case = Case::written(true, None);
        case.pass(late);
        assert!(!case.is_wrong(Y, None, 0, "hit"), "queued");
        case.ledger.settled();
        assert!(case.is_wrong(Y, None, 0, "hit"), "and delivered since");

        let case = Case::new();
        case.ledger.losing();
        case.write(true, Some(TOKEN));
        case.pass(late);
        case.ledger.lost();
        assert!(!case.is_wrong(Y, None, 0, "hit"), "lost with its primary");
        case.pass(SLACK);
        case.write(true, Some(Epoch { line: 8, at: 1 }));
        case.pass(late);
        assert!(case.is_wrong(Y, None, 1, "hit"), "what is acknowledged afterwards is not");

        let case = Case::written(true, Some(TOKEN));
        case.ledger.asleep(Y);
        case.pass(late);
        assert!(!case.is_wrong(Y, None, 0, "hit"), "asleep");
        case.ledger.awake(Y);
        assert!(case.is_wrong(Y, None, 0, "hit"), "awake");
    }

    #[test]
    fn what_was_expired_is_wrong_as_fresh_and_as_stale_once_its_window_is_over() {
        let window = STALE_WINDOW + WINDOW_SLACK;
        let case = Case::written(false, Some(TOKEN));
        assert!(case.is_wrong(X, None, 0, "hit"), "soft: not as fresh");
        assert!(!case.is_wrong(X, None, 0, "stale"));
        case.pass(window);
        assert!(!case.is_wrong(X, None, 0, "stale"));
        case.pass(SLACK);
        assert!(case.is_wrong(X, None, 0, "stale"), "the window is over");

        // A hard one below a soft one stays hard.
        let case = Case::written(true, Some(TOKEN));
        case.write(false, Some(Epoch { at: TOKEN.at + 1, ..TOKEN }));
        assert!(case.is_wrong(X, None, 0, "stale"));
        assert!(!case.is_wrong(X, None, 1, "stale"));

        // The window of one that was queued ends, too: it began when all was well at the latest.
        let case = Case::written(false, None);
        case.pass(window * 2);
        assert!(!case.is_wrong(X, None, 0, "stale"), "it may have been sent a moment ago");
        case.ledger.settled();
        case.pass(window);
        assert!(!case.is_wrong(Y, None, 0, "stale"));
        case.pass(SLACK);
        assert!(case.is_wrong(Y, None, 0, "stale"));
        assert!(case.is_wrong(X, None, 0, "stale"));
    }

    #[test]
    fn what_a_reader_loads_himself_is_no_older_than_his_question() {
        let case = Case::new();
        let _ = case.ledger.commit(X, KEY, true);
        assert!(case.is_wrong(Y, None, 0, "miss"), "it was committed when he came");
        assert!(case.is_wrong(Y, None, 0, "bypass"));
        assert!(!case.is_wrong(Y, None, 1, "miss"));
    }

    #[test]
    fn the_value_of_another_key_is_wrong_and_so_is_an_error() {
        let case = Case::new();
        let floor = case.ledger.floor(Y, "page:1", None);
        let got = Got { key: KEY.to_owned(), version: 0, outcome: "hit".to_owned() };
        case.ledger.judge(Y, "page:1", &floor, &Ok(got));
        assert_eq!(case.ledger.violations().len(), 1);
        case.ledger.judge(Y, "page:1", &floor, &Err("error".to_owned()));
        assert_eq!(case.ledger.violations().len(), 2);
    }
}
