//! How long after the fill those who wait on other nodes have the value.

use std::time::Duration;

use larder_testkit::{RedisServer, wait_until};

use crate::trial::{NODES, SOON, Trial};

const ROUNDS: usize = 10;
const KEYS: usize = 30;
/// By then whoever waits asks again only after the longest pause (200 ms): without wakes it would show.
const WAITED: Duration = Duration::from_millis(600);
/// What is asked for here is that wakes work at all; how fast they are is printed.
const AT_MOST: Duration = Duration::from_millis(250);

/// Three hundred keys, each loaded by one node while three wait. The fill rings for them: they have the value within
/// milliseconds of the load's end, and do not find out by asking again.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_on_other_nodes_have_the_value_right_after_the_fill() {
    let server = RedisServer::start().await;
    let trial = Trial::on("woken", &server).await;
    let (mut after_load, mut after_fill) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let keys: Vec<_> = (0..KEYS).map(|key| (key % NODES, format!("r{round}-{key}"))).collect();
        let mut reading = Vec::new();
        for (leader, key) in &keys {
            trial.database.hold(0..NODES, key);
            let first = trial.read(*leader, 1, key);
            wait_until(SOON, "the load to begin", || trial.database.loads(key).len() == 1).await;
            let others = (0..NODES).filter(|node| node != leader);
            reading.push((first, others.map(|node| trial.read(node, 1, key)).collect::<Vec<_>>()));
        }
        trial.pass(WAITED).await;
        for ((leader, key), (first, others)) in keys.iter().zip(reading) {
            trial.database.let_go([*leader], key);
            let filled = first.await.unwrap().1;
            let mut answered = Vec::new();
            for other in others {
                answered.push(other.await.unwrap().1);
            }
            let loads = trial.database.loads(key);
            assert_eq!(loads.len(), 1, "{key}");
            let loaded = loads[0].answered.unwrap();
            after_load.extend(answered.iter().map(|at| at.since(loaded)));
            after_fill.extend(answered.iter().map(|at| at.since(filled)));
        }
    }
    let p50 = figures(&trial, "load", &mut after_load)[0];
    figures(&trial, "fill", &mut after_fill);
    assert_eq!(after_load.len(), ROUNDS * KEYS * (NODES - 1));
    assert!(p50 < AT_MOST / 5, "most are woken, and do not ask: {p50:?}");
    assert!(after_load[after_load.len() * 99 / 100] < AT_MOST);
    trial.end(&[], &["r0-0", "r1-1"], async || server.keys().await).await;
}

/// Prints, and answers, the half, 99 % and the whole of all times.
fn figures(trial: &Trial, since: &str, times: &mut [Duration]) -> [Duration; 3] {
    times.sort_unstable();
    let figures = [times.len() / 2, times.len() * 99 / 100, times.len() - 1].map(|at| times[at]);
    let [p50, p99, max] = figures;
    trial.say(&format!("{} answers after the {since}: p50 {p50:?}, p99 {p99:?}, max {max:?}", times.len()));
    figures
}
