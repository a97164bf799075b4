//! The real server does what tests rely on.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use larder_testkit::{RedisServer, Reply, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn ok() -> Reply {
    Reply::Simple("OK".into())
}

fn refuses(server: &RedisServer) -> bool {
    TcpStream::connect(server.addr()).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn two_servers_share_nothing() {
    let (a, b) = tokio::join!(RedisServer::start(), RedisServer::start());
    assert_ne!(a.port(), b.port());
    assert_eq!(a.command(&["SET", "k", "v"]).await.unwrap(), ok());
    assert_eq!(b.command(&["GET", "k"]).await.unwrap(), Reply::Nil);
}

#[tokio::test]
async fn keys_and_values_are_bytes_that_a_test_can_damage() {
    let server = RedisServer::start().await;
    let (key, value): (&[u8], &[u8]) = (b"k\0\r\n\xff", b"$5\r\n\0\xfe");
    assert_eq!(server.command(&[b"SET", key, value]).await.unwrap(), ok());
    assert_eq!(server.keys().await, [key]);
    assert_eq!(server.command(&[b"SETRANGE", key, b"0", b"!"]).await.unwrap(), Reply::Int(6));
    let damaged = server.command(&[b"GET", key]).await.unwrap();
    assert_eq!(damaged.bytes().unwrap(), b"!5\r\n\0\xfe");
    server.flush_all().await;
    assert!(server.keys().await.is_empty());
}

#[tokio::test]
async fn a_refusal_is_a_reply() {
    let server = RedisServer::start().await;
    let Reply::Error(error) = server.command(&["NO-SUCH-COMMAND"]).await.unwrap() else {
        panic!("not refused")
    };
    assert!(error.starts_with("ERR unknown command"), "{error}");
}

#[tokio::test]
async fn a_killed_server_restarts_on_its_port_with_its_data_when_persistent() {
    let server = RedisServer::builder().persistent(true).start().await;
    let port = server.port();
    assert_eq!(server.command(&["SET", "k", "v"]).await.unwrap(), ok());
    server.kill();
    assert!(refuses(&server));
    assert!(server.command(&["GET", "k"]).await.is_err());
    server.restart().await;
    assert_eq!(server.port(), port);
    assert_eq!(server.command(&["GET", "k"]).await.unwrap(), Reply::Bulk(b"v".to_vec()));
    assert!(!refuses(&server));
}

#[tokio::test]
async fn a_restarted_server_is_empty_when_not_persistent() {
    let server = RedisServer::start().await;
    assert_eq!(server.command(&["SET", "k", "v"]).await.unwrap(), ok());
    server.restart().await;
    assert!(server.keys().await.is_empty());
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "that nothing comes can only be seen by listening for a while")]
async fn a_paused_server_accepts_connections_but_answers_only_when_resumed() {
    let server = RedisServer::start().await;
    server.pause();
    assert!(TcpStream::connect(server.addr()).is_ok());
    let mut answer = Box::pin(server.command(&["PING"]));
    // Longer than an answer ever takes; a shorter wait could only make this test pass wrongly.
    let heard = tokio::time::timeout(Duration::from_millis(60), &mut answer).await;
    assert!(heard.is_err(), "answered while paused: {heard:?}");
    server.resume();
    assert_eq!(answer.await.unwrap(), Reply::Simple("PONG".into()));
}

#[tokio::test]
async fn a_paused_server_can_be_killed_and_restarted() {
    let server = RedisServer::start().await;
    server.pause();
    server.kill();
    assert!(refuses(&server));
    server.restart().await;
    assert_eq!(server.command(&["DBSIZE"]).await.unwrap().int(), Some(0));
}

#[tokio::test]
async fn a_dropped_server_leaves_neither_process_nor_directory() {
    let server = RedisServer::start().await;
    let addr = server.addr();
    let reply = server.command(&["CONFIG", "GET", "dir"]).await.unwrap();
    let directory = String::from_utf8(reply.items()[1].bytes().unwrap().to_vec()).unwrap();
    assert!(std::path::Path::new(&directory).exists());
    drop(server);
    assert!(!std::path::Path::new(&directory).exists());
    assert!(TcpStream::connect(addr).is_err());
}

#[tokio::test]
async fn words_for_the_command_line_reach_the_server_and_win() {
    let server =
        RedisServer::builder().arg(["--maxmemory", "1mb"]).arg(["--appendonly", "yes"]).start().await;
    let reply = server.command(&["CONFIG", "GET", "maxmemory"]).await.unwrap();
    assert_eq!(reply.items()[1].bytes().unwrap(), b"1048576");
    let reply = server.command(&["CONFIG", "GET", "appendonly"]).await.unwrap();
    assert_eq!(reply.items()[1].bytes().unwrap(), b"yes");
}

#[tokio::test]
#[should_panic(expected = "no-such-option")]
async fn a_server_that_does_not_come_up_shows_its_log() {
    RedisServer::builder().arg(["--no-such-option", "1"]).start().await;
}

#[tokio::test]
async fn a_password_is_in_the_url_and_is_needed() {
    let server = RedisServer::builder().password("p:/ @1").start().await;
    assert_eq!(server.command(&["PING"]).await.unwrap(), Reply::Simple("PONG".into()));
    let mut client = redis::Client::open(server.url())
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .expect("the URL works");
    let pong: String = redis::cmd("PING").query_async(&mut client).await.unwrap();
    assert_eq!(pong, "PONG");

    let stranger = redis::Client::open(format!("redis://{}", server.addr())).unwrap();
    let mut stranger = stranger.get_multiplexed_async_connection().await.unwrap();
    assert!(redis::cmd("PING").query_async::<String>(&mut stranger).await.is_err());
}

#[tokio::test]
async fn a_tls_server_serves_clients_that_trust_its_authority_and_no_others() {
    let server = RedisServer::builder().tls(true).start().await;
    assert!(server.url().starts_with("rediss://"));
    assert_eq!(server.command(&["SET", "k", "v"]).await.unwrap(), ok());

    let authority = std::fs::read(server.ca_certificate_path()).unwrap();
    let certificates = redis::TlsCertificates { client_tls: None, root_cert: Some(authority) };
    let client = redis::Client::build_with_tls(server.url(), certificates).unwrap();
    let mut client = client.get_multiplexed_async_connection().await.expect("the authority is trusted");
    let value: String = redis::cmd("GET").arg("k").query_async(&mut client).await.unwrap();
    assert_eq!(value, "v");

    let stranger = redis::Client::open(server.url()).unwrap();
    assert!(stranger.get_multiplexed_async_connection().await.is_err());
}

#[test]
fn a_missing_program_is_explained() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "two_servers_share_nothing"])
        .env("LARDER_REDIS_SERVER", "/no/such/program")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    for word in
        ["/no/such/program", "cargo xtask test", "apt-get install redis-server", "LARDER_REDIS_SERVER"]
    {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

/// Not a test by itself: what the next test runs in a process of its own, and kills.
#[tokio::test]
async fn a_test_that_starts_a_server_and_hangs_when_told_to() {
    let Some(file) = std::env::var_os("LARDER_TESTKIT_HANG") else { return };
    let server = RedisServer::builder().tls(true).start().await;
    let lines = format!("{}\n{}\n", server.addr(), server.ca_certificate_path().display());
    std::fs::write(&file, lines).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_server_ends_with_a_test_process_that_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("addr");
    let mut process = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_test_that_starts_a_server_and_hangs_when_told_to"])
        .env("LARDER_TESTKIT_HANG", &file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let line =
        |n| std::fs::read_to_string(&file).unwrap_or_default().lines().nth(n).unwrap_or_default().to_owned();
    let lives = || TcpStream::connect(line(0)).is_ok();
    wait_until(SOON, "the other process to start its server", lives).await;
    process.kill().unwrap();
    process.wait().unwrap();
    wait_until(SOON, "the server to end too", || !lives()).await;
    wait_until(SOON, "its directory to go", || !std::path::Path::new(&line(1)).exists()).await;
}
