//! The origin counts, and answers as told.

use std::time::{Duration, Instant};

use larder_testkit::{CountingOrigin, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The head, in lower case, and the body of the answer to one request on a connection of its own.
async fn request(origin: &CountingOrigin, method: &str, target: &str) -> (String, String) {
    let mut stream = TcpStream::connect(origin.addr()).await.expect("the origin listens");
    let request = format!("{method} {target} HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the connection is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer in UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head ends with an empty line");
    (head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn requests_are_counted_per_path_and_the_body_says_which_it_was() {
    let origin = CountingOrigin::start().await;
    assert!(origin.url().starts_with("http://127.0.0.1:"));
    assert_eq!(request(&origin, "GET", "/a").await.1, "GET /a #1\n");
    assert_eq!(request(&origin, "POST", "/a?x=1").await.1, "POST /a #2\n");
    assert_eq!(request(&origin, "GET", "/b/c").await.1, "GET /b/c #1\n");
    assert_eq!((origin.hits("/a"), origin.hits("/b/c"), origin.hits("/none")), (2, 1, 0));
    assert_eq!(origin.total_hits(), 3);
}

#[tokio::test]
async fn status_headers_and_length_are_as_the_query_says() {
    let origin = CountingOrigin::start().await;
    let target =
        "/a?status=503&len=20&header=Vary:Accept&header=vary:%20Cookie&header=Content-Type:image/png";
    let (head, body) = request(&origin, "GET", target).await;
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert!(head.contains("vary: accept\r\nvary: cookie"), "{head}");
    assert!(head.contains("content-type: image/png") && !head.contains("text/plain"), "{head}");
    assert_eq!(body, "GET /a #1\n..........");
    assert_eq!(request(&origin, "GET", "/a?len=3").await.1, "GET");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "measures a delay in real time")]
async fn an_answer_comes_after_its_delay_and_others_do_not_wait_for_it() {
    let origin = CountingOrigin::start().await;
    let start = Instant::now();
    tokio::select! {
        biased;
        _ = request(&origin, "GET", "/slow?delay_ms=60000") => panic!("came without its delay"),
        () = async {
            wait_for(Duration::from_secs(10), "the slow one to be asked", async || origin.hits("/slow") == 1).await;
            request(&origin, "GET", "/quick?delay_ms=30").await;
        } => {}
    }
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_refused_with_the_reason() {
    let origin = CountingOrigin::start().await;
    for query in
        ["status=1", "status=x", "delay_ms=60001", "len=-1", "len=67108865", "header=none", "header=a%20b:c"]
    {
        let (head, body) = request(&origin, "GET", &format!("/a?{query}")).await;
        assert!(head.starts_with("http/1.1 400 "), "{query}: {head}");
        assert!(body.contains("must be"), "{query}: {body}");
    }
}

#[tokio::test]
async fn a_dropped_origin_closes_its_port_and_its_idle_connections() {
    let origin = CountingOrigin::start().await;
    let addr = origin.addr();
    let mut idle = TcpStream::connect(addr).await.unwrap();
    idle.write_all(b"GET /a HTTP/1.1\r\nHost: origin\r\n\r\n").await.unwrap();
    let mut first = [0; 8];
    idle.read_exact(&mut first).await.unwrap();
    drop(origin);
    let mut rest = Vec::new();
    // With or without manners.
    let _ = idle.read_to_end(&mut rest).await;
    wait_for(Duration::from_secs(10), "the port to refuse", async || TcpStream::connect(addr).await.is_err())
        .await;
}
