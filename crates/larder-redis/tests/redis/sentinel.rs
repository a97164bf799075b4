//! Sentinels: the primary of the moment is found, and left when it is replaced.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Epoch, Link, Remote};
use larder_redis::{Redis, RedisRemote};
use larder_testkit::{Fault, FaultProxy, RedisSentinel, RedisServer, Reply, wait_for, wait_until};

use crate::support::{
    DEADLINE, WORKER, append, ask, build, connect, generation, generation_of, open, record, runtime,
    wait_link_down, wait_up,
};
use crate::values::{MINUTE, apart, value};

const LONG: Duration = Duration::from_secs(60);
/// From the moment the sentinels name another primary to the moment it is used.
const FOLLOWED: Duration = Duration::from_secs(4);

async fn store(remote: &RedisRemote, key: &str, at: u64) -> bool {
    let epoch = Epoch { line: 1, at };
    remote.store(key.as_bytes(), apart(epoch, value(epoch, "x"), MINUTE)).await.is_ok()
}

async fn has(server: &RedisServer, key: &str) -> bool {
    ask(server, &["EXISTS", key]).await == Reply::Int(1)
}

/// Waits until values and log work, and nothing is left of the server before.
async fn wait_for_use(remote: &Arc<RedisRemote>, primary: &RedisServer) {
    let began = runtime().now();
    wait_for(DEADLINE, "values to go to the new primary", async || {
        store(remote, "probe", 1).await && has(primary, "larder:probe").await
    })
    .await;
    wait_for(DEADLINE, "the log to go to the new primary", async || {
        let appended = remote.append(&record(larder_core::Mode::Hard, &["probe"]), None, 1).await;
        appended.is_ok() && ask(primary, &["HEXISTS", "{larder}:state", "hprobe"]).await == Reply::Int(1)
    })
    .await;
    let took = runtime().now().since(began);
    assert!(took < FOLLOWED, "followed after {took:?}");
}

/// One goes on following the log while the primary is killed. What it had read stays read, what came before the failover
/// is still there, and what comes after it arrives, without anybody doing anything.
#[tokio::test]
async fn a_failover_is_followed_by_values_appends_and_the_follower() {
    let redis = RedisSentinel::start().await;
    let remote = connect(Redis::at(redis.url())).await;
    let start = open(&remote, None).await.head;
    let first = append(&remote, start, &["first"]).await;
    assert!(store(&remote, "kept", 1).await);
    redis.settle().await;

    // The one that waits when it happens is told, and not left hanging.
    let (waited, primary) = tokio::join!(remote.follow(first, 9, LONG), redis.fail_over());
    assert!(waited.is_err());
    wait_for_use(&remote, primary).await;
    assert!(remote.get(b"kept").await.unwrap().is_some());

    let opened = open(&remote, Some(first)).await;
    assert!(opened.lineage.cuts().iter().any(|cut| cut.line == first.line && cut.at >= first.at));
    let second = append(&remote, opened.head, &["second"]).await;
    let records = remote.follow(start, 100, Duration::ZERO).await.unwrap().records;
    assert_eq!((records[0].epoch, records[0].prev), (first, Some(start)));
    assert_eq!(records[records.len() - 1].epoch, second);
    for pair in records.windows(2) {
        assert_eq!(pair[1].prev, Some(pair[0].epoch), "one chain across the failover");
    }
}

/// A primary that was stopped, replaced and goes on answers its clients as before, and takes their writes, for seconds.
/// None of its connections breaks, and none of its answers tells. Only the sentinels know.
#[tokio::test]
async fn a_deposed_primary_that_still_answers_is_left() {
    let redis = RedisSentinel::start().await;
    // No heartbeat will come in time to see it.
    let remote = connect(Redis::sentinel(addresses(&redis), redis.service()).heartbeat(LONG)).await;
    open(&remote, None).await;
    let primary = redis.depose().await;
    let old = redis.old_primary();
    old.resume();
    wait_for_use(&remote, primary).await;
    assert!(generation(&remote) > 1 && generation_of(&remote.log_link()) > 1);
    assert!(ask(old, &["ROLE"]).await.items()[0] == Reply::Bulk(b"master".to_vec()), "it does not know yet");
    assert!(!has(old, "larder:probe").await);
}

fn addresses(redis: &RedisSentinel) -> Vec<String> {
    redis.sentinels().iter().map(|sentinel| sentinel.addr().to_string()).collect()
}

#[tokio::test]
async fn sentinels_that_are_dead_or_silent_are_passed_over() {
    let redis = RedisSentinel::start().await;
    redis.sentinels()[0].kill();
    redis.sentinels()[1].pause();
    let proxy = FaultProxy::to(redis.sentinels()[2].addr()).await;
    let sentinels = [&addresses(&redis)[0], &addresses(&redis)[1], &proxy.addr().to_string()];
    let config = Redis::sentinel(sentinels, redis.service()).connect_timeout(Duration::from_millis(300));
    let remote = connect(config).await;
    assert!(store(&remote, "k", 1).await);
    assert!(has(&redis.servers()[0], "larder:k").await);

    // And without any of them everything goes on.
    proxy.set(Fault::Reset);
    let before = proxy.accepted();
    wait_until(DEADLINE, "the last one to be asked in vain", || proxy.accepted() >= before + 2).await;
    assert_eq!((generation(&remote), generation_of(&remote.log_link())), (1, 1));
    assert!(store(&remote, "k", 2).await);

    // Only who has to connect anew needs one.
    ask(&redis.servers()[0], &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    wait_link_down(remote.link(), "no sentinel names the primary").await;
    redis.sentinels()[1].resume();
    wait_up(&remote).await;
    assert!(store(&remote, "k", 3).await);
}

/// One Sentinel has missed the failover, and names another server for good. It is the first that is asked, and is asked
/// again and again; whoever believed it each time would go to and fro for ever.
#[tokio::test]
async fn a_sentinel_that_was_left_behind_is_overruled_by_those_that_know_more() {
    let redis = RedisSentinel::start().await;
    let primary = redis.fail_over().await;
    let wrong = RedisServer::start().await;
    let behind = &redis.sentinels()[0];
    assert_eq!(ask(behind, &["SENTINEL", "REMOVE", "larder"]).await, Reply::Simple("OK".into()));
    let port = wrong.port().to_string();
    let monitor = ["SENTINEL", "MONITOR", "larder", "127.0.0.1", &port, "2"];
    assert_eq!(ask(behind, &monitor).await, Reply::Simple("OK".into()));

    let proxy = FaultProxy::to(behind.addr()).await;
    let sentinels = [&proxy.addr().to_string(), &addresses(&redis)[1], &addresses(&redis)[2]];
    let remote = connect(Redis::sentinel(sentinels, redis.service())).await;
    wait_for_use(&remote, primary).await;
    let right = (generation(&remote), generation_of(&remote.log_link()));
    // It is asked by values and log, twice each: whatever it said the first time was heard before the second.
    for _ in 0..2 {
        let before = proxy.accepted();
        proxy.set(Fault::Reset);
        proxy.set(Fault::None);
        wait_until(DEADLINE, "it to be asked", || proxy.accepted() >= before + 2).await;
    }
    assert_eq!((generation(&remote), generation_of(&remote.log_link())), right);
    assert!(store(&remote, "k", 1).await);
    assert!(has(primary, "larder:k").await);
}

#[tokio::test]
async fn a_service_that_no_sentinel_knows_is_the_reason() {
    let redis = RedisSentinel::start().await;
    let remote = build(Redis::sentinel(addresses(&redis), "other"));
    remote.connect();
    wait_link_down(remote.link(), "it knows no such service").await;
    wait_link_down(remote.log_link(), "no sentinel names the primary of other").await;
}

#[tokio::test]
async fn sentinels_have_a_login_of_their_own() {
    let redis = RedisSentinel::start().await;
    for sentinel in redis.sentinels() {
        let set = ["ACL", "SETUSER", "app", "on", ">hunter2", "+@all"];
        assert_eq!(ask(sentinel, &set).await, Reply::Simple("OK".into()));
        assert_eq!(ask(sentinel, &["ACL", "SETUSER", "default", "off"]).await, Reply::Simple("OK".into()));
    }
    let without = build(Redis::at(redis.url()));
    without.connect();
    wait_link_down(without.link(), "NOAUTH").await;
    let wrong = build(Redis::at(redis.url()).sentinel_username("app").sentinel_password("hunter2 but wrong"));
    wrong.connect();
    wait_link_down(wrong.link(), "the sentinel refuses the login: WRONGPASS").await;
    let shown = format!("{:?} {:?}", wrong, Redis::at(redis.url()).sentinel_password("hunter2"));
    assert!(!shown.contains("hunter2"), "{shown}");
    let right = connect(Redis::at(redis.url()).sentinel_username("app").sentinel_password("hunter2")).await;
    assert!(store(&right, "k", 1).await);
}

/// Nor may one ask for the server's role: whether it takes writes has to do.
#[tokio::test]
async fn a_user_without_dangerous_commands_can_do_everything() {
    let redis = RedisSentinel::start().await;
    for server in redis.servers() {
        assert_eq!(ask(server, &WORKER).await, Reply::Simple("OK".into()));
    }
    let remote = connect(Redis::at(redis.url()).username("app").password("pw")).await;
    assert!(store(&remote, "k", 1).await);
    let opened = open(&remote, None).await;
    assert!(!opened.server_known);
    append(&remote, opened.head, &["k"]).await;
}

#[tokio::test]
async fn closing_ends_the_questions_to_the_sentinels_too() {
    let redis = RedisSentinel::start().await;
    let sentinel = &redis.sentinels()[0];
    let clients = async || {
        let list = ask(sentinel, &["CLIENT", "LIST", "TYPE", "normal"]).await;
        String::from_utf8_lossy(list.bytes().unwrap())
            .lines()
            .filter(|line| line.contains("cmd=sentinel"))
            .count()
    };
    let before = clients().await;
    let remote = connect(Redis::at(redis.url())).await;
    wait_for(DEADLINE, "the sentinel to be asked", async || clients().await > before).await;
    remote.close();
    assert_eq!(*remote.log_link().borrow(), Link::Closed);
    wait_for(DEADLINE, "nobody to ask any more", async || clients().await == before).await;
}
