//! What tests may know of a cache that users need not.

use crate::cache::Cache;
use crate::log::Epoch;

/// Has the log of this cache come as far as `token`? Asks nobody, waits for nothing.
pub fn has_reached(cache: &Cache, token: Epoch) -> bool {
    cache.engine.node.reached(token)
}

/// Where the log of this cache stands.
pub fn position(cache: &Cache) -> Option<Epoch> {
    cache.engine.node.position()
}
