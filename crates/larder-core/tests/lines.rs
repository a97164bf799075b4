//! Tokens and positions: of two lines of the log, of several records, and by a server whose clock is set.

mod common;

use std::time::Duration;

use common::*;
use larder_core::testing::TestRemote;
use larder_core::units::SECOND;
use larder_core::{Cache, Outcome};

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

/// A process that starts now, and learns the server's time from the beginning.
async fn newcomer(rig: &Rig) -> Cache {
    let remote = TestRemote::on(rig.remote.redis().clone(), rig.runtime.clone(), 2);
    let cache = rig.drive(rig.builder().remote(remote).build()).await.expect("a good setup");
    rig.pass(SECOND).await;
    cache
}
