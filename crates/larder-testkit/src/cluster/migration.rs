//! Moving a slot from one node to another, in steps a test can stop between.

use super::RedisCluster;
use super::view::SLOTS;
use crate::RedisServer;
use crate::settle::{must, until};

/// Keys moved at once.
const BATCH: &str = "100";
/// How long one batch may take, in milliseconds.
const BATCH_DEADLINE: &str = "10000";

/// A slot on its way, of [`RedisCluster::begin_migration`]: its owner answers for the keys it still has, and sends
/// clients elsewhere (`ASK`) for all others.
///
/// Dropping it leaves the slot half-way.
#[must_use = "the slot stays half-way until `finish`"]
pub struct Migration<'a> {
    cluster: &'a RedisCluster,
    slot: u16,
    from: &'a RedisServer,
    to: &'a RedisServer,
    to_id: String,
}

impl<'a> Migration<'a> {
    pub(super) async fn begin(cluster: &'a RedisCluster, slot: u16, to: &'a RedisServer) -> Self {
        assert!(slot < SLOTS, "there is no slot {slot}");
        // Both commands need nodes that know each other's part.
        cluster.settle().await;
        let from = cluster.owner(slot).await;
        assert_ne!(from.port(), to.port(), "slot {slot} belongs to that node already");
        let (from_id, to_id) = (id(from).await, id(to).await);
        let slot_word = slot.to_string();
        must(to, &["CLUSTER", "SETSLOT", &slot_word, "IMPORTING", &from_id]).await;
        must(from, &["CLUSTER", "SETSLOT", &slot_word, "MIGRATING", &to_id]).await;
        Self { cluster, slot, from, to, to_id }
    }

    /// The node that owned the slot when this began, and owns it until [`finish`](Self::finish).
    pub fn from(&self) -> &'a RedisServer {
        self.from
    }

    /// The node the slot goes to.
    pub fn to(&self) -> &'a RedisServer {
        self.to
    }

    /// Moves every key of the slot that the old owner still has, and returns how many. The slot stays half-way: the old
    /// owner now answers `ASK` for every key.
    ///
    /// # Panics
    /// If a node refuses or does not answer.
    pub async fn move_keys(&self) -> usize {
        let slot = self.slot.to_string();
        let port = self.to.port().to_string();
        let mut moved = 0;
        loop {
            let keys = must(self.from, &["CLUSTER", "GETKEYSINSLOT", &slot, BATCH]).await;
            let keys: Vec<_> = keys.items().iter().filter_map(|key| key.bytes()).collect();
            if keys.is_empty() {
                return moved;
            }
            let mut words =
                ["MIGRATE", "127.0.0.1", &port, "", "0", BATCH_DEADLINE, "KEYS"].map(str::as_bytes).to_vec();
            words.extend(&keys);
            must(self.from, &words).await;
            moved += keys.len();
        }
    }

    /// Moves the keys that are left, gives the slot to its new owner, and waits until all nodes agree.
    ///
    /// # Panics
    /// If a node refuses or does not answer.
    pub async fn finish(self) {
        self.move_keys().await;
        let slot = self.slot.to_string();
        // The new owner first: were it the last to know, it would send clients back, and they would run in circles.
        let others = self.cluster.primaries().await;
        let others = others.into_iter().filter(|node| node.is_running() && node.port() != self.to.port());
        for node in std::iter::once(self.to).chain(others) {
            must(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &self.to_id]).await;
        }
        until("all nodes to know the slot's new owner", || async {
            let view = self.cluster.settled().await?;
            match view.owner(self.slot) {
                Some(owner) if owner.port == self.to.port() => Ok(()),
                _ => Err(format!("they agree, but on another owner of slot {}", self.slot)),
            }
        })
        .await;
    }
}

async fn id(node: &RedisServer) -> String {
    let reply = must(node, &["CLUSTER", "MYID"]).await;
    String::from_utf8_lossy(reply.bytes().expect("CLUSTER MYID answers text")).into_owned()
}
