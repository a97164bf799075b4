//! Processes that stop, go on, or end.

use std::sync::Arc;

use larder_testkit::RedisServer;
use tokio::task::JoinSet;

use crate::ledger::Tally;
use crate::trial::Trial;
use crate::{rows, workload};

/// Redis is stopped (SIGSTOP) for three seconds: the kernel goes on accepting for it, nobody answers, and then everything
/// that was sent meanwhile is done at once.
#[tokio::test(flavor = "multi_thread")]
async fn redis_stands_still_for_three_seconds() {
    let server = RedisServer::start().await;
    let trial = Trial::on("redis stopped", &server, 0).await;
    server.pause();
    let during = trial.during(3.0).await;
    assert!(during.queued > 0, "Redis was out of reach: {during:?}");
    server.resume();
    trial.under_load(1.5).await;
    trial.end(50).await;
}

/// A node is stopped for longer than `disconnected_ttl`, in the middle of loads and stores. While it stands still others
/// invalidate everything; then it is read from at once, before it can have heard of anything, and what it had begun is
/// done late.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_stands_still_for_longer_than_it_may_serve() {
    let server = RedisServer::start().await;
    let trial = Trial::on("node stopped", &server, 0).await;
    for _ in 0..2 {
        trial.stop(0);
        assert!(trial.write(1, "*").await.is_some());
        trial.under_load(3.3).await;
        trial.go_on(0).await;
        let mut reads = JoinSet::new();
        for key in rows::all() {
            let (ledger, node) = (trial.ledger.clone(), Arc::clone(&trial.nodes[0]));
            reads.spawn(async move { workload::read(&ledger, &node, "load", &key, None).await });
        }
        assert!(reads.join_all().await.iter().all(Option::is_some));
        trial.under_load(0.7).await;
    }
    trial.end(50).await;
}

/// Nodes are killed (SIGKILL) in the middle of whatever they do, and others take their places, with what Redis has.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_killed_and_replaced() {
    let server = RedisServer::start().await;
    let mut trial = Trial::on("nodes killed", &server, 0).await;
    for place in [0, 1, 2, 0] {
        trial.replace(place).await;
        trial.under_load(0.8).await;
    }
    let mut from_redis = 0;
    for node in &trial.nodes {
        from_redis += node.hits().await.1;
    }
    assert!(from_redis > 20, "what the dead had stored was of use: {from_redis} hits from Redis");
    trial.end(50).await;
}

/// Redis is killed (SIGKILL) and comes back with everything it had acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn redis_is_killed_and_comes_back_with_its_data() {
    let server = RedisServer::builder().persistent(true).start().await;
    let (lineage, late) = restarted(&server, "restart, persistent").await;
    assert_eq!(lineage, 3, "each time it went on with a new line of the same history");
    assert!(late.by_reached > 0, "the last words were heard: {late:?}");
}

/// Redis is killed (SIGKILL) and comes back with nothing: what was acknowledged is lost, but so is all that it concerned.
#[tokio::test(flavor = "multi_thread")]
async fn redis_is_killed_and_comes_back_empty() {
    let (lineage, late) = restarted(&RedisServer::start().await, "restart, empty").await;
    assert_eq!(lineage, 0, "each time it began with nothing");
    assert!(late.by_late > 0, "nobody can be told of the last words any more: {late:?}");
}

/// Kills Redis three times, once for a second, and the last time with the last words just said. Answers how many lines the log has left behind, and what
/// was counted after the last time.
async fn restarted(server: &RedisServer, name: &'static str) -> (usize, Tally) {
    let mut trial = Trial::on(name, server, 0).await;
    server.restart().await;
    trial.under_load(1.5).await;
    server.kill();
    let during = trial.during(1.0).await;
    assert!(during.queued > 0, "Redis was away: {during:?}");
    server.restart().await;
    trial.under_load(1.5).await;
    trial.deafen();
    trial.last_words(0).await;
    server.kill();
    trial.listen();
    server.restart().await;
    let late = trial.until_late().await;
    trial.end(50).await;
    let lineage = server.command(&["HGET", "{larder}:state", ".lineage"]).await.unwrap();
    (String::from_utf8_lossy(lineage.bytes().expect("there is a log")).matches(',').count(), late)
}
