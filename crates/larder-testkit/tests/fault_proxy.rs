//! Each fault, seen from a client of a real server behind the proxy.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use larder_testkit::{Fault, FaultProxy, RedisServer, Reply, wait_for, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(10);

/// How long we listen before we believe that nothing comes; answers of a healthy proxy take well under 1 ms.
const SILENCE: Duration = Duration::from_millis(60);

async fn client(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect(proxy.addr()).await.expect("the proxy listens")
}

async fn send(client: &mut TcpStream, command: &str) {
    client.write_all(format!("{command}\r\n").as_bytes()).await.expect("the connection is open");
}

async fn expect(client: &mut TcpStream, answer: &str) {
    let mut got = vec![0; answer.len()];
    client.read_exact(&mut got).await.unwrap_or_else(|error| panic!("instead of {answer:?}: {error}"));
    assert_eq!(String::from_utf8_lossy(&got), answer);
}

async fn ping(client: &mut TcpStream) {
    send(client, "PING").await;
    expect(client, "+PONG\r\n").await;
}

#[expect(clippy::disallowed_methods, reason = "that nothing comes can only be seen by listening for a while")]
async fn expect_silence(client: &mut TcpStream) {
    let mut byte = [0];
    let heard = tokio::time::timeout(SILENCE, client.read(&mut byte)).await;
    assert!(heard.is_err(), "heard {heard:?}");
}

/// Reads until the connection ends, and says how.
async fn end_of(client: &mut TcpStream) -> io::Result<()> {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.map(|_| ())
}

async fn expect_reset(client: &mut TcpStream) {
    assert_eq!(end_of(client).await.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
}

/// The reset may come before the connecting is seen to have worked.
async fn expect_new_is_reset(proxy: &FaultProxy) {
    match TcpStream::connect(proxy.addr()).await {
        Ok(mut client) => expect_reset(&mut client).await,
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[expect(clippy::disallowed_methods, reason = "measures what a fault costs in real time")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn without_a_fault_everything_passes_unchanged() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    assert_eq!(proxy.url(), format!("redis://{}", proxy.addr()));
    let value: String = ('a'..='z').cycle().take(300_000).collect();
    let mut client = client(&proxy).await;
    send(&mut client, &format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}", value.len())).await;
    expect(&mut client, "+OK\r\n").await;
    send(&mut client, "GET k").await;
    expect(&mut client, &format!("${}\r\n{value}\r\n", value.len())).await;
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn closing_passes_in_both_directions() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let mut quits = client(&proxy).await;
    send(&mut quits, "QUIT").await;
    expect(&mut quits, "+OK\r\n").await;
    end_of(&mut quits).await.expect("the server's close arrives");

    let mut leaves = client(&proxy).await;
    send(&mut leaves, "CLIENT SETNAME leaver").await;
    expect(&mut leaves, "+OK\r\n").await;
    drop(leaves);
    wait_for(SOON, "the server to see the client's close", async || {
        let list = server.command(&["CLIENT", "LIST"]).await.unwrap();
        !String::from_utf8_lossy(list.bytes().unwrap()).contains("leaver")
    })
    .await;
}

#[tokio::test]
async fn latency_makes_answers_late_but_does_not_add_up() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let mut client = client(&proxy).await;
    ping(&mut client).await;
    let late = Duration::from_millis(400);
    proxy.set(Fault::Latency(late));
    let start = now();
    // Ten answers, each its own chunk.
    for n in 0..10 {
        send(&mut client, &format!("INCR n{n}")).await;
        let key = format!("n{n}");
        wait_for(SOON, "the command's effect", async || {
            server.command(&["EXISTS", &key]).await.unwrap() == Reply::Int(1)
        })
        .await;
    }
    for _ in 0..10 {
        expect(&mut client, ":1\r\n").await;
    }
    let took = now() - start;
    assert!(took >= late, "{took:?}");
    assert!(took < late * 10, "{took:?}");
}

#[tokio::test]
async fn a_black_holed_connection_gives_no_answer_and_works_again_afterwards() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let mut open = client(&proxy).await;
    ping(&mut open).await;
    proxy.set(Fault::BlackHole);
    send(&mut open, "SET k v").await;
    let mut new = client(&proxy).await;
    send(&mut new, "PING").await;
    expect_silence(&mut open).await;
    expect_silence(&mut new).await;
    assert_eq!(server.command(&["EXISTS", "k"]).await.unwrap(), Reply::Int(0), "the request went nowhere");
    proxy.set(Fault::None);
    expect(&mut open, "+OK\r\n").await;
    expect(&mut new, "+PONG\r\n").await;
    ping(&mut open).await;
    ping(&mut new).await;
}

#[tokio::test]
async fn a_fault_can_be_only_for_those_who_have_sent_certain_bytes_or_send_them_later() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let (mut log, mut values, mut later) = (client(&proxy).await, client(&proxy).await, client(&proxy).await);
    send(&mut log, "SET {larder}:log 1").await;
    expect(&mut log, "+OK\r\n").await;
    for other in [&mut values, &mut later] {
        send(other, "SET larder:a 1").await;
        expect(other, "+OK\r\n").await;
    }
    proxy.set_where(b"{larder}:log", Fault::BlackHole);
    send(&mut log, "PING").await;
    send(&mut later, "INCR {larder}:log").await;
    expect_silence(&mut log).await;
    expect_silence(&mut later).await;
    ping(&mut values).await;
    ping(&mut client(&proxy).await).await;
    assert_eq!(
        server.command(&["GET", "{larder}:log"]).await.unwrap(),
        Reply::Bulk(b"1".into()),
        "what makes it one of them is held already"
    );

    proxy.set_where(b"larder:a", Fault::HalfOpen);
    expect(&mut log, "+PONG\r\n").await;
    ping(&mut log).await;
    send(&mut values, "PING").await;
    expect_silence(&mut values).await;
    proxy.set(Fault::None);
    expect(&mut values, "+PONG\r\n").await;
    expect(&mut later, ":2\r\n").await;
}

#[tokio::test]
async fn a_black_hole_hides_that_the_server_died() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let mut client = client(&proxy).await;
    ping(&mut client).await;
    proxy.set(Fault::BlackHole);
    server.kill();
    expect_silence(&mut client).await;
    proxy.set(Fault::None);
    end_of(&mut client).await.expect("the close arrives at last");
}

#[tokio::test]
async fn a_half_open_connection_carries_requests_but_no_answers() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let mut client = client(&proxy).await;
    ping(&mut client).await;
    proxy.set(Fault::HalfOpen);
    send(&mut client, "SET k v").await;
    wait_for(SOON, "the effect on the server", async || {
        server.command(&["EXISTS", "k"]).await.unwrap() == Reply::Int(1)
    })
    .await;
    expect_silence(&mut client).await;
    proxy.set(Fault::None);
    expect(&mut client, "+OK\r\n").await;
    ping(&mut client).await;
}

#[tokio::test]
async fn a_reset_ends_open_and_new_connections_until_it_is_over() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let mut open = client(&proxy).await;
    ping(&mut open).await;
    proxy.set(Fault::Reset);
    expect_reset(&mut open).await;
    expect_new_is_reset(&proxy).await;
    proxy.set(Fault::None);
    ping(&mut client(&proxy).await).await;
}

#[tokio::test]
async fn a_reset_that_is_over_at_once_still_ends_open_connections() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let mut open = client(&proxy).await;
    ping(&mut open).await;
    proxy.set(Fault::Reset);
    proxy.set(Fault::None);
    expect_reset(&mut open).await;
    ping(&mut client(&proxy).await).await;
}

#[tokio::test]
async fn a_reset_ends_connections_that_a_black_hole_holds() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let mut open = client(&proxy).await;
    ping(&mut open).await;
    proxy.set(Fault::BlackHole);
    send(&mut open, "PING").await;
    let mut new = client(&proxy).await;
    send(&mut new, "PING").await;
    wait_until(SOON, "the connections to be accepted", || proxy.accepted() == 2).await;
    proxy.set(Fault::Reset);
    expect_reset(&mut open).await;
    expect_reset(&mut new).await;
}

/// The server has done the work, and the answer is in the proxy's hands when the connection is reset: the lane that
/// holds it and the reset notice the change independently, in any order.
#[tokio::test]
async fn a_held_answer_is_lost_by_a_reset_however_soon_that_is_over() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    for round in 0..300 {
        let mut client = client(&proxy).await;
        ping(&mut client).await;
        proxy.set(Fault::HalfOpen);
        send(&mut client, "INCR n").await;
        wait_for(SOON, "the command's effect", async || {
            server.command(&["GET", "n"]).await.unwrap() == Reply::Bulk((round + 1).to_string().into())
        })
        .await;
        proxy.set(Fault::Reset);
        if round % 2 == 0 {
            proxy.set(Fault::None);
        }
        let mut byte = [0];
        let heard = client.read(&mut byte).await;
        assert!(heard.is_err(), "round {round}: heard {heard:?}");
        proxy.set(Fault::None);
    }
}

#[tokio::test]
async fn a_trickle_brings_the_whole_answer_in_pieces() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let mut client = client(&proxy).await;
    ping(&mut client).await;
    let every = Duration::from_millis(20);
    proxy.set(Fault::Trickle { bytes: 2, every });
    let start = now();
    // Seven bytes: four pieces.
    ping(&mut client).await;
    let took = now() - start;
    assert!(took >= every * 4, "{took:?}");
}

#[tokio::test]
async fn refused_connections_are_closed_and_open_ones_work_on() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let mut open = client(&proxy).await;
    ping(&mut open).await;
    proxy.set(Fault::Refuse);
    let mut new = client(&proxy).await;
    end_of(&mut new).await.expect("closed, and not reset");
    ping(&mut open).await;
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn a_server_that_is_down_shows_as_a_reset_and_a_restarted_one_is_found_again() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    server.kill();
    expect_new_is_reset(&proxy).await;
    server.restart().await;
    ping(&mut client(&proxy).await).await;
}

#[tokio::test]
async fn a_dropped_proxy_closes_its_port_and_its_connections() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.addr()).await;
    let addr = proxy.addr();
    let mut open = client(&proxy).await;
    ping(&mut open).await;
    drop(proxy);
    // With or without manners.
    let _ = end_of(&mut open).await;
    wait_for(SOON, "the port to refuse", async || TcpStream::connect(addr).await.is_err()).await;
}
