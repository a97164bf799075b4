//! The engine and its layer on a real Redis, through everything that can happen to one.

mod damage;
mod faults;
mod restarts;
mod support;
