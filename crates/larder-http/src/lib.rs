//! Larder for tower and axum: one line on a route caches its responses.
//!
//! ```no_run
//! # use larder_core::{Cache, Policy, units::*};
//! use axum::{Router, routing::get};
//! use larder_http::ResponseCache;
//!
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::builder().build().await?;
//! let facets = ResponseCache::new(&cache, "facets", Policy::ttl(10 * MINUTE))?.fixed_id("all");
//! let app: Router = Router::new().route("/facets", get(|| async { "expensive" }).layer(facets));
//! # Ok(()) }
//! ```
//!
//! # How to think of it
//! The layer decides three things, each in a pure module under [`mod@rules`]: may this request be answered from a cache,
//! what is its key, may this response be stored. Everything else (tiers, one load for many callers, invalidation) is
//! the engine's, so routes and typed handles that share a namespace share its selectors.
//!
//! # What it is not
//! No gateway: the route's [`Policy`](larder_core::Policy) decides how long an answer lives, not its `max-age`. A
//! response may still refuse.

pub mod admin;
mod cache;
mod problem;
mod read_your_writes;
pub mod rules;
mod tokens;

pub use self::admin::{AdminAuth, AdminRouter};
pub use self::cache::{HeaderStyle, ResponseCache, ResponseCacheService, VaryQuery, WhoMayBypass};
pub use self::read_your_writes::{ReadYourWrites, ReadYourWritesService};
pub use self::tokens::{LARDER_EPOCH, Late};
