//! Connections that carry nothing.

use larder_testkit::{Fault, RedisServer};

use crate::trial::Trial;

/// In every command of the log, and in none for a value.
const LOG: &[u8] = b"{larder}:log";
/// In every command for a value, and in none of the log.
const VALUES: &[u8] = b"larder:row:";

/// The connections of the log carry nothing on two of three nodes, while values flow: those nodes cannot know what is
/// invalidated, and go on serving from Redis and memory for `disconnected_ttl`, and not longer.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_out_of_reach_while_values_flow() {
    let server = RedisServer::start().await;
    let trial = Trial::on("log black-holed", &server, 0).await;
    for proxy in &trial.proxies[..2] {
        proxy.set_where(LOG, Fault::BlackHole);
    }
    trial.under_load(5.0).await;
    assert!(trial.ledger.tally().queued > 0, "the log was out of reach");
    for proxy in &trial.proxies {
        proxy.set(Fault::None);
    }
    trial.under_load(1.0).await;
    trial.end(25).await;
}
