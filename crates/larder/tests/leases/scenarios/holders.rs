//! Whoever has the lease is killed, stopped, or ends.

use std::time::Duration;

use larder_testkit::{RedisServer, wait_for};

use crate::answers::Answers;
use crate::trial::{NODES, SOON, Trial, answers};

const READERS: usize = 20;

/// The holder is killed (SIGKILL) in the middle of its load. Nobody gives its lease back: when it has run out, one of those who
/// wait takes over, and only one. Then that one is killed, too.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_while_he_loads_is_replaced_by_one_of_those_who_wait_and_so_is_that_one() {
    let server = RedisServer::start().await;
    let trial = Trial::on("holder killed", &server).await;
    let dead = trial.held_by_the_first(READERS, "a").await;
    let mut waiting: Vec<_> = (1..NODES).map(|place| (place, trial.read(place, READERS, "a"))).collect();
    let mut gone = vec![0];
    trial.nodes[0].kill();
    assert_eq!(dead.await.unwrap().0, None);
    for loads in 2..=3 {
        let killed = trial.runtime.now();
        trial.loads("a", loads).await;
        let took = trial.runtime.now().since(killed);
        trial.say(&format!("somebody else loads {took:?} after the holder was killed"));
        trial.pass(Duration::from_secs(1)).await;
        assert_eq!(trial.database.loads("a").len(), loads, "one at a time");
        if loads == 2 {
            let holder = trial.database.loaders("a")[1];
            trial.nodes[holder].kill();
            gone.push(holder);
        }
    }
    trial.database.let_go(0..NODES, "a");
    waiting.retain(|(place, _)| !gone.contains(place));
    for (place, readers) in waiting {
        assert_eq!(answers(readers).await, Answers::all(READERS, 0), "node {place}");
    }
    assert_eq!(trial.database.loads("a").len(), 3);
    trial.end(&gone, &["a"], async || server.keys().await).await;
}

/// The holder is stopped (SIGSTOP) for longer than its lease lives. Another one loads, and stores what was committed meanwhile
/// (nothing is invalidated: both loads have the same epoch). Then the first goes on, and stores what it had read long ago: over
/// the newer value, in other caches, for a whole ttl.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_holder_that_was_stopped_stores_late_is_refused_and_nobody_goes_on_serving_it() {
    let server = RedisServer::start().await;
    let trial = Trial::on("holder stopped", &server).await;
    let late = trial.held_by_the_first(READERS, "a").await;
    trial.nodes[0].stop();
    let new = trial.database.write();
    let waiting: Vec<_> = (1..NODES).map(|place| trial.read(place, READERS, "a")).collect();
    trial.loads("a", 2).await;
    trial.database.let_go(0..NODES, "a");
    for readers in waiting {
        assert_eq!(answers(readers).await, Answers::all(READERS, new));
    }
    assert_eq!(trial.database.loads("a").len(), 2);
    let in_redis = stored(&server, "larder:row:a").await;

    trial.nodes[0].go_on();
    assert_eq!(answers(late).await, Answers::all(READERS, new - 1), "it answers its own callers");
    wait_for(SOON, "the late store to be refused", async || {
        let counts = trial.nodes[0].counts().await;
        assert_eq!(counts.stores, 0);
        counts.stores_refused == 1
    })
    .await;
    assert!(stored(&server, "larder:row:a").await == in_redis, "the newer value stays");
    for place in 0..NODES {
        assert_eq!(trial.nodes[place].read(1, "a").await, Some(Answers::all(1, new)), "node {place}");
    }
    assert_eq!(trial.database.loads("a").len(), 2);
    trial.end(&[], &["a"], async || server.keys().await).await;
}

/// A deploy: the holder ends in good order (SIGTERM), with its load not done when its time is over. Those who wait take over at
/// once, and not when the lease would have run out.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_shuts_down_gives_its_lease_back() {
    let server = RedisServer::start().await;
    let trial = Trial::on("holder ends", &server).await;
    let first = trial.held_by_the_first(READERS, "a").await;
    let waiting: Vec<_> = (1..NODES).map(|place| trial.read(place, READERS, "a")).collect();
    let told = trial.runtime.now();
    assert!(!trial.nodes[0].shut_down(Duration::from_millis(300)).await, "its load is not done");
    trial.loads("a", 2).await;
    let took = trial.runtime.now().since(told);
    trial.say(&format!("somebody else loads {took:?} after the holder was told to end within 300 ms"));
    assert!(took < Duration::from_secs(5), "the lease has not run out");
    trial.database.let_go(0..NODES, "a");
    for readers in waiting {
        assert_eq!(answers(readers).await, Answers::all(READERS, 0));
    }
    assert_eq!(trial.database.loads("a").len(), 2);
    assert_eq!(answers(first).await, Answers::all(READERS, 0), "those who have asked it hear of it");
    trial.end(&[0], &["a"], async || server.keys().await).await;
}

pub(super) async fn stored(server: &RedisServer, key: &str) -> Vec<u8> {
    let reply = server.command(&["GET", key]).await.unwrap();
    reply.bytes().expect("it is there").to_vec()
}
