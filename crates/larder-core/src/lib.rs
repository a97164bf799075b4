//! The engine of Larder: typed, in-process and remote caching whose invalidations are never lost unnoticed.
//!
//! ```
//! # use larder_core::{Cache, Policy, Selector, units::*};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::builder().memory(64 * MIB).build().await?;
//! let users = cache
//!     .namespace::<String>("user", Policy::ttl(HOUR).stale_while_revalidate(MINUTE))?
//!     .loader(|id: u64| async move { Ok::<_, std::io::Error>(format!("user {id}")) });
//!
//! assert_eq!(*users.load(7).await?, "user 7");
//! cache.invalidate([Selector::under(("user", 7))]).await;
//! # Ok(()) }
//! ```
//!
//! # How to think of it
//! A [`Cache`] has tiers: memory in this process, perhaps a [`Remote`] one. A [`Namespace`] is a handle with a value
//! type, a [`Policy`] and a loader. A read goes through the tiers, then joins or leads a *flight*, one load for
//! everybody. An invalidation is one record in a log; every entry knows where the log stood when its load began, so a
//! load that began before an invalidation is dead wherever it is written, however late.
//!
//! # What it is not
//! No HTTP, no Redis, no files, no environment: those are `larder-http`, `larder-redis` and the binary. It never reads a
//! clock, sleeps, spawns or draws a random number except through the [`Runtime`] port.

mod absent;
mod accounts;
mod builder;
mod cache;
mod codec;
mod engine;
mod entry;
mod envelope;
mod error;
mod event;
mod flight;
mod health;
#[cfg(all(test, larder_shuttle))]
mod interleavings;
mod key;
mod log;
#[doc(hidden)]
pub mod macros;
mod memory;
mod namespace;
mod occasion;
mod outcome;
mod policy;
mod remote;
mod runtime;
mod selector;
mod stats;
mod sync;
mod tag;
#[cfg(feature = "testing")]
pub mod testing;
pub mod units;
mod weigh;

pub use self::builder::{CacheBuilder, RemoteConfig};
pub use self::cache::Cache;
#[cfg(feature = "msgpack")]
pub use self::codec::MsgPack;
#[cfg(feature = "postcard")]
pub use self::codec::Postcard;
pub use self::codec::{Codec, CodecError, Compression, Json, Raw};
pub use self::engine::{Culprit, Delivery, Explained, Explanation, Invalidated, Swept};
pub use self::envelope::{EPOCH_OFFSET, Reject};
pub use self::error::{BuildError, LoadError, NamespaceError, PatternError, RefreshableError};
pub use self::event::{Event, Observer};
pub use self::flight::Failure;
pub use self::health::{Health, LogHealth, RemoteHealth};
pub use self::key::{FromKey, Key, KeyWriter, LoadKey, MAX_TAG_BYTES, Segments, ToKey};
pub use self::log::{
    Append, Arrival, Author, Epoch, Lineage, LogState, Mode, NoEpoch, Opened, Record, RecordBody, Stamp,
};
pub use self::namespace::{
    AnyKey, AtLeast, Batch, Claim, Fill, Filled, Flown, Flying, Found, Hit, Lead, LookedUp, Namespace,
    NoLoader, Resource, Slot, Turn, Updated,
};
pub use self::occasion::{
    Effect, FieldError, HandlerFailure, Occasion, OnError, PublishError, Published, Reaction, Rule,
    RuleError, RuleFault, TemplateError,
};
pub use self::outcome::{Outcome, SkipReason, Tier};
pub use self::policy::{Lifetime, Policy, PolicyError, Share, defaults};
pub use self::remote::{
    BreakerOptions, BreakerState, Cursor, Head, LeaseAnswer, LeaseRequest, Link, PEEKED, Page,
    REJECTED_BYTES, Remote, RemoteError, Round, Store, StoreLease, Stored, Values, Wake,
};
pub use self::runtime::{BoxFuture, CoarseClock, Moment, Runtime, TokioRuntime, at_once};
pub use self::selector::{Selector, SelectorError};
pub use self::stats::{Deliveries, InvalidationStats, NamespaceStats, Stats};
