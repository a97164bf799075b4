//! Connections carry nothing while a lease is held.

use std::time::Duration;

use larder_testkit::{Fault, RedisServer, wait_for};

use super::holders::stored;
use crate::answers::Answers;
use crate::trial::{NODES, SOON, Trial, answers};

const READERS: usize = 20;
/// The beginnings of values' keys and of their leases', which no command of the log has.
const VALUES: &[u8] = b"larder:row:";

/// The values are out of the holder's reach until its lease has run out and another one has stored something newer; then they
/// are within its reach again, and its load ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_cut_off_until_somebody_else_had_loaded_stores_nothing() {
    let server = RedisServer::start().await;
    let (trial, proxies) = Trial::behind("holder cut off", &server).await;
    let late = trial.held_by_the_first(READERS, "a").await;
    proxies[0].set_where(VALUES, Fault::BlackHole);
    let waiting: Vec<_> = (1..NODES).map(|place| trial.read(place, READERS, "a")).collect();
    let new = trial.database.write();
    trial.loads("a", 2).await;
    trial.database.let_go(1..NODES, "a");
    for readers in waiting {
        assert_eq!(answers(readers).await, Answers::all(READERS, new));
    }
    let in_redis = stored(&server, "larder:row:a").await;
    proxies[0].set(Fault::None);
    trial.well(0).await;
    trial.database.let_go([0], "a");
    assert_eq!(answers(late).await, Answers::all(READERS, new - 1));
    wait_for(SOON, "its store to be refused", async || trial.nodes[0].counts().await.stores_refused == 1)
        .await;
    assert!(stored(&server, "larder:row:a").await == in_redis);
    assert_eq!(trial.database.loaders("a").len(), 2);
    for place in 0..NODES {
        assert_eq!(trial.nodes[place].read(1, "a").await, Some(Answers::all(1, new)), "node {place}");
    }
    trial.end(&[], &["a"], async || server.keys().await).await;
}

/// One of those who wait is cut off, then all nodes are. Nobody waits for what he cannot hear of: each loads, once, and is
/// answered while the network is away. What they have loaded meanwhile is as good as any, until it is invalidated.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_cut_off_while_he_waits_loads_for_himself() {
    let server = RedisServer::start().await;
    let (trial, proxies) = Trial::behind("waiters cut off", &server).await;

    let first = trial.held_by_the_first(READERS, "one").await;
    let mut waiting: Vec<_> = (1..NODES).map(|place| trial.read(place, READERS, "one")).collect();
    trial.pass(Duration::from_millis(300)).await;
    proxies[3].set(Fault::BlackHole);
    trial.loads("one", 2).await;
    trial.database.let_go([3], "one");
    assert_eq!(answers(waiting.pop().unwrap()).await, Answers::all(READERS, 0), "while it is cut off");
    assert_eq!(trial.database.loaders("one"), [0, 3]);
    proxies[3].set(Fault::None);
    trial.database.let_go(0..NODES, "one");
    for readers in waiting.into_iter().chain([first]) {
        assert_eq!(answers(readers).await, Answers::all(READERS, 0));
    }
    assert_eq!(trial.database.loaders("one"), [0, 3]);
    trial.all_well().await;

    let first = trial.held_by_the_first(READERS, "all").await;
    let waiting: Vec<_> = (1..NODES).map(|place| trial.read(place, READERS, "all")).collect();
    trial.pass(Duration::from_millis(300)).await;
    for proxy in &proxies {
        proxy.set(Fault::BlackHole);
    }
    trial.loads("all", NODES).await;
    trial.database.let_go(0..NODES, "all");
    for readers in waiting.into_iter().chain([first]) {
        assert_eq!(answers(readers).await, Answers::all(READERS, 0), "while Redis is away");
    }
    assert_eq!(trial.database.loads("all").len(), NODES);
    for proxy in &proxies {
        proxy.set(Fault::None);
    }
    trial.end(&[], &["one", "all"], async || server.keys().await).await;
}
