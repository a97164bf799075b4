//! One trial: servers are the scenario's, nodes, database, workload and oracle are here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder::{Moment, Runtime, TokioRuntime};
use larder_testkit::{Fault, FaultProxy, RedisServer, wait_for, wait_until};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::chance::Chance;
use crate::ending;
use crate::ledger::{Ledger, Tally};
use crate::node::Node;
use crate::workload::Workload;
use crate::{database, rows, workload};

/// How long a node that is cut off goes on serving: the least that can be set.
pub(crate) const DISCONNECTED_TTL: Duration = Duration::from_secs(3);
pub(crate) const STALE_WINDOW: Duration = Duration::from_secs(2);

/// Reads of Redis that may fail before a node asks no more for a while.
pub(crate) const FAILURES: u32 = 5;

const NODES: usize = 3;
/// How long a node may take to be well again: connections are tried anew after two seconds at the most, and an
/// invalidation is sent again after five.
const WELL: Duration = Duration::from_secs(20);

/// In every command of the log, and in none for a value.
pub(crate) const LOG: &[u8] = b"{larder}:log";
/// After this much time an invalidation is in force everywhere, in seconds, and reads have shown it.
const LATE: f64 = 3.4;
/// Reads and writes while the workload goes on, at the least: a trial that stands still proves nothing.
const READS: u64 = 1000;
const WRITES: u64 = 30;

/// Trials at one time. More, and what happens when is a matter of who gets a processor.
static ROOM: Semaphore = Semaphore::const_new(2);

pub(crate) struct Trial {
    pub(crate) nodes: Vec<Arc<Node>>,
    /// Between Redis and each node, in their order; none if the nodes have found their own way.
    pub(crate) proxies: Vec<FaultProxy>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) chance: Chance,
    name: &'static str,
    seed: u64,
    began: Moment,
    /// Nodes so far.
    started: usize,
    database: SocketAddr,
    workload: Option<Workload>,
    /// What had been counted when the writers ended.
    written: Option<Tally>,
    _room: SemaphorePermit<'static>,
}

/// Room for one trial.
pub(crate) async fn room() -> SemaphorePermit<'static> {
    ROOM.acquire().await.unwrap()
}

impl Trial {
    /// Three nodes on `server`, each behind a proxy of its own, and their workload. Values carry `filling` bytes.
    pub(crate) async fn on(name: &'static str, server: &RedisServer, filling: usize) -> Self {
        let room = room().await;
        let mut proxies = Vec::new();
        for _ in 0..NODES {
            proxies.push(FaultProxy::to(server.addr()).await);
        }
        let urls = proxies.iter().map(FaultProxy::url).collect();
        Self::begin(name, urls, proxies, filling, room).await
    }

    /// Three nodes that find their way from `url`, with nothing in between.
    pub(crate) async fn at(name: &'static str, url: String, room: SemaphorePermit<'static>) -> Self {
        Self::begin(name, vec![url; NODES], Vec::new(), 0, room).await
    }

    async fn begin(
        name: &'static str,
        urls: Vec<String>,
        proxies: Vec<FaultProxy>,
        filling: usize,
        room: SemaphorePermit<'static>,
    ) -> Self {
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::current());
        let seed = option_env!("LARDER_SEED").and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| runtime.random() % 1_000_000);
        println!("{name}: seed {seed}");
        let chance = Chance::new(seed);
        let ledger = Arc::new(Ledger::new(runtime.clone()));
        let database = database::start(ledger.clone(), runtime.clone(), chance.branch(), filling).await;
        let mut nodes = Vec::new();
        for (id, url) in urls.iter().enumerate() {
            nodes.push(Arc::new(Node::start(id, url, database).await));
        }
        let mut workload = Workload::new(&ledger, &runtime);
        for node in &nodes {
            workload.on(node, &chance);
        }
        let (began, workload) = (runtime.now(), Some(workload));
        let trial = Trial {
            nodes,
            proxies,
            ledger,
            runtime,
            chance,
            name,
            seed,
            began,
            started: NODES,
            database,
            workload,
            written: None,
            _room: room,
        };
        trial.under_load(1.0).await;
        wait_until(WELL, "the workload to be at work", || {
            let Tally { reads, writes, .. } = trial.ledger.tally();
            reads > READS && writes > WRITES
        })
        .await;
        trial.report("warm").await;
        trial
    }

    /// The workload goes on for so many seconds.
    pub(crate) async fn under_load(&self, seconds: f64) {
        self.runtime.sleep(Duration::from_secs_f64(seconds)).await;
    }

    /// Prints how things stand.
    pub(crate) async fn report(&self, when: &str) {
        let now = self.runtime.now().since(self.began);
        let Tally {
            reads,
            said,
            hits,
            stale,
            bypassed,
            loads,
            writes,
            delivered,
            queued,
            by_reached,
            by_late,
        } = self.ledger.tally();
        println!(
            "{} {:>5} ms {when}: {reads} reads ({hits} hits, {stale} stale, {bypassed} bypassed of {said}; \
             {by_reached} judged by (b), {by_late} by (c)), {loads} loads, {writes} writes ({delivered} delivered, \
             {queued} queued)",
            self.name,
            now.as_millis(),
        );
    }

    /// Kills (SIGKILL) a node and puts a new process in its place.
    pub(crate) async fn replace(&mut self, place: usize) {
        self.nodes[place].kill();
        let node = Node::start(self.started, &self.proxies[place].url(), self.database).await;
        self.started += 1;
        self.nodes[place] = Arc::new(node);
        if let Some(workload) = &mut self.workload {
            workload.on(&self.nodes[place], &self.chance);
        }
    }

    /// The nodes but the first hear nothing of the log any more, until they [`listen`](Self::listen).
    pub(crate) fn deafen(&self) {
        for proxy in &self.proxies[1..] {
            proxy.set_where(LOG, Fault::BlackHole);
        }
    }

    /// All connections begin anew: nothing arrives of what was held back.
    pub(crate) fn listen(&self) {
        self.set_all(Fault::Reset);
        self.set_all(Fault::None);
    }

    /// Ends the writers and has one node invalidate everything: no later record tells of what is lost from here on. Reads go
    /// on.
    pub(crate) async fn last_words(&mut self, speaker: usize) {
        self.report("last words").await;
        if let Some(workload) = &mut self.workload {
            workload.end_writing().await;
        }
        self.written = Some(self.ledger.tally());
        for selector in ["page:*", "row:*"] {
            let said = async || self.write(speaker, selector).await.is_some();
            wait_for(WELL, "the last words to be delivered", said).await;
        }
    }

    /// The readers go on until whatever was invalidated is in force everywhere, heard or not. Answers what was counted
    /// meanwhile.
    pub(crate) async fn until_late(&self) -> Tally {
        let before = self.ledger.tally();
        self.under_load(LATE).await;
        self.ledger.tally().since(&before)
    }

    /// What was counted while the workload went on for so many seconds.
    pub(crate) async fn during(&self, seconds: f64) -> Tally {
        let before = self.ledger.tally();
        self.under_load(seconds).await;
        self.ledger.tally().since(&before)
    }

    /// How often parts of the log went by unseen, on all nodes together.
    pub(crate) async fn gaps(&self) -> u64 {
        let mut gaps = 0;
        for node in &self.nodes {
            gaps += node.health().await.expect("the node lives").gaps;
        }
        gaps
    }

    /// Hits from Redis so far, on each node.
    pub(crate) async fn hits_from_redis(&self) -> Vec<u64> {
        let mut hits = Vec::new();
        for node in &self.nodes {
            hits.push(node.hits().await.1);
        }
        hits
    }

    /// Ends the workload: from here on only the scenario reads and writes.
    pub(crate) async fn calm(&mut self) {
        if let Some(workload) = self.workload.take() {
            workload.end().await;
        }
    }

    /// Waits until a node is connected, follows the log and has nothing to send.
    ///
    /// # Panics
    /// If it takes too long, or the node is gone.
    pub(crate) async fn well(&self, place: usize) {
        let (node, began) = (&self.nodes[place], self.runtime.now());
        loop {
            let health = node.health().await.expect("the node lives");
            if health.status == "ok" && health.state == "following" && health.pending == 0 {
                return;
            }
            if self.runtime.now().since(began) > WELL {
                let why = node.ask("why").await;
                panic!("{}, seed {}: after {WELL:?} node {place} is not well: {why:?}", self.name, self.seed);
            }
            // An open breaker waits for somebody who wants something of Redis.
            assert_eq!(node.ask("miss").await.as_deref(), Some("missed"));
            self.runtime.sleep(Duration::from_millis(5)).await;
        }
    }

    /// Reads everything on a node.
    pub(crate) async fn read_all(&self, place: usize) {
        for key in rows::all() {
            self.read(place, &key, None).await;
        }
    }

    /// Stops a node (SIGSTOP).
    pub(crate) fn stop(&self, place: usize) {
        self.ledger.asleep(self.nodes[place].id);
        self.nodes[place].stop();
    }

    /// Lets it go on (SIGCONT); returns once it knows what time it is.
    pub(crate) async fn go_on(&self, place: usize) {
        self.nodes[place].go_on();
        assert_eq!(self.nodes[place].ask("awake").await.as_deref(), Some("awake"));
        self.ledger.awake(self.nodes[place].id);
    }

    /// Sets the fault of every proxy.
    pub(crate) fn set_all(&self, fault: Fault) {
        for proxy in &self.proxies {
            proxy.set(fault);
        }
    }

    /// Writes to all that `selector` names and invalidates it on a node.
    pub(crate) async fn write(&self, node: usize, selector: &str) -> Option<larder::Epoch> {
        workload::write(&self.ledger, &self.nodes[node], selector, true).await.expect("the node lives")
    }

    /// Reads on a node; answers the outcome.
    ///
    /// # Panics
    /// If the node is gone.
    pub(crate) async fn read(&self, node: usize, key: &str, token: Option<larder::Epoch>) -> String {
        workload::read(&self.ledger, &self.nodes[node], "fetch", key, token).await.expect("the node lives")
    }

    /// Ends the workload, mends nothing, and proves that all is well. `least`: of a hundred reads, how many were hits.
    ///
    /// # Panics
    /// If it is not, or any answer so far was not allowed.
    pub(crate) async fn end(mut self, least: u64) {
        self.report("to be ended").await;
        self.calm().await;
        let Tally { reads, writes, by_reached, .. } = self.ledger.tally();
        assert!(reads > READS && writes > WRITES, "{reads} reads, {writes} writes: nothing goes on");
        assert!(by_reached > 0, "no node was ever known to have what another one has invalidated");
        ending::all_is_well(&self).await;
        self.report("well").await;
        let violations = self.ledger.violations();
        assert!(violations.is_empty(), "{}, seed {}: {}", self.name, self.seed, violations.join("\n"));
        let Tally { hits, said, .. } = self.written.unwrap_or(self.ledger.tally());
        assert!(hits * 100 >= said * least, "{hits} hits of {said} reads: a cache that is of no use");
    }
}
