//! Every promise of the port: on one server, on a cluster, and on the simulated server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder_core::testing::conformance::Subject;
use larder_core::testing::{RedisOptions, TestRedis, TestRemote};
use larder_core::{BoxFuture, Epoch, Remote, remote_conformance};
use larder_redis::Redis;
use larder_testkit::{RedisCluster, RedisServer, Reply};

use crate::support::{connect, connect_to_all, runtime};

const LOG: &str = "{larder}:log";
const STATE: &str = "{larder}:state";
const OLD: &str = "{larder}:old";
/// Few enough to be outgrown in a test.
const STAMPS: u32 = 20;

/// Whoever holds the data, asked past the code under test.
enum Servers {
    One(RedisServer),
    Cluster(RedisCluster),
}

struct Real {
    servers: Servers,
    config: Redis,
}

impl Real {
    async fn one() -> Real {
        let server = RedisServer::builder().persistent(true).start().await;
        let config = Redis::at(server.url()).connections(2);
        Real { config: config.stamp_limit(STAMPS), servers: Servers::One(server) }
    }

    async fn cluster() -> Real {
        let cluster = RedisCluster::builder().replicas(0).start().await;
        Real { config: Redis::at(cluster.url()).stamp_limit(STAMPS), servers: Servers::Cluster(cluster) }
    }

    async fn tell(&self, key: &[u8], words: &[&[u8]]) -> Reply {
        let reply = match &self.servers {
            Servers::One(server) => server.command(words).await.unwrap(),
            Servers::Cluster(cluster) => cluster.command_on(key, words).await.unwrap(),
        };
        assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        reply
    }

    fn lose<'a>(&'a self, names: &'a [&'a str]) -> Option<BoxFuture<'a, ()>> {
        Some(Box::pin(async move {
            for name in names {
                self.tell(name.as_bytes(), &[b"DEL", name.as_bytes()]).await;
            }
        }))
    }
}

impl Subject for Real {
    fn node(&self) -> BoxFuture<'_, Arc<dyn Remote>> {
        Box::pin(async {
            match &self.servers {
                Servers::One(_) => connect(self.config.clone()).await as Arc<dyn Remote>,
                Servers::Cluster(_) => connect_to_all(self.config.clone()).await,
            }
        })
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        runtime().sleep(time)
    }

    fn flush(&self) -> Option<BoxFuture<'_, ()>> {
        Some(Box::pin(async {
            match &self.servers {
                Servers::One(server) => server.flush_all().await,
                Servers::Cluster(cluster) => cluster.flush_all().await,
            }
        }))
    }

    fn lose_log(&self) -> Option<BoxFuture<'_, ()>> {
        self.lose(&[STATE, LOG, OLD])
    }

    fn lose_stamps(&self) -> Option<BoxFuture<'_, ()>> {
        self.lose(&[STATE, OLD])
    }

    fn trim(&self) -> Option<BoxFuture<'_, ()>> {
        Some(Box::pin(async {
            self.tell(LOG.as_bytes(), &[b"XTRIM", LOG.as_bytes(), b"MAXLEN", b"0"]).await;
        }))
    }

    fn plant<'a>(&'a self, key: &'a [u8], bytes: Bytes) -> Option<BoxFuture<'a, ()>> {
        Some(Box::pin(async move {
            let name = [b"larder:", key].concat();
            self.tell(&name, &[b"SET", &name, &bytes]).await;
        }))
    }

    fn plant_other_type<'a>(&'a self, key: &'a [u8]) -> Option<BoxFuture<'a, ()>> {
        Some(Box::pin(async move {
            let name = [b"larder:", key].concat();
            self.tell(&name, &[b"HSET", &name, b"f", b"v"]).await;
        }))
    }

    fn lose_old_stamps(&self) -> Option<BoxFuture<'_, ()>> {
        self.lose(&[OLD])
    }

    fn append_unknown(&self, last: Epoch) -> Option<BoxFuture<'_, Epoch>> {
        Some(Box::pin(async move {
            let next = Epoch { at: last.at + 1_000_000, ..last };
            let (id, line) = (format!("{}-0", next.at), format!("{:016x}", last.line));
            let prev = format!("{line}:{}", last.at);
            let record = ["XADD", LOG, &id, "v", "2", "line", &line, "prev", &prev, "new", "yes"];
            self.tell(LOG.as_bytes(), &record.map(str::as_bytes)).await;
            let at = next.at.to_string();
            self.tell(STATE.as_bytes(), &["HSET", STATE, ".last", &at].map(str::as_bytes)).await;
            next
        }))
    }

    /// Not a cluster: a node of it that restarts is failed over first.
    fn restart(&self) -> Option<BoxFuture<'_, ()>> {
        let Servers::One(server) = &self.servers else { return None };
        Some(Box::pin(server.restart()))
    }

    fn stamp_limit(&self) -> Option<u32> {
        Some(STAMPS)
    }
}

mod on_one_server {
    use super::*;

    remote_conformance!(Real::one().await);
}

/// On one cluster, one after the other: a cluster takes seconds to come up. The one that fails is the last that is named.
#[tokio::test]
async fn every_promise_is_kept_on_a_cluster() {
    let cluster = Real::cluster().await;
    remote_conformance!(in turn: &cluster);
}

/// The simulated server, on real time.
struct Simulated {
    redis: Arc<TestRedis>,
    nodes: AtomicU64,
}

impl Simulated {
    fn start() -> Simulated {
        let stamp_limit = usize::try_from(STAMPS).unwrap();
        let options = RedisOptions { stamp_limit, ..RedisOptions::default() };
        Simulated { redis: TestRedis::new(runtime(), options), nodes: AtomicU64::new(0) }
    }

    fn done(&self, what: impl FnOnce(&TestRedis)) -> Option<BoxFuture<'_, ()>> {
        what(&self.redis);
        Some(Box::pin(std::future::ready(())))
    }
}

impl Subject for Simulated {
    fn node(&self) -> BoxFuture<'_, Arc<dyn Remote>> {
        let id = self.nodes.fetch_add(1, Ordering::Relaxed);
        let node: Arc<dyn Remote> = TestRemote::on(Arc::clone(&self.redis), runtime(), id);
        Box::pin(std::future::ready(node))
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        runtime().sleep(time)
    }

    fn flush(&self) -> Option<BoxFuture<'_, ()>> {
        self.done(TestRedis::flush)
    }

    fn lose_log(&self) -> Option<BoxFuture<'_, ()>> {
        self.done(TestRedis::lose_log)
    }

    fn lose_stamps(&self) -> Option<BoxFuture<'_, ()>> {
        self.done(|redis| {
            redis.lose_state();
            redis.lose_old();
        })
    }

    fn trim(&self) -> Option<BoxFuture<'_, ()>> {
        self.done(|redis| redis.trim(0))
    }

    fn lose_old_stamps(&self) -> Option<BoxFuture<'_, ()>> {
        self.done(TestRedis::lose_old)
    }

    fn plant<'a>(&'a self, key: &'a [u8], bytes: Bytes) -> Option<BoxFuture<'a, ()>> {
        self.done(|redis| redis.plant(key, bytes))
    }

    fn plant_other_type<'a>(&'a self, key: &'a [u8]) -> Option<BoxFuture<'a, ()>> {
        self.done(|redis| redis.plant_other_type(key))
    }

    fn append_unknown(&self, _last: Epoch) -> Option<BoxFuture<'_, Epoch>> {
        let appended = self.redis.append_unknown()?;
        Some(Box::pin(std::future::ready(appended)))
    }

    fn restart(&self) -> Option<BoxFuture<'_, ()>> {
        self.done(|redis| drop(redis.fail_over(0, false, false, 0)))
    }

    fn stamp_limit(&self) -> Option<u32> {
        Some(STAMPS)
    }
}

mod on_the_simulated_server {
    use super::*;

    remote_conformance!(Simulated::start());
}
