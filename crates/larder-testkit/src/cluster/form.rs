//! Making a cluster of servers that know nothing of each other.

use super::view::View;
use super::{PRIMARIES, RedisCluster};
use crate::RedisServer;
use crate::redis::{RedisServerBuilder, start_all};
use crate::settle::{ask, ask_text, must, until};

/// How long a node may be silent before the others suspect it: longer than a busy machine keeps one from the processor.
const NODE_TIMEOUT_MILLIS: u32 = 3_000;
/// The same while a failover is waited for, which takes this and up to two seconds more for the vote.
const HASTY_MILLIS: u32 = 1_000;

/// The first and the last slot of each primary.
const SHARES: [[&str; 2]; PRIMARIES] = [["0", "5460"], ["5461", "10922"], ["10923", "16383"]];

/// Options of a [`RedisCluster`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct RedisClusterBuilder {
    replicas: usize,
    args: Vec<String>,
}

impl Default for RedisClusterBuilder {
    fn default() -> Self {
        Self { replicas: 1, args: Vec::new() }
    }
}

impl RedisClusterBuilder {
    /// How many replicas each of the three primaries has: 0 or 1. Default: 1.
    ///
    /// # Panics
    /// If it is more than 1.
    pub fn replicas(mut self, replicas: usize) -> Self {
        assert!(replicas <= 1, "a primary has 0 replicas or 1, not {replicas}");
        self.replicas = replicas;
        self
    }

    /// More words for the command line of every node, after ours, so they win. Adds up. Default: none.
    pub fn arg<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(words.into_iter().map(Into::into));
        self
    }

    /// Starts the nodes, makes a cluster of them, and waits until all agree and the replicas are in step. It takes some
    /// 3 s, of which a primary waits 2 before it first serves.
    ///
    /// Cancel safe: dropping the future kills the nodes.
    ///
    /// # Panics
    /// As [`RedisServerBuilder::start`], or if the nodes do not agree within a minute.
    pub async fn start(self) -> RedisCluster {
        let node = RedisServerBuilder::default().cluster_node().arg(settings()).arg(self.args);
        let nodes = start_all(vec![node; PRIMARIES * (1 + self.replicas)]).await;
        let cluster = RedisCluster { nodes };
        let (primaries, replicas) = cluster.nodes.split_at(PRIMARIES);
        for (index, (node, [first, last])) in primaries.iter().zip(SHARES).enumerate() {
            must(node, &["CLUSTER", "ADDSLOTSRANGE", first, last]).await;
            // All begin with the same, and would only drift apart by and by.
            must(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await;
        }
        introduce(&cluster.nodes).await;
        for (replica, primary) in replicas.iter().zip(primaries) {
            until("a replica to know its primary", || follow(replica, primary)).await;
        }
        cluster.settle().await;
        cluster
    }
}

fn settings() -> [String; 14] {
    [
        "--cluster-node-timeout",
        &NODE_TIMEOUT_MILLIS.to_string(),
        "--cluster-require-full-coverage",
        "no",
        // Replicas stay with their primaries, and an empty primary stays one.
        "--cluster-allow-replica-migration",
        "no",
        // A replica may take over however long it has been cut off.
        "--cluster-replica-validity-factor",
        "0",
        // A replica gets its copy at once, without waiting for others that may want one.
        "--repl-diskless-sync-delay",
        "0",
        "--repl-diskless-sync",
        "yes",
        "--cluster-config-file",
        "nodes.conf",
    ]
    .map(str::to_owned)
}

/// Has a node suspect others soon, or late again.
pub(super) async fn hasten(node: &RedisServer, hasty: bool) {
    let millis = if hasty { HASTY_MILLIS } else { NODE_TIMEOUT_MILLIS };
    must(node, &["CONFIG", "SET", "cluster-node-timeout", &millis.to_string()]).await;
}

/// Makes every node known to every other, without waiting for gossip.
async fn introduce(nodes: &[RedisServer]) {
    for (index, node) in nodes.iter().enumerate() {
        for other in &nodes[index + 1..] {
            let bus = other.bus_port().expect("a node of a cluster has a bus");
            must(node, &["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), &bus.to_string()]).await;
        }
    }
}

async fn follow(replica: &RedisServer, primary: &RedisServer) -> Result<(), String> {
    let view = View::parse(&ask_text(replica, &["CLUSTER", "NODES"]).await?)?;
    let known = view.members.iter().find(|member| member.port == primary.port() && !member.doubtful);
    let known = known.ok_or_else(|| format!("{} has not met {}", replica.addr(), primary.addr()))?;
    ask(replica, &["CLUSTER", "REPLICATE", &known.id]).await.map(drop)
}
