//! The parts of the `larder` binary, as a library so that tests can reach them.

/// A sample service to try the cache on.
pub mod demo {
    pub mod catalog;
}
