//! The remote tier against real servers.
#![allow(clippy::unwrap_used, reason = "a test's helpers are a test too")]

mod cluster;
mod config;
mod conformance;
mod failover;
mod follow;
mod gather;
mod leases;
mod link;
mod log;
mod loss;
mod pages;
mod secrets;
mod sentinel;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod values;
mod wakes;
