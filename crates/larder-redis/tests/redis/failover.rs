//! The log when the server behind the name is another one: promoted, demoted, restarted.

use std::time::Duration;

use larder_core::{Epoch, Link, Remote};
use larder_redis::Redis;
use larder_testkit::{RedisServer, wait_for};

use crate::support::{DEADLINE, append, ask, ask_text, build, connected, open, wait_down, wait_up};

const STATE: &str = "{larder}:state";

async fn replicate(replica: &RedisServer, primary: &RedisServer) {
    ask(replica, &["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).await;
    wait_for(DEADLINE, "the replica to be in step", async || {
        ask_text(replica, &["INFO", "replication"])
            .await
            .is_some_and(|info| info.contains("master_link_status:up"))
    })
    .await;
}

async fn wait_for_position(replica: &RedisServer, position: Epoch) {
    let at = position.at.to_string();
    wait_for(DEADLINE, "the replica to have the position", async || {
        ask_text(replica, &["HGET", STATE, ".last"]).await.as_ref() == Some(&at)
    })
    .await;
}

/// A has a replica B. B is promoted; A, which does not know, acknowledges one more record, which B never sees.
#[tokio::test]
async fn a_promoted_server_cuts_the_line_where_its_history_ends() {
    let (a, b) = (RedisServer::start().await, RedisServer::start().await);
    let on_a = connected(&a).await;
    let first = open(&on_a, None).await.head;
    replicate(&b, &a).await;

    // The first replica changes the server's identity: a new line, nothing lost.
    let opened = open(&on_a, Some(first)).await;
    assert_ne!(opened.head.line, first.line);
    assert_eq!(opened.lineage.cuts(), [first]);
    let shared = opened.head;
    wait_for_position(&b, shared).await;

    ask(&b, &["REPLICAOF", "NO", "ONE"]).await;
    let lost = append(&on_a, shared, &["lost"]).await;
    assert_eq!(lost.line, shared.line);

    let on_b = connected(&b).await;
    let promoted = open(&on_b, Some(lost)).await;
    assert_ne!(promoted.head.line, shared.line);
    assert_eq!(promoted.lineage.cuts(), [first, shared]);
    assert!(on_b.scan().await.unwrap().is_empty(), "what was lost is not in its stamps");
    let barrier = on_b.follow(shared, 9, Duration::ZERO).await.unwrap().records.remove(0);
    assert_eq!((barrier.prev, barrier.epoch), (Some(shared), promoted.head));

    // A second node from the lost tail gets a barrier of its own, one from before the cut none.
    let second = open(&on_b, Some(lost)).await.head;
    assert_eq!(second.line, promoted.head.line);
    assert!(second.at > promoted.head.at);
    assert_eq!(open(&on_b, Some(shared)).await.head, second);
}

#[tokio::test]
async fn a_restart_that_keeps_the_data_begins_a_line_with_the_old_one_as_its_history() {
    let server = RedisServer::builder().persistent(true).start().await;
    let remote = connected(&server).await;
    let start = open(&remote, None).await.head;
    let last = append(&remote, start, &["k"]).await;
    server.restart().await;
    wait_for(DEADLINE, "the log to open again", async || remote.open(Some(last), 77).await.is_ok()).await;
    let opened = open(&remote, Some(last)).await;
    assert_eq!(opened.head.line, 77);
    assert_eq!(opened.lineage.cuts(), [last]);
    assert_eq!(remote.scan().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_restart_without_data_begins_a_line_without_ancestors() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let start = open(&remote, None).await.head;
    server.restart().await;
    wait_for(DEADLINE, "the log to open again", async || remote.open(Some(start), 77).await.is_ok()).await;
    let opened = open(&remote, Some(start)).await;
    assert_eq!(opened.head.line, 77);
    assert!(opened.lineage.cuts().is_empty());
}

#[tokio::test]
async fn a_replica_is_refused_until_it_is_promoted() {
    let (a, b) = (RedisServer::start().await, RedisServer::start().await);
    replicate(&b, &a).await;
    let remote = build(Redis::at(b.url()));
    remote.connect();
    wait_down(&remote, "READONLY").await;
    ask(&b, &["REPLICAOF", "NO", "ONE"]).await;
    wait_up(&remote).await;
}

#[tokio::test]
async fn a_demoted_primary_is_noticed_although_nobody_writes() {
    let (a, b) = (RedisServer::start().await, RedisServer::start().await);
    let remote = connected(&a).await;
    ask(&a, &["REPLICAOF", "127.0.0.1", &b.port().to_string()]).await;
    // A replica drops nobody; the heartbeat asks for a write.
    wait_down(&remote, "READONLY").await;
    ask(&a, &["REPLICAOF", "NO", "ONE"]).await;
    wait_up(&remote).await;
    assert!(open(&remote, None).await.lineage.cuts().is_empty());
}

#[tokio::test]
async fn while_a_server_loads_its_data_the_reason_says_so() {
    let server = RedisServer::builder().persistent(true).arg(["--key-load-delay", "200"]).start().await;
    // Some two seconds of loading, in which it answers every 1024 keys.
    let fill = "for i = 1, 10000 do redis.call('SET', 'x' .. i, 'y') end";
    ask(&server, &["EVAL", fill, "0"]).await;
    let remote = connected(&server).await;
    let ((), ()) = tokio::join!(server.restart(), wait_down(&remote, "LOADING"));
    wait_up(&remote).await;
    assert!(matches!(*remote.link().borrow(), Link::Up { generation } if generation > 1));
}
