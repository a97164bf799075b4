//! Redis itself stands still, forgets everything, or ends, while a lease is held.

use std::time::Duration;

use larder_testkit::RedisServer;

use crate::answers::Answers;
use crate::trial::{NODES, Trial, answers};

const READERS: usize = 20;

/// What happens to Redis.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// It is stopped (SIGSTOP) for three seconds.
    StandsStill,
    /// It is told to forget everything.
    Flushed,
    /// It is killed (SIGKILL), and comes back with nothing.
    Restarted,
    /// It is killed, and stays away until all have been answered.
    Away,
}

/// And in the middle of it the database is written. No process loads more often than it would without leases, everybody is
/// answered, and those who ask after the write's invalidation has returned get what was written, wherever the load was under way
/// that had begun before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_redis_has_lost_costs_a_load_and_never_a_wrong_answer() {
    let server = RedisServer::start().await;
    let trial = Trial::on("server", &server).await;
    for (key, happening) in [
        ("still", Happening::StandsStill),
        ("flushed", Happening::Flushed),
        ("restarted", Happening::Restarted),
        ("away", Happening::Away),
    ] {
        during(&trial, &server, key, happening).await;
        trial.all_well().await;
    }
    trial.end(&[], &["still", "flushed", "restarted", "away"], async || server.keys().await).await;
}

async fn during(trial: &Trial, server: &RedisServer, key: &str, happening: Happening) {
    let old = trial.database.write();
    let first = trial.held_by_the_first(READERS, key).await;
    let waiting: Vec<_> = (1..NODES).map(|place| trial.read(place, READERS, key)).collect();
    trial.pass(Duration::from_millis(300)).await;
    match happening {
        Happening::StandsStill => server.pause(),
        Happening::Flushed => server.flush_all().await,
        Happening::Restarted => server.restart().await,
        Happening::Away => server.kill(),
    }
    let new = trial.database.write();
    // Where it is not delivered at once it holds here, and is on its way.
    let token = trial.nodes[1].invalidate(key).await;
    trial.database.let_go(1..NODES, key);
    let after = trial.read(1, READERS, key);
    assert_eq!(answers(after).await, Answers::all(READERS, new), "{happening:?}: who asks after the write");
    trial.pass(Duration::from_millis(2500)).await;
    match happening {
        Happening::StandsStill => server.resume(),
        Happening::Away => server.restart().await,
        Happening::Flushed | Happening::Restarted => {}
    }
    trial.all_well().await;
    // The old load ends last of all.
    trial.database.let_go([0], key);
    for readers in waiting.into_iter().chain([first]) {
        let versions = answers(readers).await.versions().expect("values, and no error");
        assert!(versions.iter().all(|version| [old, new].contains(version)), "{happening:?}: {versions:?}");
    }
    let loaders = trial.database.loaders(key);
    trial.say(&format!("{happening:?}: {token:?}, loads by {loaders:?}"));
    for place in 0..NODES {
        // One that an invalidation has overtaken, and one after it.
        let loads = loaders.iter().filter(|loader| **loader == place).count();
        assert!(loads <= 2, "{happening:?}: {loads} loads by node {place}");
        let answers = trial.nodes[place].read(READERS, key).await;
        assert_eq!(answers, Some(Answers::all(READERS, new)), "{happening:?}: node {place}");
    }
}
