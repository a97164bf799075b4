//! The parts of the `larder` binary, as a library so that tests can reach them.

pub mod cli;
pub mod demo;
pub mod exit;
