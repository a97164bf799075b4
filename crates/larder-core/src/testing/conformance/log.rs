//! Opening the log, and writing to it.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinSet;

use super::{
    Subject, append, assert_chain, begun, epochs, fresh, hard, head, open, records, round, stamps, told,
};
use crate::log::{Append, Author, Epoch, Mode, Record, RecordBody};
use crate::remote::Round;

/// The line has the name it was given; a marker begins it, whose position is also how far back the stamps reach.
pub async fn opening_an_empty_log_begins_a_line_and_opening_again_changes_nothing(subject: &dyn Subject) {
    let (one, other) = (subject.node().await, subject.node().await);
    assert_eq!(head(&*one).await, None);
    assert_eq!(one.history(None, 9).await, Ok(Vec::new()));
    let first = one.open(None, 0xabc).await.expect("a healthy log opens");
    assert_eq!((first.head.line, first.since), (0xabc, first.head.at));
    assert!(first.lineage.cuts().is_empty());
    for position in [None, Some(first.head)] {
        let again = open(&*other, position).await;
        assert_eq!(told(&again), told(&first));
    }
    assert_eq!(head(&*one).await, Some(told(&first)));
    let begun = records(&*one, Epoch { line: 0xabc, at: 0 }).await;
    let marker = Record { epoch: first.head, prev: None, body: RecordBody::Marker };
    assert_eq!(begun, [marker]);
    assert!(stamps(&*one).await.is_empty());
}

/// An append without an open before it finds, or begins, the line, too.
pub async fn appending_to_an_empty_log_begins_it_first(subject: &dyn Subject) {
    let remote = subject.node().await;
    let token = remote.append(&hard(&["k"]), None, 0xabc).await.expect("a healthy log takes a record");
    assert_eq!(token.line, 0xabc);
    let opened = open(&*remote, Some(token)).await;
    assert_eq!(opened.head, token);
    assert!(opened.since <= token.at);
    let all = records(&*remote, Epoch { line: 0xabc, at: 0 }).await;
    assert_eq!(all.last().map(|record| record.epoch), Some(token));
    assert_eq!(all[0].prev, None, "history has a beginning");
    assert_chain(&all[1..], all[0].epoch);
    assert_eq!(stamps(&*remote).await, BTreeMap::from([("k".to_owned(), token.at)]));
}

/// Mode, selectors, op and author come back; so does where it stands.
pub async fn a_record_comes_back_as_it_was_written_behind_its_predecessor(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let written = [
        hard(&["k:1:*", "#tag", "\u{1F9C0} \"\\{}"]),
        Append { mode: Mode::Soft, ..hard(&["*"]) },
        Append { op: u64::MAX, author: Author::default(), ..hard(&["x"]) },
    ];
    let mut before = start;
    for append in &written {
        let token = remote.append(append, Some(before), fresh()).await.expect("a healthy log takes a record");
        assert_eq!(token.line, start.line);
        let body = RecordBody::Invalidation(append.clone());
        let record = Record { epoch: token, prev: Some(before), body };
        assert_eq!(
            round(&*remote, before, 9).await,
            Round { head: Some(token), records: vec![record.clone()] }
        );
        assert_eq!(remote.history(None, 1).await, Ok(vec![record]));
        before = token;
    }
    let head = head(&*remote).await.expect("there is a log");
    assert_eq!((head.epoch, head.since), (before, start.at));
}

/// However quickly they follow each other, and whatever position their callers are at.
pub async fn positions_only_grow(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let mut last = start;
    for i in 0..50 {
        let caller = if i % 2 == 0 { start } else { last };
        let token = append(&*remote, caller, &["k"]).await;
        assert!(token.line == start.line && token.at > last.at, "{token} behind {last}");
        last = token;
    }
}

/// Hard and soft are two columns.
pub async fn stamps_hold_the_last_position_of_each_selector_by_mode(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    append(&*remote, start, &["a", "b"]).await;
    let second = append(&*remote, start, &["a"]).await;
    let soft = Append { mode: Mode::Soft, ..hard(&["a", "c"]) };
    let third = remote.append(&soft, Some(second), fresh()).await.expect("a healthy log takes a record");
    let found = remote.scan().await.expect("healthy stamps are read");
    let of = |mode, selector: &str| {
        let stamps = found.iter().filter(|stamp| stamp.mode == mode && stamp.selector == selector);
        stamps.map(|stamp| stamp.at).max()
    };
    assert_eq!((of(Mode::Hard, "a"), of(Mode::Soft, "a")), (Some(second.at), Some(third.at)));
    assert_eq!((of(Mode::Hard, "c"), of(Mode::Soft, "c")), (None, Some(third.at)));
    assert!(of(Mode::Hard, "b").is_some_and(|at| at < second.at && at > start.at));
}

/// It has seen what the log has lost, so a line ends where the log stands and the next begins with a barrier.
pub async fn a_node_ahead_of_the_log_cuts_its_line(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let last = append(&*remote, start, &["k"]).await;
    let ahead = Epoch { line: start.line, at: last.at + 3_600_000_000 };
    let cut = remote.open(Some(ahead), 0xdef).await.expect("a healthy log opens");
    assert_eq!(cut.head.line, 0xdef);
    assert_eq!(cut.lineage.cuts(), [last]);
    assert!(cut.head.at > last.at);
    assert_eq!(head(&*remote).await, Some(told(&cut)));
    let barrier = Record { epoch: cut.head, prev: Some(last), body: RecordBody::Marker };
    assert_eq!(records(&*remote, last).await, [barrier]);
    assert!(stamps(&*remote).await.contains_key("k"), "what is not lost is not forgotten");

    // The same by an append: the new line begins before its record.
    let ahead = Epoch { line: 0xdef, at: cut.head.at + 3_600_000_000 };
    let token = append(&*remote, ahead, &["k"]).await;
    let behind = records(&*remote, cut.head).await;
    assert_eq!((behind.len(), &behind[0].body), (2, &RecordBody::Marker));
    assert_chain(&behind, cut.head);
    assert!(token.line != 0xdef && behind.iter().all(|record| record.epoch.line == token.line));
}

/// Whoever comes from elsewhere may have brought knowledge that the log does not have; who comes from before a cut has
/// not.
pub async fn a_node_of_no_known_line_gets_a_barrier(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let stranger = open(&*remote, Some(Epoch { line: 0x55, at: 5 })).await;
    assert!(stranger.head.line == start.line && stranger.head.at > start.at);
    assert!(stranger.lineage.cuts().is_empty());
    let barrier = Record { epoch: stranger.head, prev: Some(start), body: RecordBody::Marker };
    assert_eq!(records(&*remote, start).await, [barrier]);

    let ahead = Epoch { line: start.line, at: stranger.head.at + 3_600_000_000 };
    let cut = open(&*remote, Some(ahead)).await;
    assert_eq!(open(&*remote, Some(start)).await.head, cut.head, "the same history, so no barrier");
    assert_eq!(open(&*remote, Some(stranger.head)).await.head, cut.head, "as far as the cut");
    let beyond = open(&*remote, Some(ahead)).await;
    assert!(beyond.head.line == cut.head.line && beyond.head.at > cut.head.at, "behind the cut: a barrier");
    assert_eq!(beyond.lineage, cut.lineage);
}

/// More lines than that are forgotten, oldest first.
pub async fn the_last_eight_lines_are_remembered(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let mut heads = vec![start];
    for _ in 0..10 {
        let last = heads[heads.len() - 1];
        let ahead = Epoch { line: last.line, at: last.at + 3_600_000_000 };
        heads.push(open(&*remote, Some(ahead)).await.head);
    }
    let opened = open(&*remote, heads.last().copied()).await;
    assert_eq!(opened.lineage.cuts(), &heads[2..10]);
    assert_eq!(head(&*remote).await, Some(told(&opened)));
}

/// Stamps may be forgotten, but never without moving `since`; of those behind it each is there, at its last position.
pub async fn every_invalidation_behind_since_has_its_stamp(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let limit = subject.stamp_limit();
    let mut last_of: BTreeMap<String, u64> = BTreeMap::new();
    let mut reaches = BTreeSet::new();
    for i in 0..limit.map_or(30, |limit| limit * 4) {
        // Some names come again and again, most never.
        let names = [format!("once:{i}"), format!("again:{}", i % 3)];
        let token = append(&*remote, start, &[&names[0], &names[1]]).await;
        last_of.extend(names.map(|name| (name, token.at)));
        let opened = open(&*remote, Some(token)).await;
        assert_eq!(head(&*remote).await, Some(told(&opened)));
        let found = stamps(&*remote).await;
        for (name, at) in last_of.iter().filter(|(_, at)| **at > opened.since) {
            assert_eq!(found.get(name), Some(at), "{name}, since {}", opened.since);
        }
        if let Some(limit) = limit {
            let most = usize::try_from(limit).unwrap_or(usize::MAX) * 2 + 20;
            assert!(found.len() <= most, "{} stamps of {limit} in a generation", found.len());
        }
        reaches.insert(opened.since);
    }
    assert_eq!(reaches.len() > 2, limit.is_some(), "since: {reaches:?}");
    assert_eq!(open(&*remote, Some(start)).await.head.line, start.line, "forgetting stamps cuts no line");
}

/// No record is lost, doubled, or out of the chain, and each stamp is that of its last record.
pub async fn many_who_append_at_once_keep_one_chain(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let mut tasks = JoinSet::new();
    for who in 0..4 {
        let node = subject.node().await;
        tasks.spawn(async move {
            let mut tokens = Vec::new();
            for i in 0..25 {
                let own = format!("{who}:{i}");
                tokens.push(append(&*node, start, &[&own, "shared"]).await);
            }
            tokens
        });
    }
    let mut acknowledged: Vec<Epoch> = tasks.join_all().await.into_iter().flatten().collect();
    acknowledged.sort_by_key(|epoch| epoch.at);
    let all = records(&*remote, start).await;
    assert_eq!(epochs(&all), acknowledged);
    assert_chain(&all, start);
    let ops: BTreeSet<u64> = all.iter().filter_map(|record| op_of(&record.body)).collect();
    assert_eq!(ops.len(), 100);
    let found = stamps(&*remote).await;
    for record in &all {
        let RecordBody::Invalidation(append) = &record.body else { panic!("{:?}", record.body) };
        let stamp = found.get(&append.selectors[0]);
        let forgotten = head(&*remote).await.is_some_and(|head| head.since >= record.epoch.at);
        assert!(stamp == Some(&record.epoch.at) || forgotten, "{append:?}");
    }
    assert_eq!(found.get("shared"), all.last().map(|record| &record.epoch.at));
}

fn op_of(body: &RecordBody) -> Option<u64> {
    if let RecordBody::Invalidation(append) = body { Some(append.op) } else { None }
}
