//! Larder caches the answers of web APIs and the queries behind them.
//!
//! ```
//! use larder::{Cache, Policy, Selector, units::*};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::builder().memory(256 * MIB).build().await?;
//!
//! // A query, typed:
//! let trigs = cache
//!     .namespace::<String>("trig", Policy::ttl(24 * HOUR).stale_while_revalidate(HOUR))?
//!     .loader(|id: u64| async move { Ok::<_, std::io::Error>(format!("trig {id}")) });
//! let trig = trigs.load(123).await?;
//!
//! // A route:
//! # #[cfg(feature = "http")] {
//! let layer = larder::http::ResponseCache::new(&cache, "trig", Policy::ttl(HOUR))?.id("trig_id");
//! let app: axum::Router =
//!     axum::Router::new().route("/trigs/{trig_id}", axum::routing::get(|| async { "..." }).layer(layer));
//! # drop(app); }
//!
//! // What changed is never served again, from either:
//! cache.invalidate([Selector::under(("trig", 123))]).await;
//! # drop(trig); Ok(()) }
//! ```
//!
//! # How to think of it
//! One engine ([`Cache`]), several front doors: typed handles ([`Namespace`]), functions (the attribute `cached`), and
//! layers for tower and axum (`http`).
//! Memory in the process stands in front of Redis or Valkey (`redis`), which may be absent, or go away, at any time.
//! Every entry knows where the invalidation log stood when its load began; that is what makes a fill that races an
//! invalidation harmless, wherever it is stored and however late.
//!
//! # What it does not do
//! It does not guess what a write has changed: say so, with [`Cache::invalidate`], after the write is committed.

#[cfg(feature = "toml")]
mod declared;

pub use larder_core::*;

#[cfg(feature = "toml")]
pub use self::declared::{DeclaredError, declared_from_toml};

#[cfg(feature = "macros")]
pub use larder_macros::cached;

/// Layers for tower and axum, and the admin router.
#[cfg(feature = "http")]
pub use larder_http as http;

/// Redis or Valkey as the remote tier.
#[cfg(feature = "redis")]
pub use larder_redis as redis;

#[cfg(all(doctest, feature = "macros", feature = "http"))]
#[doc = include_str!("../../../docs/guide/cached.md")]
struct Guide;
