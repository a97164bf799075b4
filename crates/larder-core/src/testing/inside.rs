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

/// Has this cache heard of the log lately enough to serve what it has not loaded itself?
pub fn serves(cache: &Cache) -> bool {
    cache.engine.node.serves_any(cache.engine.clock.now())
}

/// Inside a loader: is this load one that others wait for, or may? Else it is for its caller alone.
pub fn loads_for_others() -> bool {
    crate::namespace::loads_for_others()
}
