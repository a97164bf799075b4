//! The database: a loopback server that answers a load with what is committed, and takes its time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder::Runtime;

use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::processes::wire;

/// A load takes up to this before it reads, and again before it answers.
const HASTE: u64 = 4;
/// One load in so many, and then up to this many milliseconds on each side: old values that arrive late.
const SLOW: (u64, u64) = (25, 120);

/// Starts a database whose values carry `filling` bytes beside their version. It ends with the test's runtime.
pub(crate) async fn start(
    ledger: Arc<Ledger>,
    runtime: Arc<dyn Runtime>,
    chance: Chance,
    filling: usize,
) -> SocketAddr {
    let (chance, filling) = (Arc::new(chance), Arc::new(".".repeat(filling)));
    wire::answer_everybody(move |key| {
        let (ledger, runtime, filling) = (ledger.clone(), runtime.clone(), filling.clone());
        let longest = if chance.below(SLOW.0) == 0 { SLOW.1 } else { HASTE };
        let [before, after] = [(); 2].map(|()| Duration::from_millis(chance.below(longest + 1)));
        async move {
            runtime.sleep(before).await;
            let version = ledger.load(&key);
            runtime.sleep(after).await;
            format!("{key} {version} {filling}")
        }
    })
    .await
}
