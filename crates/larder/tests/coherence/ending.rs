//! After the faults: everything that was invalidated is in force everywhere, and the cache is of use again.

use std::time::Duration;

use larder::Epoch;
use larder_testkit::wait_for;

use crate::rows;
use crate::trial::Trial;

/// How long what follows may take, step by step.
const SOON: Duration = Duration::from_secs(10);

/// Proves it, at a time when nothing else is read or written.
///
/// # Panics
/// If it is not so, or takes too long.
pub(crate) async fn all_is_well(trial: &Trial) {
    // A node that has changed servers shows that its own records are lost with the first round there, which brings what
    // others have just written; then it sends them again; and then all must have read that.
    for _ in 0..3 {
        in_step(trial).await;
    }
    trial.ledger.settled();
    for node in 0..trial.nodes.len() {
        trial.read_all(node).await;
    }
    // What is loaded now is a hit for everybody.
    for (origin, key) in [(0, "row:0:0"), (1, "page:1"), (2, "row:3:5")] {
        // Nobody may be refreshing it: what he brings would be as new, and no miss.
        idle(trial).await;
        let token = delivered(trial, origin, key).await;
        assert_eq!(trial.read(origin, key, Some(token)).await, "miss", "{key} was invalidated");
        let token = Some(token);
        for node in 0..trial.nodes.len() {
            wait_for(SOON, "a hit on every node", async || trial.read(node, key, token).await == "hit").await;
        }
    }
}

/// No load is under way on any node.
async fn idle(trial: &Trial) {
    for node in &trial.nodes {
        wait_for(SOON, "every load to have ended", async || node.is_idle().await).await;
    }
}

/// Writes, and invalidates until that is delivered; answers its token.
async fn delivered(trial: &Trial, node: usize, selector: &str) -> Epoch {
    let mut token = None;
    wait_for(SOON, "an invalidation to be delivered", async || {
        token = trial.write(node, selector).await;
        token.is_some()
    })
    .await;
    token.expect("it was delivered")
}

/// Nothing is on its way any more, and every node has read what any of them has written before this.
async fn in_step(trial: &Trial) {
    let mut tokens = Vec::new();
    for node in 0..trial.nodes.len() {
        trial.well(node).await;
    }
    for node in 0..trial.nodes.len() {
        tokens.push(delivered(trial, node, rows::NOBODY).await);
    }
    for node in 0..trial.nodes.len() {
        for token in &tokens {
            wait_for(SOON, "every node to have come as far", async || {
                trial.read(node, &rows::all()[0], Some(*token)).await != "bypass"
            })
            .await;
        }
    }
}
