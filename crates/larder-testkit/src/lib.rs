//! Real servers and real faults for Larder's tests.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use std::time::Duration;
//!
//! use larder_testkit::{Fault, FaultProxy, RedisServer, Reply, wait_for};
//!
//! let server = RedisServer::start().await;
//! let proxy = FaultProxy::to(server.addr()).await;
//!
//! // ... give `proxy.url()` to the code under test, then break the network:
//! proxy.set(Fault::BlackHole);
//!
//! // ... and look at the server past the proxy:
//! wait_for(Duration::from_secs(5), "the key to appear", async || {
//!     server.command(&["EXISTS", "larder:a"]).await.is_ok_and(|reply| reply == Reply::Int(1))
//! })
//! .await;
//! # Ok(())
//! # }
//! ```
//!
//! A mock of Redis answers what its author believed. The defects worth finding are in the rest: a server that is
//! stopped but whose kernel still accepts, an answer that comes late, a port that refuses. So each test starts the
//! real program on a port of its own, puts a [`FaultProxy`] in between when it needs a bad network, and waits for a
//! state with [`wait_for`] instead of sleeping.
//!
//! Where one server is not enough there are whole topologies, made of the same [`RedisServer`]s:
//!
//! | | is | goes wrong by |
//! |---|---|---|
//! | [`RedisCluster`] | three primaries, each with a replica | [`fail_over`](RedisCluster::fail_over), [`depose`](RedisCluster::depose), [`cut_replication`](RedisCluster::cut_replication), [`begin_migration`](RedisCluster::begin_migration) |
//! | [`RedisSentinel`] | a primary, two replicas, three Sentinels | [`fail_over`](RedisSentinel::fail_over), [`depose`](RedisSentinel::depose), [`cut_replication`](RedisSentinel::cut_replication) |
//!
//! Each such method returns when all servers agree on the outcome; what a client notices on the way is what a test is
//! about. No proxy goes in front of their nodes: these tell clients their own addresses.
//!
//! Everything here belongs to one test: it is started by it, is gone when dropped, and shares no port and no
//! directory with another test. Everything panics instead of returning an error where a test could only unwrap.
//!
//! What it does not do: it knows nothing of Larder, does not speak Redis beyond what [`RedisServer::command`]
//! needs, and runs on Unix only (signals, Unix sockets).
#![allow(
    clippy::disallowed_methods,
    reason = "test support lives in real time and owns its tasks and environment"
)]

mod background;
mod cluster;
mod origin;
mod ports;
mod process;
mod proxy;
mod redis;
mod replication;
mod sentinel;
mod settle;
mod wait;

pub use cluster::{Migration, RedisCluster, RedisClusterBuilder};
pub use origin::CountingOrigin;
pub use ports::free_port;
pub use process::ChildProcess;
pub use proxy::{Fault, FaultProxy};
pub use redis::{RedisServer, RedisServerBuilder, Reply};
pub use sentinel::RedisSentinel;
pub use wait::{wait_for, wait_until};
