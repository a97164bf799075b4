//! Being woken: on a connection by itself, which comes back, and without which nothing fails.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_core::{LeaseAnswer, Remote, Wake};
use larder_redis::{Redis, RedisRemote};
use larder_testkit::{Fault, FaultProxy, RedisCluster, RedisServer, Reply, wait_for, wait_until};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;

use crate::leases::request;
use crate::support::{
    DEADLINE, WORKER, ask, ask_text, build, connect, connect_to_all, connected, connections, generation,
    generation_of, runtime, wait_up,
};

/// Twice as long a silence ends a connection: longer than a busy machine keeps a server from answering.
const BEAT: Duration = Duration::from_millis(500);
const WAITER: u64 = 0xfeed;
const CHANNEL: &[u8] = b"larder:wake:000000000000feed";

/// One node that has leases, and one that waits for them.
struct Pair {
    holder: Arc<RedisRemote>,
    waiter: Arc<RedisRemote>,
    wakes: broadcast::Receiver<Wake>,
    tokens: u64,
}

impl Pair {
    fn new(holder: Arc<RedisRemote>, waiter: Arc<RedisRemote>) -> Pair {
        Pair { holder, wakes: waiter.wakes(WAITER), waiter, tokens: 0 }
    }

    /// A lease is granted, waited for, and given back.
    async fn round(&mut self, key: &str) {
        self.tokens += 2;
        let (held, refused) = (self.tokens, self.tokens + 1);
        let granted = self.holder.lease(key.as_bytes(), &request(held, 1)).await;
        assert_eq!(granted, Ok(LeaseAnswer::Granted));
        let answer = self.waiter.lease(key.as_bytes(), &request(refused, WAITER)).await;
        assert!(matches!(answer, Ok(LeaseAnswer::Held { token, .. }) if token == held), "{answer:?}");
        assert_eq!(self.holder.release(key.as_bytes(), held, true).await, Ok(()));
    }

    /// Does a wake come soon?
    async fn is_woken(&mut self, key: &str) -> bool {
        let runtime = runtime();
        while self.wakes.try_recv().is_ok() {}
        self.round(key).await;
        tokio::select! {
            biased;
            wake = self.wakes.recv() => {
                let key = Bytes::copy_from_slice(key.as_bytes());
                assert_eq!(wake, Ok(Wake { key, shared: true }));
                true
            }
            () = runtime.sleep(BEAT) => false,
        }
    }

    /// Waits until wakes come (again).
    async fn wait_woken(&mut self, key: &str) {
        wait_for(DEADLINE, "a wake", async || self.is_woken(key).await).await;
    }
}

/// The connections that are subscribed to something, by their numbers.
async fn subscriptions(server: &RedisServer) -> Vec<String> {
    let list = ask_text(server, &["CLIENT", "LIST", "TYPE", "PUBSUB"]).await.unwrap();
    list.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_node_subscribes_when_somebody_listens_first_and_lets_go_when_it_is_closed() {
    let server = RedisServer::start().await;
    let holder = connected(&server).await;
    assert_eq!(connections(&server).await, 3);
    let early = build(Redis::at(server.url()));
    let mut pair = Pair::new(Arc::clone(&holder), Arc::clone(&early));
    early.connect();
    wait_up(&early).await;
    pair.wait_woken("k").await;
    assert_eq!((subscriptions(&server).await.len(), connections(&server).await), (1, 7));
    // One connection for all who listen.
    let mut others = [holder.wakes(1), holder.wakes(2), holder.wakes(1)];
    wait_for(DEADLINE, "both to be subscribed", async || {
        let channels = ask(&server, &["PUBSUB", "CHANNELS", "larder:wake:*"]).await;
        channels.items().len() == 3
    })
    .await;
    assert_eq!(connections(&server).await, 8);
    assert_eq!(ask(&server, &["PUBLISH", "larder:wake:0000000000000001", "0x"]).await, Reply::Int(1));
    // What makes no sense is passed over.
    for message in ["", "x", "2k"] {
        assert_eq!(ask(&server, &["PUBLISH", "larder:wake:0000000000000002", message]).await, Reply::Int(1));
    }
    assert_eq!(ask(&server, &["PUBLISH", "larder:wake:0000000000000002", "1y"]).await, Reply::Int(1));
    for (listener, key, shared) in [(0, "x", false), (1, "y", true), (2, "x", false)] {
        let expected = Wake { key: Bytes::from(key), shared };
        wait_for(DEADLINE, "the wake", async || others[listener].recv().await == Ok(expected.clone())).await;
        assert_eq!(others[listener].try_recv(), Err(TryRecvError::Empty));
    }
    // A number that nobody listens to any more is let go of when another comes.
    drop(others);
    let _third = holder.wakes(3);
    wait_for(DEADLINE, "the others to be let go of", async || {
        ask(&server, &["PUBSUB", "CHANNELS", "larder:wake:*"]).await.items().len() == 2
    })
    .await;
    holder.close();
    early.close();
    wait_for(DEADLINE, "the connections to go", async || connections(&server).await == 0).await;
}

#[tokio::test]
async fn a_subscription_that_is_cut_comes_back_and_nothing_else_is_disturbed() {
    let server = RedisServer::start().await;
    let mut pair = Pair::new(connected(&server).await, connected(&server).await);
    pair.wait_woken("k").await;
    for _ in 0..3 {
        assert_eq!(ask(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]).await, Reply::Int(1));
        pair.wait_woken("k").await;
    }
    assert_eq!((generation(&pair.waiter), generation_of(&pair.waiter.log_link())), (1, 1));
    server.kill();
    server.restart().await;
    wait_for(DEADLINE, "both to work", async || {
        pair.holder.get(b"x").await.is_ok() && pair.waiter.get(b"x").await.is_ok()
    })
    .await;
    pair.wait_woken("k").await;
}

/// Nothing is sent on this connection but heartbeats, and nothing comes for hours: a way that leads nowhere would go unnoticed.
#[tokio::test]
async fn a_subscription_that_leads_nowhere_is_noticed_and_made_anew() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let quick = Redis::at(server.url()).heartbeat(BEAT).connect_timeout(BEAT);
    let waiter = connect(quick.log_at(proxy.addr().to_string())).await;
    let mut pair = Pair::new(connected(&server).await, waiter);
    pair.wait_woken("k").await;
    for fault in [Fault::BlackHole, Fault::HalfOpen] {
        let before = proxy.accepted();
        // Of this connection alone, and of those that are made in its place.
        proxy.set_where(b"SUBSCRIBE", fault);
        wait_until(DEADLINE, "another one to be made", || proxy.accepted() > before).await;
        assert!(!pair.is_woken("k").await);
        proxy.set(Fault::None);
        pair.wait_woken("k").await;
    }
    assert_eq!((generation(&pair.waiter), generation_of(&pair.waiter.log_link())), (1, 1));
}

/// As a user of the server's access lists is by default: every command, every key it needs, and no channel.
#[tokio::test]
async fn a_user_without_channels_asks_again_and_is_woken_when_he_is_given_some() {
    let server = RedisServer::start().await;
    assert_eq!(ask(&server, &WORKER).await, Reply::Simple("OK".into()));
    let worker = || Redis::at(server.url()).username("app").password("pw");
    let mut pair = Pair::new(connect(worker()).await, connect(worker()).await);
    pair.round("k").await;
    // Of the subscription (`toplevel`), and of what the script would publish (`lua`).
    for context in [b"toplevel".as_slice(), b"lua"] {
        wait_for(DEADLINE, "the refusal", async || {
            let log = ask(&server, &["ACL", "LOG"]).await;
            let told =
                |entry: &Reply, word: &[u8]| entry.items().iter().any(|said| said.bytes() == Some(word));
            log.items().iter().any(|entry| told(entry, context) && told(entry, CHANNEL))
        })
        .await;
    }
    // It asks again, and the lease is free.
    let answer = pair.waiter.lease(b"k", &request(u64::MAX, WAITER)).await;
    assert_eq!(answer, Ok(LeaseAnswer::Granted));
    assert_eq!(pair.waiter.release(b"k", u64::MAX, true).await, Ok(()));
    assert_eq!(pair.wakes.try_recv(), Err(TryRecvError::Empty));
    assert_eq!((generation(&pair.waiter), generation_of(&pair.waiter.log_link())), (1, 1));
    assert_eq!(connections(&server).await, 7, "the one for wakes is not opened again and again");

    ask(&server, &["ACL", "SETUSER", "app", "&larder:wake:*"]).await;
    ask(&server, &["CLIENT", "KILL", "USER", "app"]).await;
    wait_for(DEADLINE, "both to work", async || {
        pair.holder.get(b"x").await.is_ok() && pair.waiter.get(b"x").await.is_ok()
    })
    .await;
    pair.wait_woken("k").await;
}

/// The commands themselves are forbidden, and the greeting of the newer protocol.
#[tokio::test]
async fn a_server_without_the_commands_for_it_has_leases_all_the_same() {
    for forbidden in ["PUBLISH", "SUBSCRIBE", "HELLO"] {
        let server = RedisServer::builder().arg(["--rename-command", forbidden, ""]).start().await;
        let mut pair = Pair::new(connected(&server).await, connected(&server).await);
        for _ in 0..3 {
            pair.round("k").await;
        }
        assert_eq!(pair.wakes.try_recv(), Err(TryRecvError::Empty), "{forbidden}");
        assert_eq!((generation(&pair.waiter), generation_of(&pair.waiter.log_link())), (1, 1));
    }
}

/// The subscription is at the primary of the log's slot; what is published at any node comes there, also after a failover.
#[tokio::test]
async fn in_a_cluster_a_wake_comes_from_whichever_node_has_the_lease() {
    let cluster = RedisCluster::start().await;
    let (holder, waiter) =
        (connect_to_all(Redis::at(cluster.url())).await, connect_to_all(Redis::at(cluster.url())).await);
    let mut pair = Pair::new(holder, waiter);
    let mut keys = Vec::new();
    for primary in cluster.primaries().await {
        for i in 0..100 {
            let key = format!("k:{i}");
            if cluster.primary_of(format!("larder:{key}")).await.addr() == primary.addr() {
                keys.push(key);
                break;
            }
        }
    }
    assert_eq!(keys.len(), 3);
    for key in &keys {
        pair.wait_woken(key).await;
    }
    cluster.settle().await;
    let dead = cluster.primary_of("{larder}:log").await.addr();
    let heir = cluster.fail_over("{larder}:log").await;
    wait_for(DEADLINE, "the heir to be subscribed at", async || subscriptions(heir).await.len() == 1).await;
    for key in &keys {
        wait_for(DEADLINE, "its slot to be served", async || pair.holder.get(key.as_bytes()).await.is_ok())
            .await;
        wait_for(DEADLINE, "its slot to be served", async || pair.waiter.get(key.as_bytes()).await.is_ok())
            .await;
        pair.wait_woken(key).await;
    }
    assert_ne!(heir.addr(), dead);
}
