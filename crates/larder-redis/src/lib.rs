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
//! connection more, on which its next record is waited for; and there is one on which this node is woken at the ends of leases
//! it waits for, opened when somebody [listens](larder_core::Remote::wakes) first. Without it, nothing fails.
//!
//! Values are one string each, written by one atomic `SET PX`, and their leases one each beside them. The log is a stream and
//! its snapshot, kept in step by two scripts; they and the names of all keys are for the eyes of people with `redis-cli`, too:
//!
//! | key | type | what |
//! |---|---|---|
//! | `<prefix>:<key>` | string | a value |
//! | `{<prefix>:<key>}:lease` | string | who loads it: token, line and position, then the numbers of up to 64 nodes that wait |
//! | `{<prefix>:share:<share>}` | hash | the bytes counted to a share, by when their lives end |
//! | `{<prefix>}:log` | stream | the last 10 000 invalidations |
//! | `{<prefix>}:state` | hash | where the log stands, and the stamps: selector -> position of its last invalidation |
//! | `{<prefix>}:old` | hash | the generation of stamps before |
//!
//! Every key has a time to live. A node is woken by a message on the channel `<prefix>:wake:<its number>`. With access lists, the
//! user needs `~<prefix>:* ~{<prefix>}:* ~{<prefix>:*`, and `&<prefix>:wake:*` to be woken: else nodes that wait ask again.
//!
//! Servers from Redis 6 and Valkey 7 on, and only primaries: a replica would hide
//! invalidations. There are three ways to have them ([`Redis::at`], [`Redis::sentinel`], [`Redis::cluster`]):
//!
//! | | where values are | where the log is | a failover is followed |
//! |---|---|---|---|
//! | one server | there | there | if its name then means another one |
//! | Sentinels | the primary they name | the same | within a second or two of their naming another, even if the old one still answers |
//! | a cluster | on all primaries, by slot | on the one that has the slot of `{<prefix>}` | as soon as the nodes agree on the new primary |
//!
//! No command touches two slots. In a cluster, commands for values follow `MOVED` and `ASK`; commands of the log fail
//! until it has been connected to anew (and while its slot migrates, some may: its keys go one by one, so calls that concern a
//! value and its lease may fail then, too).
//!
//! What it does not do: retry a command, decide what to do when one fails, or know what is in a value.

mod address;
mod batch;
mod cluster;
mod config;
mod counted;
mod deadline;
mod dial;
mod end;
mod endpoint;
mod error;
mod finder;
mod follower;
mod gather;
mod greet;
mod keys;
mod lane;
mod lanes;
mod leases;
mod link;
mod log;
mod refusal;
mod remote;
mod reply;
mod router;
mod scripts;
mod sentinel;
mod shares;
mod slots;
#[cfg(feature = "tls")]
mod tls;
mod url;
mod values;
mod wakes;

pub use self::config::{Redis, defaults};
pub use self::error::ConfigError;
pub use self::remote::RedisRemote;
