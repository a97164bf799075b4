//! Redis forgets: all, or what it has no room for.

use std::time::Duration;

use larder_testkit::{Fault, RedisServer, Reply};

use crate::trial::{LOG, Trial};

/// Everything is deleted, again and again: log, stamps and values.
#[tokio::test(flavor = "multi_thread")]
async fn redis_is_flushed() {
    let server = RedisServer::start().await;
    let mut trial = Trial::on("flushall", &server, 0).await;
    for _ in 0..12 {
        server.flush_all().await;
        trial.under_load(0.05 + 0.001 * seconds(trial.chance.below(500))).await;
    }
    trial.deafen();
    trial.last_words(0).await;
    server.flush_all().await;
    trial.listen();
    let late = trial.until_late().await;
    assert!(late.by_late > 0, "nobody can be told any more: {late:?}");
    trial.end(40).await;
}

/// Answers of the log take this long: time enough for records to come and go unread between two of them.
const SLOW: Fault = Fault::Latency(Duration::from_millis(70));

/// The stream is cut to nothing before slow readers have read it: the next record does not follow what they know.
#[tokio::test(flavor = "multi_thread")]
async fn the_stream_is_trimmed_to_nothing() {
    let server = RedisServer::start().await;
    let mut trial = Trial::on("trimmed", &server, 0).await;
    for proxy in &trial.proxies {
        proxy.set_where(LOG, SLOW);
    }
    let trim =
        async || server.command(&["XTRIM", "{larder}:log", "MAXLEN", "0"]).await.unwrap().int().unwrap();
    let (before, mut trimmed) = (trial.gaps().await, 0);
    for _ in 0..150 {
        trimmed += trim().await;
        trial.under_load(0.001 * seconds(trial.chance.below(50))).await;
    }
    trial.deafen();
    trial.last_words(0).await;
    trimmed += trim().await;
    trial.listen();
    trial.until_late().await;
    let gaps = trial.gaps().await - before;
    println!("trimmed: {trimmed} records, {gaps} gaps");
    assert!(trimmed > 30 && gaps > 0, "{trimmed} records were taken away, {gaps} times it was noticed");
    trial.end(40).await;
}

/// A node cannot hear that everything is invalidated, Redis forgets it, and who knew dies: nobody is left to say it again.
/// That the log has no memory of what the node has is enough: it must not serve that any more.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_knew_is_gone() {
    let server = RedisServer::start().await;
    let mut trial = Trial::on("all forgotten", &server, 0).await;
    trial.calm().await;
    trial.read_all(1).await;
    trial.proxies[1].set_where(LOG, Fault::BlackHole);
    assert!(trial.write(0, "*").await.is_some());
    server.flush_all().await;
    trial.replace(0).await;
    trial.replace(2).await;
    // The answer with the record must not arrive after all.
    trial.proxies[1].set(Fault::Reset);
    trial.proxies[1].set(Fault::None);
    trial.under_load(3.2).await;
    trial.read_all(1).await;
    trial.end(30).await;
}

/// Each of the log's keys goes alone, or with another, as eviction takes them.
#[tokio::test(flavor = "multi_thread")]
async fn parts_of_the_log_are_evicted() {
    let server = RedisServer::start().await;
    let mut trial = Trial::on("log evicted", &server, 0).await;
    for proxy in &trial.proxies {
        proxy.set_where(LOG, SLOW);
    }
    let keys = ["{larder}:log", "{larder}:state", "{larder}:old"];
    let before = trial.gaps().await;
    for _ in 0..30 {
        let (one, other) = (trial.chance.one_of(&keys), trial.chance.one_of(&keys));
        server.command(&["UNLINK", one, other]).await.unwrap();
        trial.under_load(0.001 * seconds(trial.chance.below(250))).await;
    }
    trial.deafen();
    trial.last_words(0).await;
    server.command(&[&["UNLINK"], &keys[..]].concat()).await.unwrap();
    trial.listen();
    let late = trial.until_late().await;
    assert!(late.by_late > 0, "nobody can be told any more: {late:?}");
    let gaps = trial.gaps().await - before;
    println!("log evicted: {gaps} gaps");
    assert!(gaps > 3, "{gaps} times it was noticed that the log was gone");
    trial.end(40).await;
}

/// Redis has room for half of the values, and evicts whatever it likes: the log and the stamps, too.
#[tokio::test(flavor = "multi_thread")]
async fn redis_evicts_any_key() {
    under_pressure("allkeys-lru").await;
}

/// The same where only keys with a life are evicted: all of ours have one.
#[tokio::test(flavor = "multi_thread")]
async fn redis_evicts_keys_with_a_life() {
    under_pressure("volatile-lru").await;
}

async fn under_pressure(policy: &'static str) {
    const FILLING: usize = 60_000;
    // One sample: it takes any key, and not the one that was used longest ago, which the log never is.
    let server =
        RedisServer::builder().arg(["--maxmemory-policy", policy, "--maxmemory-samples", "1"]).start().await;
    let trial = Trial::on(policy, &server, FILLING).await;
    let before = trial.gaps().await;
    let roomy = number(&server, "used_memory").await;
    let room = (roomy - 1_000_000).to_string();
    server.command(&["CONFIG", "SET", "maxmemory", &room]).await.unwrap();
    trial.under_load(4.0).await;
    let evicted = number(&server, "evicted_keys").await;
    println!("{policy}: {evicted} keys evicted, room for {room} bytes");
    assert!(evicted > 50, "{evicted} keys were evicted");
    let gaps = trial.gaps().await - before;
    println!("{policy}: {gaps} gaps");
    assert!(gaps > 0, "the log was among what was evicted");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    trial.end(30).await;
}

/// Redis is full and evicts nothing: appends and stores fail, reads go on. With room again everything is delivered.
#[tokio::test(flavor = "multi_thread")]
async fn redis_is_full() {
    let server = RedisServer::start().await;
    let trial = Trial::on("full", &server, 0).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    let during = trial.during(2.5).await;
    assert!(during.queued > 10, "appends failed: {during:?}");
    assert!(during.hits > 100, "reads went on: {during:?}");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    trial.under_load(1.0).await;
    trial.end(50).await;
}

/// A number out of `INFO`.
async fn number(server: &RedisServer, name: &str) -> u64 {
    let info = server.command(&["INFO"]).await.unwrap();
    let Reply::Bulk(info) = info else { panic!("{info:?}") };
    let info = String::from_utf8_lossy(&info).into_owned();
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {info}"))
}

fn seconds(whole: u64) -> f64 {
    f64::from(u32::try_from(whole).unwrap())
}
