//! Another server takes over, with or without all that the old one has acknowledged.
//!
//! A record that was lost with its primary is heard where it had not been read only once its node has sent it again, and
//! a node that still talks to a deposed primary hears nothing of the others: the one thing that the guarantee leaves out,
//! and only for what was acknowledged between `losing` and `lost`.

use std::time::Duration;

use larder_testkit::{RedisCluster, RedisSentinel, wait_for};

use crate::trial::{self, Trial};

const STATE: &str = "{larder}:state";
const SOON: Duration = Duration::from_secs(10);

/// The primary dies with everything replicated but the last moment.
#[tokio::test(flavor = "multi_thread")]
async fn sentinels_replace_a_dead_primary() {
    let room = trial::room().await;
    let servers = RedisSentinel::start().await;
    let mut trial = Trial::at("sentinel, killed", servers.url(), room).await;
    trial.ledger.losing();
    trial.under_load(0.3).await;
    servers.fail_over().await;
    trial.ledger.lost();
    trial.last_words(1).await;
    trial.until_late().await;
    trial.end(20).await;
}

/// Replicas get nothing any more, the primary stands still and is replaced: the end of the log is lost, and one node has
/// not read it. Then the old primary goes on, and takes writes that nobody keeps, until it is told.
#[tokio::test(flavor = "multi_thread")]
async fn sentinels_replace_a_primary_that_had_more_than_its_heir_and_comes_back() {
    let room = trial::room().await;
    let servers = RedisSentinel::start().await;
    let mut trial = Trial::at("sentinel, deposed", servers.url(), room).await;
    trial.ledger.losing();
    servers.cut_replication().await;
    trial.stop(2);
    let during = trial.during(1.0).await;
    assert!(during.delivered > 5, "these are to be lost: {during:?}");
    servers.depose().await;
    trial.go_on(2).await;
    trial.under_load(0.5).await;
    servers.old_primary().resume();
    trial.under_load(0.5).await;
    servers.rejoin_old().await;
    trial.ledger.lost();
    trial.last_words(1).await;
    trial.until_late().await;
    trial.end(20).await;
}

/// The owner of the log's slot dies, with everything replicated but the last moment; two thirds of the values stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_replaces_the_node_that_has_the_log() {
    let room = trial::room().await;
    let cluster = RedisCluster::start().await;
    let mut trial = Trial::at("cluster, killed", cluster.url(), room).await;
    trial.ledger.losing();
    trial.under_load(0.3).await;
    cluster.fail_over(STATE).await;
    trial.ledger.lost();
    trial.last_words(1).await;
    trial.until_late().await;
    trial.end(30).await;
}

/// The owner of the log's slot had more than its heir when it was replaced, and one node has not read it. It comes back, and
/// serves for a moment as if nothing had happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_replaces_a_node_that_had_more_of_the_log_than_its_heir() {
    let room = trial::room().await;
    let cluster = RedisCluster::start().await;
    let mut trial = Trial::at("cluster, deposed", cluster.url(), room).await;
    trial.ledger.losing();
    cluster.cut_replication(STATE).await;
    trial.stop(2);
    let during = trial.during(1.0).await;
    assert!(during.delivered > 5, "these are to be lost: {during:?}");
    let old = cluster.primary_of(STATE).await;
    cluster.depose(STATE).await;
    trial.go_on(2).await;
    old.resume();
    cluster.settle().await;
    trial.ledger.lost();
    trial.last_words(1).await;
    trial.until_late().await;
    trial.end(30).await;
}

/// One node has not read the end of the log when it is lost with its primary, and nothing else happens: whoever wrote it must
/// say it again, or the node never hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_with_a_primary_is_said_again() {
    let room = trial::room().await;
    let cluster = RedisCluster::start().await;
    let mut trial = Trial::at("cluster, end lost", cluster.url(), room).await;
    trial.calm().await;
    trial.read_all(2).await;
    trial.ledger.losing();
    cluster.cut_replication(STATE).await;
    trial.stop(2);
    // Nothing may wait for the one that stands still in its kernel.
    cluster.command_on(STATE, &["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
    for (node, selector) in [(0, "*"), (1, "row:*")] {
        trial.well(node).await;
        wait_for(SOON, "a record in the log", async || trial.write(node, selector).await.is_some()).await;
    }
    cluster.fail_over(STATE).await;
    trial.ledger.lost();
    trial.go_on(2).await;
    trial.well(2).await;
    trial.read_all(2).await;
    trial.end(30).await;
}
