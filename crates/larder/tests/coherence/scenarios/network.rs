//! Connections that carry nothing, or break.

use std::time::Duration;

use larder_testkit::{Fault, RedisServer, wait_for};

use crate::trial::{FAILURES, LOG, Trial};

/// Long enough for anything that happens at all.
const SOON: Duration = Duration::from_secs(10);
/// The beginnings of values' keys, which no command of the log has.
const VALUES: &[u8] = b"\r\nlarder:";

/// The connections of the log carry nothing on two of three nodes, while values flow: those nodes cannot know what is
/// invalidated, and go on serving from Redis and memory for `disconnected_ttl`, and not longer.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_out_of_reach_while_values_flow() {
    let server = RedisServer::start().await;
    let mut trial = Trial::on("log black-holed", &server, 0).await;
    for proxy in &trial.proxies[..2] {
        proxy.set_where(LOG, Fault::BlackHole);
    }
    let during = trial.during(2.0).await;
    for node in &trial.nodes[..2] {
        // More questions than the breaker lets fail.
        for _ in 0..2 * FAILURES {
            assert_eq!(node.ask("miss").await.as_deref(), Some("missed"));
        }
        assert_eq!(node.ask("breaker").await.as_deref(), Some("Closed"), "values flow");
    }
    assert!(during.queued > 0, "the log was out of reach: {during:?}");
    trial.under_load(2.5).await;
    trial.last_words(2).await;
    let late = trial.until_late().await;
    assert!(late.by_late > 0, "two of them went by the time alone: {late:?}");
    for (node, selector) in [(0, "row:2:*"), (1, "row:3:*")] {
        assert!(trial.write(node, selector).await.is_none(), "it has something to say later");
    }
    trial.set_all(Fault::None);
    trial.under_load(1.0).await;
    trial.end(50).await;
}

/// The reverse: values cannot be read or stored anywhere, while the log flows. Memory and loaders answer, and every
/// invalidation is heard at once.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_out_of_reach_while_the_log_flows() {
    let server = RedisServer::start().await;
    let trial = Trial::on("values black-holed", &server, 0).await;
    for proxy in &trial.proxies {
        proxy.set_where(VALUES, Fault::BlackHole);
    }
    // What was on its way arrives.
    trial.under_load(0.5).await;
    let before = trial.hits_from_redis().await;
    let during = trial.during(3.0).await;
    assert_eq!(trial.hits_from_redis().await, before, "no value came from Redis");
    for node in &trial.nodes {
        wait_for(SOON, "the breaker to open", async || {
            assert_eq!(node.ask("miss").await.as_deref(), Some("missed"));
            node.ask("breaker").await.as_deref() == Some("Open")
        })
        .await;
    }
    assert!(during.delivered > 10, "the log flowed: {during:?}");
    assert!(during.hits > 100, "memory was of use: {during:?}");
    trial.set_all(Fault::None);
    trial.under_load(1.0).await;
    trial.end(50).await;
}

/// One node reaches nothing for longer than `disconnected_ttl`, and invalidates meanwhile. It must not serve what the
/// others have invalidated beyond that, and when it is back all must hear what it had to say.
#[tokio::test(flavor = "multi_thread")]
async fn one_node_is_alone_for_a_while() {
    let server = RedisServer::start().await;
    let mut trial = Trial::on("cut off", &server, 0).await;
    trial.proxies[0].set(Fault::BlackHole);
    let during = trial.during(4.5).await;
    assert!(during.queued > 0 && during.delivered > 10, "one was alone, and only one: {during:?}");
    trial.last_words(1).await;
    let late = trial.until_late().await;
    assert!(late.by_late > 0, "it went by the time alone: {late:?}");
    assert!(trial.write(0, "row:2:*").await.is_none(), "it has something to say when it is back");
    trial.proxies[0].set(Fault::None);
    trial.under_load(1.0).await;
    trial.end(50).await;
}

/// Requests arrive and have their effect, answers are lost: a node's own records are in the log, and it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_lost_and_requests_are_not() {
    let server = RedisServer::start().await;
    let trial = Trial::on("half open", &server, 0).await;
    trial.proxies[0].set(Fault::HalfOpen);
    trial.proxies[1].set_where(LOG, Fault::HalfOpen);
    let during = trial.during(3.5).await;
    assert!(during.queued > 0, "appends went unanswered: {during:?}");
    trial.set_all(Fault::Reset);
    trial.set_all(Fault::None);
    trial.under_load(1.0).await;
    trial.end(50).await;
}

/// All of it, on any connection at any time.
#[tokio::test(flavor = "multi_thread")]
async fn networks_break_in_every_way_and_order() {
    let server = RedisServer::start().await;
    let trial = Trial::on("storm", &server, 0).await;
    let before = trial.ledger.tally();
    for _ in 0..25 {
        let proxy = trial.chance.one_of(&trial.proxies);
        let some = trial.chance.one_of(&[LOG, VALUES]);
        match trial.chance.below(9) {
            0 => proxy.set(Fault::BlackHole),
            1 => proxy.set(Fault::HalfOpen),
            2 => proxy.set(Fault::Reset),
            3 => proxy.set(Fault::Latency(Duration::from_millis(trial.chance.below(150)))),
            4 => proxy.set(Fault::Trickle { bytes: 50, every: Duration::from_millis(3) }),
            5 => proxy.set_where(some, Fault::BlackHole),
            6 => proxy.set_where(some, Fault::HalfOpen),
            _ => proxy.set(Fault::None),
        }
        trial.under_load(0.25).await;
    }
    let during = trial.ledger.tally().since(&before);
    assert!(during.queued > 0, "something broke: {during:?}");
    trial.set_all(Fault::None);
    trial.under_load(1.0).await;
    trial.end(30).await;
}
