//! The loader of one process fails, panics, hangs or takes long, while the others wait.

use std::time::Duration;

use larder_testkit::RedisServer;

use crate::answers::Answers;
use crate::database::Fate;
use crate::trial::{NODES, Trial, answers};

const READERS: usize = 20;
/// Longer than a lease lives that nobody extends.
const LONG: Duration = Duration::from_millis(10_500);

/// What it does in one process is between that process and its callers: they hear of it, all at once and none of them twice.
/// Those who wait elsewhere never do: one of them loads, and they have that.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_loader_of_one_process_does_the_others_get_a_value() {
    let server = RedisServer::start().await;
    let trial = Trial::on("loaders", &server).await;
    tokio::join!(
        ends_badly(&trial, "fails", Fate::Fails, "loader"),
        ends_badly(&trial, "panics", Fate::Panics, "panicked"),
        hangs(&trial),
        takes_long(&trial),
    );
    trial.end(&[], &["fails", "panics", "impatient", "long"], async || server.keys().await).await;
}

async fn ends_badly(trial: &Trial, key: &str, fate: Fate, error: &str) {
    trial.database.decide(0, key, fate);
    let first = trial.held_by_the_first(READERS, key).await;
    let waiting: Vec<_> = (1..NODES).map(|place| trial.read(place, READERS, key)).collect();
    trial.pass(Duration::from_millis(500)).await;
    trial.database.let_go([0], key);
    assert_eq!(answers(first).await, Answers::errors(READERS, error));
    trial.loads(key, 2).await;
    trial.pass(Duration::from_millis(500)).await;
    assert_eq!(trial.database.loads(key).len(), 2, "{key}: one takes over");
    trial.database.let_go(0..NODES, key);
    for readers in waiting {
        assert_eq!(answers(readers).await, Answers::all(READERS, 0), "{key}");
    }
    assert_eq!(trial.database.loads(key).len(), 2, "{key}");
}

/// It is cancelled at its load timeout. By then the patience of those who wait elsewhere is at its end, too: each process loads
/// once at the most.
async fn hangs(trial: &Trial) {
    let key = "impatient";
    trial.database.decide(0, key, Fate::Hangs);
    let first = trial.read(0, READERS, key);
    trial.loads(key, 1).await;
    let waiting: Vec<_> = (1..NODES).map(|place| trial.read(place, READERS, key)).collect();
    assert_eq!(answers(first).await, Answers::errors(READERS, "timed_out"));
    for readers in waiting {
        assert_eq!(answers(readers).await, Answers::all(READERS, 0));
    }
    let loaders = trial.database.loaders(key);
    trial.say(&format!("a loader that hangs: loads by {loaders:?}"));
    assert!(loaders.len() >= 2);
    assert!(
        (0..NODES).all(|node| loaders.iter().filter(|loader| **loader == node).count() <= 1),
        "{loaders:?}"
    );
}

/// As long as it may take, its lease is extended: nobody else begins.
async fn takes_long(trial: &Trial) {
    let first = trial.held_by_the_first(READERS, "long").await;
    let waiting: Vec<_> = (1..NODES).map(|place| trial.read(place, READERS, "long")).collect();
    trial.pass(LONG).await;
    trial.database.let_go(0..NODES, "long");
    assert_eq!(answers(first).await, Answers::all(READERS, 0));
    for readers in waiting {
        assert_eq!(answers(readers).await, Answers::all(READERS, 0));
    }
    assert_eq!(trial.database.loaders("long"), [0]);
}
