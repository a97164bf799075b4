//! Real Sentinels and their servers do what tests rely on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use larder_testkit::{RedisSentinel, RedisServer, Reply};

fn text(value: &str) -> Reply {
    Reply::Bulk(value.as_bytes().to_vec())
}

async fn set(server: &RedisServer, value: &str) {
    assert_eq!(server.command(&["SET", "k", value]).await.unwrap(), Reply::Simple("OK".into()));
}

async fn get(server: &RedisServer) -> Reply {
    server.command(&["GET", "k"]).await.unwrap()
}

async fn role(server: &RedisServer) -> Reply {
    server.command(&["ROLE"]).await.unwrap().items()[0].clone()
}

/// The future of each public operation can be given to a task of its own, to run beside a load.
#[expect(dead_code, reason = "it is enough that it compiles")]
fn operations_can_be_spawned(redis: &'static RedisSentinel) {
    fn sendable(_: impl Future<Output: Send> + Send) {}
    sendable(RedisSentinel::start());
    sendable(redis.fail_over());
    sendable(redis.rejoin_old());
    sendable(redis.cut_replication());
}

/// The primary dies twice, and comes back each time as a replica.
#[tokio::test]
async fn a_primary_that_dies_is_replaced_and_comes_back_as_a_replica_and_so_does_the_next() {
    let redis = RedisSentinel::start().await;
    let addrs: Vec<_> = redis.sentinels().iter().map(|sentinel| sentinel.addr().to_string()).collect();
    assert_eq!(redis.url(), format!("redis-sentinel://{}/larder", addrs.join(",")));
    for sentinel in redis.sentinels() {
        assert_eq!(role(sentinel).await, text("sentinel"));
    }
    let first = redis.primary().await;
    assert_eq!(first.addr(), redis.servers()[0].addr());
    assert_eq!(redis.replicas().await.len(), 2);

    let mut primary = first;
    for value in ["1", "2"] {
        set(primary, value).await;
        redis.settle().await;
        let old = primary;
        primary = redis.fail_over().await;
        assert_ne!(primary.addr(), old.addr());
        assert_eq!(redis.old_primary().addr(), old.addr());
        assert_eq!(redis.primary().await.addr(), primary.addr());
        assert_eq!(role(primary).await, text("master"));
        assert!(old.command(&["PING"]).await.is_err(), "the old primary is dead");
        assert_eq!(redis.replicas().await.len(), 1);

        redis.rejoin_old().await;
        assert_eq!(redis.primary().await.addr(), primary.addr());
        for replica in redis.replicas().await {
            assert_eq!(role(replica).await, text("slave"));
            assert_eq!(get(replica).await, text(value));
        }
        assert_eq!(redis.replicas().await.len(), 2);
    }
}

/// A primary is out of reach while another takes its place. Back again it knows nothing of that, takes a write and
/// answers it; then it is told.
#[tokio::test]
async fn a_deposed_primary_serves_on_until_it_rejoins_and_forgets_what_it_was_told() {
    let redis = RedisSentinel::start().await;
    let old = redis.primary().await;
    set(old, "kept").await;
    redis.settle().await;
    let new = redis.depose().await;
    assert_ne!(new.addr(), old.addr());
    assert_eq!(get(new).await, text("kept"));

    old.resume();
    assert_eq!(role(old).await, text("master"));
    set(old, "lost").await;
    assert_eq!(get(old).await, text("lost"));
    assert_eq!(role(new).await, text("master"), "there are two");
    assert_eq!(redis.primary().await.addr(), new.addr());

    redis.rejoin_old().await;
    assert_eq!(role(old).await, text("slave"));
    assert_eq!(get(old).await, text("kept"));
}

/// A write is acknowledged by a primary whose replicas no longer get anything, and which then dies.
#[tokio::test]
async fn a_write_after_the_cut_is_lost_by_the_failover_and_one_before_it_is_kept() {
    let redis = RedisSentinel::start().await;
    let old = redis.primary().await;
    set(old, "kept").await;
    redis.cut_replication().await;
    set(old, "lost").await;
    assert_eq!(get(old).await, text("lost"));
    for replica in redis.replicas().await {
        assert_eq!(get(replica).await, text("kept"), "a replica that is cut off answers");
    }
    let new = redis.fail_over().await;
    assert_eq!(get(new).await, text("kept"));

    // The cut is over: what is written now arrives.
    set(new, "again").await;
    redis.rejoin_old().await;
    for replica in redis.replicas().await {
        assert_eq!(get(replica).await, text("again"));
    }
}
