//! Reads that wait at the same moment travel together, and each gets its own answer.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use larder_core::{BoxFuture, Remote, RemoteError};
use larder_redis::{Redis, RedisRemote};
use larder_testkit::{Fault, FaultProxy, RedisCluster, RedisServer, Reply, wait_for};
use tokio::task::JoinSet;

use crate::support::{
    DEADLINE, ask, ask_text, connect, connect_to_all, connected, runtime, wait_down, wait_up,
};

const LONG: Duration = Duration::from_secs(60);

type Found = Result<Option<Bytes>, RemoteError>;

/// The value of a number: of a length of its own.
fn body(number: usize) -> Vec<u8> {
    format!("{number}:").into_bytes().into_iter().chain(std::iter::repeat_n(b'x', number)).collect()
}

fn key(number: usize) -> String {
    format!("k:{number}")
}

fn name(number: usize) -> String {
    format!("larder:{}", key(number))
}

async fn set(server: &RedisServer, name: &str, value: &[u8]) {
    let set = server.command(&[b"SET".as_slice(), name.as_bytes(), value]).await.unwrap();
    assert_eq!(set, Reply::Simple("OK".into()));
}

/// Reads these keys, each in a task of its own, all at the same moment.
async fn read_at_once(
    remote: &Arc<RedisRemote>,
    keys: impl IntoIterator<Item = String>,
) -> BTreeMap<String, Found> {
    let mut tasks = JoinSet::new();
    for key in keys {
        let remote = Arc::clone(remote);
        tasks.spawn(async move {
            let found = remote.get(key.as_bytes()).await;
            (key, found)
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// How often the server was asked this.
async fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats = ask(server, &["INFO", "commandstats"]).await;
    let stats = String::from_utf8_lossy(stats.bytes().unwrap()).into_owned();
    let of = format!("cmdstat_{command}:calls=");
    let count = stats.lines().find_map(|line| line.strip_prefix(&of)?.split(',').next()?.parse().ok());
    count.unwrap_or(0)
}

/// What is under a number's key.
enum Planted {
    Value,
    List,
    Nothing,
}

impl Planted {
    fn at(number: usize) -> Self {
        match number % 10 {
            0 => Planted::List,
            2 | 4 | 6 | 8 => Planted::Value,
            _ => Planted::Nothing,
        }
    }
}

/// Puts down what belongs to the numbers.
async fn plant(tell: impl AsyncFn(&str, &[&[u8]]), numbers: usize) {
    for number in 0..numbers {
        let name = name(number);
        match Planted::at(number) {
            Planted::Value => tell(&name, &[b"SET", name.as_bytes(), &body(number)]).await,
            Planted::List => tell(&name, &[b"RPUSH", name.as_bytes(), b"x"]).await,
            Planted::Nothing => {}
        }
    }
}

fn assert_own(number: usize, found: &Found) {
    match (Planted::at(number), found) {
        (Planted::Value, Ok(Some(bytes))) => assert_eq!(bytes, &body(number), "{number}"),
        (Planted::List, Err(error)) => assert!(error.is_wrong_type(), "{number}: {error}"),
        // One that was read with others.
        (Planted::List, Ok(None)) | (Planted::Nothing, Ok(None)) => {}
        (_, wrong) => panic!("{number}: {wrong:?}"),
    }
}

/// `get`s at one moment, and one `get_many` with every key twice.
async fn assert_each_gets_its_own(remote: &Arc<RedisRemote>, numbers: usize) {
    for _ in 0..3 {
        let answers = read_at_once(remote, (0..numbers).map(key)).await;
        for number in 0..numbers {
            assert_own(number, &answers[&key(number)]);
        }
    }
    let asked: Vec<usize> = (0..numbers).rev().chain(0..numbers).collect();
    let keys: Vec<String> = asked.iter().map(|&number| key(number)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let answers = remote.get_many(&keys).await;
    assert_eq!(answers.len(), asked.len());
    asked.iter().zip(&answers).for_each(|(&number, found)| assert_own(number, found));
    assert!(remote.get_many(&[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_reads_gets_its_own_value_and_the_server_sees_few_commands() {
    let server = RedisServer::start().await;
    let remote = connect(Redis::at(server.url()).connections(2)).await;
    plant(
        async |_, words| {
            server.command(words).await.unwrap();
        },
        1000,
    )
    .await;
    assert_each_gets_its_own(&remote, 1000).await;
    ask(&server, &["CONFIG", "RESETSTAT"]).await;
    let mut readers = JoinSet::new();
    for reader in 0..256 {
        let remote = Arc::clone(&remote);
        readers.spawn(async move {
            for number in (0..1000).cycle().skip(reader * 3).take(20) {
                assert_own(number, &remote.get(key(number).as_bytes()).await);
            }
        });
    }
    readers.join_all().await;
    let (together, alone) = (calls(&server, "mget").await, calls(&server, "get").await);
    assert!(together > 0 && together + alone < 256 * 20 / 4, "{together} MGET, {alone} GET");
    assert!(remote.get(b"k:0").await.is_err_and(|error| error.is_wrong_type()), "alone it is told");
}

#[tokio::test]
async fn more_reads_than_may_wait_are_answered_all_the_same() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    for number in 0..10 {
        set(&server, &name(number), &body(number)).await;
    }
    ask(&server, &["CONFIG", "RESETSTAT"]).await;
    // In one thread: all of them come before any can be carried.
    let mut reads = JoinSet::new();
    for read in 0..5000 {
        let remote = Arc::clone(&remote);
        reads.spawn(async move { (read % 10, remote.get(key(read % 10).as_bytes()).await) });
    }
    for (number, found) in reads.join_all().await {
        assert_eq!(found, Ok(Some(body(number).into())));
    }
    assert!(calls(&server, "get").await >= 5000 - 4096, "those beyond go by themselves");
}

#[tokio::test]
async fn many_keys_are_one_trip_and_thousands_are_a_few() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    for number in 0..3000 {
        set(&server, &name(number), &body(number % 100)).await;
    }
    let keys: Vec<String> = (0..3000).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    for (asked, most) in [(100, 1), (3000, 8)] {
        ask(&server, &["CONFIG", "RESETSTAT"]).await;
        let answers = remote.get_many(&keys[..asked]).await;
        for (number, found) in answers.iter().enumerate() {
            assert_eq!(found, &Ok(Some(body(number % 100).into())));
        }
        let trips = calls(&server, "mget").await;
        assert!((1..=most).contains(&trips), "{trips} trips for {asked} keys");
        assert_eq!(calls(&server, "get").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_each_gets_its_own_too_and_a_slot_is_one_command() {
    let cluster = RedisCluster::builder().replicas(0).start().await;
    let remote = connect_to_all(Redis::at(cluster.url())).await;
    plant(
        async |name, words| {
            cluster.command_on(name, words).await.unwrap();
        },
        300,
    )
    .await;
    assert_each_gets_its_own(&remote, 300).await;
    // All in one slot.
    let tagged: Vec<String> = (0..50).map(|number| format!("{{tag}}:{number}")).collect();
    let owner = cluster.primary_of("larder:{tag}").await;
    for key in &tagged {
        set(owner, &format!("larder:{key}"), key.as_bytes()).await;
    }
    ask(owner, &["CONFIG", "RESETSTAT"]).await;
    let keys: Vec<&[u8]> = tagged.iter().map(String::as_bytes).collect();
    for (found, key) in remote.get_many(&keys).await.into_iter().zip(&tagged) {
        assert_eq!(found, Ok(Some(key.clone().into())));
    }
    assert_eq!((calls(owner, "mget").await, calls(owner, "get").await), (1, 0));
}

/// The server pauses while reads are on their way, in a batch, and waiting for one. Then callers go away at every await they
/// come to, first and last among them. Whoever stays is answered.
#[tokio::test]
async fn callers_that_go_away_strand_nobody() {
    let server = RedisServer::start().await;
    let remote = connect(Redis::at(server.url()).heartbeat(LONG)).await;
    for number in 0..400 {
        set(&server, &name(number), &body(number)).await;
    }
    for polls in 0..6 {
        server.pause();
        let mut reads: Vec<BoxFuture<'static, Found>> = Vec::new();
        for number in 0..400 {
            let remote = Arc::clone(&remote);
            reads.push(Box::pin(async move { remote.get(key(number).as_bytes()).await }));
        }
        // So that they come to different places: in each round the carriers get as far as they can.
        for round in 0..polls {
            for read in reads.iter_mut().skip(round * 20) {
                let polled = poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
                assert!(polled.is_pending(), "the server does not answer");
            }
            tokio::task::yield_now().await;
        }
        let stay: Vec<_> = reads.into_iter().enumerate().filter(|(number, _)| number % 3 == 1).collect();
        server.resume();
        for (number, read) in stay {
            let found = tokio::select! {
                found = read => found,
                () = runtime().sleep(DEADLINE) => panic!("{number} is stranded after {polls} polls"),
            };
            assert_eq!(found, Ok(Some(body(number).into())));
        }
    }
}

/// A carrier ends when what it carries is broken off; then those behind it fail as well, at once, and nothing is sent twice.
#[tokio::test]
async fn a_broken_connection_fails_those_on_it_and_later_reads_work() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let remote = connect(Redis::at(proxy.url()).heartbeat(LONG)).await;
    set(&server, &name(7), &body(7)).await;
    for _ in 0..3 {
        ask(&server, &["CONFIG", "RESETSTAT"]).await;
        proxy.set(Fault::HalfOpen);
        let reads = read_at_once(&remote, (0..1000).map(key));
        let cut = async {
            wait_for(DEADLINE, "reads to be under way", async || calls(&server, "mget").await > 0).await;
            proxy.set(Fault::Reset);
        };
        let (answers, ()) = tokio::join!(reads, cut);
        for (key, found) in answers {
            let error = found.expect_err(&key);
            assert!(error.to_string().starts_with("not connected"), "{error}");
        }
        // At most what was under way at that moment has reached the server.
        assert!(calls(&server, "mget").await + calls(&server, "get").await <= 4);
        wait_down(&remote, "").await;
        proxy.set(Fault::None);
        wait_up(&remote).await;
        assert_eq!(remote.get(b"k:7").await, Ok(Some(body(7).into())));
        assert_each_is_absent(&remote).await;
    }
}

async fn assert_each_is_absent(remote: &Arc<RedisRemote>) {
    for (key, found) in read_at_once(remote, (100..400).map(key)).await {
        assert_eq!(found, Ok(None), "{key}");
    }
}

/// The carriers run where the remote was built. If that runtime ends, those who read from another one must not wait for them.
#[test]
fn when_the_runtime_of_the_carriers_ends_those_who_wait_are_told() {
    let (own, other) = (tokio_runtime(), tokio_runtime());
    let (server, remote) = own.block_on(async {
        let server = RedisServer::start().await;
        let remote = connect(Redis::at(server.url()).heartbeat(LONG)).await;
        (server, remote)
    });
    server.pause();
    let reads = other.spawn(async move {
        let early = read_at_once(&remote, (0..1000).map(key));
        let late = async {
            // The first reads have been polled, so carriers are under way.
            tokio::task::yield_now().await;
            own.shutdown_background();
        };
        let (early, ()) = tokio::join!(early, late);
        let late = read_at_once(&remote, (0..1000).map(key)).await;
        early.into_values().chain(late.into_values()).collect::<Vec<_>>()
    });
    let answers = other.block_on(async {
        tokio::select! {
            answers = reads => answers.unwrap(),
            () = runtime().sleep(DEADLINE) => panic!("somebody waits for carriers that are gone"),
        }
    });
    assert_eq!(answers.len(), 2000);
    for found in answers {
        assert!(found.unwrap_err().to_string().starts_with("not connected"));
    }
    server.resume();
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A slot moves key by key. A read of several of its keys is refused then (`TRYAGAIN`), and one of a key that has moved is sent
/// on: yet each is answered.
#[tokio::test]
async fn while_a_slot_migrates_each_read_is_answered_right() {
    let cluster = RedisCluster::builder().replicas(0).start().await;
    let remote = connect_to_all(Redis::at(cluster.url())).await;
    let keys: Vec<String> = (0..120).map(|number| format!("{{tag}}:{number}")).collect();
    let from = cluster.primary_of("larder:{tag}").await;
    // Half of them are there.
    let is_there = |at: usize| at.is_multiple_of(2);
    for key in keys.iter().step_by(2) {
        set(from, &format!("larder:{key}"), key.as_bytes()).await;
    }
    let all_right = async || {
        let right = |at: usize| Ok(is_there(at).then(|| Bytes::from(keys[at].clone())));
        let answers = read_at_once(&remote, keys.iter().cloned()).await;
        let asked: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let many = remote.get_many(&asked).await;
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(answers[key], right(at), "{key}");
            assert_eq!(many[at], right(at), "{key}");
        }
    };
    all_right().await;
    let slot = cluster.slot_of("larder:{tag}").await;
    let to = cluster.primaries().await.into_iter().find(|node| node.addr() != from.addr()).unwrap();
    let migration = cluster.begin_migration(slot, to).await;
    all_right().await;
    // One key is on the other side already, and with the next read of several they are on both.
    let (host, port) = (to.addr().ip().to_string(), to.port().to_string());
    let moved = ask(from, &["MIGRATE", &host, &port, "larder:{tag}:2", "0", "5000"]).await;
    assert_eq!(moved, Reply::Simple("OK".into()));
    all_right().await;
    assert_eq!(migration.move_keys().await, 59);
    all_right().await;
    migration.finish().await;
    all_right().await;
    wait_for(DEADLINE, "the map to be right", async || {
        for node in cluster.nodes() {
            ask(node, &["CONFIG", "RESETSTAT"]).await;
        }
        all_right().await;
        let stats = ask(from, &["INFO", "errorstats"]).await;
        !String::from_utf8_lossy(stats.bytes().unwrap()).contains("errorstat_MOVED")
    })
    .await;
}

/// A user who may `GET` but not `MGET`, or not all keys, costs himself trips, and nobody an answer.
#[tokio::test]
async fn a_read_that_is_refused_together_is_asked_for_alone() {
    let server = RedisServer::start().await;
    let user =
        ["ACL", "SETUSER", "app", "on", ">pw", "~larder:*", "~{larder}:*", "+@all", "-@dangerous", "-mget"];
    assert_eq!(ask(&server, &user).await, Reply::Simple("OK".into()));
    let remote = connect(Redis::at(server.url()).username("app").password("pw")).await;
    plant(
        async |_, words| {
            server.command(words).await.unwrap();
        },
        100,
    )
    .await;
    assert_each_gets_its_own(&remote, 100).await;
}

/// Without a bound, 64 values of 2 MiB would stand in the server's memory for one answer, and as many for each of the next.
#[tokio::test]
async fn large_values_travel_alone() {
    let server = RedisServer::start().await;
    let remote = connected(&server).await;
    let large = "0123456789abcdef".repeat(128 << 10);
    for number in 0..40 {
        set(&server, &name(number), large.as_bytes()).await;
    }
    assert_eq!(remote.get(b"k:0").await.map(|found| found.map(|bytes| bytes.len())), Ok(Some(2 << 20)));
    // The server ends a connection for which it would have to hold more.
    let limit = format!("normal {} 0 0", 20 << 20);
    ask(&server, &["CONFIG", "SET", "client-output-buffer-limit", &limit]).await;
    ask(&server, &["CONFIG", "RESETSTAT"]).await;
    for (key, found) in read_at_once(&remote, (0..40).map(key)).await {
        assert_eq!(found.unwrap().unwrap(), large.as_bytes(), "{key}");
    }
    assert_eq!((calls(&server, "get").await, calls(&server, "mget").await), (40, 0));
    let keys: Vec<String> = (0..40).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    for found in remote.get_many(&keys).await {
        assert_eq!(found.unwrap().unwrap(), large.as_bytes());
    }
    assert_eq!(calls(&server, "mget").await, 20);
    assert_eq!(ask_text(&server, &["GET", "larder:none"]).await, None);
}
