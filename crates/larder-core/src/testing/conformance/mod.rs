//! What the engine relies on in every remote tier, promise by promise.
//!
//! Each function here is one promise of [`Remote`], tried on a tier that nobody else uses and that is empty. They panic
//! where it is broken. [`remote_conformance!`](crate::remote_conformance) makes a test of each:
//!
//! ```text
//! larder_core::remote_conformance!(MyTier::start().await);
//! ```

mod follow;
mod leases;
mod log;
mod loss;
mod shares;
mod strange;
mod values;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

pub use self::follow::*;
pub use self::leases::*;
pub use self::log::*;
pub use self::loss::*;
pub use self::shares::*;
pub use self::strange::*;
pub use self::values::*;
pub use self::walk::*;

use crate::EPOCH_OFFSET;
use crate::log::{Append, Author, Epoch, Mode, Opened, Record};
use crate::remote::{Head, Remote, Round, Store, StoreLease, Stored};
use crate::runtime::BoxFuture;

/// A remote tier to be tried, and what only the outside can do to it. What answers `None` cannot be done to this one, and the
/// promise about it fails, for it has not been tried. Only [`restart`](Self::restart) may be beyond a subject.
pub trait Subject: Send + Sync {
    /// One more node's way to the tier, connected.
    fn node(&self) -> BoxFuture<'_, Arc<dyn Remote>>;

    /// Lets time pass on the tier's clock: this much, at least.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()>;

    /// Loses everything.
    fn flush(&self) -> Option<BoxFuture<'_, ()>> {
        None
    }

    /// Loses the log and its stamps, and no value.
    fn lose_log(&self) -> Option<BoxFuture<'_, ()>> {
        None
    }

    /// Loses where the log stands and its stamps, and no record.
    fn lose_stamps(&self) -> Option<BoxFuture<'_, ()>> {
        None
    }

    /// Loses the older generation of stamps, and nothing else.
    fn lose_old_stamps(&self) -> Option<BoxFuture<'_, ()>> {
        None
    }

    /// Loses all records, and nothing else.
    fn trim(&self) -> Option<BoxFuture<'_, ()>> {
        None
    }

    /// Puts bytes under a key, as another program would.
    fn plant<'a>(&'a self, _key: &'a [u8], _bytes: Bytes) -> Option<BoxFuture<'a, ()>> {
        None
    }

    /// Puts something under a key that is no string of bytes at all.
    fn plant_other_type<'a>(&'a self, _key: &'a [u8]) -> Option<BoxFuture<'a, ()>> {
        None
    }

    /// Appends, behind `last`, a record as a newer version might write it. Answers its position.
    fn append_unknown(&self, _last: Epoch) -> Option<BoxFuture<'_, Epoch>> {
        None
    }

    /// Another server process takes over with all the data. `None`: that cannot be done to this one.
    fn restart(&self) -> Option<BoxFuture<'_, ()>> {
        None
    }

    /// How many stamps a generation holds, if that is few enough to be tried: 8 to 100.
    fn stamp_limit(&self) -> Option<u32> {
        None
    }
}

/// Makes a test of each promise of [`conformance`](crate::testing::conformance): `$subject` is an expression, awaited
/// inside, of a [`Subject`](crate::testing::conformance::Subject). With `in turn:` it is one that exists already, and all
/// promises are tried on it one after the other, each after a flush: for what is dear to start.
#[macro_export]
macro_rules! remote_conformance {
    ($subject:expr) => {
        $crate::remote_conformance! { @promises each $subject }
    };
    (in turn: $subject:expr) => {
        $crate::remote_conformance! { @promises turn $subject }
    };
    (@promises $how:ident $subject:expr) => {
        $crate::remote_conformance! { @$how $subject;
            the_newest_load_of_a_line_wins
            a_life_ends
            what_is_removed_is_gone
            foreign_bytes_are_given_as_they_are_and_replaced
            another_type_is_told_and_replaced
            several_values_come_in_the_order_they_were_asked_for
            what_a_store_replaces_is_told_to_those_who_ask
            a_lease_is_granted_once_and_whoever_is_refused_is_told_whose_it_is
            a_value_that_came_meanwhile_is_the_answer_and_a_rejected_one_is_not
            a_lease_runs_out_and_passes_on
            a_lease_that_is_extended_lives_on_and_a_lost_one_cannot_be
            a_lease_that_is_given_back_wakes_those_who_were_refused_and_nobody_else
            whoever_gives_back_the_lease_of_another_changes_nothing
            a_fill_wakes_those_who_wait
            a_load_in_vain_is_taken_over_and_those_who_wait_for_it_stay
            the_late_store_of_a_load_whose_lease_has_passed_on_is_refused
            a_load_whose_lease_ran_out_unnoticed_still_stores
            a_load_that_is_overtaken_frees_its_lease
            a_value_put_by_hand_breaks_the_lease
            what_is_given_back_yields_to_what_is_there
            a_share_holds_no_more_than_its_limit
            what_a_share_has_counted_is_free_when_its_life_is_over
            what_is_given_back_to_a_share_is_free_at_once
            opening_an_empty_log_begins_a_line_and_opening_again_changes_nothing
            appending_to_an_empty_log_begins_it_first
            a_record_comes_back_as_it_was_written_behind_its_predecessor
            positions_only_grow
            stamps_hold_the_last_position_of_each_selector_by_mode
            a_node_ahead_of_the_log_cuts_its_line
            a_node_of_no_known_line_gets_a_barrier
            the_last_eight_lines_are_remembered
            every_invalidation_behind_since_has_its_stamp
            many_who_append_at_once_keep_one_chain
            records_come_in_order_and_up_to_the_limit
            a_record_ends_the_wait
            without_news_the_wait_is_kept
            a_log_that_stands_elsewhere_is_told_at_once
            a_follow_that_is_given_up_takes_nothing_away
            nothing_is_lost_between_two_follows
            history_goes_back_from_the_end_and_from_a_record
            a_walk_sees_every_value_and_nothing_of_the_log
            a_walk_sees_the_values_below_each_of_several_keys
            a_page_shows_the_first_bytes
            only_what_has_not_changed_is_discarded
            after_a_flush_history_begins_anew
            a_lost_log_begins_anew_and_leaves_the_values
            lost_stamps_begin_a_line_without_ancestors
            lost_records_are_a_gap_that_shows
            lost_older_stamps_move_the_reach_up_and_nothing_else
            what_rotates_while_stamps_are_read_is_seen
            a_record_that_nobody_knows_is_told_and_keeps_the_chain
            opening_tells_the_time_of_the_server
            another_server_process_begins_a_line
        }
    };
    (@turn $subject:expr; $($promise:ident)*) => {
        $(
            eprintln!("{}", stringify!($promise));
            $crate::testing::conformance::Subject::flush($subject).expect("it can be flushed").await;
            $crate::testing::conformance::$promise($subject).await;
        )*
    };
    (@each $subject:expr; $($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                $crate::testing::conformance::$promise(&$subject).await;
            }
        )*
    };
}

/// What a promise needs to be tried.
fn tried<T>(means: Option<T>) -> T {
    means.expect("a promise that is not tried is not kept: the subject has no way to try it")
}

const LIFE: Duration = Duration::from_secs(600);
const LONG: Duration = Duration::from_secs(50);
const MANY: usize = 1000;

/// A value as the engine would write it.
fn value(epoch: Epoch, body: &str) -> Bytes {
    let mut bytes = b"Lr\x01\x00".to_vec();
    assert_eq!(bytes.len(), EPOCH_OFFSET);
    bytes.extend_from_slice(&epoch.line.to_be_bytes());
    bytes.extend_from_slice(&epoch.at.to_be_bytes());
    bytes.extend_from_slice(body.as_bytes());
    bytes.into()
}

/// A store that has to do with no lease.
fn apart(epoch: Epoch, bytes: Bytes, life: Duration) -> Store {
    Store { bytes, life, epoch, lease: StoreLease::Apart, measured: false }
}

async fn store(remote: &dyn Remote, key: &str, line: u64, at: u64, body: &str) -> Stored {
    let epoch = Epoch { line, at };
    let stored = remote.store(key.as_bytes(), apart(epoch, value(epoch, body), LIFE)).await;
    stored.expect("a store on a healthy tier is answered")
}

async fn body(remote: &dyn Remote, key: &str) -> Option<String> {
    let bytes = remote.get(key.as_bytes()).await.expect("a get on a healthy tier is answered")?;
    Some(String::from_utf8_lossy(&bytes[EPOCH_OFFSET + 16..]).into_owned())
}

/// Differs from call to call, and from any line in the tests.
fn fresh() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0x1000);
    LAST.fetch_add(1, Ordering::Relaxed)
}

fn hard(selectors: &[&str]) -> Append {
    let author = Author { node: "n1".into(), reason: "why, \"exactly\"?".into(), actor: "\u{e9}".into() };
    let selectors = selectors.iter().map(ToString::to_string).collect();
    Append { mode: Mode::Hard, selectors, op: fresh(), author }
}

async fn open(remote: &dyn Remote, position: Option<Epoch>) -> Opened {
    remote.open(position, fresh()).await.expect("a healthy log opens")
}

async fn append(remote: &dyn Remote, position: Epoch, selectors: &[&str]) -> Epoch {
    let appended = remote.append(&hard(selectors), Some(position), fresh()).await;
    appended.expect("a healthy log takes a record")
}

async fn head(remote: &dyn Remote) -> Option<Head> {
    remote.head().await.expect("a healthy log tells where it stands")
}

async fn round(remote: &dyn Remote, position: Epoch, limit: usize) -> Round {
    remote.follow(position, limit, Duration::ZERO).await.expect("a healthy log is read")
}

async fn records(remote: &dyn Remote, position: Epoch) -> Vec<Record> {
    round(remote, position, MANY).await.records
}

fn epochs(records: &[Record]) -> Vec<Epoch> {
    records.iter().map(|record| record.epoch).collect()
}

fn told(opened: &Opened) -> Head {
    Head { epoch: opened.head, lineage: opened.lineage.clone(), since: opened.since }
}

/// Each record names the one before it; the first one names `position`.
fn assert_chain(records: &[Record], position: Epoch) {
    let mut before = position;
    for record in records {
        assert_eq!(record.prev, Some(before), "the record at {} is behind its predecessor", record.epoch);
        before = record.epoch;
    }
}

/// The last position of each selector, hard.
async fn stamps(remote: &dyn Remote) -> BTreeMap<String, u64> {
    let stamps = remote.scan().await.expect("healthy stamps are read");
    let mut last = BTreeMap::new();
    for stamp in stamps.into_iter().filter(|stamp| stamp.mode == Mode::Hard) {
        let at = last.entry(stamp.selector).or_insert(0);
        *at = stamp.at.max(*at);
    }
    last
}

/// Where there is a log, and nothing else.
async fn begun(subject: &dyn Subject) -> (Arc<dyn Remote>, Epoch) {
    let remote = subject.node().await;
    let start = open(&*remote, None).await.head;
    (remote, start)
}
