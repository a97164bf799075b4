//! What happens to a log now and then: it loses its older stamps, they rotate under a reader's eyes, a newer version writes to it,
//! its server is another one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};

use super::{Subject, append, assert_chain, begun, fresh, head, open, records, stamps, told, tried};
use crate::log::{Epoch, Record, RecordBody};
use crate::remote::{Remote, RemoteError};

/// Rounds of a race that a subject must win by its order of doing things, not by chance.
const ROUNDS: usize = 300;
/// How often a server that comes up again is asked.
const ASKED: usize = 1000;

/// Appends until the stamps have rotated once since `position`; answers the last position.
async fn rotate(remote: &dyn Remote, limit: u32, mut position: Epoch) -> Epoch {
    for i in 0..limit {
        position = append(remote, position, &[&format!("r:{i}")]).await;
    }
    position
}

/// The younger generation is whole: what it has is behind `since`, and no line is cut.
pub async fn lost_older_stamps_move_the_reach_up_and_nothing_else(subject: &dyn Subject) {
    let limit = tried(subject.stamp_limit());
    let (remote, start) = begun(subject).await;
    let position = rotate(&*remote, limit, start).await;
    let last = append(&*remote, position, &["young"]).await;
    let before = open(&*remote, Some(last)).await;
    tried(subject.lose_old_stamps()).await;
    let after = open(&*remote, Some(last)).await;
    assert_eq!((after.head, &after.lineage), (before.head, &before.lineage));
    assert!(before.since < after.since && after.since < last.at, "{} to {}", before.since, after.since);
    assert_eq!(head(&*remote).await, Some(told(&after)));
    let found = stamps(&*remote).await;
    assert_eq!(found.get("young"), Some(&last.at));
    assert!(found.values().all(|at| *at > after.since), "{found:?}, since {}", after.since);
}

/// While they are read the stamps may move to the older generation. If `since` is the same before and after, every stamp that
/// was there before is among those read.
pub async fn what_rotates_while_stamps_are_read_is_seen(subject: &dyn Subject) {
    let limit = tried(subject.stamp_limit());
    let (remote, start) = begun(subject).await;
    let writer = subject.node().await;
    let over = Arc::new(AtomicBool::new(false));
    let mut writing = JoinSet::new();
    let written = over.clone();
    writing.spawn(async move {
        let (mut position, mut i) = (start, 0_u64);
        while !written.load(Ordering::Acquire) {
            position = append(&*writer, position, &[&format!("w:{i}")]).await;
            i += 1;
            yield_now().await;
        }
    });
    let (mut compared, mut position) = (0, start);
    for round in 0..ROUNDS {
        // Without an older generation a rotation does not move `since`.
        tried(subject.lose_old_stamps()).await;
        let mark = format!("mark:{}", round % usize::try_from(limit / 4).unwrap_or(1));
        position = append(&*remote, position, &[&mark]).await;
        let opened = open(&*remote, Some(position)).await;
        let found = stamps(&*remote).await;
        let after = head(&*remote).await.expect("the log is there");
        if opened.since != after.since || opened.since >= position.at {
            continue;
        }
        compared += 1;
        assert!(
            found.get(&mark).is_some_and(|at| *at >= position.at),
            "{mark} of {position} is not among {found:?}, since {}",
            opened.since
        );
    }
    over.store(true, Ordering::Release);
    writing.join_all().await;
    assert!(compared > ROUNDS / 4, "{compared} of {ROUNDS} rounds could be compared");
}

/// It counts as "everything" for who cannot read it; what follows joins on to it.
pub async fn a_record_that_nobody_knows_is_told_and_keeps_the_chain(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let before = append(&*remote, start, &["k"]).await;
    let strange = tried(subject.append_unknown(before)).await;
    assert_eq!(head(&*remote).await.map(|head| head.epoch), Some(strange));
    let told = Record { epoch: strange, prev: Some(before), body: RecordBody::Unknown };
    assert_eq!(records(&*remote, before).await, [told]);
    let next = append(&*remote, strange, &["k"]).await;
    assert_eq!(next.line, start.line);
    let all = records(&*remote, start).await;
    assert_eq!(all.len(), 3);
    assert_chain(&all, start);
}

/// Its own, in milliseconds; positions are of the same clock.
pub async fn opening_tells_the_time_of_the_server(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let first = open(&*remote, Some(start)).await;
    let time = Duration::from_millis(1200);
    subject.pass(time).await;
    let second = open(&*remote, Some(start)).await;
    let passed = second.server_ms - first.server_ms;
    assert!((1200..60_000).contains(&passed), "{passed} ms on its clock");
    let token = append(&*remote, start, &["k"]).await;
    let third = open(&*remote, Some(token)).await;
    assert!(
        (second.server_ms..=third.server_ms).contains(&(token.at / 1000)),
        "{token} is of the same clock"
    );
}

/// The answer of a server that may not have come up yet.
async fn answered<T>(subject: &dyn Subject, call: impl AsyncFn() -> Result<T, RemoteError>) -> T {
    for _ in 0..ASKED {
        if let Ok(answer) = call().await {
            return answer;
        }
        subject.pass(Duration::from_millis(10)).await;
    }
    panic!("a server that has restarted does not answer")
}

/// A restart or a failover, though nothing is lost: nobody can know that, so the old line is cut where it stood.
pub async fn another_server_process_begins_a_line(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    let last = append(&*remote, start, &["k"]).await;
    let Some(restart) = subject.restart() else { return };
    restart.await;
    let opened = answered(subject, async || remote.open(Some(last), fresh()).await).await;
    // The log is read on a connection of its own, which has to be made anew as well.
    answered(subject, async || remote.follow(last, 9, Duration::ZERO).await).await;
    assert_ne!(opened.head.line, last.line);
    assert_eq!(opened.lineage.cuts(), [last]);
    assert!(opened.head.at > last.at);
    let barrier = Record { epoch: opened.head, prev: Some(last), body: RecordBody::Marker };
    assert_eq!(records(&*remote, last).await, [barrier]);
    assert_eq!(stamps(&*remote).await, BTreeMap::from([("k".to_owned(), last.at)]));
    assert_eq!(open(&*remote, Some(last)).await.head, opened.head, "once for each process");
}
