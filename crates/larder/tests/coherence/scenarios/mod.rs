//! What breaks, by what it is.

mod network;
