//! A thousand readers in four processes miss one cold key at one moment.

use std::time::Duration;

use larder_testkit::{Fault, FaultProxy, RedisCluster, RedisServer};

use crate::answers::Answers;
use crate::trial::{NODES, Trial, room};

const READERS: usize = 250;
const LOAD: Duration = Duration::from_millis(200);
const ROUNDS: usize = 5;

/// In every command of the log.
const LOG: &[u8] = b"{larder}:log";
/// In what is sent on the connection for wakes, and on no other.
const WAKES: &[u8] = b"SUBSCRIBE";

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_readers_in_four_processes_cause_one_load() {
    let server = RedisServer::start().await;
    let trial = Trial::on("herd", &server).await;
    herds(trial, async || server.keys().await).await;
}

/// Nobody hears a wake, and nobody hears of invalidations: whoever waits asks again every now and then.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_one_load_where_no_wake_is_heard_and_the_log_is_cut() {
    let server = RedisServer::start().await;
    let without_log = FaultProxy::to(server.addr()).await;
    let without_wakes = FaultProxy::to(without_log.addr()).await;
    without_wakes.set_where(WAKES, Fault::BlackHole);
    let trial = Trial::at("herd, deaf", vec![without_wakes.url(); NODES], room().await).await;
    // It has to be found before it is lost: without any position nothing is stored in Redis.
    without_log.set_where(LOG, Fault::BlackHole);
    herd(&trial, "deaf").await;
    without_log.set(Fault::None);
    without_wakes.set(Fault::None);
    trial.end(&[], &["deaf"], async || server.keys().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_one_load_on_a_cluster_wherever_the_key_is() {
    let room = room().await;
    let cluster = RedisCluster::start().await;
    let trial = Trial::at("herd, cluster", vec![cluster.url(); NODES], room).await;
    herds(trial, async || cluster.keys().await).await;
}

async fn herds(trial: Trial, redis: impl AsyncFn() -> Vec<Vec<u8>>) {
    let keys: Vec<_> = (0..ROUNDS).map(|round| format!("cold-{round}")).collect();
    for key in &keys {
        herd(&trial, key).await;
    }
    trial.end(&[], &keys.iter().map(String::as_str).collect::<Vec<_>>(), redis).await;
}

async fn herd(trial: &Trial, key: &str) {
    let version = trial.database.write();
    trial.database.hold(0..NODES, key);
    let herd: Vec<_> = (0..NODES).map(|place| trial.read(place, READERS, key)).collect();
    trial.loads(key, 1).await;
    trial.pass(LOAD).await;
    trial.database.let_go(0..NODES, key);
    let (mut all, mut last) = (Answers::default(), None);
    for readers in herd {
        let (answers, at) = readers.await.unwrap();
        all = all.and(answers.unwrap());
        last = last.max(Some(at));
    }
    assert_eq!(all, Answers::all(NODES * READERS, version));
    let loads = trial.database.loads(key);
    assert_eq!(loads.len(), 1, "{key}: {loads:?}");
    let took = last.unwrap().since(loads[0].answered.unwrap());
    trial.say(&format!("{key}: 1 load, the last of {} answered {took:?} after its end", all.readers()));
}
