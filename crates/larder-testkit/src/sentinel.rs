//! Real Redis Sentinels with the servers they watch, per test.

use parking_lot::Mutex;

use crate::redis::{RedisServerBuilder, start_all};
use crate::replication::{cut, in_step, restore};
use crate::settle::{ask, must, until};
use crate::{RedisServer, Reply};

/// The name under which clients ask the Sentinels for the primary.
const SERVICE: &str = "larder";
/// How many servers there are: a primary and two replicas.
const SERVERS: usize = 3;
/// How many Sentinels there are: the fewest of which two are a majority.
const SENTINELS: usize = 3;
/// How many Sentinels must find the primary dead.
const QUORUM: usize = 2;
/// How long a server may be silent before a Sentinel finds it dead. A replica that has been cut off for ten times this
/// when the primary dies is never promoted.
const DOWN_AFTER_MILLIS: u32 = 1_000;
/// How long a failover may take before it is given up; after twice this the next begins.
const FAILOVER_TIMEOUT_MILLIS: u32 = 3_000;

/// Rhythms of a Sentinel that no configuration file sets. Theirs are made for networks between towns: 2 s until it
/// tells the others of itself, 10 s between two looks at a server's role.
const RHYTHMS: [(&str, &str); 4] = [
    ("info-period", "250"),
    ("ping-period", "500"),
    ("ask-period", "250"),
    // A Sentinel that was paused, or kept from the processor, does nothing for this long.
    ("tilt-period", "1000"),
];
/// How often a Sentinel tells the others of itself until all know all.
const HELLO_AT_FIRST: &str = "100";
/// And then. It is Redis' own, because four times this is how long a deposed primary goes uncorrected.
const HELLO: &str = "2000";

/// A primary, two replicas and three Redis Sentinels (quorum 2) of this test's own, all on free ports of 127.0.0.1.
///
/// All are [`RedisServer`]s, and die with it. A primary that is silent for a second is replaced.
pub struct RedisSentinel {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
    /// The last primary that was replaced: its place among the servers.
    old: Mutex<Option<usize>>,
}

impl RedisSentinel {
    /// Starts all, and waits until the replicas are in step and the Sentinels know all servers and each other. It takes
    /// about 1 s.
    ///
    /// Cancel safe: dropping the future kills them.
    ///
    /// # Panics
    /// As [`RedisServerBuilder::start`], or if they do not agree within a minute.
    pub async fn start() -> Self {
        // A configuration file, so that a server that restarts is what the Sentinels last made of it.
        let server = RedisServerBuilder::default().config("").arg([
            "--repl-diskless-sync",
            "yes",
            "--repl-diskless-sync-delay",
            "0",
        ]);
        let servers = start_all(vec![server; SERVERS]).await;
        let primary = servers[0].port().to_string();
        for replica in &servers[1..] {
            follow(replica, &servers[0]).await;
        }
        let watch = format!(
            "sentinel monitor {SERVICE} 127.0.0.1 {primary} {QUORUM}\n\
             sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MILLIS}\n\
             sentinel failover-timeout {SERVICE} {FAILOVER_TIMEOUT_MILLIS}\n"
        );
        for replica in &servers[1..] {
            until("a replica to be in step", || in_step(&servers[0], replica)).await;
        }
        let sentinel = RedisServerBuilder::default().config(watch).arg(["--sentinel"]);
        let sentinels = start_all(vec![sentinel; SENTINELS]).await;
        let all = Self { servers, sentinels, old: Mutex::new(None) };
        for (name, value) in RHYTHMS {
            all.set_rhythm(name, value).await;
        }
        all.set_rhythm("publish-period", HELLO_AT_FIRST).await;
        all.settle().await;
        all.set_rhythm("publish-period", HELLO).await;
        all
    }

    /// `redis-sentinel://127.0.0.1:<port>,127.0.0.1:<port>,127.0.0.1:<port>/larder`: the Sentinels, and what to ask
    /// them for.
    pub fn url(&self) -> String {
        let addrs: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.addr().to_string()).collect();
        format!("redis-sentinel://{}/{SERVICE}", addrs.join(","))
    }

    /// The name under which the Sentinels know the primary: `larder`.
    pub fn service(&self) -> &'static str {
        SERVICE
    }

    /// The three servers: first the one that began as the primary.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The three Sentinels, to be killed, paused and asked like any server. One that was restarted keeps what it knows.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// The server that all running Sentinels name, once they name the same. It may be dead, if none has taken over.
    ///
    /// # Panics
    /// If they do not agree within a minute.
    pub async fn primary(&self) -> &RedisServer {
        until("the Sentinels to name the same primary", || self.named()).await
    }

    /// The running servers other than the [`primary`](Self::primary).
    ///
    /// # Panics
    /// As [`primary`](Self::primary).
    pub async fn replicas(&self) -> Vec<&RedisServer> {
        let primary = self.primary().await;
        self.running().filter(|server| server.port() != primary.port()).collect()
    }

    /// Waits until all Sentinels that run name the same primary and doubt none that lives, all servers that run follow
    /// it and are in step, and no failover is under way.
    ///
    /// # Panics
    /// If that does not come about within a minute.
    pub async fn settle(&self) {
        until("Sentinels and servers to agree", || self.settled()).await;
    }

    /// Kills (SIGKILL) the primary, waits until the Sentinels have another that answers as one and the remaining replica
    /// follows it, and returns it. It takes 3 to 5 s on an idle machine.
    ///
    /// A write of the last moment may be lost, as with any Redis: [`settle`](Self::settle) first to keep all, or
    /// [`cut_replication`](Self::cut_replication) and then write to be sure of a loss.
    ///
    /// # Panics
    /// If no replica runs, or that does not come about within a minute.
    pub async fn fail_over(&self) -> &RedisServer {
        self.replace(RedisServer::kill).await
    }

    /// As [`fail_over`](Self::fail_over), but pauses (SIGSTOP) the primary, which thus does not know that it was
    /// replaced: after `old_primary().resume()` it takes reads and writes as a primary, for at least 8 s or until
    /// [`rejoin_old`](Self::rejoin_old). What it is told then, nobody keeps.
    ///
    /// # Panics
    /// As [`fail_over`](Self::fail_over).
    pub async fn depose(&self) -> &RedisServer {
        self.replace(RedisServer::pause).await
    }

    /// The primary that [`fail_over`](Self::fail_over) or [`depose`](Self::depose) replaced last.
    ///
    /// A dead one that is restarted by hand comes up, empty, as a primary, and goes uncorrected for 8 s or more.
    ///
    /// # Panics
    /// If none was replaced yet.
    pub fn old_primary(&self) -> &RedisServer {
        &self.servers[self.old.lock().expect("a primary was replaced before")]
    }

    /// Brings the [`old_primary`](Self::old_primary) back, restarted or resumed as need be, as a replica: at once and
    /// with the commands that the Sentinels would give it 8 s later, which also end its clients' connections. Waits until
    /// it is in step.
    ///
    /// # Panics
    /// If none was replaced yet, or it does not follow within a minute.
    pub async fn rejoin_old(&self) {
        let primary = self.primary().await;
        let old = self.old_primary();
        if !old.is_running() {
            if old.is_alive() {
                old.resume();
            } else {
                old.restart().await;
            }
        }
        follow(old, primary).await;
        self.settle().await;
    }

    /// Cuts both replicas off, once they have all that was written so far. They answer as before, but get nothing more:
    /// what is written from now on is lost by the next [`fail_over`](Self::fail_over) or [`depose`](Self::depose), which
    /// also end the cut.
    ///
    /// Replace the primary within 8 s: no Sentinel promotes a replica that was cut off for longer than 10 s.
    ///
    /// # Panics
    /// If a server does not answer.
    pub async fn cut_replication(&self) {
        let primary = self.primary().await;
        for replica in self.replicas().await {
            cut(primary, replica).await;
        }
    }

    /// Ends [`cut_replication`](Self::cut_replication): replicas catch up within a second or two, for which
    /// [`settle`](Self::settle) waits.
    ///
    /// # Panics
    /// If a server that runs does not answer.
    pub async fn restore_replication(&self) {
        for server in self.running() {
            restore(server).await;
        }
    }

    async fn replace(&self, stop: fn(&RedisServer)) -> &RedisServer {
        let old = self.primary().await;
        *self.old.lock() = self.servers.iter().position(|server| server.port() == old.port());
        stop(old);
        assert!(self.running().next().is_some(), "no replica runs");
        // Nothing can come from the old one any more, and the replicas are to follow another.
        self.restore_replication().await;
        until("the Sentinels to replace the primary", || async {
            let named = self.settled().await?;
            if named.port() == old.port() { Err("they name the old one".to_owned()) } else { Ok(named) }
        })
        .await
    }

    /// The server that all running Sentinels name.
    async fn named(&self) -> Result<&RedisServer, String> {
        let mut named: Option<u16> = None;
        for sentinel in self.running_sentinels() {
            let reply = ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).await?;
            let port = reply
                .items()
                .get(1)
                .and_then(Reply::bytes)
                .and_then(|port| str::from_utf8(port).ok()?.parse().ok());
            let port = port.ok_or_else(|| format!("{} names {reply:?}", sentinel.addr()))?;
            if *named.get_or_insert(port) != port {
                return Err("they name different ones".to_owned());
            }
        }
        let named = named.ok_or("no Sentinel runs")?;
        let server = self.servers.iter().find(|server| server.port() == named);
        server.ok_or_else(|| format!("they name port {named}, which is none of ours"))
    }

    /// The primary that all agree on, or why there is no such thing yet.
    async fn settled(&self) -> Result<&RedisServer, String> {
        let primary = self.named().await?;
        if !primary.is_running() {
            return Err(format!("they name {}, which does not run", primary.addr()));
        }
        for replica in self.running().filter(|server| server.port() != primary.port()) {
            in_step(primary, replica).await?;
        }
        for sentinel in self.running_sentinels() {
            self.contents(sentinel).await.map_err(|why| format!("{}: {why}", sentinel.addr()))?;
        }
        Ok(primary)
    }

    /// What keeps `sentinel` from being content.
    async fn contents(&self, sentinel: &RedisServer) -> Result<(), String> {
        let Reply::Array(primary) = ask(sentinel, &["SENTINEL", "MASTER", SERVICE]).await? else {
            return Err("it tells nothing of the primary".to_owned());
        };
        if entry(&primary, "flags") != Some("master") {
            return Err(format!("the primary is {:?}", entry(&primary, "flags")));
        }
        let reply = ask(sentinel, &["SENTINEL", "REPLICAS", SERVICE]).await?;
        check(reply.items(), "slave", SERVERS - 1, self.running())?;
        let reply = ask(sentinel, &["SENTINEL", "SENTINELS", SERVICE]).await?;
        check(reply.items(), "sentinel", SENTINELS - 1, self.running_sentinels())
    }

    fn running(&self) -> impl Iterator<Item = &RedisServer> {
        self.servers.iter().filter(|server| server.is_running())
    }

    fn running_sentinels(&self) -> impl Iterator<Item = &RedisServer> {
        self.sentinels.iter().filter(|sentinel| sentinel.is_running())
    }

    async fn set_rhythm(&self, name: &str, value: &str) {
        for sentinel in &self.sentinels {
            must(sentinel, &["SENTINEL", "DEBUG", name, value]).await;
        }
    }
}

/// Makes `replica` follow `primary`, as Sentinels do it: it remembers it when it restarts, and its clients are put off.
async fn follow(replica: &RedisServer, primary: &RedisServer) {
    must(replica, &["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).await;
    must(replica, &["CONFIG", "REWRITE"]).await;
    must(replica, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    must(replica, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
}

/// Whether a Sentinel tells of so many `others`, and of those that run nothing but good: their `flags` and no more.
fn check<'a>(
    others: &[Reply],
    flags: &str,
    count: usize,
    mut running: impl Iterator<Item = &'a RedisServer>,
) -> Result<(), String> {
    if others.len() != count {
        return Err(format!("it knows {} of {count} ({flags})", others.len()));
    }
    let doubted = |server: &RedisServer| {
        let port = server.port().to_string();
        let of_server = others.iter().find(|other| entry(other.items(), "port") == Some(&port));
        of_server.is_some_and(|other| entry(other.items(), "flags") != Some(flags))
    };
    running
        .find(|server| doubted(server))
        .map_or(Ok(()), |server| Err(format!("it doubts {}", server.addr())))
}

/// The value behind `name` in a flat list of names and values.
fn entry<'a>(list: &'a [Reply], name: &str) -> Option<&'a str> {
    let (pairs, _) = list.as_chunks::<2>();
    let [_, value] = pairs.iter().find(|[key, _]| key.bytes() == Some(name.as_bytes()))?;
    str::from_utf8(value.bytes()?).ok()
}
