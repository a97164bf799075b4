//! A cluster: values on all primaries, the log on one, and both follow wherever their slots go.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use larder_core::{Cursor, Epoch, Link, Mode, Remote};
use larder_redis::{Redis, RedisRemote};
use larder_testkit::{RedisCluster, RedisServer, Reply, wait_for};

use crate::support::{
    DEADLINE, WORKER, append, ask, build, connect_to_all, generation, generation_of, open, record, records,
    runtime, wait_link_down, wait_link_up, wait_up,
};
use crate::values::{MINUTE, apart, value};

const LONG: Duration = Duration::from_secs(60);
const LOG: &str = "{larder}:log";

async fn try_store(remote: &RedisRemote, key: &str, at: u64) -> bool {
    let epoch = Epoch { line: 1, at };
    remote.store(key.as_bytes(), apart(epoch, value(epoch, key), MINUTE)).await.is_ok()
}

async fn store(remote: &RedisRemote, key: &str, at: u64) {
    let epoch = Epoch { line: 1, at };
    remote.store(key.as_bytes(), apart(epoch, value(epoch, key), MINUTE)).await.expect("it is stored");
}

async fn body(remote: &RedisRemote, key: &str) -> Option<String> {
    let bytes = remote.get(key.as_bytes()).await.expect("it is answered")?;
    Some(String::from_utf8(bytes[20..].to_vec()).unwrap())
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("k:{i}")).collect()
}

/// The name of a value's key in Redis.
fn name(key: &str) -> String {
    format!("larder:{key}")
}

async fn walk(remote: &RedisRemote, under: &[u8]) -> BTreeMap<String, Epoch> {
    let mut found = BTreeMap::new();
    let mut cursor = Some(Cursor::default());
    while let Some(at) = cursor {
        let page = remote.page(&[under], at, 10).await.expect("a page");
        for (name, bytes) in page.values {
            let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
            let epoch = Epoch { line: number(4), at: number(12) };
            found.insert(String::from_utf8(name).unwrap(), epoch);
        }
        cursor = page.next;
    }
    found
}

#[tokio::test]
async fn values_are_spread_over_all_primaries_and_found_again_walked_and_discarded() {
    let cluster = RedisCluster::start().await;
    let remote = connect_to_all(Redis::at(cluster.url()).connections(2)).await;
    let keys = keys(300);
    for key in &keys {
        store(&remote, key, 5).await;
        assert_eq!(body(&remote, key).await.as_ref(), Some(key));
    }
    for primary in cluster.primaries().await {
        assert!(primary.keys().await.len() > 50, "a third of the values, about");
    }
    store(&remote, "k:7", 9).await;
    open(&remote, None).await;

    let found = walk(&remote, b"k:").await;
    assert_eq!(found.keys().collect::<BTreeSet<_>>(), keys.iter().collect::<BTreeSet<_>>());
    assert_eq!(walk(&remote, b"k:1").await.len(), 111);
    let named: Vec<_> = keys.iter().map(|key| (key.clone().into_bytes(), Epoch { line: 1, at: 5 })).collect();
    assert_eq!(remote.discard(&named).await, Ok(299));
    assert_eq!(walk(&remote, b"").await.into_keys().collect::<Vec<_>>(), ["k:7"]);
    remote.remove(b"k:7").await.unwrap();
    assert!(walk(&remote, b"").await.is_empty());
    // Beyond the last server there is the end, not an error.
    assert_eq!(remote.page(&[b""], Cursor { server: 99, at: 0 }, 10).await.unwrap().next, None);
}

#[tokio::test]
async fn any_node_is_seed_enough_also_a_replica_and_dead_ones_are_passed_over() {
    let cluster = RedisCluster::start().await;
    let replica = cluster.nodes()[4].addr().to_string();
    let remote = connect_to_all(Redis::cluster(["127.0.0.1:1", &replica])).await;
    for key in keys(30) {
        store(&remote, &key, 1).await;
    }
    append(&remote, open(&remote, None).await.head, &["k"]).await;
    assert_eq!(remote.describe(), format!("redis-cluster://127.0.0.1:1,{replica}"));
}

#[tokio::test]
async fn a_user_without_dangerous_commands_can_do_everything() {
    let cluster = RedisCluster::start().await;
    for node in cluster.nodes() {
        assert_eq!(ask(node, &WORKER).await, Reply::Simple("OK".into()));
    }
    let remote = connect_to_all(Redis::at(cluster.url()).username("app").password("pw")).await;
    for key in keys(20) {
        store(&remote, &key, 1).await;
        assert_eq!(body(&remote, &key).await, Some(key));
    }
    assert_eq!(walk(&remote, b"").await.len(), 20);
    assert_eq!(remote.discard(&[(b"k:1".to_vec(), Epoch { line: 1, at: 1 })]).await, Ok(1));
    let opened = open(&remote, None).await;
    assert!(!opened.server_known);
    append(&remote, opened.head, &["k"]).await;
    assert_eq!(records(&remote, opened.head).await.len(), 1);
    let wrong = build(Redis::at(cluster.url()).username("app").password("hunter2"));
    wrong.connect();
    wait_link_down(wrong.link(), "WRONGPASS").await;
    assert!(!format!("{wrong:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_server_that_is_no_cluster_is_the_reason() {
    let server = RedisServer::start().await;
    let remote = build(Redis::cluster([server.addr().to_string()]));
    remote.connect();
    wait_link_down(remote.link(), "cluster support disabled").await;
    wait_link_down(remote.log_link(), "no node tells the map of the cluster").await;
    let error = remote.get(b"k").await.unwrap_err();
    assert!(error.to_string().starts_with("not connected"), "{error}");
    assert!(remote.page(&[b""], Cursor::default(), 1).await.is_err());
}

/// Reads and writes go on while a primary dies. Those of other slots never fail; those of its slots fail at once until
/// the cluster has a new primary, and are served again then.
#[tokio::test]
async fn a_failover_costs_the_others_nothing_and_its_own_slots_come_back_by_themselves() {
    let cluster = RedisCluster::start().await;
    let remote = connect_to_all(Redis::at(cluster.url())).await;
    let dying = name("k:0");
    let keys = keys(60);
    for key in &keys {
        store(&remote, key, 1).await;
    }
    cluster.settle().await;
    let owner = cluster.primary_of(&dying).await.addr();
    let mut safe = Vec::new();
    for key in &keys {
        if cluster.primary_of(name(key)).await.addr() != owner {
            safe.push(key);
        }
    }
    assert!(safe.len() > 20 && safe.len() < 60);

    let runtime = runtime();
    let (over, mut reads) = (Cell::new(false), 0);
    let fail_over = async {
        let heir = cluster.fail_over(&dying).await;
        over.set(true);
        heir
    };
    let beside = wait_for(DEADLINE * 3, "the failover", async || {
        for key in &safe {
            assert_eq!(body(&remote, key).await.as_ref(), Some(*key));
        }
        // May fail, but not hang: the dead one's port refuses.
        let began = runtime.now();
        let _ = remote.get(b"k:0").await;
        assert!(runtime.now().since(began) < Duration::from_secs(2));
        reads += 1;
        over.get()
    });
    let (heir, ()) = tokio::join!(fail_over, beside);
    assert!(reads > 10, "{reads} rounds of reads beside the failover");
    let began = runtime.now();
    wait_for(DEADLINE, "its values to be served again", async || {
        remote.get(b"k:0").await.is_ok_and(|value| value.is_some())
    })
    .await;
    assert!(runtime.now().since(began) < Duration::from_secs(3));
    assert!(try_store(&remote, "k:0", 2).await);
    assert_eq!(cluster.primary_of(&dying).await.addr(), heir.addr());
    assert!(matches!(*remote.link().borrow(), Link::Up { generation } if generation > 1));
}

#[tokio::test]
async fn the_log_follows_its_slot_through_a_failover() {
    let cluster = RedisCluster::start().await;
    let remote = connect_to_all(Redis::at(cluster.url())).await;
    let start = open(&remote, None).await.head;
    let first = append(&remote, start, &["first"]).await;
    cluster.settle().await;
    let (waited, heir) = tokio::join!(remote.follow(first, 9, LONG), cluster.fail_over(LOG));
    assert!(waited.is_err(), "the one that waits is told");
    let (runtime, began) = (runtime(), runtime().now());
    wait_for(DEADLINE, "the log to take records", async || {
        remote.append(&record(Mode::Hard, &["second"]), Some(first), 1).await.is_ok()
    })
    .await;
    assert!(runtime.now().since(began) < Duration::from_secs(4));
    assert_eq!(ask(heir, &["HEXISTS", "{larder}:state", "hsecond"]).await, Reply::Int(1));
    let records = records(&remote, start).await;
    assert_eq!(records[0].epoch, first);
    for pair in records.windows(2) {
        assert_eq!(pair[1].prev, Some(pair[0].epoch), "one chain across the failover");
    }
}

/// The paused one comes back and believes, for a moment, that it is the primary still.
#[tokio::test]
async fn a_deposed_primary_is_left_by_values_and_log() {
    let cluster = RedisCluster::start().await;
    // No heartbeat will come in time to see it.
    let remote = connect_to_all(Redis::at(cluster.url()).heartbeat(LONG)).await;
    let start = open(&remote, None).await.head;
    let old = cluster.primary_of(LOG).await;
    let heir = cluster.depose(LOG).await;
    let (k, runtime) = (record(Mode::Hard, &["k"]), runtime());
    wait_for(DEADLINE, "the log to be the heir's", async || {
        let appended = tokio::select! {
            biased;
            appended = remote.append(&k, Some(start), 1) => appended.is_ok(),
            () = runtime.sleep(Duration::from_millis(200)) => false,
        };
        appended && ask(heir, &["HEXISTS", "{larder}:state", "hk"]).await == Reply::Int(1)
    })
    .await;
    old.resume();
    cluster.settle().await;
    assert!(append(&remote, start, &["k:2"]).await.at > start.at);
    assert_eq!(ask(heir, &["HEXISTS", "{larder}:state", "hk:2"]).await, Reply::Int(1));
}

/// A slot moves key by key. In between its owner answers for the keys it still has, and sends clients on (`ASK`) for the
/// others; afterwards it sends them on for all (`MOVED`).
#[tokio::test]
async fn while_a_slot_migrates_nothing_is_lost_and_nothing_fails() {
    let cluster = RedisCluster::start().await;
    let remote = connect_to_all(Redis::at(cluster.url())).await;
    // All in one slot.
    let keys: Vec<String> = (0..50).map(|i| format!("{{tag}}:{i}")).collect();
    for key in &keys {
        store(&remote, key, 5).await;
    }
    let slot = cluster.slot_of(name(&keys[0])).await;
    let from = cluster.primary_of(name(&keys[0])).await.addr();
    let to = cluster.primaries().await.into_iter().find(|node| node.addr() != from).unwrap();
    let generation_before = generation(&remote);
    let all_there = async || {
        for key in &keys {
            assert_eq!(body(&remote, key).await.as_ref(), Some(key));
        }
        assert_eq!(walk(&remote, b"{tag}").await.len(), 50);
    };

    let migration = cluster.begin_migration(slot, to).await;
    all_there().await;
    // A new key goes to the one that imports, by way of ASK, also when that has to learn the script first.
    ask(to, &["SCRIPT", "FLUSH"]).await;
    store(&remote, "{tag}:new", 5).await;
    assert_eq!(body(&remote, "{tag}:new").await.as_deref(), Some("{tag}:new"));
    remote.remove(b"{tag}:new").await.unwrap();
    assert_eq!(body(&remote, "{tag}:new").await, None);

    assert_eq!(migration.move_keys().await, 50);
    all_there().await;
    // Fences hold on the way.
    let epoch = Epoch { line: 1, at: 4 };
    let old = remote.store(keys[0].as_bytes(), apart(epoch, value(epoch, "old"), MINUTE)).await;
    assert_eq!(old, Ok(larder_core::Stored::Overtaken));
    let some: Vec<_> =
        keys[..5].iter().map(|key| (key.clone().into_bytes(), Epoch { line: 1, at: 5 })).collect();
    assert_eq!(remote.discard(&some).await, Ok(5));
    for key in &keys[..5] {
        store(&remote, key, 5).await;
    }

    migration.finish().await;
    all_there().await;
    wait_for(DEADLINE, "the map to be right", async || {
        all_there().await;
        let others = cluster.primaries().await.into_iter().filter(|node| node.addr() == from);
        let mut told = 0;
        for node in others {
            let stats = ask(node, &["INFO", "errorstats"]).await;
            told += usize::from(String::from_utf8_lossy(stats.bytes().unwrap()).contains("errorstat_MOVED"));
            ask(node, &["CONFIG", "RESETSTAT"]).await;
        }
        told == 0
    })
    .await;
    assert_eq!(remote.discard(&some).await, Ok(5));
    assert_eq!(generation(&remote), generation_before, "no connection was lost for that");
}

/// The keys of the log move one by one, too. While only some of them have, no script may run on either side.
#[tokio::test]
async fn while_the_slot_of_the_log_migrates_no_record_is_lost_and_its_chain_goes_on() {
    let cluster = RedisCluster::start().await;
    let remote = connect_to_all(Redis::at(cluster.url())).await;
    let start = open(&remote, None).await.head;
    let mut acknowledged = vec![append(&remote, start, &["before"]).await];
    let from = cluster.primary_of(LOG).await.addr();
    let to = cluster.primaries().await.into_iter().find(|node| node.addr() != from).unwrap();
    let migration = cluster.begin_migration(cluster.slot_of(LOG).await, to).await;
    for i in 0..5 {
        acknowledged.extend(remote.append(&record(Mode::Hard, &[&format!("a:{i}")]), Some(start), 1).await);
    }
    migration.move_keys().await;
    for i in 0..5 {
        acknowledged.extend(remote.append(&record(Mode::Hard, &[&format!("b:{i}")]), Some(start), 1).await);
    }
    migration.finish().await;
    wait_for(DEADLINE, "the log to take records again", async || {
        match remote.append(&record(Mode::Hard, &["after"]), Some(start), 1).await {
            Ok(token) => {
                acknowledged.push(token);
                true
            }
            Err(_) => false,
        }
    })
    .await;
    assert_eq!(ask(to, &["HEXISTS", "{larder}:state", "hafter"]).await, Reply::Int(1));
    let records = records(&remote, start).await;
    for token in &acknowledged {
        assert!(records.iter().any(|record| record.epoch == *token), "{token} of {acknowledged:?}");
    }
    for pair in records.windows(2) {
        assert_eq!(pair[1].prev, Some(pair[0].epoch));
    }
    // The new server is another: a new line, which knows the old one.
    assert!(
        open(&remote, Some(acknowledged[0])).await.lineage.cuts().iter().any(|cut| cut.line == start.line)
    );
}

#[tokio::test]
async fn a_promotion_in_good_order_is_followed_while_someone_follows_the_log() {
    let cluster = RedisCluster::start().await;
    let remote = connect_to_all(Redis::at(cluster.url())).await;
    let start = open(&remote, None).await.head;
    let (waited, heir) = tokio::join!(remote.follow(start, 9, LONG), cluster.promote(LOG));
    assert!(waited.is_err(), "the one that waits is told");
    wait_for(DEADLINE, "the log to take records", async || {
        remote.append(&record(Mode::Hard, &["k"]), Some(start), 1).await.is_ok()
    })
    .await;
    assert_eq!(ask(heir, &["HEXISTS", "{larder}:state", "hk"]).await, Reply::Int(1));
    for key in keys(30) {
        wait_for(DEADLINE, "values to go on", async || try_store(&remote, &key, 1).await).await;
    }
}

#[tokio::test]
async fn the_link_is_up_while_any_node_is() {
    let cluster = RedisCluster::start().await;
    let quick = Redis::at(cluster.url()).heartbeat(Duration::from_millis(200));
    let remote = connect_to_all(quick.connect_timeout(Duration::from_millis(500))).await;
    for node in cluster.nodes() {
        node.pause();
    }
    wait_link_down(remote.link(), "no answer").await;
    assert!(remote.get(b"k").await.is_err());
    for node in cluster.nodes() {
        node.resume();
    }
    assert!(wait_up(&remote).await > 3);
    cluster.settle().await;
    wait_for(DEADLINE, "values to be served", async || try_store(&remote, "k", 1).await).await;
}

#[tokio::test]
async fn closing_lets_go_of_every_node() {
    let cluster = RedisCluster::start().await;
    let remote: Arc<RedisRemote> = connect_to_all(Redis::at(cluster.url())).await;
    let ours = async || {
        let mut count = 0;
        for node in cluster.nodes() {
            let list = ask(node, &["CLIENT", "LIST"]).await;
            let list = String::from_utf8_lossy(list.bytes().unwrap()).into_owned();
            count += list.lines().filter(|line| line.contains("name=larder ")).count();
        }
        count
    };
    // One to each primary, two for the log, one for the map.
    assert_eq!(ours().await, 6);
    let mut link = remote.link();
    drop(remote);
    assert!(link.wait_for(|link| *link == Link::Closed).await.is_ok());
    wait_for(DEADLINE, "all connections to go", async || ours().await == 0).await;
}

#[tokio::test]
async fn a_cluster_that_comes_late_is_used_and_its_log_is_found() {
    let cluster = RedisCluster::start().await;
    for node in cluster.nodes() {
        node.pause();
    }
    let remote = build(Redis::at(cluster.url()).connect_timeout(Duration::from_millis(200)));
    remote.connect();
    wait_link_down(remote.link(), "no node tells the map").await;
    for node in cluster.nodes() {
        node.resume();
    }
    wait_up(&remote).await;
    wait_link_up(remote.log_link()).await;
    wait_for(DEADLINE, "the log to open", async || remote.open(None, 1).await.is_ok()).await;
    assert_eq!(generation_of(&remote.log_link()), 1);
}
