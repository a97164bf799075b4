//! The rules of section 5 of the protocol, each by the counterexample that its section 9 tells.

use std::sync::Arc;

use proptest::prelude::*;

mod own;

use super::advance::Applied;
use super::advance::{Looked, RoundStart};
use super::own::QUEUE_LIMIT;
use super::*;
use crate::key::Key;
use crate::log::{Append, Author, Opened, Record, RecordBody, Stamp};
use crate::remote::Round;
use crate::selector::Selector;

const LINE: u64 = 7;
const LIMIT: usize = 1 << 16;

fn epoch(at: u64) -> Epoch {
    Epoch { line: LINE, at }
}

fn select(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

fn batch(mode: Mode, text: &str, op: u64) -> Batch {
    Batch { mode, selectors: vec![select(text)], op, author: author("x") }
}

fn author(name: &str) -> Arc<Author> {
    Arc::new(Author { node: "n1".to_owned(), reason: "why".to_owned(), actor: name.to_owned() })
}

/// The record comes, whenever that is.
fn apply(node: &Node, record: &Record) -> Applied {
    node.apply(record, Moment::MAX)
}

fn look(node: &Node, start: &RoundStart, round: &Round) -> Looked {
    node.look(start, round, Moment::MAX)
}

fn opened(head: Epoch, cuts: &[Epoch], since: u64) -> Opened {
    Opened { head, lineage: Lineage::new(cuts.to_vec()), since, server_ms: 0, server_known: true }
}

fn stamp(text: &str, at: u64) -> Stamp {
    Stamp { mode: Mode::Hard, selector: text.to_owned(), at }
}

fn record(prev: Epoch, epoch: Epoch, mode: Mode, text: &str, op: u64) -> Record {
    let body = invalidation(mode, vec![text.to_owned()], op);
    Record { epoch, prev: Some(prev), body }
}

fn invalidation(mode: Mode, selectors: Vec<String>, op: u64) -> RecordBody {
    RecordBody::Invalidation(Append { mode, selectors, op, author: Author::default() })
}

fn synchronise(node: &Node, opened: &Opened, stamps: &[Stamp]) {
    node.synchronise(opened, stamps, Moment::ORIGIN, Moment::ORIGIN);
}

/// A node that stands at `at`, with stamps that reach back to the beginning.
fn node_at(at: u64) -> Node {
    let node = Node::new(LIMIT, Duration::MAX);
    synchronise(&node, &opened(epoch(at), &[], 0), &[]);
    node
}

fn since(node: &Node, n: u64) -> Verdict {
    node.check_since(b"a:1", &[], n)
}

fn remote(node: &Node, epoch: Epoch) -> Verdict {
    node.check_remote(b"a:1", &[], epoch).0
}

fn own(node: &Node, mode: Mode, text: &str, op: u64) {
    assert!(!node.invalidate(&batch(mode, text, op), true, Moment::ORIGIN), "the queue has room");
}

/// An invalidation is trimmed away unread; the next record must not be taken as its successor.
#[test]
fn a_record_is_applied_only_if_it_follows_the_position() {
    let node = node_at(10);
    assert_eq!(apply(&node, &record(epoch(11), epoch(12), Mode::Hard, "a:*", 1)), Applied::Gap);
    assert_eq!((node.position(), since(&node, node.n())), (Some(epoch(10)), Verdict::Valid));
    assert_eq!(apply(&node, &record(epoch(10), epoch(11), Mode::Hard, "a:*", 1)), Applied::Next);
    assert_eq!(apply(&node, &record(epoch(10), epoch(11), Mode::Hard, "a:*", 1)), Applied::Gap, "not twice");
    assert_eq!(
        apply(&Node::new(LIMIT, Duration::MAX), &record(epoch(10), epoch(11), Mode::Hard, "*", 1)),
        Applied::Gap
    );
}

#[test]
fn a_record_kills_what_was_loaded_before_it_and_nothing_loaded_after() {
    let node = node_at(10);
    let before = node.n();
    apply(&node, &record(epoch(10), epoch(20), Mode::Hard, "a:1", 1));
    assert_eq!((since(&node, before), since(&node, node.n())), (Verdict::Dead, Verdict::Valid));
    assert_eq!((remote(&node, epoch(19)), remote(&node, epoch(20))), (Verdict::Dead, Verdict::Valid));
    assert_eq!(remote(&node, epoch(99)), Verdict::Valid, "above the own position on the own line is fine");
    assert_eq!(node.check_since(b"a:2", &[], before), Verdict::Valid, "another key");
}

#[test]
fn a_soft_record_makes_stale_what_a_hard_one_would_kill() {
    let node = node_at(10);
    let before = node.n();
    apply(&node, &record(epoch(10), epoch(20), Mode::Soft, "a:1", 1));
    assert_eq!((since(&node, before), remote(&node, epoch(19))), (Verdict::Stale, Verdict::Stale));
    apply(&node, &record(epoch(20), epoch(30), Mode::Hard, "a:1", 2));
    apply(&node, &record(epoch(30), epoch(40), Mode::Soft, "a:1", 3));
    assert_eq!((since(&node, before), remote(&node, epoch(19))), (Verdict::Dead, Verdict::Dead));
}

/// X invalidates while Redis is away; other records move the log on; an old value that was loaded elsewhere at that higher
/// position looks newer than any local stamp. Only the queue contradicts it.
#[test]
fn what_is_pending_rejects_whatever_comes_from_redis() {
    let node = node_at(10);
    own(&node, Mode::Hard, "a:1", 5);
    apply(&node, &record(epoch(10), epoch(20), Mode::Hard, "b:1", 1));
    assert_eq!(remote(&node, epoch(20)), Verdict::Dead);
    assert!(node.is_pending(b"a:1", &[]) && !node.is_pending(b"a:2", &[]));
    apply(&node, &record(epoch(20), epoch(30), Mode::Hard, "a:1", 5));
    assert_eq!((remote(&node, epoch(29)), remote(&node, epoch(30))), (Verdict::Dead, Verdict::Valid));
    assert_eq!(node.pending(), 0);
}

/// A record of a format of tomorrow may say anything.
#[test]
fn an_unknown_record_counts_as_everything() {
    let node = node_at(10);
    let before = node.n();
    let unknown = Record { epoch: epoch(20), prev: Some(epoch(10)), body: RecordBody::Unknown };
    assert_eq!(apply(&node, &unknown), Applied::Next);
    assert_eq!((since(&node, before), remote(&node, epoch(19))), (Verdict::Dead, Verdict::Dead));
}

/// A marker begins a new line that follows the position: nothing was lost. The old line is cut there, no earlier.
#[test]
fn a_line_that_follows_the_position_costs_nothing() {
    let node = node_at(10);
    let before = node.n();
    let barrier = Epoch { line: 8, at: 15 };
    let marker = Record { epoch: barrier, prev: Some(epoch(10)), body: RecordBody::Marker };
    assert_eq!(apply(&node, &marker), Applied::Next);
    assert_eq!((since(&node, before), remote(&node, epoch(10))), (Verdict::Valid, Verdict::Valid));
    assert_eq!(remote(&node, epoch(11)), Verdict::Dead, "beyond the cut: from a tail that was lost");
    assert_eq!(remote(&node, Epoch { line: 99, at: 5 }), Verdict::Dead, "on no line of the lineage");
}

/// The log is gone and a new one begins, with no ancestors: nothing old can be verified, here or there.
#[test]
fn a_line_without_ancestors_drops_memory_and_everything_older_in_redis() {
    let node = node_at(10);
    let before = node.n();
    let head = Epoch { line: 8, at: 3 };
    synchronise(&node, &opened(head, &[], 3), &[]);
    assert_eq!((since(&node, before), since(&node, node.n())), (Verdict::Dead, Verdict::Valid));
    assert_eq!(
        (remote(&node, epoch(10)), remote(&node, Epoch { line: 8, at: 2 })),
        (Verdict::Dead, Verdict::Dead)
    );
    assert_eq!(remote(&node, head), Verdict::Valid, "though the old line's positions were higher");
}

/// Split brain: this node applied an invalidation at 20 on the old line, whose tail from 15 on was lost. Y has loaded on
/// the new line, at 16. Moved to the barrier, the row kills what is older than the barrier and nothing newer.
#[test]
fn rows_from_a_lost_tail_count_against_everything_older_than_the_barrier() {
    let node = node_at(10);
    apply(&node, &record(epoch(10), epoch(20), Mode::Hard, "a:1", 1));
    let loaded = node.n();
    let barrier = Epoch { line: 8, at: 18 };
    synchronise(&node, &opened(barrier, &[epoch(15)], 0), &[]);
    assert_eq!(since(&node, loaded), Verdict::Valid, "memory is kept: this node knew more, not less");
    assert_eq!(
        remote(&node, Epoch { line: 8, at: 17 }),
        Verdict::Dead,
        "a load by a node that had not heard"
    );
    assert_eq!(remote(&node, barrier), Verdict::Valid, "and not until the positions have passed 20");
}

#[test]
fn a_snapshot_kills_in_memory_what_it_names_beyond_the_common_history_and_nothing_else() {
    let node = node_at(10);
    let before = node.n();
    synchronise(&node, &opened(epoch(30), &[], 5), &[stamp("a:1", 20), stamp("a:2", 8)]);
    assert_eq!(since(&node, before), Verdict::Dead);
    assert_eq!(node.check_since(b"a:2", &[], before), Verdict::Valid, "heard of before the position");
    assert_eq!(node.check_since(b"a:3", &[], before), Verdict::Valid);
    assert_eq!(node.check_remote(b"a:2", &[], epoch(7)).0, Verdict::Dead);
}

/// The stamps have rotated: between the position and where they begin, anything may have been invalidated. "No stamp" must
/// not be taken for "never".
#[test]
fn a_position_too_old_for_the_stamps_is_a_miss() {
    let node = node_at(10);
    let before = node.n();
    synchronise(&node, &opened(epoch(30), &[], 12), &[]);
    assert_eq!(since(&node, before), Verdict::Dead);
    assert_eq!((remote(&node, epoch(11)), remote(&node, epoch(12))), (Verdict::Dead, Verdict::Valid));
}

/// Rows are forgotten, so `covered` has risen; a later snapshot reaches further back than this table. It never had what
/// came only over the feed and was lost, so `covered` stays.
#[test]
fn what_the_table_has_forgotten_stays_forgotten() {
    let node = Node::new(16, Duration::MAX);
    synchronise(&node, &opened(epoch(10), &[], 0), &[]);
    let before = node.n();
    for at in 11..400 {
        apply(&node, &record(epoch(at - 1), epoch(at), Mode::Hard, &format!("b:{at}"), at));
    }
    assert_eq!((since(&node, before), remote(&node, epoch(10))), (Verdict::Dead, Verdict::Dead));
    assert_eq!(remote(&node, epoch(399)), Verdict::Valid);
    synchronise(&node, &opened(epoch(400), &[], 0), &[]);
    assert_eq!(remote(&node, epoch(10)), Verdict::Dead);
}

/// A row from a lost tail lies in the older generation of its part of the table and is moved to the barrier; then that
/// generation is forgotten. The table must not claim to reach further back than the row did.
#[test]
fn a_row_that_was_moved_to_the_barrier_is_not_forgotten_silently() {
    // One row in each generation of each part, and names that all fall into one part.
    let node = Node::new(16, Duration::MAX);
    let part = |text: &str| select(text).hash() >> 60;
    let mut near = (0..).map(|i| format!("b:{i}")).filter(|text| part(text) == part("a:1"));
    synchronise(&node, &opened(epoch(10), &[], 0), &[]);
    apply(&node, &record(epoch(10), epoch(20), Mode::Hard, "a:1", 1));
    apply(&node, &record(epoch(20), epoch(21), Mode::Hard, &near.next().unwrap(), 2));
    // Nobody on the new line has heard of "a:1"; a value from before the barrier lies in Redis.
    let mut last = Epoch { line: 8, at: 1000 };
    synchronise(&node, &opened(last, &[epoch(15)], 0), &[]);
    for _ in 0..3 {
        assert_eq!(remote(&node, Epoch { line: 8, at: 900 }), Verdict::Dead, "at {}", last.at);
        let next = Epoch { line: 8, at: last.at + 1 };
        assert_eq!(
            apply(&node, &record(last, next, Mode::Hard, &near.next().unwrap(), next.at)),
            Applied::Next
        );
        last = next;
    }
}

#[test]
fn an_expired_entry_knows_when_by_whatever_way_it_heard() {
    let node = Node::new(LIMIT, Duration::MAX);
    // The server's clock shows 5 s when this process's shows 1000 s.
    let now = Moment::from_nanos(1_000_000_000_000);
    let head = Opened { server_ms: 5000, ..opened(epoch(5_000_000), &[], 0) };
    let soft = Stamp { mode: Mode::Soft, ..stamp("a:1", 3_000_000) };
    node.synchronise(&head, &[soft], now, now);
    assert_eq!(node.last(Mode::Soft, b"a:1", &[]), Moment::from_nanos(998_000_000_000), "from the snapshot");
    apply(&node, &record(epoch(5_000_000), epoch(6_000_000), Mode::Soft, "a:2", 1));
    assert_eq!(node.last(Mode::Soft, b"a:2", &[]), Moment::from_nanos(1_001_000_000_000), "from the feed");
    node.invalidate(&batch(Mode::Soft, "a:3", 9), true, now);
    apply(&node, &record(epoch(6_000_000), epoch(9_000_000), Mode::Soft, "a:3", 9));
    assert_eq!(node.last(Mode::Soft, b"a:3", &[]), now, "from a call here, however late its record comes");
}

/// The log is lost, and the server's clock was set back: the new line begins far behind the old one. What the table forgets
/// from then on lies on the new line; by the positions of the old one nothing that others load would be good for as long as
/// the clock went back.
#[test]
fn positions_of_a_line_that_is_gone_do_not_say_how_far_back_the_table_reaches() {
    let node = Node::new(16, Duration::MAX);
    synchronise(&node, &opened(epoch(1_000_000), &[], 0), &[]);
    for at in 1_000_001..1_000_100 {
        apply(&node, &record(epoch(at - 1), epoch(at), Mode::Hard, &format!("b:{at}"), at));
    }
    let mut last = Epoch { line: 8, at: 100 };
    synchronise(&node, &opened(last, &[], 100), &[]);
    for op in 0..100 {
        let next = Epoch { line: 8, at: last.at + 1 };
        apply(&node, &record(last, next, Mode::Hard, &format!("c:{op}"), op));
        last = next;
        assert_eq!(remote(&node, last), Verdict::Valid, "loaded where the log stands");
    }
    assert_eq!(remote(&node, Epoch { line: 8, at: 110 }), Verdict::Dead, "and what was forgotten counts");
}

#[derive(Clone, Debug)]
enum Step {
    Local(Mode, usize),
    Foreign(Mode, usize),
    Synchronise,
}

/// Selectors over a small world: keys `a:0` to `a:3`, tags, subtrees, everything.
const NAMES: [&str; 8] = ["a:0", "a:1", "a:2", "a:1:*", "a:*", "#t", "*", "b:1"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mode = || prop_oneof![Just(Mode::Soft), Just(Mode::Hard)];
    let step = prop_oneof![
        4 => (mode(), 0..40_usize).prop_map(|(m, s)| Step::Local(m, s)),
        8 => (mode(), 0..200_usize).prop_map(|(m, s)| Step::Foreign(m, s)),
        1 => Just(Step::Synchronise),
    ];
    prop::collection::vec(step, 1..120)
}

fn named(index: usize) -> String {
    NAMES.get(index).map_or_else(|| format!("noise:{index}"), |name| (*name).to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is applied in whatever order, with a table so small that it forgets all the time: an entry that is called
    /// valid was not invalidated since its load, by either clock, and one that is called stale not hard.
    #[test]
    fn no_verdict_is_better_than_what_a_perfect_memory_would_give(steps in steps()) {
        let node = Node::new(16, Duration::MAX);
        synchronise(&node, &opened(epoch(10), &[], 0), &[]);
        let tags = [Tag::new(b"t".as_slice())];
        let keys: Vec<Key> = (0..4_u64).map(|i| Key::of(("a", i))).collect();
        let mut marks = vec![(node.mark(Moment::ORIGIN), 0)];
        let mut applied: Vec<(Mode, Selector, u64)> = Vec::new();
        let mut at = 10;
        for (i, step) in steps.iter().enumerate() {
            let op = 1000 + i as u64;
            let mut append = |mode: Mode, text: &str| {
                let next = record(epoch(at), epoch(at + 1), mode, text, op);
                at += 1;
                applied.push((mode, select(text), at));
                next
            };
            match step {
                Step::Local(mode, s) => {
                    node.invalidate(&batch(*mode, &named(*s), op), true, Moment::ORIGIN);
                    apply(&node, &append(*mode, &named(*s)));
                }
                Step::Foreign(mode, s) => {
                    apply(&node, &append(*mode, &named(*s)));
                }
                Step::Synchronise => {
                    let stamps: Vec<_> = applied
                        .iter()
                        .map(|(mode, name, at)| Stamp { mode: *mode, selector: name.to_string(), at: *at })
                        .collect();
                    synchronise(&node, &opened(epoch(at), &[], 0), &stamps);
                }
            }
            marks.push((node.mark(Moment::ORIGIN), applied.len()));
            // Some of them each time.
            for (mark, heard) in marks.iter().skip(i % 8).step_by(8) {
                for key in &keys {
                    let worst = applied[*heard..]
                        .iter()
                        .filter(|(_, name, _)| name.matches(key, &["t"]))
                        .map(|(mode, ..)| if *mode == Mode::Hard { Verdict::Dead } else { Verdict::Stale })
                        .max()
                        .unwrap_or(Verdict::Valid);
                    prop_assert!(node.check_since(key.as_bytes(), &tags, mark.n) >= worst);
                    let (verdict, _) = node.check_remote(key.as_bytes(), &tags, mark.epoch.unwrap());
                    prop_assert!(verdict >= worst);
                }
            }
        }
        let (now, _) = marks.last().unwrap();
        for key in &keys {
            prop_assert_eq!(node.check_since(key.as_bytes(), &tags, now.n), Verdict::Valid, "what is loaded now is good");
        }
    }
}

fn round(head: Option<Epoch>, records: Vec<Record>) -> Round {
    Round { head, records }
}

/// Records come without a pause, more than one a second, for hours. No round is ever empty; the node must not for that
/// reason count as cut off.
#[test]
fn a_node_that_reads_as_fast_as_others_write_is_caught_up() {
    let node = Node::new(LIMIT, Duration::from_secs(60));
    synchronise(&node, &opened(epoch(10), &[], 0), &[]);
    let later = Moment::ORIGIN.plus(Duration::from_secs(100));
    assert!(!node.serves(Moment::default(), later));
    let start = node.round(later).unwrap();
    // The second record was written after the peek.
    let came = vec![
        record(epoch(10), epoch(20), Mode::Hard, "b:1", 1),
        record(epoch(20), epoch(30), Mode::Hard, "b:2", 2),
    ];
    let looked = look(&node, &start, &round(Some(epoch(20)), came));
    assert_eq!(looked, Looked::Well { moved: true, lost: false });
    assert_eq!(node.synced(), Some(later));

    let start = node.round(later.plus(Duration::from_secs(100))).unwrap();
    let came = vec![record(epoch(30), epoch(40), Mode::Hard, "b:1", 3)];
    assert_eq!(look(&node, &start, &round(Some(epoch(50)), came)), Looked::Well { moved: true, lost: false });
    assert_eq!(node.synced(), Some(later), "there was more to read");
}

#[test]
fn a_round_without_records_tells_a_caught_up_node_from_every_kind_of_gap() {
    let node = node_at(10);
    let start = node.round(Moment::ORIGIN).unwrap();
    let other = Epoch { line: LINE + 1, at: 10 };
    for head in [None, Some(other), Some(epoch(11)), Some(epoch(9))] {
        assert!(matches!(look(&node, &start, &round(head, vec![])), Looked::Gap(_)), "{head:?}");
    }
    assert_eq!(
        look(&node, &start, &round(Some(epoch(10)), vec![])),
        Looked::Well { moved: false, lost: false }
    );
}

/// The server's clock is set back by a quarter of an hour, or a new primary is so far behind. A record that comes in now was
/// written now, and not before this node was last caught up: loads that begin after it may read replicas that lag behind it.
#[test]
fn a_record_is_no_older_than_the_last_time_its_reader_was_caught_up() {
    let node = Node::new(LIMIT, Duration::MAX);
    let now = Moment::ORIGIN.plus(Duration::from_secs(1000));
    let minutes = |m: u64| m * 60 * 1_000_000;
    let here = minutes(60);
    node.synchronise(&Opened { server_ms: here / 1000, ..opened(epoch(here), &[], 0) }, &[], now, now);
    let later = now.plus(Duration::from_secs(30));
    let start = node.round(later).unwrap();
    // Positions go on at one more than the last.
    let written = Record {
        epoch: epoch(here + 1),
        prev: Some(epoch(here)),
        body: invalidation(Mode::Hard, vec!["a:1".to_owned()], 1),
    };
    look(&node, &start, &round(Some(epoch(here)), vec![]));
    let read = later.plus(Duration::from_secs(1));
    assert_eq!(
        node.look(&start, &round(Some(epoch(here)), vec![written]), read),
        Looked::Well { moved: true, lost: false }
    );
    assert_eq!(node.last(Mode::Hard, b"a:1", &[]), later);
    // And forward: it was not written after it was read.
    let ahead = Record {
        epoch: epoch(here + minutes(15)),
        prev: Some(epoch(here + 1)),
        body: invalidation(Mode::Hard, vec!["a:2".to_owned()], 2),
    };
    node.look(&start, &round(Some(epoch(here)), vec![ahead]), read);
    assert_eq!(node.last(Mode::Hard, b"a:2", &[]), read);
}

/// A node starts where the stamps are about to rotate. The table must hold all of them, or everything in the remote tier that
/// is older than this start is a miss here.
#[test]
fn a_node_that_starts_knows_as_much_as_the_stamps() {
    let limit = 4096;
    let node = Node::new(limit, Duration::MAX);
    let last = 2 * limit as u64;
    let stamps: Vec<_> = (1..=last).map(|at| stamp(&format!("b:{at}"), at)).collect();
    synchronise(&node, &opened(epoch(last), &[], 0), &stamps);
    assert_eq!(remote(&node, epoch(0)), Verdict::Valid, "{} rows", node.rows());
}
