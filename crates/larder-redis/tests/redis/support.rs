//! What the tests share.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Append, Author, Epoch, Link, Mode, Opened, Record, Remote, Runtime, TokioRuntime};
use larder_redis::{Redis, RedisRemote};
use larder_testkit::{RedisServer, Reply, wait_for};
use tokio::sync::watch;

/// Long enough for a busy machine; a passing test never waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Makes the user `app`, who may do only what is not dangerous, and only here.
pub(crate) const WORKER: [&str; 10] =
    ["ACL", "SETUSER", "app", "on", ">pw", "~larder:*", "~{larder}:*", "~{larder:*", "+@all", "-@dangerous"];

pub(crate) fn runtime() -> Arc<dyn Runtime> {
    Arc::new(TokioRuntime::current())
}

pub(crate) fn build(redis: Redis) -> Arc<RedisRemote> {
    redis.build(runtime()).expect("a good configuration")
}

/// Connects and waits for it.
pub(crate) async fn connect(redis: Redis) -> Arc<RedisRemote> {
    let remote = build(redis);
    remote.connect();
    wait_up(&remote).await;
    remote
}

/// Connects to a cluster and waits for all of its three primaries.
pub(crate) async fn connect_to_all(redis: Redis) -> Arc<RedisRemote> {
    let remote = connect(redis).await;
    wait_generation(remote.link(), 3).await;
    remote
}

pub(crate) async fn connected(server: &RedisServer) -> Arc<RedisRemote> {
    connect(Redis::at(server.url())).await
}

/// Waits until both links are up; answers the generation of the values'.
pub(crate) async fn wait_up(remote: &RedisRemote) -> u64 {
    wait_link_up(remote.log_link()).await;
    wait_link_up(remote.link()).await
}

/// Waits until this link is up; answers its generation.
pub(crate) async fn wait_link_up(link: watch::Receiver<Link>) -> u64 {
    wait_generation(link, 0).await
}

/// Waits until this link is up for at least so many times; answers its generation.
pub(crate) async fn wait_generation(mut link: watch::Receiver<Link>, least: u64) -> u64 {
    let runtime = runtime();
    let up = |link: &Link| matches!(link, Link::Up { generation } if *generation >= least);
    tokio::select! {
        found = link.wait_for(up) => generation_in(&found.expect("somebody keeps the link")),
        () = runtime.sleep(DEADLINE) => panic!("the link is not up ({least}) in {DEADLINE:?}"),
    }
}

/// The generation of the values' link.
pub(crate) fn generation(remote: &RedisRemote) -> u64 {
    generation_of(&remote.link())
}

pub(crate) fn generation_of(link: &watch::Receiver<Link>) -> u64 {
    generation_in(&link.borrow())
}

fn generation_in(link: &Link) -> u64 {
    match link {
        Link::Up { generation } => *generation,
        other => panic!("not up but {other:?}"),
    }
}

/// Waits until both links have been down for a reason with these words in it.
pub(crate) async fn wait_down(remote: &RedisRemote, words: &str) {
    tokio::join!(wait_link_down(remote.link(), words), wait_link_down(remote.log_link(), words));
}

/// Waits until this link is down for a reason with these words in it.
pub(crate) async fn wait_link_down(mut link: watch::Receiver<Link>, words: &str) {
    let what = format!("the link to be down because of {words:?}");
    let down = |link: &Link| matches!(link, Link::Down { reason } if reason.contains(words));
    // Each change is looked at, so that a short one is not missed.
    wait_for(DEADLINE, &what, async || link.wait_for(down).await.is_ok()).await;
}

/// A record that names these selectors.
pub(crate) fn record(mode: Mode, selectors: &[&str]) -> Append {
    Append {
        mode,
        selectors: selectors.iter().map(ToString::to_string).collect(),
        op: 7,
        author: Author { node: "n1".into(), reason: "why".into(), actor: "who".into() },
    }
}

/// Opens the log with a nonce that no other call uses.
pub(crate) async fn open(remote: &RedisRemote, position: Option<Epoch>) -> Opened {
    remote.open(position, runtime().random()).await.expect("the log opens")
}

/// Appends a hard record.
pub(crate) async fn append(remote: &RedisRemote, position: Epoch, selectors: &[&str]) -> Epoch {
    let record = record(Mode::Hard, selectors);
    remote.append(&record, Some(position), runtime().random()).await.expect("the log takes a record")
}

/// What there is behind a position, without waiting for more.
pub(crate) async fn records(remote: &RedisRemote, position: Epoch) -> Vec<Record> {
    remote.follow(position, 1000, Duration::ZERO).await.expect("the log is read").records
}

pub(crate) async fn ask(server: &RedisServer, args: &[&str]) -> Reply {
    server.command(args).await.expect("a living server answers")
}

pub(crate) async fn ask_text(server: &RedisServer, args: &[&str]) -> Option<String> {
    match ask(server, args).await {
        Reply::Nil => None,
        Reply::Bulk(bytes) => Some(String::from_utf8(bytes).expect("text")),
        other => panic!("{args:?}: {other:?}"),
    }
}

/// Every key has a time to live, of at most 30 days.
pub(crate) async fn assert_no_key_is_immortal(server: &RedisServer) {
    for key in server.keys().await {
        let name = String::from_utf8_lossy(&key).into_owned();
        let ttl = server.command(&[b"PTTL".as_slice(), &key]).await.unwrap().int().unwrap();
        assert!((1..=30 * 24 * 3600 * 1000).contains(&ttl), "{name}: {ttl}");
    }
}

/// How many connections of ours the server has.
pub(crate) async fn connections(server: &RedisServer) -> usize {
    let list = ask_text(server, &["CLIENT", "LIST"]).await.unwrap();
    list.lines().filter(|line| line.contains("name=larder ")).count()
}
