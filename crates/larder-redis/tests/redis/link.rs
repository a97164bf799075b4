//! The connection: begun once, kept for ever, never waited for.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Link, Remote, Runtime};
use larder_redis::{Redis, RedisRemote};
use larder_testkit::{Fault, FaultProxy, RedisServer, Reply, wait_for, wait_until};

use crate::support::{
    DEADLINE, ask, ask_text, build, connect, connected, connections, generation, open, runtime, wait_down,
    wait_up,
};

/// Short enough for tests that go through several.
const BEAT: Duration = Duration::from_millis(100);

async fn works(remote: &RedisRemote) -> bool {
    remote.get(b"k").await == Ok(None)
}

/// How long `what` takes.
async fn timed(runtime: &Arc<dyn Runtime>, what: impl Future<Output = ()>) -> Duration {
    let began = runtime.now();
    what.await;
    runtime.now().since(began)
}

#[tokio::test]
async fn nothing_is_opened_before_it_is_asked_to_connect() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let remote = build(Redis::at(proxy.url()));
    assert_eq!(*remote.link().borrow(), Link::Down { reason: String::new() });
    assert!(remote.get(b"k").await.unwrap_err().to_string().starts_with("not connected"));
    assert_eq!(proxy.accepted(), 0);
    remote.connect();
    remote.connect();
    wait_up(&remote).await;
    assert_eq!(proxy.accepted(), 3, "one for values, two for the log");
}

#[tokio::test]
async fn it_starts_without_a_server_and_connects_when_there_is_one() {
    // One that was there keeps its port for the next time.
    let server = RedisServer::start().await;
    server.kill();
    let remote = build(Redis::at(server.url()));
    remote.connect();
    wait_down(&remote, "refused").await;
    let error = remote.get(b"k").await.unwrap_err();
    assert!(
        error.to_string().starts_with("not connected: ") && error.to_string().contains("refused"),
        "{error}"
    );
    server.restart().await;
    assert_eq!(wait_up(&remote).await, 1);
    assert!(works(&remote).await);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_reason_like_any_other() {
    let remote = build(Redis::at("redis://no-such-host.invalid"));
    remote.connect();
    wait_until(
        DEADLINE,
        "a reason",
        || matches!(&*remote.link().borrow(), Link::Down { reason } if !reason.is_empty()),
    )
    .await;
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_the_reason() {
    let server = RedisServer::start().await;
    let remote = build(Redis::at(server.url()).database(99));
    remote.connect();
    wait_down(&remote, "the server refuses the database").await;
}

#[tokio::test]
async fn after_a_kill_and_a_restart_the_generation_is_new_and_everything_works() {
    let server = RedisServer::start().await;
    let remote = connect(Redis::at(server.url()).connections(4)).await;
    let before = generation(&remote);
    let start = open(&remote, None).await.head;
    server.kill();
    wait_down(&remote, "").await;
    assert!(remote.get(b"k").await.is_err());
    server.restart().await;
    assert!(wait_up(&remote).await > before);
    assert!(works(&remote).await);
    assert_ne!(open(&remote, Some(start)).await.head.line, start.line);
    assert_eq!(connections(&server).await, 6);
}

#[tokio::test]
async fn a_closed_connection_is_noticed_at_once_although_nobody_uses_it() {
    let server = RedisServer::start().await;
    // No heartbeat will come in time to see it.
    let remote = connect(Redis::at(server.url()).heartbeat(Duration::from_secs(60))).await;
    let mut link = remote.link();
    link.mark_unchanged();
    ask(&server, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    wait_for(DEADLINE, "the link to change", async || link.changed().await.is_ok()).await;
    wait_until(
        DEADLINE,
        "a new generation",
        || matches!(*remote.link().borrow(), Link::Up { generation } if generation > 1),
    )
    .await;
    assert!(works(&remote).await);
}

#[tokio::test]
async fn what_is_under_way_when_the_server_dies_fails_at_once() {
    let server = RedisServer::start().await;
    let remote = connect(Redis::at(server.url()).heartbeat(Duration::from_secs(60))).await;
    ask(&server, &["CLIENT", "PAUSE", "600000", "WRITE"]).await;
    let kill = async {
        wait_for(DEADLINE, "the server to hold the command", async || {
            let list = ask_text(&server, &["CLIENT", "LIST"]).await.unwrap();
            list.lines().any(|line| line.contains("name=larder ") && line.contains(" flags=b "))
        })
        .await;
        server.kill();
    };
    let (answer, ()) = tokio::join!(remote.remove(b"k"), kill);
    let error = answer.unwrap_err();
    assert!(error.to_string().starts_with("not connected"), "{error}");
}

#[tokio::test]
async fn a_server_that_stops_is_noticed_within_three_seconds_and_used_again_when_it_goes_on() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let before = generation(&remote);
    let runtime = runtime();
    server.pause();
    let noticed = timed(&runtime, wait_down(&remote, "no answer")).await;
    assert!(noticed < Duration::from_millis(4500), "noticed after {noticed:?}");
    // Its kernel still accepts, so connecting has to time out too.
    wait_down(&remote, "no answer within 1s").await;
    assert!(remote.get(b"k").await.is_err());
    server.resume();
    assert!(wait_up(&remote).await > before);
    assert!(works(&remote).await);
    assert!(remote.open(None, 1).await.is_ok());
}

#[tokio::test]
async fn a_black_hole_and_a_half_open_link_are_noticed_and_left_behind() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let remote = connect(Redis::at(proxy.url()).heartbeat(BEAT).connect_timeout(BEAT)).await;
    for fault in [Fault::BlackHole, Fault::HalfOpen] {
        let before = generation(&remote);
        proxy.set(fault);
        wait_down(&remote, "no answer").await;
        assert!(remote.get(b"k").await.is_err());
        proxy.set(Fault::None);
        assert!(wait_up(&remote).await > before);
        assert!(works(&remote).await);
    }
}

#[tokio::test]
async fn resets_and_refusals_are_survived() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let remote = connect(Redis::at(proxy.url())).await;
    for fault in [Fault::Reset, Fault::Refuse] {
        let before = generation(&remote);
        // What is open is reset in both cases.
        proxy.set(Fault::Reset);
        proxy.set(fault);
        wait_down(&remote, "").await;
        proxy.set(Fault::None);
        assert!(wait_up(&remote).await > before);
        wait_for(DEADLINE, "it to work", async || works(&remote).await).await;
    }
}

#[tokio::test]
async fn calls_that_were_given_up_on_a_stopped_server_do_no_harm_when_it_goes_on() {
    let server = RedisServer::start().await;
    let remote = connect(Redis::at(server.url()).heartbeat(Duration::from_secs(60))).await;
    let runtime = runtime();
    server.pause();
    for _ in 0..300 {
        tokio::select! {
            answer = remote.get(b"k") => panic!("a stopped server answers {answer:?}"),
            () = runtime.sleep(Duration::from_micros(100)) => {}
        }
    }
    server.resume();
    assert!(works(&remote).await);
    assert_eq!(generation(&remote), 1);
}

#[tokio::test]
async fn a_large_value_that_keeps_coming_is_no_miss_although_the_heartbeat_waits_behind_it() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let remote = connect(Redis::at(proxy.url()).heartbeat(BEAT)).await;
    ask(&server, &["SET", "larder:k", &"x".repeat(200_000), "PX", "60000"]).await;
    proxy.set(Fault::Trickle { bytes: 4000, every: BEAT / 5 });
    let runtime = runtime();
    let took = timed(&runtime, async {
        assert_eq!(remote.get(b"k").await.unwrap().map(|value| value.len()), Some(200_000));
    })
    .await;
    assert!(took > BEAT * 5, "too quick to prove anything: {took:?}");
    assert_eq!(generation(&remote), 1);
}

#[tokio::test]
async fn commands_on_one_connection_do_not_wait_for_each_other() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let remote = connected(&server).await;
    let far = connect(Redis::at(proxy.url())).await;
    proxy.set(Fault::Latency(Duration::from_millis(200)));
    let runtime = runtime();
    let both = timed(&runtime, async {
        let (a, b, c) = tokio::join!(far.get(b"a"), far.get(b"b"), far.get(b"c"));
        assert_eq!((a, b, c), (Ok(None), Ok(None), Ok(None)));
    })
    .await;
    assert!(both < Duration::from_millis(550), "{both:?}");
    assert!(works(&remote).await);
}

#[tokio::test]
async fn closing_is_for_good_and_lets_go_of_every_connection() {
    let server = RedisServer::start().await;
    let remote = connect(Redis::at(server.url()).connections(2)).await;
    assert_eq!(connections(&server).await, 4);
    remote.close();
    assert_eq!(*remote.link().borrow(), Link::Closed);
    assert_eq!(remote.get(b"k").await.unwrap_err().to_string(), "not connected: closed");
    wait_for(DEADLINE, "the connections to go", async || connections(&server).await == 0).await;
    remote.connect();
    remote.close();
    assert_eq!(*remote.link().borrow(), Link::Closed);
}

#[tokio::test]
async fn closing_before_connecting_means_never() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let remote = build(Redis::at(proxy.url()));
    let mut link = remote.link();
    remote.close();
    remote.connect();
    assert_eq!(*link.borrow_and_update(), Link::Closed);
    assert_eq!(proxy.accepted(), 0);
}

#[tokio::test]
async fn dropping_it_lets_go_of_every_connection() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let mut link = remote.link();
    drop(remote);
    wait_for(DEADLINE, "the connections to go", async || connections(&server).await == 0).await;
    let closed = link.wait_for(|link| *link == Link::Closed).await.is_ok();
    assert!(closed);
}

#[tokio::test]
async fn a_server_that_cannot_save_is_used_all_the_same() {
    let server = RedisServer::start().await;
    for setting in [["min-replicas-to-write", "1"], ["min-replicas-max-lag", "10"]] {
        assert_eq!(
            ask(&server, &["CONFIG", "SET", setting[0], setting[1]]).await,
            Reply::Simple("OK".into())
        );
    }
    let remote = connected(&server).await;
    assert!(works(&remote).await);
    assert!(remote.open(None, 1).await.unwrap_err().to_string().contains("NOREPLICAS"));
    assert_eq!(generation(&remote), 1);
}
