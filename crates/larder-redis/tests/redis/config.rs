//! Settings are checked once, by `build`.

use std::time::Duration;

use larder_core::Remote;
use larder_redis::Redis;

use crate::support::{build, runtime};

async fn told(redis: Redis) -> String {
    redis.build(runtime()).expect_err("a bad configuration").to_string()
}

fn good() -> Redis {
    Redis::at("redis://127.0.0.1:6379")
}

#[tokio::test]
async fn each_bad_setting_is_named_with_its_value_and_rule() {
    let scheme = "the scheme must be redis:// or rediss:// (or valkey://, valkeys://, unix://; redis-sentinel://, \
                  redis-cluster:// and so on)";
    assert_eq!(told(Redis::at("http://x")).await, format!("redis url \"http://x\": {scheme}"));
    let prefix = "it must be 1 to 64 of A-Z a-z 0-9 _ . -";
    for bad in ["", "a b", "a:b", "{a}", "\u{e9}"] {
        assert_eq!(told(good().prefix(bad)).await, format!("redis prefix {bad:?}: {prefix}"));
    }
    assert!(told(good().prefix("x".repeat(65))).await.contains(prefix));
    assert_eq!(told(good().connections(0)).await, "redis connections \"0\": it must be 1 to 64");
    assert_eq!(told(good().connections(65)).await, "redis connections \"65\": it must be 1 to 64");
    let timeout = told(good().connect_timeout(Duration::ZERO)).await;
    assert_eq!(timeout, "redis connect_timeout \"0ns\": it must be 10 ms to 60 s");
    assert!(told(good().heartbeat(Duration::from_secs(61))).await.starts_with("redis heartbeat \"61s\""));
    assert!(told(good().stamp_limit(0)).await.starts_with("redis stamp_limit \"0\""));
    let rule = "a user needs a password, as in user:password@host";
    assert_eq!(told(good().username("app")).await, format!("redis username \"app\": {rule}"));
    assert_eq!(told(Redis::at("redis://secret@h")).await, format!("redis username \"***\": {rule}"));
    let idle = "redis sentinel_password \"***\": it is of use with sentinels only";
    assert_eq!(told(good().sentinel_password("hunter2")).await, idle);
    let sentinel = || Redis::sentinel(["a:1", "b"], "shop");
    assert!(told(sentinel().sentinel_username("app")).await.contains(rule));
    assert!(told(sentinel().log_at("c:1")).await.starts_with("redis log_at"));
    assert!(told(Redis::sentinel(["a:1"], "my shop")).await.contains("the path must name the service"));
    assert!(told(Redis::sentinel([""; 0], "shop")).await.contains("the host must be"));
    let one_database = "redis database \"1\": a cluster has one database, 0";
    assert_eq!(told(Redis::cluster(["a:1"]).database(1)).await, one_database);
    assert!(told(good().ca_certificate("/ca.pem")).await.starts_with("redis ca_certificate \"/ca.pem\""));
}

#[tokio::test]
async fn the_error_says_which_option_and_rule_to_a_program_too() {
    let error = good().connections(0).build(runtime()).unwrap_err();
    assert_eq!((error.option(), error.value(), error.rule()), ("connections", "0", "it must be 1 to 64"));
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn without_the_feature_a_tls_url_says_which_feature_it_needs() {
    let error = told(Redis::at("rediss://:hunter2@cache.example")).await;
    assert!(error.contains("feature `tls`") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn setters_win_over_the_url_and_empty_means_none() {
    let remote = build(Redis::at("redis://user:pw@h:7/3").database(5).username("").password(""));
    assert_eq!(remote.describe(), "redis://h:7/5");
    assert_eq!(build(Redis::at("valkey://h")).describe(), "redis://h:6379/0");
    let sentinel = Redis::sentinel(["a:1", "b"], "shop").database(2).sentinel_password("");
    assert_eq!(build(sentinel).describe(), "redis-sentinel://a:1,b:26379/shop/2");
    assert_eq!(build(Redis::cluster(["a:1", "b"])).describe(), "redis-cluster://a:1,b:6379");
    #[cfg(feature = "tls")]
    assert_eq!(build(Redis::cluster(["a"]).tls(true)).describe(), "rediss-cluster://a:6379");
}
