//! Giving back what the remote tier has lost, or never got: after an outage, and after a failover that lost its end.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::Engine;
use crate::key::Probe;

/// Entries given back at one time, and the pause after them: at most 1,280 a second, beside the stores of loads.
const BATCH: u64 = 64;
/// See [`BATCH`].
const PAUSE: Duration = Duration::from_millis(50);
/// Entries looked at before others get their turn.
const LOOKS: u64 = 1024;

impl Engine {
    /// Each time the remote tier comes back, walks through memory and stores what is still valid: all of it if the log is
    /// on another line (values may have gone with its end), else what could not be stored meanwhile.
    ///
    /// Entries go with the epoch of their load. Whoever reads them verifies them, so nothing that was invalidated
    /// meanwhile comes back to life.
    pub(crate) async fn push_back(engine: Weak<Engine>, mut returned: watch::Receiver<u64>) {
        while returned.changed().await.is_ok() {
            let Some(engine) = engine.upgrade() else { return };
            let Some(remote) = &engine.remote else { return };
            let all = remote.driver.take_emptied();
            let (mut looked, mut pushed) = (0, 0);
            for key in engine.memory.keys() {
                // Nobody but this walk holds the cache any more.
                if engine.is_closing() || Arc::strong_count(&engine) == 1 {
                    return;
                }
                looked += 1;
                if looked % LOOKS == 0 {
                    tokio::task::yield_now().await;
                }
                let Some(entry) = engine.memory.get(&Probe::from(&key)) else { continue };
                if !all && entry.is_in_remote() {
                    continue;
                }
                let now = engine.runtime.now();
                if entry.home().is_some_and(|home| home.push_back(&key, &entry, now)) {
                    engine.pushed_back.fetch_add(1, Ordering::Relaxed);
                    pushed += 1;
                    if pushed % BATCH == 0 {
                        engine.runtime.sleep(PAUSE).await;
                    }
                }
            }
        }
    }
}
