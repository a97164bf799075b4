//! A real cluster does what tests rely on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use larder_testkit::{RedisCluster, RedisServer, Reply, wait_for};

const SOON: Duration = Duration::from_secs(30);

fn ok() -> Reply {
    Reply::Simple("OK".into())
}

fn text(value: &str) -> Reply {
    Reply::Bulk(value.as_bytes().to_vec())
}

async fn set(cluster: &RedisCluster, key: &str, value: &str) {
    assert_eq!(cluster.command_on(key, &["SET", key, value]).await.unwrap(), ok());
}

async fn get(cluster: &RedisCluster, key: &str) -> Reply {
    cluster.command_on(key, &["GET", key]).await.unwrap()
}

async fn role(server: &RedisServer) -> Reply {
    server.command(&["ROLE"]).await.unwrap().items()[0].clone()
}

/// One key in each third of the slots: 3300, 7365 and 12182 have been the slots of these since Redis 3.
const KEYS: [&str; 3] = ["b", "c", "foo"];

/// The future of each public operation can be given to a task of its own, to run beside a load.
#[expect(dead_code, reason = "it is enough that it compiles")]
fn operations_can_be_spawned(cluster: &'static RedisCluster) {
    fn sendable(_: impl Future<Output: Send> + Send) {}
    sendable(RedisCluster::start());
    sendable(cluster.fail_over("k"));
    sendable(cluster.promote("k"));
    sendable(cluster.migrate_slot(1, &cluster.nodes()[0]));
    sendable(cluster.cut_replication("k"));
    sendable(cluster.keys());
    sendable(cluster.command_on("k", &["GET", "k"]));
}

#[tokio::test]
async fn a_new_cluster_serves_each_key_at_one_of_three_primaries_with_a_replica_in_step() {
    let cluster = RedisCluster::start().await;
    let primaries = cluster.primaries().await;
    let addrs: Vec<_> = primaries.iter().map(|node| node.addr().to_string()).collect();
    assert_eq!(cluster.url(), format!("redis-cluster://{}", addrs.join(",")));
    assert_eq!(cluster.nodes().len(), 6);
    for (key, node) in KEYS.iter().zip(&primaries) {
        assert_eq!(cluster.primary_of(key).await.addr(), node.addr());
        assert_eq!(role(cluster.replica_of(key).await).await, text("slave"));
        set(&cluster, key, "v").await;
    }
    assert_eq!(cluster.slot_of("foo").await, 12_182);
    assert_eq!(cluster.slot_of("x{foo}y").await, 12_182);
    let moved = Reply::Error(format!("MOVED 12182 {}", primaries[2].addr()));
    assert_eq!(primaries[0].command(&["GET", "foo"]).await.unwrap(), moved);
    assert_eq!(cluster.keys().await, KEYS.map(str::as_bytes));
    // Every replica has what its primary has.
    cluster.settle().await;
    for key in KEYS {
        assert_eq!(cluster.replica_of(key).await.keys().await, [key.as_bytes()]);
    }
    cluster.flush_all().await;
    assert!(cluster.keys().await.is_empty());
}

/// The owner of a key dies, its replica takes over, the dead one comes back and follows, and is then made the owner
/// again in good order. What was in step is never lost.
#[tokio::test]
async fn an_owner_that_dies_is_replaced_comes_back_as_a_replica_and_can_be_promoted_again() {
    let cluster = RedisCluster::start().await;
    let old = cluster.primary_of("foo").await;
    let heir = cluster.replica_of("foo").await;
    set(&cluster, "foo", "1").await;
    cluster.settle().await;

    let new = cluster.fail_over("foo").await;
    assert_eq!(new.addr(), heir.addr());
    assert_eq!(cluster.primary_of("foo").await.addr(), heir.addr());
    assert_eq!(role(new).await, text("master"));
    assert!(old.command(&["PING"]).await.is_err(), "the old owner is dead");
    assert_eq!(get(&cluster, "foo").await, text("1"));
    let others: Vec<_> = cluster.primaries().await.iter().map(|node| node.port()).collect();
    assert_eq!(others.len(), 3);
    assert!(!others.contains(&old.port()));

    set(&cluster, "foo", "2").await;
    old.restart().await;
    cluster.settle().await;
    assert_eq!(cluster.replica_of("foo").await.addr(), old.addr());
    assert_eq!(role(old).await, text("slave"));

    set(&cluster, "foo", "3").await;
    assert_eq!(cluster.promote("foo").await.addr(), old.addr());
    assert_eq!(cluster.primary_of("foo").await.addr(), old.addr());
    assert_eq!(cluster.replica_of("foo").await.addr(), heir.addr());
    assert_eq!(get(&cluster, "foo").await, text("3"));
}

/// A write is acknowledged by an owner whose replica no longer gets anything. The owner is stopped but not killed, and
/// so comes back with the write in its memory.
#[tokio::test]
async fn a_write_after_the_cut_is_lost_when_the_owner_is_deposed_and_stays_lost_when_it_comes_back() {
    let cluster = RedisCluster::start().await;
    set(&cluster, "foo", "kept").await;
    cluster.cut_replication("foo").await;
    set(&cluster, "foo", "lost").await;
    assert_eq!(get(&cluster, "foo").await, text("lost"));

    let old = cluster.primary_of("foo").await;
    let new = cluster.depose("foo").await;
    assert_ne!(new.addr(), old.addr());
    assert_eq!(get(&cluster, "foo").await, text("kept"));

    old.resume();
    cluster.settle().await;
    assert_eq!(cluster.replica_of("foo").await.addr(), old.addr());
    assert_eq!(get(&cluster, "foo").await, text("kept"));

    // The cut is over: what is written now arrives.
    set(&cluster, "foo", "again").await;
    cluster.settle().await;
    cluster.fail_over("foo").await;
    assert_eq!(get(&cluster, "foo").await, text("again"));
}

#[tokio::test]
async fn a_cut_that_is_restored_loses_nothing() {
    let cluster = RedisCluster::start().await;
    cluster.cut_replication("foo").await;
    set(&cluster, "foo", "late").await;
    let replica = cluster.replica_of("foo").await;
    assert!(replica.keys().await.is_empty(), "it is cut off");
    cluster.restore_replication().await;
    wait_for(SOON, "the write to arrive", async || !replica.keys().await.is_empty()).await;
    cluster.settle().await;
}

/// A slot with more keys than move at once, stopped half-way twice: before any key has moved, and after all have.
#[tokio::test]
async fn a_slot_that_migrates_is_answered_for_at_both_ends_until_it_has_a_new_owner() {
    let cluster = RedisCluster::builder().replicas(0).start().await;
    assert_eq!(cluster.nodes().len(), 3);
    let slot = cluster.slot_of("foo").await;
    let to = &cluster.nodes()[0];
    for n in 0..250 {
        set(&cluster, &format!("{{foo}}{n}"), "v").await;
    }
    let ask = Reply::Error(format!("ASK {slot} {}", to.addr()));
    let moved = |node: &RedisServer| Reply::Error(format!("MOVED {slot} {}", node.addr()));

    let migration = cluster.begin_migration(slot, to).await;
    let from = migration.from();
    assert_eq!(migration.to().addr(), to.addr());
    assert_eq!(cluster.primary_of("foo").await.addr(), from.addr());
    assert_eq!(get(&cluster, "{foo}0").await, text("v"), "what is still there is answered");
    assert_eq!(get(&cluster, "{foo}none").await, ask);

    assert_eq!(migration.move_keys().await, 250);
    assert_eq!(get(&cluster, "{foo}0").await, ask);
    assert_eq!(to.command(&["GET", "{foo}0"]).await.unwrap(), moved(from), "without ASKING");
    assert_eq!(cluster.keys().await.len(), 250);

    migration.finish().await;
    assert_eq!(cluster.primary_of("foo").await.addr(), to.addr());
    assert_eq!(get(&cluster, "{foo}0").await, text("v"));
    assert_eq!(from.command(&["GET", "{foo}0"]).await.unwrap(), moved(to));

    cluster.migrate_slot(slot, from).await;
    assert_eq!(cluster.primary_of("foo").await.addr(), from.addr());
    assert_eq!(get(&cluster, "{foo}249").await, text("v"));
    assert_eq!(cluster.keys().await.len(), 250);
}
