//! Another server takes over while leases are held.

use larder_testkit::{RedisCluster, RedisSentinel};

use crate::answers::Answers;
use crate::trial::{NODES, Trial, answers, room};

const READERS: usize = 20;

/// The node of a cluster that has value and lease dies, with whatever it had not passed on.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_replaces_the_node_that_has_the_lease() {
    let room = room().await;
    let cluster = RedisCluster::start().await;
    let trial = Trial::at("cluster, killed", vec![cluster.url(); NODES], room).await;
    during(&trial, async || {
        cluster.fail_over("larder:row:a").await;
    })
    .await;
    trial.end(&[], &["a"], async || cluster.keys().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_replace_the_server_that_has_the_lease() {
    let room = room().await;
    let servers = RedisSentinel::start().await;
    let trial = Trial::at("sentinel, killed", vec![servers.url(); NODES], room).await;
    during(&trial, async || {
        servers.fail_over().await;
    })
    .await;
    trial.end(&[], &["a"], async || servers.primary().await.keys().await).await;
}

/// Whoever waits does so for as long as there is somebody to ask, and then loads for himself, once.
async fn during(trial: &Trial, fail_over: impl AsyncFnOnce()) {
    let first = trial.held_by_the_first(READERS, "a").await;
    let waiting: Vec<_> = (1..NODES).map(|place| trial.read(place, READERS, "a")).collect();
    fail_over().await;
    trial.all_well().await;
    trial.database.let_go(0..NODES, "a");
    for readers in waiting.into_iter().chain([first]) {
        assert_eq!(answers(readers).await, Answers::all(READERS, 0));
    }
    let mut loaders = trial.database.loaders("a");
    trial.say(&format!("loads by {loaders:?}"));
    loaders.sort_unstable();
    loaders.dedup();
    assert_eq!(trial.database.loads("a").len(), loaders.len(), "nobody loads twice");
}
