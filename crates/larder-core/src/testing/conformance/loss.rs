//! What is lost is told.

use std::collections::BTreeMap;

use super::{
    LONG, Subject, append, assert_chain, begun, body, epochs, head, open, records, round, stamps, store,
    told, tried,
};
use crate::log::{Epoch, Opened};
use crate::remote::{Remote, Round};

/// Nothing of before is known to the log, and it says so.
async fn assert_begins_anew(remote: &dyn Remote, last: Epoch) -> Opened {
    assert_eq!(head(remote).await, None);
    let round = remote.follow(last, 9, LONG).await.expect("a healthy log is read");
    assert_eq!(round.head, None, "told at once");
    let opened = open(remote, Some(last)).await;
    assert_ne!(opened.head.line, last.line);
    assert!(opened.lineage.cuts().is_empty(), "no ancestors");
    assert!(opened.since <= opened.head.at);
    assert!(stamps(remote).await.is_empty());
    // Whoever stood on the old line sees that nothing joins on to it.
    let behind = records(remote, last).await;
    assert!(behind.first().is_none_or(|first| first.prev != Some(last)), "{behind:?}");
    assert_eq!(head(remote).await, Some(told(&opened)));
    opened
}

/// Values are gone, and a line without ancestors begins.
pub async fn after_a_flush_history_begins_anew(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let last = append(&*remote, start, &["k"]).await;
    store(&*remote, "k", 1, 9, "x").await;
    let flush = tried(subject.flush());
    flush.await;
    assert_eq!(body(&*remote, "k").await, None);
    assert_eq!(remote.history(None, 9).await, Ok(Vec::new()));
    let opened = assert_begins_anew(&*remote, last).await;
    let next = append(&*remote, opened.head, &["k"]).await;
    assert_chain(&records(&*remote, opened.head).await, opened.head);
    assert_eq!(stamps(&*remote).await, BTreeMap::from([("k".to_owned(), next.at)]));
}

/// The log alone, by eviction or by hand: values stay, and are for the engine to judge.
pub async fn a_lost_log_begins_anew_and_leaves_the_values(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let last = append(&*remote, start, &["k"]).await;
    store(&*remote, "k", 1, 9, "x").await;
    let lose = tried(subject.lose_log());
    lose.await;
    assert_begins_anew(&*remote, last).await;
    assert_eq!(body(&*remote, "k").await.as_deref(), Some("x"));
}

/// Records that are left are worth nothing without the state: they are not this line's.
pub async fn lost_stamps_begin_a_line_without_ancestors(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let last = append(&*remote, start, &["k"]).await;
    let lose = tried(subject.lose_stamps());
    lose.await;
    assert_begins_anew(&*remote, last).await;
}

/// A reader that was too slow finds no record though the log is ahead, or one that is not the next.
pub async fn lost_records_are_a_gap_that_shows(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let unread = append(&*remote, start, &["a"]).await;
    let trim = tried(subject.trim());
    trim.await;
    assert_eq!(round(&*remote, start, 9).await, Round { head: Some(unread), records: Vec::new() });
    let next = append(&*remote, unread, &["b"]).await;
    let behind = records(&*remote, start).await;
    assert_eq!((epochs(&behind), behind[0].prev), (vec![next], Some(unread)));
    let opened = open(&*remote, Some(start)).await;
    assert_eq!(
        (opened.head, opened.since),
        (next, start.at),
        "the stamps reach back to where the reader stands"
    );
    let expected = BTreeMap::from([("a".to_owned(), unread.at), ("b".to_owned(), next.at)]);
    assert_eq!(stamps(&*remote).await, expected);
}
