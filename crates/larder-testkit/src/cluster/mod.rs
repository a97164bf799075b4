//! A real Redis Cluster per test.

mod form;
mod migration;
mod view;

use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::form::RedisClusterBuilder;
use self::form::hasten;
pub use self::migration::Migration;
use self::view::{Member, View};
use crate::replication::{cut, in_step, restore};
use crate::settle::{ask, ask_text, field, must, until};
use crate::{RedisServer, Reply};

/// How many primaries a cluster has: the fewest that can outvote one.
const PRIMARIES: usize = 3;
/// How long we wait for an ordered promotion before we order it again; the servers give up after 5 s.
const ORDER_AGAIN: Duration = Duration::from_secs(6);

/// A Redis Cluster of this test's own: three primaries with a third of the slots each, and a replica for each, all on
/// free ports of 127.0.0.1.
///
/// Its nodes are [`RedisServer`]s, and die with it. A node that is silent for three seconds is taken for dead, for one
/// while a failover is waited for; slots without an owner that lives leave the others in service.
///
/// Every method that asks the cluster asks all nodes that run, and believes the one with the newest knowledge.
pub struct RedisCluster {
    /// Those that began as primaries first.
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a cluster with the defaults, ready for use.
    ///
    /// # Panics
    /// As [`RedisClusterBuilder::start`].
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A cluster with other than the defaults.
    pub fn builder() -> RedisClusterBuilder {
        RedisClusterBuilder::default()
    }

    /// `redis-cluster://127.0.0.1:<port>,127.0.0.1:<port>,127.0.0.1:<port>`: the three nodes that began as primaries,
    /// whatever they are by now.
    pub fn url(&self) -> String {
        let addrs: Vec<_> = self.nodes[..PRIMARIES].iter().map(|node| node.addr().to_string()).collect();
        format!("redis-cluster://{}", addrs.join(","))
    }

    /// All nodes: first the three that began as primaries, then their replicas in the same order.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The slot of `key`, as the servers compute it.
    ///
    /// # Panics
    /// If no node answers.
    pub async fn slot_of(&self, key: impl AsRef<[u8]>) -> u16 {
        let node = self.running().next().expect("a node of the cluster runs");
        let words: [&[u8]; 3] = [b"CLUSTER", b"KEYSLOT", key.as_ref()];
        let slot = must(node, &words).await.int().and_then(|slot| u16::try_from(slot).ok());
        slot.expect("CLUSTER KEYSLOT answers a slot")
    }

    /// The node that owns the slot of `key`. It may be dead, if none has taken over.
    ///
    /// # Panics
    /// If no node answers, or none knows an owner.
    pub async fn primary_of(&self, key: impl AsRef<[u8]>) -> &RedisServer {
        self.owner(self.slot_of(key).await).await
    }

    /// The running replica of the node that owns the slot of `key`.
    ///
    /// # Panics
    /// If there is none, or no node answers.
    pub async fn replica_of(&self, key: impl AsRef<[u8]>) -> &RedisServer {
        self.heir(self.primary_of(key).await).await
    }

    /// The nodes that own slots, running or not.
    ///
    /// # Panics
    /// If no node answers.
    pub async fn primaries(&self) -> Vec<&RedisServer> {
        until("a node to know the primaries", || async {
            let views = self.views().await?;
            View::newest_owners(&views).into_iter().map(|owner| self.node(owner)).collect()
        })
        .await
    }

    /// Runs a command at the owner of the slot of `key`: [`RedisServer::command`]. The reply is the owner's, also if it
    /// sends elsewhere (`ASK`), since half of a migrating slot may be there.
    ///
    /// # Errors
    /// As [`RedisServer::command`].
    ///
    /// # Panics
    /// As [`primary_of`](Self::primary_of).
    pub async fn command_on(&self, key: impl AsRef<[u8]>, args: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        self.primary_of(key).await.command(args).await
    }

    /// Deletes everything.
    ///
    /// # Panics
    /// If a primary does not answer, or refuses.
    pub async fn flush_all(&self) {
        for primary in self.primaries().await {
            primary.flush_all().await;
        }
    }

    /// The keys of all primaries, sorted.
    ///
    /// # Panics
    /// If a primary does not answer.
    pub async fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for primary in self.primaries().await {
            keys.extend(primary.keys().await);
        }
        keys.sort();
        keys
    }

    /// Waits until all nodes that run agree who owns what and who follows whom, and their replicas are in step. Call it
    /// after [`restart`](RedisServer::restart) or [`resume`](RedisServer::resume) of a node. An owner that does not run,
    /// and that none has replaced, is not waited for.
    ///
    /// # Panics
    /// If they do not within a minute.
    pub async fn settle(&self) {
        until("the cluster to agree", || self.settled()).await;
    }

    /// Kills (SIGKILL) the owner of the slot of `key`, waits until its replica has taken over and the others agree, and
    /// returns the new owner. It takes 2 to 3 s on an idle machine.
    ///
    /// A write of the last moment may be lost, as with any Redis: [`settle`](Self::settle) first to keep all, or
    /// [`cut_replication`](Self::cut_replication) and then write to be sure of a loss.
    ///
    /// # Panics
    /// If it has no replica that runs, or nobody takes over within a minute.
    pub async fn fail_over(&self, key: impl AsRef<[u8]>) -> &RedisServer {
        self.replace(key, RedisServer::kill).await
    }

    /// As [`fail_over`](Self::fail_over), but pauses (SIGSTOP) the old owner, which thus does not know that it was
    /// replaced: once resumed it serves as if it were, for the milliseconds until the others tell it, and then follows
    /// its heir. [`settle`](Self::settle) waits for that.
    ///
    /// # Panics
    /// As [`fail_over`](Self::fail_over).
    pub async fn depose(&self, key: impl AsRef<[u8]>) -> &RedisServer {
        self.replace(key, RedisServer::pause).await
    }

    /// Lets the replica of the owner of the slot of `key` take over in good order (`CLUSTER FAILOVER`), with nothing
    /// lost, waits until all agree and the old owner follows, and returns the new owner.
    ///
    /// # Panics
    /// If there is no replica that runs, or it does not take over within a minute.
    pub async fn promote(&self, key: impl AsRef<[u8]>) -> &RedisServer {
        self.settle().await;
        let slot = self.slot_of(key).await;
        let old = self.owner(slot).await;
        let heir = self.heir(old).await;
        let ordered: Mutex<Option<Instant>> = Mutex::new(None);
        until("a replica to be promoted", || async {
            let view = self.settled().await?;
            if view.owner(slot).is_some_and(|owner| owner.port == heir.port()) {
                return Ok(());
            }
            let due = ordered.lock().is_none_or(|ordered| ordered.elapsed() > ORDER_AGAIN);
            if due {
                *ordered.lock() = Some(Instant::now());
                ask(heir, &["CLUSTER", "FAILOVER"]).await?;
            }
            Err(format!("{} is still the owner of slot {slot}", old.addr()))
        })
        .await;
        heir
    }

    /// Cuts the replica of the owner of the slot of `key` off, once it has all that was written so far. It answers as
    /// before, but gets nothing more: what is written from now on is lost by the next [`fail_over`](Self::fail_over) or
    /// [`depose`](Self::depose), which also end the cut.
    ///
    /// # Panics
    /// If there is no replica that runs.
    pub async fn cut_replication(&self, key: impl AsRef<[u8]>) {
        let primary = self.primary_of(key).await;
        cut(primary, self.heir(primary).await).await;
    }

    /// Ends all [`cut_replication`](Self::cut_replication): replicas catch up within a second or two, for which
    /// [`settle`](Self::settle) waits.
    ///
    /// # Panics
    /// If a node that runs does not answer.
    pub async fn restore_replication(&self) {
        for node in self.running() {
            restore(node).await;
        }
    }

    /// Moves `slot` with its keys to the primary `to`, and waits until all nodes agree.
    ///
    /// # Panics
    /// If `to` owns it already or is no primary, or a node refuses.
    pub async fn migrate_slot(&self, slot: u16, to: &RedisServer) {
        self.begin_migration(slot, to).await.finish().await;
    }

    /// Declares that `slot` moves to the primary `to`, and stops there: see [`Migration`] for how to go on.
    ///
    /// # Panics
    /// As [`migrate_slot`](Self::migrate_slot).
    pub async fn begin_migration<'a>(&'a self, slot: u16, to: &'a RedisServer) -> Migration<'a> {
        Migration::begin(self, slot, to).await
    }

    async fn replace(&self, key: impl AsRef<[u8]>, stop: fn(&RedisServer)) -> &RedisServer {
        let slot = self.slot_of(key).await;
        let old = self.owner(slot).await;
        let heir = self.heir(old).await;
        let others = || self.running().filter(|node| node.port() != old.port());
        for node in others() {
            hasten(node, true).await;
        }
        stop(old);
        // Nothing can come from the old one any more, and the heir may be asked to follow another.
        restore(heir).await;
        let new = until("a replica to take over", || async {
            let view = self.settled().await?;
            let owner = view.owner(slot).ok_or_else(|| format!("slot {slot} has no owner"))?;
            if owner.port == old.port() {
                return Err(format!("{} is still the owner of slot {slot}", old.addr()));
            }
            self.node(owner)
        })
        .await;
        for node in others() {
            hasten(node, false).await;
        }
        new
    }

    /// The running replica of `primary`, by what it says of itself.
    async fn heir(&self, primary: &RedisServer) -> &RedisServer {
        for node in self.running() {
            let view = view(node).await.unwrap_or_else(|why| panic!("{why}"));
            if view.followed_by(node.port()).is_some_and(|member| member.port == primary.port()) {
                return node;
            }
        }
        panic!("{} has no replica that runs", primary.addr())
    }

    async fn owner(&self, slot: u16) -> &RedisServer {
        until("a node to know the owner of a slot", || async {
            let views = self.views().await?;
            let owner = View::newest_owner(&views, slot);
            self.node(owner.ok_or_else(|| format!("slot {slot} has no owner"))?)
        })
        .await
    }

    /// What all nodes that run agree on, or why there is no such thing yet.
    async fn settled(&self) -> Result<View, String> {
        let running: Vec<_> = self.running().map(RedisServer::port).collect();
        let mut agreed: Option<View> = None;
        for node in self.running() {
            let info = ask_text(node, &["CLUSTER", "INFO"]).await?;
            let view = view(node).await?;
            if field(&info, "cluster_state") != Some("ok") {
                return Err(format!("{} is not in service", node.addr()));
            }
            if let Some(missing) = view.missing(self.nodes.len(), &running) {
                return Err(format!("{}: {missing}", node.addr()));
            }
            match &agreed {
                Some(agreed) if agreed.shape(&running) != view.shape(&running) => {
                    return Err(format!("{} and the others see different clusters", node.addr()));
                }
                Some(_) => {}
                None => agreed = Some(view),
            }
        }
        let agreed = agreed.ok_or("no node runs")?;
        for primary in agreed.members.iter().filter(|member| running.contains(&member.port)) {
            for replica in agreed.replicas(&primary.id).filter(|member| running.contains(&member.port)) {
                in_step(self.node(primary)?, self.node(replica)?).await?;
            }
        }
        Ok(agreed)
    }

    async fn views(&self) -> Result<Vec<View>, String> {
        let mut views = Vec::new();
        for node in self.running() {
            views.push(view(node).await?);
        }
        Ok(views)
    }

    fn running(&self) -> impl Iterator<Item = &RedisServer> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    fn node(&self, member: &Member) -> Result<&RedisServer, String> {
        let node = self.nodes.iter().find(|node| node.port() == member.port);
        node.ok_or_else(|| format!("a node on port {}, which is none of ours", member.port))
    }
}

async fn view(node: &RedisServer) -> Result<View, String> {
    View::parse(&ask_text(node, &["CLUSTER", "NODES"]).await?)
}
