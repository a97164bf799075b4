//! The remote tier against real servers.
#![allow(clippy::unwrap_used, reason = "a test's helpers are a test too")]

mod config;
mod failover;
mod link;
mod log;
mod loss;
mod secrets;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod values;
