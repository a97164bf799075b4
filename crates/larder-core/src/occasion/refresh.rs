//! Which keys to load again, and beginning to.

use std::collections::HashSet;
use std::sync::Arc;

use crate::engine::Engine;
use crate::entry::Freshness;
use crate::key::{Key, Probe};
use crate::log::Verdict;
use crate::namespace::Reload;
use crate::selector::Selector;

/// Loads that one occasion begins, at the most: half of what may run in the background, so that readers' own refreshes
/// find room.
const MOST_REFRESHES: usize = crate::defaults::BACKGROUND_REFRESHES / 2;
/// Entries of memory looked at, at the most.
const MOST_LOOKS: usize = 100_000;
/// Of these, before others get their turn.
const LOOKS: usize = 1024;

/// Begins to load again what the selectors name: how many, and how many more there were.
///
/// Cancel safe: dropped, what has begun goes on.
pub(super) async fn refresh(engine: &Arc<Engine>, selectors: &[Selector]) -> (usize, usize) {
    let prefixes: Vec<&[u8]> = selectors.iter().map(Selector::prefix).collect();
    let reloads = engine.reloads.of(&prefixes);
    if reloads.is_empty() || !engine.enabled || engine.is_closing() {
        return (0, 0);
    }
    let mut round = Round { reloads, begun: 0, left: 0 };
    let (keys, wide): (Vec<_>, Vec<_>) = selectors.iter().partition(|selector| selector.is_key());
    let keys: HashSet<Key> = keys.into_iter().map(|key| Key::from_bytes(key.prefix())).collect();
    keys.iter().for_each(|key| round.take(key));
    if !wide.is_empty() {
        for (looked, key) in engine.memory.keys().take(MOST_LOOKS).enumerate() {
            if looked % LOOKS == LOOKS - 1 {
                tokio::task::yield_now().await;
            }
            if !keys.contains(&key) && is_named(engine, &key, &wide) {
                round.take(&key);
            }
        }
    }
    (round.begun, round.left)
}

/// Has memory an entry of the key that these selectors name, and could serve it, or could until a moment ago?
fn is_named(engine: &Engine, key: &Key, wide: &[&Selector]) -> bool {
    if !wide.iter().any(|selector| key.as_bytes().starts_with(selector.prefix())) {
        return false;
    }
    let Some(entry) = engine.memory.get(&Probe::from(key)) else { return false };
    let (bytes, tags, now) = (key.as_bytes(), entry.tags(), engine.clock.now());
    // What was just expired without a stale window still has the times it was stored with.
    wide.iter().any(|selector| selector.names(bytes, tags))
        && entry.freshness(now) != Freshness::Expired
        && engine.node.check_since(bytes, tags, entry.seen()) != Verdict::Dead
}

struct Round {
    reloads: Vec<Arc<dyn Reload>>,
    begun: usize,
    left: usize,
}

impl Round {
    fn take(&mut self, key: &Key) {
        let Some(reload) = self.reloads.iter().find(|reload| reload.has(key)) else { return };
        if self.begun < MOST_REFRESHES && reload.reload(key) {
            self.begun += 1;
        } else {
            self.left += 1;
        }
    }
}
