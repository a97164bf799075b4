//! What breaks, by what it is.

mod failover;
mod memory;
mod network;
mod processes;
