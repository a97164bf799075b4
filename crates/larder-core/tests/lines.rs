//! Tokens and positions: of two lines of the log, of several records, and by a server whose clock is set.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use larder_core::testing::{
    ManualRuntime, Recorder, RedisOptions, TestRedis, TestRemote, has_reached, position,
};
use larder_core::units::SECOND;
use larder_core::{
    Append, Author, BoxFuture, Cache, Epoch, Mode, Opened, Outcome, Remote, RemoteError, forward_remote,
};
use parking_lot::Mutex;

const QUARTER: Duration = Duration::from_secs(15 * 60);

/// One request makes two invalidations. Between them the log is lost, and the server's clock is set back: the second stands on
/// another line, at a lower position. Its token is the one that tells of both: whoever has reached the new line has lost all
/// that he knew from before it.
#[tokio::test]
async fn of_two_lines_the_token_is_of_the_one_that_was_written_to_last() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let work = async {
        let first = cache.invalidate([selector("doc:1")]).await.token.unwrap();
        rig.remote.redis().step_clock(QUARTER, true);
        rig.remote.lose_log();
        // Until it has noticed, and stands on the new line.
        rig.pass(3 * SECOND).await;
        let second = cache.invalidate([selector("doc:2")]).await.token.unwrap();
        assert!(first.line != second.line && first.at > second.at, "{first}, then {second}");
        second
    };
    let (second, token) = rig.drive(cache.collect_tokens(work)).await;
    assert_eq!(token, Some(second));
}

/// A node that follows for hours and never misses anything opens the log all the same once a minute: else it would go on by a
/// clock that the server no longer has, and what it stores would be a quarter of an hour old everywhere else.
#[tokio::test]
async fn a_node_learns_within_a_minute_that_the_servers_clock_was_set() {
    let rig = Rig::new();
    let old = rig.cache().await;
    rig.pass(SECOND).await;
    rig.remote.redis().step_clock(QUARTER, false);
    for _ in 0..7 {
        rig.pass(10 * SECOND).await;
    }
    let source = Source::new();
    let load = move || source.read();
    rig.drive(docs(&old).get_or_load(1_u64, load)).await.unwrap();
    rig.pass(SECOND).await;
    let new = newcomer(&rig).await;
    let again = docs(&new).loader(|_: u64| async { Err::<u64, &'static str>("it is in Redis") });
    let hit = rig.drive(again.fetch(1_u64)).await.unwrap();
    assert_eq!(hit.outcome, Outcome::Hit);
    assert!(hit.age < 10 * SECOND, "stored a second ago, and {:?} old", hit.age);
}

/// More selectors than one record takes: whoever has reached the token has read all of them.
#[tokio::test]
async fn the_token_of_a_call_of_several_records_is_that_of_the_last() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let many: Vec<_> = (0..700).map(|i| selector(&format!("doc:{i}"))).collect();
    let token = rig.drive(cache.invalidate(many)).await.token;
    assert!(token.is_some());
    assert_eq!(token, rig.remote.redis().standing());
}

/// A primary is deposed and goes on answering; an invalidation is written to it, and read from it. Who has read it comes over, and
/// says where it stood: what is loaded on the new line from here on must be newer than what was loaded there before.
#[tokio::test]
async fn a_node_that_comes_over_from_a_deposed_primary_gets_a_barrier() {
    let rig = Rig::new();
    let follower = rig.cache().await;
    let deposed = TestRemote::on(rig.remote.redis().clone(), rig.runtime.clone(), 3);
    let author = rig.drive(rig.builder().remote(deposed.clone()).build()).await.unwrap();
    let redis = rig.remote.redis();
    redis.fail_over(0, false, true, 0);
    let _new = newcomer(&rig).await;
    let before = redis.standing().unwrap();
    let lost = rig.drive(author.invalidate([selector("doc:1")])).await.token.unwrap();
    assert_ne!(lost.line, before.line);
    rig.eventually("the other has read it", || has_reached(&follower, lost)).await;
    // For good: it would send again what was lost.
    deposed.set(|faults| faults.down = true);
    redis.end_deposed();
    let came_over = || position(&follower).is_some_and(|at| at.line == before.line);
    rig.eventually("it has come over", came_over).await;
    let after = redis.standing().unwrap();
    assert!(after.line == before.line && after.at > before.at, "no barrier between {before} and {after}");
}

/// Between its opening the log and its reading the stamps the primary is lost, with the record that the log had stood at. Stamps
/// that know nothing of that record are no snapshot of a position that covers it.
#[tokio::test]
async fn a_snapshot_of_less_than_was_opened_is_void() {
    let runtime = ManualRuntime::new(1);
    let replica = Some(Duration::from_secs(60));
    let redis = TestRedis::new(runtime.clone(), RedisOptions { replica, ..RedisOptions::default() });
    let remote = TestRemote::on(redis.clone(), runtime.clone(), 1);
    let start = remote.open(None, 7).await.unwrap().head;
    let append =
        Append { mode: Mode::Hard, selectors: vec!["doc:1".to_owned()], op: 9, author: Author::default() };
    let lost = remote.append(&append, Some(start), 8).await.unwrap();
    let rig = Rig { runtime, remote: remote.clone(), events: Recorder::new() };
    let unlucky = Arc::new(Unlucky { remote, opened: Mutex::default() });
    let cache = rig.drive(rig.builder().remote(unlucky.clone()).build()).await.unwrap();
    rig.eventually("it follows", || position(&cache).is_some_and(|at| at.line != lost.line)).await;
    let opened = unlucky.opened.lock().clone();
    assert!(!opened.contains(&Some(lost)), "it stood at what it had no stamp of: {opened:?}");
}

/// The primary is lost as soon as it has been opened, with its last script.
struct Unlucky {
    remote: Arc<TestRemote>,
    /// The positions from which it was opened.
    opened: Mutex<Vec<Option<Epoch>>>,
}

impl Remote for Unlucky {
    fn open(&self, position: Option<Epoch>, nonce: u64) -> BoxFuture<'_, Result<Opened, RemoteError>> {
        Box::pin(async move {
            let opened = self.remote.open(position, nonce).await;
            let times = {
                let mut all = self.opened.lock();
                all.push(position);
                all.len()
            };
            if times == 1 {
                self.remote.redis().fail_over(1, false, false, 0);
                self.remote.reconnect();
            }
            opened
        })
    }

    forward_remote! {
        remote: get get_many store lease extend release wakes reserve give_back remove append scan head follow history page
            discard connect link log_link close describe
    }
}

/// A process that starts now, and learns the server's time from the beginning.
async fn newcomer(rig: &Rig) -> Cache {
    let remote = TestRemote::on(rig.remote.redis().clone(), rig.runtime.clone(), 2);
    let cache = rig.drive(rig.builder().remote(remote).build()).await.expect("a good setup");
    rig.pass(SECOND).await;
    cache
}
