//! The engine of Larder.

mod codec;
mod entry;
mod envelope;
mod event;
mod key;
mod log;
mod outcome;
mod policy;
mod remote;
mod runtime;
mod selector;
pub mod units;
mod weigh;

pub use self::codec::{Codec, CodecError, Json, Raw};
pub use self::envelope::{EPOCH_OFFSET, Reject};
pub use self::event::{Event, Observer};
pub use self::key::{Key, KeyWriter, LoadKey, MAX_TAG_BYTES, ToKey};
pub use self::log::{Append, Epoch, Lineage, Mode, Opened, Record, RecordBody, Stamp};
pub use self::outcome::{Outcome, SkipReason, Tier};
pub use self::policy::{Lifetime, Policy, PolicyError, defaults};
pub use self::remote::{
    BreakerOptions, BreakerState, Head, Link, Remote, RemoteError, Round, Stored,
};
pub use self::runtime::{BoxFuture, CoarseClock, Moment, Runtime, TokioRuntime};
pub use self::selector::{Selector, SelectorError};
