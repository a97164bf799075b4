//! Freeing and counting what an invalidation has killed: work nobody has to wait for, since dead entries are never
//! served.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{Engine, Invalidated};
use crate::envelope::Envelope;
use crate::event::Event;
use crate::key::Probe;
use crate::log::{Epoch, Verdict};
use crate::remote::{Cursor, RemoteError};
use crate::runtime::within;
use crate::selector::Selector;

/// Values looked at in one step, and the pause after it.
const STEP: usize = 500;
/// See [`STEP`].
const PAUSE: Duration = Duration::from_millis(2);
/// How long one step may take.
const STEP_LIMIT: Duration = Duration::from_secs(5);
/// Entries of memory looked at before others get their turn.
const LOOKS: usize = 1024;

/// What a sweep has freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Swept {
    /// Entries in this process.
    pub memory: u64,
    /// Values in the remote tier.
    pub remote: u64,
    /// Did it come to the end? Not if the remote tier failed it on the way: what is left is dead all the same, and goes
    /// with its ttl.
    pub complete: bool,
}

impl Invalidated {
    /// Frees what the invalidation has killed, and counts it: entries of this process, and values in the remote tier, in
    /// bounded batches with pauses. It walks once by the names of all values of the remote tier, however many selectors
    /// there are and however little they name (a key may have variants, which only a walk finds), and looks into those that
    /// they may name: of a tag, or of everything, into all values of the prefix. So it takes its time; one sweep runs at a
    /// time. Once it is done, [`Event::Swept`] says what it has freed.
    ///
    /// Nothing depends on it: what was invalidated is never served, swept or not. What was expired is not dead, and stays.
    ///
    /// Cancel safe: dropped, it stops where it is, and says nothing.
    pub async fn swept(self) -> Swept {
        self.engine.sweep(&self.selectors).await
    }
}

impl Engine {
    async fn sweep(self: &Arc<Self>, selectors: &[Selector]) -> Swept {
        let _one = self.sweeping.acquire().await;
        let memory = self.sweep_memory(selectors).await;
        let mut swept = Swept { memory, remote: 0, complete: true };
        let stopped = self.sweep_remote(selectors, &mut swept.remote).await.err();
        swept.complete = stopped.is_none();
        self.events.emit(|| Event::Swept {
            patterns: selectors.iter().map(ToString::to_string).collect(),
            memory: swept.memory,
            remote: swept.remote,
            error: stopped.map(|error| error.to_string()),
        });
        swept
    }

    async fn sweep_memory(&self, selectors: &[Selector]) -> u64 {
        let mut swept = 0;
        for (looked, key) in self.memory.keys().enumerate() {
            if looked % LOOKS == LOOKS - 1 {
                tokio::task::yield_now().await;
            }
            let probe = Probe::from(&key);
            let Some(entry) = self.memory.get(&probe) else { continue };
            let named = || selectors.iter().any(|s| s.names(key.as_bytes(), entry.tags()));
            let dead = || self.node.check_since(key.as_bytes(), entry.tags(), entry.seen()) == Verdict::Dead;
            if named() && dead() {
                self.memory.discard(&probe, &entry);
                swept += 1;
            }
        }
        swept
    }

    async fn sweep_remote(&self, selectors: &[Selector], swept: &mut u64) -> Result<(), RemoteError> {
        let Some(side) = &self.remote else { return Ok(()) };
        let prefixes = prefixes(selectors);
        if prefixes.is_empty() {
            return Ok(());
        }
        let runtime = &*self.runtime;
        let late = || RemoteError::timeout(STEP_LIMIT);
        let mut cursor = Cursor::default();
        loop {
            let page = side.remote.page(&prefixes, cursor, STEP);
            let page = within(runtime, STEP_LIMIT, page).await.unwrap_or_else(|_| Err(late()))?;
            let dead: Vec<(Vec<u8>, Epoch)> = page
                .values
                .into_iter()
                .filter_map(|(name, head)| {
                    Some((name, self.killed(&Envelope::peek(&head).ok()?, selectors)?))
                })
                .collect();
            if !dead.is_empty() {
                let discard = side.remote.discard(&dead);
                *swept += within(runtime, STEP_LIMIT, discard).await.unwrap_or_else(|_| Err(late()))?;
            }
            match page.next {
                Some(next) => cursor = next,
                None => return Ok(()),
            }
            runtime.sleep(PAUSE).await;
        }
    }

    /// The epoch of an entry that these selectors name, if it is dead.
    fn killed(&self, entry: &Envelope, selectors: &[Selector]) -> Option<Epoch> {
        let tags = entry.tags.as_deref().unwrap_or_default();
        let named = selectors.iter().any(|s| s.names(&entry.key, tags));
        let dead = named && self.node.check_remote(&entry.key, tags, entry.epoch).0 == Verdict::Dead;
        dead.then_some(entry.epoch)
    }
}

/// What the keys that these selectors name begin with; none of them begins with another.
fn prefixes(selectors: &[Selector]) -> Vec<&[u8]> {
    let mut prefixes: Vec<&[u8]> = selectors.iter().map(Selector::prefix).collect();
    prefixes.sort_unstable();
    prefixes.dedup_by(|longer, shorter| longer.starts_with(shorter));
    prefixes
}
