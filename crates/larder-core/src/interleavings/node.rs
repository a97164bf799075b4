//! The node alone: rows, `n`, position, pending, and the stamp table that forgets.

use std::sync::Arc;
use std::time::Duration;

use super::{Told, explore, together};
use crate::log::{Append, Author, Batch, Epoch, Lineage, Mode, Node, Opened, Record, RecordBody, Verdict};
use crate::remote::Round;
use crate::runtime::Moment;
use crate::selector::Selector;
use crate::sync::atomic::{AtomicU64, Ordering};

const KEY: &[u8] = b"a:1";

pub(super) fn epoch(at: u64) -> Epoch {
    Epoch { line: 7, at }
}

fn named() -> Selector {
    Selector::key(("a", 1))
}

/// A node that stands at position 10, with stamps that reach back to the beginning.
pub(super) fn node(limit: usize) -> Arc<Node> {
    let node = Arc::new(Node::new(limit, Duration::MAX));
    let opened =
        Opened { head: epoch(10), lineage: Lineage::default(), since: 0, server_ms: 0, server_known: true };
    node.synchronise(&opened, &[], Moment::ORIGIN, Moment::ORIGIN);
    node
}

/// The next record of the log: `selector`, hard.
fn record(node: &Node, at: u64, selector: &Selector, op: u64) {
    let start = node.round(Moment::ORIGIN).expect("it has a position");
    let body = RecordBody::Invalidation(Append {
        mode: Mode::Hard,
        selectors: vec![selector.to_string()],
        op,
        author: Author::default(),
    });
    let record = Record { epoch: epoch(at), prev: Some(start.position), body };
    node.look(&start, &Round { head: Some(start.position), records: vec![record] }, Moment::ORIGIN);
    assert_eq!(node.position(), Some(epoch(at)), "the record follows the position");
}

fn own(selector: Selector, op: u64) -> Batch {
    Batch { mode: Mode::Hard, selectors: vec![selector], op, author: Arc::default() }
}

/// An entry in memory: when it was last known valid.
#[derive(Clone)]
pub(super) struct InMemory(Arc<AtomicU64>);

impl InMemory {
    pub(super) fn new(seen: u64) -> Self {
        InMemory(Arc::new(AtomicU64::new(seen)))
    }

    /// As the engine takes it: `n` first; `seen == n` is good enough, else the rows decide, and what is valid is dated up
    /// for all who come after.
    pub(super) fn is_valid(&self, node: &Node) -> bool {
        let n = node.n();
        let seen = self.0.load(Ordering::Relaxed);
        if seen < n && node.check_since(KEY, &[], seen) != Verdict::Valid {
            return false;
        }
        self.0.fetch_max(n, Ordering::Relaxed);
        true
    }
}

/// Selectors whose rows lie in the same part of the table as that of `with`: they push it out.
fn neighbours(with: &Selector, count: usize) -> Vec<Selector> {
    let part = |selector: &Selector| selector.hash() >> 60;
    let others = (0_u64..).map(|i| Selector::key(("b", i)));
    others.filter(|other| part(other) == part(with)).take(count).collect()
}

/// The table has room for one row per part and generation. An invalidation is called and returns; two more push its row
/// out of both generations, and nothing is left of it but the floor. Readers look its row up meanwhile: some before it is
/// forgotten, some after, some in between.
#[test]
fn an_invalidation_that_the_table_forgets_still_holds() {
    explore(|| {
        let node = Arc::new(Node::alone(16));
        let (entry, told) = (InMemory::new(node.n()), Told::default());
        let write = {
            let (node, told) = (node.clone(), told.clone());
            move || {
                node.invalidate(&own(named(), 0), false, Moment::ORIGIN);
                told.set(1);
                for other in neighbours(&named(), 3) {
                    node.invalidate(&own(other, 0), false, Moment::ORIGIN);
                }
            }
        };
        let read = || {
            let (node, entry, told) = (node.clone(), entry.clone(), told.clone());
            move || {
                for _ in 0..3 {
                    let returned = told.get();
                    assert!(!entry.is_valid(&node) || returned == 0, "a dead entry is valid");
                }
            }
        };
        together([Box::new(write), Box::new(read()), Box::new(read())]);
        assert_eq!(node.check_since(b"c:1", &[], 1), Verdict::Dead, "the table has forgotten something");
    });
}

/// The same with records, and with readers that bring what Redis had: for them `covered` says how far the table reaches.
#[test]
fn a_record_that_the_table_forgets_still_holds_for_what_redis_has() {
    explore(|| {
        let (node, told) = (node(16), Told::default());
        let entry = InMemory::new(node.n());
        let follow = {
            let (node, told) = (node.clone(), told.clone());
            move || {
                record(&node, 20, &named(), 1);
                told.set(1);
                for (at, other) in (30..).zip(neighbours(&named(), 3)) {
                    record(&node, at, &other, 1);
                }
            }
        };
        let read = || {
            let (node, entry, told) = (node.clone(), entry.clone(), told.clone());
            move || {
                for _ in 0..2 {
                    let applied = told.get();
                    let (verdict, _) = node.check_remote(KEY, &[], epoch(10));
                    assert!(applied == 0 || verdict == Verdict::Dead, "a dead value is {verdict:?}");
                    let applied = told.get();
                    assert!(!entry.is_valid(&node) || applied == 0, "a dead entry is valid");
                }
            }
        };
        together([Box::new(follow), Box::new(read()), Box::new(read())]);
        assert!(!node.verifies(epoch(10)), "the table has forgotten something");
    });
}

/// X calls an invalidation. While its record is on its way another record moves the log on; values loaded before the call
/// lie in memory, and in Redis at the old position and (written by a node that had not heard of it) at the new one; a load
/// begins after the call; then the own record comes back. Whoever finds a value of Redis valid takes it into memory, as of
/// the `n` that came with the verdict.
#[test]
fn an_own_invalidation_holds_from_the_call_on_and_spares_what_was_loaded_since() {
    explore(|| {
        let (node, told) = (node(64), Told::default());
        let before = InMemory::new(node.n());
        let call = {
            let (node, told) = (node.clone(), told.clone());
            move || {
                node.invalidate(&own(named(), 5), true, Moment::ORIGIN);
                told.set(1);
                let loaded = node.mark(Moment::ORIGIN);
                assert!(InMemory::new(loaded.n).is_valid(&node), "loaded since, and not valid");
                told.set(loaded.n);
            }
        };
        let follow = {
            let (node, told) = (node.clone(), told.clone());
            move || {
                record(&node, 20, &Selector::key(("b", 1)), 1);
                // Only what was called can be in the log.
                if told.get() > 0 {
                    record(&node, 30, &named(), 5);
                }
            }
        };
        let read = |at| {
            let (node, before, told) = (node.clone(), before.clone(), told.clone());
            move || {
                let returned = told.get();
                assert!(!before.is_valid(&node) || returned == 0, "an entry from before is valid");
                let returned = told.get();
                let (verdict, n) = node.check_remote(KEY, &[], epoch(at));
                assert!(returned == 0 || verdict == Verdict::Dead, "a value from before is {verdict:?}");
                if verdict == Verdict::Valid {
                    // It is in memory now, and everybody may look at it.
                    let returned = told.get();
                    let value = InMemory::new(n);
                    assert!(!value.is_valid(&node) || returned == 0, "a value from before lives on");
                }
            }
        };
        together([Box::new(call), Box::new(follow), Box::new(read(10)), Box::new(read(20))]);
        if node.position() == Some(epoch(20)) {
            record(&node, 30, &named(), 5);
        }
        let since = InMemory::new(told.get());
        assert!(since.is_valid(&node), "the own record has killed what was loaded since");
        assert!(!before.is_valid(&node) && node.pending() == 0);
    });
}

/// A record of another node is applied while a value is loaded here, an older one is read from Redis, and an entry lies in
/// memory. Nothing from before the write is valid once it is applied, by either clock; so both clocks must have been read
/// before the database was.
#[test]
fn a_record_kills_what_was_loaded_before_its_write_by_both_clocks() {
    explore(|| {
        let (node, told, written) = (node(64), Told::default(), Told::default());
        let follow = {
            let (node, told, written) = (node.clone(), told.clone(), written.clone());
            move || {
                written.set(1);
                record(&node, 20, &named(), 1);
                told.set(1);
            }
        };
        let before = InMemory::new(node.n());
        let load = || {
            let (node, told, written) = (node.clone(), told.clone(), written.clone());
            let before = before.clone();
            move || {
                let applied = told.get();
                assert!(!before.is_valid(&node) || applied == 0, "an entry from before is valid");
                let mark = node.mark(Moment::ORIGIN);
                let value = written.get();
                let (applied, loaded) = (told.get(), InMemory::new(mark.n));
                assert!(!loaded.is_valid(&node) || applied <= value, "an old value is valid here");
                let applied = told.get();
                let at = mark.epoch.expect("the node has a position");
                let (verdict, n) = node.check_remote(KEY, &[], at);
                assert!(
                    applied <= value || verdict == Verdict::Dead,
                    "an old value is {verdict:?} elsewhere"
                );
                if verdict == Verdict::Valid {
                    let (applied, fetched) = (told.get(), InMemory::new(n));
                    assert!(!fetched.is_valid(&node) || applied <= value, "an old value lives on");
                }
            }
        };
        together([Box::new(follow), Box::new(load()), Box::new(load())]);
        assert!(!before.is_valid(&node));
    });
}
