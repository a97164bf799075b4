//! A cache on a server, and a versioned source behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder::testing::Recorder;
use larder::units::{HOUR, SECOND};
use larder::{BreakerOptions, Cache, CacheBuilder, Namespace, Policy, redis::Redis};
use larder_testkit::{RedisServer, wait_for, wait_until};
use tokio::sync::watch;

/// Long enough for anything that happens at all.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The database: one number, which says how often it was written.
#[derive(Clone, Default)]
pub(crate) struct Source(Arc<(AtomicU64, AtomicU64)>);

impl Source {
    pub(crate) fn write(&self) -> u64 {
        self.0.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.1.fetch_add(1, Ordering::SeqCst);
        self.0.0.load(Ordering::SeqCst)
    }

    pub(crate) fn reads(&self) -> u64 {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// A gate in a loader: it has read its data, and answers when it may.
pub(crate) struct Held(watch::Sender<bool>);

impl Held {
    pub(crate) fn new() -> Self {
        Held(watch::Sender::new(false))
    }

    pub(crate) fn let_go(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn passed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut door = self.0.subscribe();
        async move {
            // The sender lives as long as the test.
            let _ = door.wait_for(|open| *open).await;
        }
    }
}

/// One process: a cache on a server, and a handle that loads from the source.
pub(crate) struct Process {
    pub(crate) cache: Cache,
    pub(crate) events: Arc<Recorder>,
    pub(crate) rows: Namespace<String, u64, std::convert::Infallible>,
}

impl Process {
    /// Starts a process on `url`.
    pub(crate) async fn start(url: &str, source: &Source) -> Self {
        Self::with_policy(url, source, Policy::ttl(HOUR)).await
    }

    pub(crate) async fn with_policy(url: &str, source: &Source, policy: Policy) -> Self {
        Self::built(Cache::builder().remote(Redis::at(url)), source, policy).await
    }

    /// One that has much patience with Redis: for what must not depend on how busy the machine is.
    pub(crate) async fn patient(redis: Redis, source: &Source, policy: &Policy) -> Self {
        Self::built(Cache::builder().remote(redis).remote_budget(SOON), source, policy.clone()).await
    }

    async fn built(builder: CacheBuilder, source: &Source, policy: Policy) -> Self {
        let events = Recorder::new();
        let cache = builder
            .breaker(BreakerOptions { failures: 5, open_for: SECOND })
            .observer(events.clone())
            .build()
            .await
            .unwrap();
        let source = source.clone();
        let rows = cache.namespace::<u64>("row", policy).unwrap().loader(move |_: String| {
            let source = source.clone();
            async move { Ok(source.read()) }
        });
        Process { cache, events, rows }
    }

    pub(crate) async fn read(&self, key: &str) -> u64 {
        *self.rows.load(key).await.unwrap()
    }

    /// How often this process has loaded.
    pub(crate) fn loads(&self) -> u64 {
        self.cache.stats().namespaces["row"].loads
    }

    /// Waits until no load is under way, and nobody here has a lease.
    pub(crate) async fn idle(&self) {
        wait_until(SOON, "every load to let go of everything", || {
            let stats = self.cache.stats();
            (stats.flights, stats.leases, stats.hung_loads) == (0, 0, 0)
        })
        .await;
    }

    /// Waits until as many values are in Redis.
    pub(crate) async fn stored(&self, stores: u64) {
        wait_until(SOON, "the stores to reach Redis", || {
            self.cache.stats().namespaces["row"].stores >= stores
        })
        .await;
    }

    /// Waits until the remote tier is connected, the log is open and nothing is queued.
    pub(crate) async fn settled(&self) {
        wait_until(SOON, "the cache to be well", || {
            let health = self.cache.health();
            health.status == "ok" && health.remote.is_some_and(|r| r.log.pending_invalidations == 0)
        })
        .await;
    }

    /// Ends the process as SIGTERM would.
    pub(crate) async fn stop(self) {
        assert!(self.cache.shutdown(SOON).await, "everything under way is done in time");
    }
}

/// How often a command was called so far.
pub(crate) async fn calls(server: &RedisServer, command: &str) -> u64 {
    let info = server.command(&["INFO", "commandstats"]).await.unwrap();
    let info = String::from_utf8_lossy(info.bytes().unwrap()).into_owned();
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// Waits until no lease is left in Redis.
pub(crate) async fn no_lease(server: &RedisServer) {
    wait_for(SOON, "the leases to be gone", async || {
        server.keys().await.iter().all(|key| !key.ends_with(b":lease"))
    })
    .await;
}
