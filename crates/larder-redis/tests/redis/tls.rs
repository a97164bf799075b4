//! `rediss://`.

use larder_core::Remote;
use larder_redis::Redis;
use larder_testkit::RedisServer;

use crate::support::{build, connect, open, runtime, wait_down};

#[tokio::test]
async fn a_server_with_a_private_authority_is_trusted_when_told_to() {
    let server = RedisServer::builder().tls(true).password("pw").start().await;
    let authority = server.ca_certificate_path();
    let remote = connect(Redis::at(server.url()).ca_certificate(authority)).await;
    assert!(remote.describe().starts_with("rediss://127.0.0.1:"));
    open(&remote, None).await;
    let pem = std::fs::read(authority).unwrap();
    let by_name = server.url().replace("127.0.0.1", "localhost").replace("rediss://", "valkeys://");
    let remote = connect(Redis::at(by_name).ca_certificate_pem(pem)).await;
    assert_eq!(remote.get(b"k").await, Ok(None));
}

#[tokio::test]
async fn a_server_whose_authority_is_unknown_is_not() {
    let server = RedisServer::builder().tls(true).start().await;
    let remote = build(Redis::at(server.url()));
    remote.connect();
    wait_down(&remote, "certificate").await;
}

#[tokio::test]
async fn a_server_without_tls_is_a_reason_and_not_a_hang() {
    let server = RedisServer::start().await;
    let remote = build(Redis::at(server.url().replace("redis://", "rediss://")));
    remote.connect();
    wait_down(&remote, "").await;
    assert!(remote.get(b"k").await.is_err());
}

#[tokio::test]
async fn a_certificate_that_is_none_is_an_error_of_the_configuration() {
    let told = |redis: Redis| redis.build(runtime()).unwrap_err().to_string();
    let redis = || Redis::at("rediss://127.0.0.1");
    assert!(told(redis().ca_certificate("/no/such/file")).contains("it cannot be read"));
    assert!(told(redis().ca_certificate_pem("hello")).contains("there is no certificate in it"));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(told(redis().ca_certificate_pem(broken)).contains("redis ca_certificate"));
}
