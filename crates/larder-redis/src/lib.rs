//! The remote tier of Larder on Redis and Valkey: values, and the invalidation log beside them.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use larder_core::{Remote, TokioRuntime};
//! use larder_redis::Redis;
//!
//! # async fn example() -> Result<(), larder_redis::ConfigError> {
//! let runtime = Arc::new(TokioRuntime::current());
//! let remote = Redis::at("redis://127.0.0.1:6379").prefix("shop").build(runtime)?;
//! remote.connect();
//! # Ok(())
//! # }
//! ```
//!
//! A Redis that is away, slow, or restarted must cost its users as little as possible. So nothing here waits for a
//! connection: a command either goes out at once or fails at once with "not connected". Two tasks, one for the values and
//! one for the log, open the connections, ask each of them once a second whether it is alive (a half-open link gives no
//! other sign), and open new ones when one breaks, for ever. [`Remote::link`](larder_core::Remote::link) and
//! [`Remote::log_link`](larder_core::Remote::log_link) tell of it; neither link disturbs the other. The log has a
//! connection more, on which its next record is waited for.
//!
//! Values are one string each, written by one atomic `SET PX`. The log is a stream and its snapshot, kept in step by two
//! scripts; they and the names of all keys are for the eyes of people with `redis-cli`, too:
//!
//! | key | type | what |
//! |---|---|---|
//! | `<prefix>:<key>` | string | a value |
//! | `{<prefix>}:log` | stream | the last 10 000 invalidations |
//! | `{<prefix>}:state` | hash | where the log stands, and the stamps: selector -> position of its last invalidation |
//! | `{<prefix>}:old` | hash | the generation of stamps before |
//!
//! Every key has a time to live. Servers from Redis 6 and Valkey 7 on, one primary (a replica is refused: it would
//! hide invalidations). No command touches two slots, but redirections of a cluster are not followed.
//!
//! What it does not do: retry a command, decide what to do when one fails, or know what is in a value.

mod address;
mod config;
mod counted;
mod deadline;
mod dial;
mod end;
mod endpoint;
mod error;
mod follower;
mod greet;
mod keys;
mod lane;
mod lanes;
mod link;
mod log;
mod refusal;
mod remote;
mod reply;
mod scripts;
#[cfg(feature = "tls")]
mod tls;
mod values;

pub use self::config::{Redis, defaults};
pub use self::error::ConfigError;
pub use self::remote::RedisRemote;
