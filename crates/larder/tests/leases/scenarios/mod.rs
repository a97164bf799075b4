//! What happens while a lease is held, by what it is.

mod failover;
mod herd;
mod holders;
mod loaders;
mod network;
mod server;
mod woken;
