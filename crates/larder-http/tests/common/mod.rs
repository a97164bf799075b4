//! What the tests of this crate share: a site to ask, requests, and handlers that wait until they are told.
#![allow(dead_code, unused_imports, reason = "every test file uses its own part of it")]

mod held;
mod origin;
mod world;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use larder_core::testing::ManualRuntime;
use larder_core::{Cache, CacheBuilder, Policy, Selector};
use larder_http::ResponseCache;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

pub(crate) use self::held::Held;
pub(crate) use self::origin::Origin;
pub(crate) use self::world::World;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// One minute, and no chance in it.
pub(crate) fn policy() -> Policy {
    Policy::ttl(MINUTE).jitter(0.0)
}

/// A cache in memory, on time that stands still.
pub(crate) async fn cache() -> (Cache, Arc<ManualRuntime>) {
    built(Cache::builder()).await
}

pub(crate) async fn built(builder: CacheBuilder) -> (Cache, Arc<ManualRuntime>) {
    let runtime = ManualRuntime::new(7);
    (builder.runtime(runtime.clone()).build().await.unwrap(), runtime)
}

pub(crate) fn layer(cache: &Cache) -> ResponseCache {
    ResponseCache::new(cache, "page", policy()).unwrap()
}

pub(crate) async fn drop_all(cache: &Cache, patterns: &[&str]) {
    let selectors: Vec<Selector> = patterns.iter().map(|p| Selector::parse(p).unwrap()).collect();
    let _ = cache.invalidate(selectors).await;
}

/// How often something happened.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    /// Counts one more, and answers which one it is: 1, 2, 3.
    pub(crate) fn up(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Holds handlers back until they are let go, and knows when they have come.
#[derive(Clone)]
pub(crate) struct Gate {
    came: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Gate { came: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }

    /// In a handler: waits for [`open`](Self::open).
    pub(crate) async fn pass(&self) {
        self.came.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }

    /// In a test: waits until another handler has come.
    pub(crate) async fn reached(&self) {
        self.came.acquire().await.unwrap().forget();
    }

    /// Lets one handler through.
    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }
}

/// Lets every task of a single-threaded runtime go as far as it gets.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn get(uri: &str) -> Request<Body> {
    with(uri, &[])
}

pub(crate) fn with(uri: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(uri);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "a.test");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

pub(crate) fn head(uri: &str) -> Request<Body> {
    let mut request = get(uri);
    *request.method_mut() = http::Method::HEAD;
    request
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// A header, or `-`.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("-", |v| v.to_str().unwrap())
    }

    /// `HIT`, `MISS`, `STALE`, `BYPASS` or `-`.
    pub(crate) fn word(&self) -> &str {
        self.header("x-cache-status")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Word and body in one, for short assertions: `HIT page 1`.
    pub(crate) fn told(&self) -> String {
        format!("{} {}", self.word(), self.text())
    }
}

/// The head of an answer, and its body as it comes.
pub(crate) async fn begin(app: &Router, request: Request<Body>) -> Response<Body> {
    app.clone().oneshot(request).await.unwrap()
}

pub(crate) async fn whole(response: Response<Body>) -> Reply {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body that ends well").to_bytes();
    Reply { status: parts.status, headers: parts.headers, body }
}

pub(crate) async fn ask(app: &Router, request: Request<Body>) -> Reply {
    whole(begin(app, request).await).await
}

/// Asks in tasks of their own, and answers once they have gone as far as they get.
pub(crate) async fn ask_beside(app: &Router, requests: Vec<Request<Body>>) -> JoinSet<Reply> {
    let mut tasks = JoinSet::new();
    for request in requests {
        let app = app.clone();
        tasks.spawn(async move { ask(&app, request).await });
    }
    settle().await;
    tasks
}

/// A body that a test feeds by hand.
pub(crate) struct Fed {
    pieces: mpsc::UnboundedReceiver<Result<Frame<Bytes>, std::io::Error>>,
    /// What it says its length is.
    left: Option<u64>,
}

/// Feeds a [`Fed`].
#[derive(Clone)]
pub(crate) struct Feed(mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>);

impl Feed {
    pub(crate) fn send(&self, text: &str) {
        let _ = self.0.send(Ok(Frame::data(text.to_owned().into())));
    }

    pub(crate) fn bytes(&self, bytes: &[u8]) {
        for piece in bytes.chunks(1000) {
            let _ = self.0.send(Ok(Frame::data(Bytes::copy_from_slice(piece))));
        }
    }

    pub(crate) fn trailers(&self, name: &'static str) {
        let value = http::HeaderValue::from_static("x");
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static(name), value)]);
        let _ = self.0.send(Ok(Frame::trailers(trailers)));
    }

    pub(crate) fn fail(&self) {
        let _ = self.0.send(Err(std::io::Error::other("the source went away")));
    }

    pub(crate) fn is_listened_to(&self) -> bool {
        !self.0.is_closed()
    }
}

pub(crate) fn fed(length: Option<u64>) -> (Feed, Body) {
    let (sender, pieces) = mpsc::unbounded_channel();
    (Feed(sender), Body::new(Fed { pieces, left: length }))
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let Poll::Ready(piece) = self.pieces.poll_recv(cx) else { return Poll::Pending };
        if let (Some(left), Some(Ok(frame))) = (self.left, &piece) {
            self.left = Some(left.saturating_sub(frame.data_ref().map_or(0, |d| d.len() as u64)));
        }
        Poll::Ready(piece)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A real server on a port of its own, until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _task: JoinSet<()>,
}

pub(crate) async fn serve(app: Router) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let _ = axum::serve(listener, app).await;
    });
    Server { address, _task: task }
}

impl Server {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes, and reads until the server closes.
    pub(crate) async fn say(&self, bytes: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}

/// Reads from a connection until `text` has come.
pub(crate) async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await.unwrap() {
            0 => panic!("closed before {text:?} came: {:?}", String::from_utf8_lossy(&read)),
            n => read.extend_from_slice(&piece[..n]),
        }
    }
    String::from_utf8(read).unwrap()
}
