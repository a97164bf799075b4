//! One trial: servers and faults are the scenario's; nodes, database and what must be true in the end are here.

use std::sync::Arc;
use std::time::Duration;

use larder::{Moment, Runtime, TokioRuntime};
use larder_testkit::{FaultProxy, RedisServer, wait_for, wait_until};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use crate::answers::Answers;
use crate::database::Database;
use crate::node::Node;

/// Keys that begin so are loaded by a handle whose loads may not take long.
pub(crate) const IMPATIENT: &str = "impatient";
pub(crate) const IMPATIENT_FOR: Duration = Duration::from_secs(2);

pub(crate) const NODES: usize = 4;
/// Far more than anything here may take: a lease that nobody gives back lives for 10 s, a load for 30 s.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Trials at one time: most of them wait most of the time.
static ROOM: Semaphore = Semaphore::const_new(3);

pub(crate) fn runtime() -> Arc<dyn Runtime> {
    Arc::new(TokioRuntime::current())
}

pub(crate) async fn room() -> SemaphorePermit<'static> {
    ROOM.acquire().await.unwrap()
}

pub(crate) struct Trial {
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) database: Database,
    pub(crate) runtime: Arc<dyn Runtime>,
    name: &'static str,
    _room: SemaphorePermit<'static>,
}

/// Readers of one key on one node.
pub(crate) type Readers = JoinHandle<(Option<Answers>, Moment)>;

impl Trial {
    /// Four nodes straight on `server`.
    pub(crate) async fn on(name: &'static str, server: &RedisServer) -> Self {
        Self::at(name, vec![server.url(); NODES], room().await).await
    }

    /// Four nodes, each behind a proxy of its own.
    pub(crate) async fn behind(name: &'static str, server: &RedisServer) -> (Self, Vec<FaultProxy>) {
        let room = room().await;
        let mut proxies = Vec::new();
        for _ in 0..NODES {
            proxies.push(FaultProxy::to(server.addr()).await);
        }
        (Self::at(name, proxies.iter().map(FaultProxy::url).collect(), room).await, proxies)
    }

    /// A node for each URL; all of them well.
    pub(crate) async fn at(name: &'static str, urls: Vec<String>, room: SemaphorePermit<'static>) -> Self {
        let runtime = runtime();
        let (database, addr) = Database::start(runtime.clone()).await;
        let mut nodes = Vec::new();
        for (place, url) in urls.iter().enumerate() {
            nodes.push(Arc::new(Node::start(place, url, addr).await));
        }
        let trial = Trial { nodes, database, runtime, name, _room: room };
        trial.all_well().await;
        trial
    }

    /// So many readers on a node ask for `key` now; what they get, and when the last one has it, comes later.
    pub(crate) fn read(&self, place: usize, readers: usize, key: &str) -> Readers {
        let (node, key, runtime) = (self.nodes[place].clone(), key.to_owned(), self.runtime.clone());
        tokio::spawn(async move {
            let answers = node.read(readers, &key).await;
            (answers, runtime.now())
        })
    }

    /// Node 0 has the lease of `key`, in the middle of a load that does not end; so do the loads of the others not end that
    /// may begin later. Answers its readers.
    pub(crate) async fn held_by_the_first(&self, readers: usize, key: &str) -> Readers {
        self.database.hold(0..NODES, key);
        let first = self.read(0, readers, key);
        self.loads(key, 1).await;
        first
    }

    /// Waits until so many loads of `key` have begun.
    pub(crate) async fn loads(&self, key: &str, loads: usize) {
        let what = format!("{}: load number {loads} of {key}", self.name);
        wait_until(SOON, &what, || self.database.loads(key).len() >= loads).await;
    }

    pub(crate) async fn pass(&self, time: Duration) {
        self.runtime.sleep(time).await;
    }

    pub(crate) fn say(&self, what: &str) {
        println!("{}: {what}", self.name);
    }

    pub(crate) async fn all_well(&self) {
        for place in 0..self.nodes.len() {
            self.well(place).await;
        }
    }

    /// Waits until a node is connected, follows the log and has nothing to send.
    pub(crate) async fn well(&self, place: usize) {
        let what = format!("{}: node {place} to be well", self.name);
        wait_for(SOON, &what, async || self.nodes[place].is_well().await.is_ok()).await;
    }

    /// Everything is mended: what is written now is read by everybody, after one load; nobody has a lease any more, and no
    /// lease is left in Redis. `gone` are nodes that are no more.
    pub(crate) async fn end(self, gone: &[usize], keys: &[&str], redis: impl AsyncFn() -> Vec<Vec<u8>>) {
        self.database.mend();
        let nodes: Vec<_> = (0..self.nodes.len()).filter(|place| !gone.contains(place)).collect();
        for &place in &nodes {
            self.well(place).await;
        }
        for (i, key) in keys.iter().enumerate() {
            let version = self.database.write();
            let mut token = None;
            wait_for(SOON, "an invalidation to be delivered", async || {
                token = self.nodes[nodes[i % nodes.len()]].invalidate(key).await;
                token.is_some()
            })
            .await;
            let before = self.database.loads(key).len();
            for &place in &nodes {
                // A node that was just found to be behind loads for itself; what it says is new all the same.
                let answer = self.nodes[place].read_at(token.unwrap(), key).await;
                assert_eq!(answer, version.to_string(), "{}: {key} on node {place}", self.name);
            }
            let loads = self.database.loads(key).len() - before;
            assert!((1..=nodes.len()).contains(&loads), "{}: {loads} loads of {key}", self.name);
        }
        for &place in &nodes {
            wait_for(SOON, "every load to have ended", async || {
                let counts = self.nodes[place].counts().await;
                (counts.leases, counts.flights) == (0, 0)
            })
            .await;
        }
        let what = format!("{}: the last lease to be gone from Redis", self.name);
        wait_for(SOON, &what, async || redis().await.iter().all(|key| !key.ends_with(b":lease"))).await;
    }
}

/// What readers got. Panics if their node is gone.
pub(crate) async fn answers(readers: Readers) -> Answers {
    readers.await.unwrap().0.expect("the node lives")
}
