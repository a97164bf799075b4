//! The port to a remote tier and its log, and what protects reads from it.

mod breaker;
mod lease;
mod port;

pub(crate) use self::breaker::{Breaker, Permit};
pub use self::breaker::{BreakerOptions, BreakerState};
pub use self::lease::{LeaseAnswer, LeaseRequest, REJECTED_BYTES, Store, StoreLease, Values, Wake};
pub use self::port::{Cursor, Head, Link, PEEKED, Page, Remote, RemoteError, Round, Stored};
