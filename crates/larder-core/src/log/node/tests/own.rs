//! A node's own invalidations on their way: called, sent, come back, lost.

use super::*;

/// An own invalidation holds from the call on. When its record comes back, what was loaded in between is good.
#[test]
fn an_own_record_moves_the_position_and_not_the_counter() {
    let node = node_at(10);
    let before = node.n();
    own(&node, Mode::Hard, "a:1", 5);
    let loaded = node.mark(Moment::ORIGIN);
    apply(&node, &record(epoch(10), epoch(20), Mode::Hard, "a:1", 5));
    assert_eq!((since(&node, before), since(&node, loaded.n)), (Verdict::Dead, Verdict::Valid));
    assert_eq!(node.n(), loaded.n, "so that hits need no look-up");
    assert_eq!(remote(&node, loaded.epoch.unwrap()), Verdict::Dead, "at the epoch of its load it is too old");
}

/// Two calls name one selector. The record of the first is not the second's.
#[test]
fn a_call_stays_pending_until_its_own_record_comes_back() {
    let node = node_at(10);
    own(&node, Mode::Hard, "a:1", 5);
    own(&node, Mode::Hard, "a:1", 6);
    apply(&node, &record(epoch(10), epoch(20), Mode::Hard, "a:1", 5));
    assert_eq!((node.pending(), remote(&node, epoch(20))), (1, Verdict::Dead));
    apply(&node, &record(epoch(20), epoch(30), Mode::Hard, "a:1", 6));
    assert_eq!((node.pending(), remote(&node, epoch(30))), (0, Verdict::Valid));
}

#[test]
fn an_expire_and_an_invalidate_of_one_selector_are_pending_each_for_itself() {
    let node = node_at(10);
    own(&node, Mode::Hard, "a:1", 5);
    own(&node, Mode::Soft, "a:1", 6);
    apply(&node, &record(epoch(10), epoch(20), Mode::Soft, "a:1", 6));
    assert_eq!((node.pending(), remote(&node, epoch(20))), (1, Verdict::Dead));
    let mut ops = 100..;
    assert!(node.take_unsent(|| ops.next().unwrap()).is_empty(), "its call is still sending it");
    node.unanswered(5, Moment::ORIGIN);
    let waiting = node.take_unsent(|| ops.next().unwrap());
    assert_eq!((waiting.len(), waiting[0].mode), (1, Mode::Hard));
}

/// The queue overflows while a call is under way. Its record must not pass for the "everything" it became.
#[test]
fn an_overflowing_queue_becomes_everything_and_no_record_under_way_settles_it() {
    let node = node_at(10);
    let last = QUEUE_LIMIT as u64 + 1;
    for i in 0..=last {
        own(&node, Mode::Hard, &format!("b:{i}"), i + 1);
    }
    assert_eq!((node.pending(), node.has_unsent()), (QUEUE_LIMIT + 2, false), "calls are sending them");
    assert_eq!(remote(&node, epoch(10)), Verdict::Valid, "only b");
    let overflows: Vec<_> = (0..last).filter(|i| node.unanswered(i + 1, Moment::ORIGIN)).collect();
    assert_eq!(overflows, [last - 1], "once, when one more waits than may");
    assert_eq!((node.pending(), node.has_unsent()), (1, true));
    assert_eq!(remote(&node, epoch(10)), Verdict::Dead, "everything, not just b");
    apply(&node, &record(epoch(10), epoch(20), Mode::Hard, &format!("b:{last}"), last + 1));
    node.answered(last + 1, epoch(20));
    assert_eq!(node.pending(), 1);
    let taken = node.take_unsent(|| 9999);
    assert_eq!((taken.len(), taken[0].selectors.clone(), taken[0].op), (1, vec![Selector::all()], 9999));
    apply(&node, &record(epoch(20), epoch(30), Mode::Hard, "*", 9999));
    assert_eq!((node.pending(), remote(&node, epoch(30))), (0, Verdict::Valid));
}

#[test]
fn a_long_list_becomes_records_that_are_settled_one_by_one() {
    let node = node_at(10);
    let selectors = (0..600).map(|i| select(&format!("a:{i}"))).collect();
    let mut ops = 1..;
    let batches = Batch::of(Mode::Hard, selectors, &author("x"), || ops.next().unwrap());
    assert_eq!(batches.iter().map(|b| b.selectors.len()).collect::<Vec<_>>(), [256, 256, 88]);
    assert!(!batches.iter().any(|b| node.invalidate(b, true, Moment::ORIGIN)), "far from too many");
    let body = |b: &Batch| invalidation(b.mode, b.selectors.iter().map(ToString::to_string).collect(), b.op);
    apply(&node, &Record { epoch: epoch(11), prev: Some(epoch(10)), body: body(&batches[0]) });
    assert_eq!(node.pending(), 600 - 256);
    assert_eq!(node.check_remote(b"a:599", &[], epoch(11)).0, Verdict::Dead);
}

#[test]
fn reaching_its_token_by_synchronising_settles_a_call_as_well() {
    let node = node_at(10);
    own(&node, Mode::Hard, "a:1", 5);
    node.answered(5, epoch(20));
    assert_eq!(node.pending(), 1, "answered, and not reached");
    synchronise(&node, &opened(epoch(25), &[], 0), &[stamp("a:1", 20)]);
    assert_eq!((node.pending(), node.reached(epoch(20))), (0, true));
    assert_eq!((remote(&node, epoch(19)), remote(&node, epoch(20))), (Verdict::Dead, Verdict::Valid));
}

#[test]
fn an_acknowledged_call_that_the_log_has_lost_is_still_pending() {
    let node = node_at(10);
    own(&node, Mode::Hard, "a:1", 5);
    node.answered(5, epoch(20));
    let other = Epoch { line: 8, at: 30 };
    synchronise(&node, &opened(other, &[epoch(15)], 0), &[]);
    assert_eq!((node.pending(), node.reached(epoch(20)), node.reached(epoch(15))), (1, false, true));
}

/// X's invalidation was acknowledged at 20 and read back. The primary dies without having passed on its end, 15 to 20; a
/// replica goes on at 15 under another line. Nobody who had not read it has it: X must send it again, and only that.
#[test]
fn an_own_invalidation_from_a_lost_tail_is_queued_again() {
    let node = node_at(10);
    own(&node, Mode::Hard, "a:1", 5);
    node.answered(5, epoch(12));
    apply(&node, &record(epoch(10), epoch(12), Mode::Hard, "a:1", 5));
    own(&node, Mode::Soft, "a:2", 6);
    node.answered(6, epoch(20));
    apply(&node, &record(epoch(12), epoch(20), Mode::Soft, "a:2", 6));
    assert_eq!(node.pending(), 0);

    let head = Epoch { line: LINE + 1, at: 16 };
    synchronise(&node, &opened(head, &[epoch(15)], 0), &[stamp("a:1", 12)]);
    let start = node.round(Moment::ORIGIN).unwrap();
    assert_eq!(look(&node, &start, &round(Some(head), vec![])), Looked::Well { moved: false, lost: true });
    let again = node.take_unsent(|| 7);
    assert_eq!((again.len(), again[0].mode), (1, Mode::Soft));
    assert_eq!(again[0].selectors, [select("a:2")]);
    let start = node.round(Moment::ORIGIN).unwrap();
    assert_eq!(look(&node, &start, &round(Some(head), vec![])), Looked::Well { moved: false, lost: false });
}

/// More was sent than is remembered; then the tail is lost. What is not remembered may be part of it.
#[test]
fn a_loss_beyond_what_is_remembered_queues_everything() {
    let node = node_at(10);
    for i in 0..1100_u64 {
        let (at, op) = (11 + i, 1 + i);
        own(&node, Mode::Hard, &format!("a:{i}"), op);
        node.answered(op, epoch(at));
        apply(&node, &record(epoch(at - 1), epoch(at), Mode::Hard, &format!("a:{i}"), op));
    }
    let cut = |to: u64, line| opened(Epoch { line, at: to + 1 }, &[epoch(to)], 0);
    let lost = |node: &Node, at: &Opened| {
        synchronise(node, at, &[]);
        look(node, &node.round(Moment::ORIGIN).unwrap(), &round(Some(at.head), vec![]))
    };
    assert_eq!(lost(&node, &cut(1100, LINE + 1)), Looked::Well { moved: false, lost: true });
    assert_eq!(node.pending(), 10, "1101 to 1110");
    assert_eq!(lost(&node, &cut(50, LINE + 2)), Looked::Well { moved: false, lost: true });
    let batches = node.take_unsent(|| 9999);
    assert_eq!((batches.len(), &batches[0].selectors), (1, &vec![Selector::all()]));
}

/// An append is not answered in time. If its record exists, it settles the call by its op; else the call is sent again,
/// under another.
#[test]
fn an_unanswered_append_is_settled_by_its_record_or_sent_again() {
    let node = node_at(10);
    own(&node, Mode::Hard, "a:1", 5);
    own(&node, Mode::Hard, "a:2", 6);
    node.unanswered(5, Moment::ORIGIN);
    node.unanswered(6, Moment::ORIGIN);
    assert!(node.has_unsent());
    apply(&node, &record(epoch(10), epoch(20), Mode::Hard, "a:1", 5));
    let again = node.take_unsent(|| 7);
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].op, &again[0].selectors), (7, &vec![select("a:2")]));
    assert!(!node.has_unsent(), "somebody is sending it");
}

/// What waits is sent in the name of whoever called it: "why was this gone, and who said so" is asked after an outage.
#[test]
fn what_is_sent_later_still_says_who_called_it_and_why() {
    let node = node_at(10);
    let call = |text: &str, op, actor| {
        node.invalidate(
            &Batch { author: author(actor), ..batch(Mode::Hard, text, op) },
            true,
            Moment::ORIGIN,
        );
        node.unanswered(op, Moment::ORIGIN);
    };
    call("a:1", 5, "ada");
    call("a:2", 6, "bob");
    call("a:3", 7, "ada");
    let mut ops = 100..;
    let sent = node.take_unsent(|| ops.next().unwrap());
    let by: Vec<_> = sent.iter().map(|b| (b.author.actor.as_str(), b.selectors.len())).collect();
    assert_eq!(by, [("ada", 2), ("bob", 1)]);
    // The log has it, and loses it again: it is queued by the same name.
    apply(&node, &record(epoch(10), epoch(20), Mode::Hard, "a:2", sent[1].op));
    let cut = opened(Epoch { line: 8, at: 30 }, &[epoch(15)], 0);
    synchronise(&node, &cut, &[]);
    let start = node.round(Moment::ORIGIN).unwrap();
    assert_eq!(
        look(&node, &start, &round(Some(cut.head), vec![])),
        Looked::Well { moved: false, lost: true }
    );
    let again = node.take_unsent(|| ops.next().unwrap());
    assert!(again.iter().any(|b| b.author == author("bob") && b.selectors == [select("a:2")]), "{again:?}");
}

/// Another program writes to the stream, with an `op` of zeros. While something waits unsent, that must not pass for it.
#[test]
fn a_record_without_an_op_is_nobodys_own() {
    let node = node_at(10);
    for op in 0..=QUEUE_LIMIT as u64 {
        let _ = node.invalidate(&batch(Mode::Hard, &format!("b:{op}"), op + 1), true, Moment::ORIGIN);
        let _ = node.unanswered(op + 1, Moment::ORIGIN);
    }
    assert_eq!((node.pending(), node.has_unsent()), (1, true), "everything waits, under no op");
    let n = node.n();
    apply(&node, &record(epoch(10), epoch(20), Mode::Hard, "a:1", 0));
    assert_eq!((since(&node, n), node.has_unsent()), (Verdict::Dead, true));
}
