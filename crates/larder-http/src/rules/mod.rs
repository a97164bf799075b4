//! The decisions, as pure functions: nothing here does I/O, reads a clock or knows the engine's tiers.

pub mod conditional;
pub mod control;
pub mod query;
pub mod request;
pub mod response;
