//! The engine and its layer on a real Redis, through everything that can happen to one.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests: a failure is a panic, figures are printed"
)]

mod bodies;
mod damage;
mod faults;
mod lessons;
mod lives;
mod releases;
mod restarts;
mod rules;
mod storms;
mod support;
