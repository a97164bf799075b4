//! A remote tier in this process: the same promises as a real one, and switches to break them.
//!
//! [`TestRedis`] is the server: values and log ([`log`] says what the scripts do), with a replica, successors and a clock of
//! its own. [`TestRemote`] is one node's connections to it, with [`Faults`] on the way.

mod faults;
mod happening;
mod leases;
mod log;
mod port;
mod redis;
mod wire;

use std::sync::Arc;

use bytes::Bytes;

pub use self::faults::{Faults, Path, PathFaults};
pub use self::happening::{Happening, LeaseEnd, Watcher};
pub use self::redis::{RedisOptions, TestRedis};
use self::wire::Wire;
use crate::runtime::Runtime;

/// A remote tier and its log, as one node reaches it.
pub struct TestRemote {
    wire: Arc<Wire>,
}

impl TestRemote {
    /// An empty tier of its own, connected, on the time of a [`Runtime`].
    pub fn new(runtime: Arc<dyn Runtime>) -> Arc<Self> {
        let redis = TestRedis::new(runtime.clone(), RedisOptions::default());
        Self::on(redis, runtime, 1)
    }

    /// Connections to a server that others use too. `id` names them to whoever [watches](TestRedis::watched).
    pub fn on(redis: Arc<TestRedis>, runtime: Arc<dyn Runtime>, id: u64) -> Arc<Self> {
        Arc::new(TestRemote { wire: Wire::new(redis, runtime, id) })
    }

    /// The server.
    pub fn redis(&self) -> &Arc<TestRedis> {
        &self.wire.redis
    }

    /// What these connections are called.
    pub fn id(&self) -> u64 {
        self.wire.id()
    }

    /// Changes what is broken.
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        self.wire.set(change);
    }

    /// What is broken on one way now.
    pub fn faults(&self, path: Path) -> PathFaults {
        let faults = self.wire.faults.lock();
        let mut on = faults.paths[path as usize].clone();
        (on.down, on.hang) = (faults.is_down(path), faults.hangs(path));
        on
    }

    /// A new connection, with nothing lost.
    pub fn reconnect(&self) {
        self.wire.reopen();
    }

    /// A connection breaks. Another is made, to whoever is the primary then: at once, or as fast as the delay on the way
    /// allows.
    pub fn cut(&self, path: Path) {
        self.wire.cut(path, "cut");
    }

    /// Does the path lead to a server that has been deposed, or is gone?
    pub fn is_astray(&self, path: Path) -> bool {
        self.wire.server(path) != self.wire.redis.primary()
    }

    /// FLUSHALL.
    pub fn flush(&self) {
        self.redis().flush();
    }

    /// The log alone is lost: evicted, or deleted by hand.
    pub fn lose_log(&self) {
        self.redis().lose_log();
    }

    /// The bytes under a key.
    pub fn bytes(&self, key: &str) -> Option<Bytes> {
        self.redis().bytes(key.as_bytes())
    }

    /// Puts bytes under a key, as some other program would.
    pub fn plant(&self, key: &str, bytes: impl Into<Bytes>) {
        self.redis().plant(key.as_bytes(), bytes.into());
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.redis().len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many GETs were answered.
    pub fn gets(&self) -> usize {
        self.redis().gets()
    }
}
