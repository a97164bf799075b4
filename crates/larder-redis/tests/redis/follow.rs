//! Following the log: on a connection that waits, and that nothing else waits for.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Epoch, Remote, RemoteError, Round};
use larder_redis::{Redis, RedisRemote};
use larder_testkit::{Fault, FaultProxy, RedisServer, Reply, wait_for};

use crate::support::{
    DEADLINE, append, ask, ask_text, build, connect, connected, generation, generation_of, open, records,
    runtime, wait_link_down, wait_link_up, wait_up,
};

const LONG: Duration = Duration::from_secs(60);
const BEAT: Duration = Duration::from_millis(500);

async fn blocked(server: &RedisServer) -> usize {
    let info = ask_text(server, &["INFO", "clients"]).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).unwrap();
    line.trim().parse().unwrap()
}

/// Follows until the server holds the question.
async fn followed(
    remote: &Arc<RedisRemote>,
    server: &RedisServer,
    position: Epoch,
) -> tokio::task::JoinHandle<Result<Round, RemoteError>> {
    let remote = Arc::clone(remote);
    let follow = tokio::task::spawn_local(async move { remote.follow(position, 10, LONG).await });
    wait_for(DEADLINE, "the server to wait", async || blocked(server).await == 1).await;
    follow
}

/// Runs on one thread, so that tasks need not be spawned elsewhere.
async fn locally(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_record_ends_the_wait_and_the_head_is_from_before_it() {
    locally(async {
        let server = RedisServer::start().await;
        let remote = connected(&server).await;
        let start = open(&remote, None).await.head;
        let follow = followed(&remote, &server, start).await;
        let token = append(&remote, start, &["k"]).await;
        let round = follow.await.unwrap().unwrap();
        assert_eq!(round.head, Some(start));
        assert_eq!(round.records.iter().map(|record| record.epoch).collect::<Vec<_>>(), [token]);
    })
    .await;
}

/// The engine drops a question when it has other things to do. On a connection with many commands under way, the server
/// would answer the next question only when the wait of the dropped one is over.
#[tokio::test]
async fn a_follow_that_is_given_up_neither_delays_nor_answers_the_next() {
    locally(async {
        let server = RedisServer::start().await;
        let remote = connected(&server).await;
        let start = open(&remote, None).await.head;
        let mut position = start;
        for i in 0..5 {
            let follow = followed(&remote, &server, position).await;
            follow.abort();
            assert!(follow.await.unwrap_err().is_cancelled());
            let token = append(&remote, position, &[&format!("k:{i}")]).await;
            let began = runtime().now();
            let round = remote.follow(position, 10, LONG).await.unwrap();
            assert_eq!((round.head, round.records.len()), (Some(token), 1));
            assert!(runtime().now().since(began) < DEADLINE);
            position = token;
        }
        wait_for(DEADLINE, "nobody to be left waiting", async || blocked(&server).await == 0).await;
        assert_eq!(generation_of(&remote.log_link()), 1, "the link has not gone down for that");
        assert_eq!(records(&remote, start).await.len(), 5);
    })
    .await;
}

#[tokio::test]
async fn a_second_follow_waits_for_its_turn() {
    locally(async {
        let server = RedisServer::start().await;
        let remote = connected(&server).await;
        let start = open(&remote, None).await.head;
        let follow = followed(&remote, &server, start).await;
        let both =
            async { tokio::join!(remote.follow(start, 10, Duration::ZERO), append(&remote, start, &["k"])) };
        let (second, token) = both.await;
        assert_eq!(second.unwrap().head, Some(token));
        assert_eq!(follow.await.unwrap().unwrap().records.len(), 1);
    })
    .await;
}

/// The engine has to hear of a lost log within a second, not only when the next record comes.
#[tokio::test]
async fn a_log_that_stands_elsewhere_or_is_gone_is_told_at_once() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let start = open(&remote, None).await.head;
    let (runtime, began) = (runtime(), runtime().now());
    let elsewhere = Epoch { line: start.line, at: start.at + 5 };
    assert_eq!(remote.follow(elsewhere, 9, LONG).await, Ok(Round { head: Some(start), records: Vec::new() }));
    server.flush_all().await;
    assert_eq!(remote.follow(start, 9, LONG).await, Ok(Round { head: None, records: Vec::new() }));
    assert!(runtime.now().since(began) < DEADLINE);
}

#[tokio::test]
async fn a_stream_that_is_none_does_not_answer_before_the_wait_is_over() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let start = open(&remote, None).await.head;
    ask(&server, &["SET", "{larder}:log", "x"]).await;
    let (runtime, wait) = (runtime(), Duration::from_millis(200));
    let began = runtime.now();
    assert_eq!(remote.follow(start, 10, wait).await, Ok(Round { head: Some(start), records: Vec::new() }));
    assert!(runtime.now().since(began) >= wait);
}

#[tokio::test]
async fn when_the_followers_connection_breaks_the_logs_link_goes_down_and_comes_back_and_values_go_on() {
    let server = RedisServer::start().await;
    let remote = connect(Redis::at(server.url()).heartbeat(LONG)).await;
    let start = open(&remote, None).await.head;
    // Whatever was asked last on each connection.
    remote.follow(start, 10, Duration::ZERO).await.unwrap();
    remote.get(b"k").await.unwrap();
    let list = ask_text(&server, &["CLIENT", "LIST"]).await.unwrap();
    let follower = list.lines().find(|line| line.contains(" cmd=xread ")).unwrap();
    let id = follower.split(' ').find_map(|word| word.strip_prefix("id=")).unwrap();
    let mut link = remote.log_link();
    link.mark_unchanged();
    assert_eq!(ask(&server, &["CLIENT", "KILL", "ID", id]).await, Reply::Int(1));
    wait_for(DEADLINE, "the link to change", async || link.changed().await.is_ok()).await;
    wait_for(DEADLINE, "a new link", async || wait_link_up(remote.log_link()).await == 2).await;
    assert!(remote.follow(start, 10, Duration::ZERO).await.is_ok());
    assert_eq!(generation(&remote), 1);
}

/// Values at the server, the log through a proxy.
async fn two_ways(server: &RedisServer) -> (Arc<RedisRemote>, FaultProxy) {
    let proxy = FaultProxy::to(server.addr()).await;
    let quick = Redis::at(server.url()).heartbeat(BEAT).connect_timeout(BEAT * 2);
    (connect(quick.log_at(proxy.addr().to_string())).await, proxy)
}

#[tokio::test]
async fn a_black_hole_before_the_log_leaves_the_values_alone() {
    let server = RedisServer::start().await;
    let (remote, proxy) = two_ways(&server).await;
    let start = open(&remote, None).await.head;
    for fault in [Fault::BlackHole, Fault::HalfOpen, Fault::Reset] {
        let before = wait_link_up(remote.log_link()).await;
        proxy.set(fault);
        wait_link_down(remote.log_link(), "").await;
        assert!(remote.open(None, 1).await.is_err());
        assert_eq!(remote.get(b"k").await, Ok(None));
        proxy.set(Fault::None);
        wait_for(DEADLINE, "a new link", async || wait_link_up(remote.log_link()).await > before).await;
        wait_for(DEADLINE, "the log to be read", async || {
            remote.follow(start, 1, Duration::ZERO).await.is_ok()
        })
        .await;
        assert_eq!(generation(&remote), 1);
    }
}

#[tokio::test]
async fn a_black_hole_before_the_values_leaves_the_log_alone() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let quick = Redis::at(proxy.url()).heartbeat(BEAT).connect_timeout(BEAT * 2);
    let remote = connect(quick.log_at(server.addr().to_string())).await;
    let start = open(&remote, None).await.head;
    for fault in [Fault::BlackHole, Fault::HalfOpen, Fault::Reset] {
        let before = wait_link_up(remote.link()).await;
        proxy.set(fault);
        wait_link_down(remote.link(), "").await;
        assert!(remote.get(b"k").await.is_err());
        append(&remote, start, &["k"]).await;
        assert!(!records(&remote, start).await.is_empty());
        proxy.set(Fault::None);
        wait_for(DEADLINE, "a new link", async || wait_link_up(remote.link()).await > before).await;
        assert_eq!(generation_of(&remote.log_link()), 1);
    }
}

/// The heartbeat of the commands' connection is too slow to see it: only the answer that is due tells.
#[tokio::test]
async fn a_follow_that_is_not_answered_a_second_after_its_wait_ends_the_logs_link() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let slow = Redis::at(server.url()).heartbeat(LONG);
    let remote = connect(slow.log_at(proxy.addr().to_string())).await;
    let start = open(&remote, None).await.head;
    let (runtime, wait) = (runtime(), Duration::from_secs(1));
    let began = runtime.now();
    let cut = async {
        wait_for(DEADLINE, "the server to wait", async || blocked(&server).await == 1).await;
        proxy.set(Fault::BlackHole);
    };
    let (round, ()) = tokio::join!(remote.follow(start, 10, wait), cut);
    assert!(round.unwrap_err().is_timeout());
    let took = runtime.now().since(began);
    assert!(took >= wait + Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
    wait_link_down(remote.log_link(), "no answer").await;
    assert_eq!(remote.get(b"k").await, Ok(None));
    proxy.set(Fault::None);
    wait_up(&remote).await;
    assert!(remote.follow(start, 10, wait).await.is_ok());
}

/// A long answer over a thin line takes longer than the second that an answer may be late.
#[tokio::test]
async fn records_that_keep_coming_are_not_late() {
    let server = RedisServer::start().await;
    let (remote, proxy) = two_ways(&server).await;
    let start = open(&remote, None).await.head;
    let selectors: Vec<String> = (0..500).map(|i| format!("{i}:{}", "x".repeat(100))).collect();
    append(&remote, start, &selectors.iter().map(String::as_str).collect::<Vec<_>>()).await;
    proxy.set(Fault::Trickle { bytes: 1000, every: Duration::from_millis(25) });
    let runtime = runtime();
    let began = runtime.now();
    assert_eq!(records(&remote, start).await.len(), 1);
    assert!(runtime.now().since(began) > Duration::from_millis(1200), "too quick to prove anything");
    assert_eq!(generation_of(&remote.log_link()), 1);
}

#[tokio::test]
async fn without_a_connection_it_fails_at_once() {
    let remote = build(Redis::at("redis://127.0.0.1:1"));
    let error = remote.follow(Epoch { line: 1, at: 1 }, 1, LONG).await.unwrap_err();
    assert!(error.to_string().starts_with("not connected"), "{error}");
}
