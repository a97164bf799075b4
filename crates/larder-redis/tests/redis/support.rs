//! What the tests share.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Append, Epoch, Link, Mode, Opened, Remote, Runtime, TokioRuntime};
use larder_redis::{Redis, RedisRemote};
use larder_testkit::{RedisServer, Reply, wait_until};

/// Long enough for a busy machine; a passing test never waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

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

pub(crate) async fn connected(server: &RedisServer) -> Arc<RedisRemote> {
    connect(Redis::at(server.url())).await
}

/// Waits until the link is up; answers its generation.
pub(crate) async fn wait_up(remote: &RedisRemote) -> u64 {
    let mut seen = 0;
    wait_until(DEADLINE, "the link to be up", || match *remote.link().borrow() {
        Link::Up { generation } => {
            seen = generation;
            true
        }
        _ => false,
    })
    .await;
    generation(remote)
}

pub(crate) fn generation(remote: &RedisRemote) -> u64 {
    match *remote.link().borrow() {
        Link::Up { generation } => generation,
        ref other => panic!("not up but {other:?}"),
    }
}

/// Waits until the link is down for a reason with these words in it.
pub(crate) async fn wait_down(remote: &RedisRemote, words: &str) {
    wait_until(
        DEADLINE,
        &format!("the link to be down because of {words:?}"),
        || matches!(&*remote.link().borrow(), Link::Down { reason } if reason.contains(words)),
    )
    .await;
}

/// A record that names these selectors.
pub(crate) fn record(mode: Mode, selectors: &[&str]) -> Append {
    Append {
        mode,
        selectors: selectors.iter().map(ToString::to_string).collect(),
        op: 7,
        node: "n1".into(),
        reason: "why".into(),
        actor: "who".into(),
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
