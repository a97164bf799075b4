//! Reading the log.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{LONG, Subject, append, assert_chain, begun, epochs, round};
use crate::log::Epoch;
use crate::remote::Round;

/// Behind the position, in order, not more than asked for; the head is that of the whole log.
pub async fn records_come_in_order_and_up_to_the_limit(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(append(&*remote, start, &["k"]).await);
    }
    for (position, limit, expected) in
        [(start, 100, &all[..]), (start, 2, &all[..2]), (all[1], 2, &all[2..4]), (all[4], 2, &[])]
    {
        let round = round(&*remote, position, limit).await;
        assert_eq!((round.head, epochs(&round.records)), (Some(all[4]), expected.to_vec()));
    }
}

/// One who waits is woken by the record, and told where the log stood before it.
pub async fn a_record_ends_the_wait(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let writer = subject.node().await;
    let mut follow = remote.follow(start, 9, LONG);
    tokio::select! {
        biased;
        round = &mut follow => panic!("there is nothing to tell yet: {round:?}"),
        () = subject.pass(Duration::from_millis(100)) => {}
    }
    let (round, token) = tokio::join!(follow, append(&*writer, start, &["k"]));
    let round = round.expect("a healthy log is read");
    assert_eq!((round.head, epochs(&round.records)), (Some(start), vec![token]));
}

/// Not much longer, either: whoever follows has to know whether the log is still there.
pub async fn without_news_the_wait_is_kept(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let wait = Duration::from_millis(300);
    let mut follow = remote.follow(start, 9, wait);
    tokio::select! {
        biased;
        round = &mut follow => panic!("answered before the wait was over: {round:?}"),
        () = subject.pass(wait / 2) => {}
    }
    for _ in 0..20 {
        tokio::select! {
            biased;
            round = &mut follow => {
                assert_eq!(round, Ok(Round { head: Some(start), records: Vec::new() }));
                return;
            }
            () = subject.pass(wait / 2) => {}
        }
    }
    panic!("not answered in ten times the wait");
}

/// A caller that stands somewhere else than the log must not wait for the next record to hear of it.
pub async fn a_log_that_stands_elsewhere_is_told_at_once(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    for elsewhere in [
        Epoch { line: start.line, at: start.at + 3_600_000_000 },
        Epoch { line: start.line ^ 1, at: start.at },
        Epoch { line: start.line ^ 1, at: start.at + 3_600_000_000 },
    ] {
        let round = tokio::select! {
            biased;
            round = remote.follow(elsewhere, 9, LONG) => round,
            () = patience(subject) => panic!("it waits, although the log is elsewhere"),
        };
        assert_eq!(round, Ok(Round { head: Some(start), records: Vec::new() }));
    }
}

/// Far less than [`LONG`], far more than an answer takes.
async fn patience(subject: &dyn Subject) {
    for _ in 0..100 {
        subject.pass(LONG / 500).await;
    }
}

/// Whoever gives up a question has not taken its answer away, and does not hold up the next.
pub async fn a_follow_that_is_given_up_takes_nothing_away(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let writer = subject.node().await;
    let mut position = start;
    for _ in 0..5 {
        tokio::select! {
            biased;
            round = remote.follow(position, 9, LONG) => panic!("there is nothing to tell yet: {round:?}"),
            () = subject.pass(Duration::from_millis(20)) => {}
        }
        let token = append(&*writer, position, &["k"]).await;
        let round = tokio::select! {
            biased;
            round = remote.follow(position, 9, LONG) => round.expect("a healthy log is read"),
            () = patience(subject) => panic!("it waits behind a question that was given up"),
        };
        assert_eq!((round.head, epochs(&round.records)), (Some(token), vec![token]));
        position = token;
    }
}

/// While others append, one follows, a few records at a time: it sees all of them, once, in a chain.
pub async fn nothing_is_lost_between_two_follows(subject: &dyn Subject) {
    const WRITERS: usize = 2;
    const EACH: usize = 40;
    let (remote, start) = begun(subject).await;
    let mut tasks = JoinSet::new();
    for _ in 0..WRITERS {
        let node = subject.node().await;
        tasks.spawn(async move {
            for _ in 0..EACH {
                append(&*node, start, &["k"]).await;
            }
        });
    }
    let mut seen = Vec::new();
    let mut position = start;
    while seen.len() < WRITERS * EACH {
        let round = tokio::select! {
            biased;
            round = remote.follow(position, 7, LONG) => round.expect("a healthy log is read"),
            () = patience(subject) => panic!("no news behind {position}, {} records seen", seen.len()),
        };
        assert!(!round.records.is_empty(), "answered without news: {round:?}");
        assert!(round.records.len() <= 7);
        let head = round.head.expect("there is a log");
        assert!(head.at >= position.at, "the head goes back");
        seen.extend(round.records);
        position = seen[seen.len() - 1].epoch;
    }
    tasks.join_all().await;
    assert_chain(&seen, start);
    assert_eq!(round(&*remote, position, 9).await, Round { head: Some(position), records: Vec::new() });
}

/// Newest first, from the end or from before a record.
pub async fn history_goes_back_from_the_end_and_from_a_record(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let mut all = vec![start];
    for _ in 0..4 {
        all.push(append(&*remote, start, &["k"]).await);
    }
    all.reverse();
    for (before, limit, expected) in [
        (None, 10, &all[..]),
        (None, 2, &all[..2]),
        (Some(all[1].at), 2, &all[2..4]),
        (Some(all[0].at + 1), 1, &all[..1]),
        (Some(start.at), 2, &[]),
        (Some(0), 2, &[]),
        (None, 0, &[]),
    ] {
        let found = remote.history(before, limit).await.expect("a healthy log is read");
        assert_eq!(epochs(&found), expected, "{before:?} {limit}");
    }
}
