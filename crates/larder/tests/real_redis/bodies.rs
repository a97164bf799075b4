//! Lesson 24: whole bodies, in two processes on one Redis, whatever happens to their loads.
//!
//! That one process gives whole bodies is shown in `larder-http/tests/invalidation.rs`, and how a body fails half-way in
//! `larder-http/tests/tee.rs`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use larder::http::ResponseCache;
use larder::units::{HOUR, SECOND};
use larder::{Policy, Runtime, Selector};
use larder_testkit::RedisServer;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::support::{Process, Source, no_lease};

const PAGES: usize = 6;
const LOAD_TIMEOUT: Duration = SECOND;

/// What a handler does.
#[derive(Clone, Copy, Debug)]
enum Way {
    Whole,
    /// It answers at once, and the body comes in pieces.
    InPieces,
    /// The body breaks off, although its length was said.
    BreaksOff,
    /// A server error.
    Fails,
    /// Nothing comes before the load timeout.
    Hangs,
}

/// Sums as FNV does: the test must be able to tell one body from any other, and nothing more.
fn digest(bytes: &[u8]) -> String {
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:016x}")
}

/// The body of a page at a version: long enough to come in pieces.
fn whole(page: usize, version: u64) -> Vec<u8> {
    let line = format!("page {page} version {version}\n");
    line.repeat(40 + usize::try_from(version % 100).unwrap()).into_bytes()
}

/// A site on one process: its pages are those of `versions`, and it does each time what chance says.
fn site(process: &Process, versions: &Arc<[AtomicU64; PAGES]>) -> Router {
    let (versions, runtime) = (versions.clone(), process.cache.runtime().clone());
    let handler = move |Path(page): Path<usize>| {
        let (versions, runtime) = (versions.clone(), runtime.clone());
        async move { respond(page, &versions, &*runtime).await }
    };
    let policy = Policy::ttl(HOUR).load_timeout(LOAD_TIMEOUT);
    let pages = ResponseCache::new(&process.cache, "page", policy).unwrap().id("page");
    Router::new().route("/{page}", routing::get(handler).layer(pages))
}

async fn respond(page: usize, versions: &[AtomicU64; PAGES], runtime: &dyn Runtime) -> Response {
    let version = versions[page].load(Ordering::SeqCst);
    let way = match runtime.random() % 100 {
        0..55 => Way::Whole,
        55..75 => Way::InPieces,
        75..90 => Way::BreaksOff,
        90..99 => Way::Fails,
        _ => Way::Hangs,
    };
    runtime.sleep(Duration::from_millis(runtime.random() % 8)).await;
    let body = Bytes::from(whole(page, version));
    let headers = [
        ("x-digest", digest(&body)),
        ("x-version", version.to_string()),
        ("etag", format!("\"{page}-{version}\"")),
        ("content-length", body.len().to_string()),
    ];
    match way {
        Way::Whole => (headers, body).into_response(),
        Way::Fails => (StatusCode::INTERNAL_SERVER_ERROR, "the source is away").into_response(),
        Way::Hangs => std::future::pending().await,
        Way::InPieces | Way::BreaksOff => {
            let (pieces, stream) = mpsc::channel(1);
            let breaks_off = matches!(way, Way::BreaksOff);
            let left = body.len() as u64;
            let (half, pause) = (body.len() / 2, runtime.sleep(Duration::from_millis(3)));
            runtime.spawn(Box::pin(async move {
                let rest = body.slice(half..);
                // Whoever reads may have gone.
                let _ = pieces.send(Ok(body.slice(..half))).await;
                pause.await;
                let broken = || Err(io::Error::other("the source went away"));
                let _ = pieces.send(if breaks_off { broken() } else { Ok(rest) }).await;
            }));
            (headers, Body::new(InPieces { pieces: stream, left })).into_response()
        }
    }
}

/// A body that says its length and comes piece by piece.
struct InPieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl HttpBody for InPieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = ready!(self.pieces.poll_recv(cx));
        if let Some(Ok(piece)) = &piece {
            self.left = self.left.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// What a client got.
#[derive(Default, Debug)]
struct Got {
    answers: u64,
    hits: u64,
    not_modified: u64,
    errors: u64,
    broken: u64,
}

impl Got {
    fn add(&mut self, other: &Got) {
        self.answers += other.answers;
        self.hits += other.hits;
        self.not_modified += other.not_modified;
        self.errors += other.errors;
        self.broken += other.broken;
    }
}

/// Asks and judges. `least`: the version that a fresh answer may not be older than.
async fn ask(
    app: &Router,
    page: usize,
    condition: Option<&str>,
    least: u64,
    got: &mut Got,
) -> Option<String> {
    let mut request = Request::get(format!("/{page}")).header(header::HOST, "a.test");
    if let Some(condition) = condition {
        request = request.header(header::IF_NONE_MATCH, condition);
    }
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let said = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let is_hit = said("x-cache-status").as_deref() == Some("HIT");
    got.answers += 1;
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        // The source broke off, and whoever streamed it sees that. Nothing stored does.
        assert!(!is_hit, "a hit that breaks off");
        got.broken += 1;
        return None;
    };
    match head.status {
        StatusCode::OK => {
            let version = said("x-version").unwrap().parse().unwrap();
            assert_eq!(body, whole(page, version), "not whole, or of another page");
            assert_eq!(said("x-digest"), Some(digest(&body)));
            assert_eq!(said("content-length"), Some(body.len().to_string()));
            assert!(version >= least, "version {version} of page {page}, and {least} was invalidated before");
            got.hits += u64::from(is_hit);
            said("etag")
        }
        StatusCode::NOT_MODIFIED => {
            assert_eq!(said("etag").as_deref(), condition, "only to whoever has it");
            assert!(body.is_empty());
            got.not_modified += 1;
            None
        }
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::GATEWAY_TIMEOUT => {
            assert!(!is_hit, "an error is not stored");
            got.errors += 1;
            None
        }
        status => panic!("{status}: {body:?}"),
    }
}

/// Lesson 24 (Souin#429, #731, #693, #846, #337: corrupted, truncated, duplicated, blank bodies; #794: 304 for clients that asked
/// without a condition; #583, #456: purges that do nothing). Two processes, eight clients of each, pages that change and are
/// invalidated from either, handlers that stream, break off in the middle, fail and hang. Every single body is whole, is the one
/// that its headers speak of, and is not older than what was invalidated before it was asked for; 304 is for those who have it.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_24_every_body_is_whole_and_of_its_headers_whatever_happens_to_its_load() {
    const CLIENTS: u64 = 8;
    const REQUESTS: u64 = 150;
    let (server, source) = (RedisServer::start().await, Source::default());
    let versions: Arc<[AtomicU64; PAGES]> = Arc::default();
    let mut clients = JoinSet::new();
    let mut processes = Vec::new();
    for place in 0..2 {
        let process = Process::start(&server.url(), &source).await;
        let app = site(&process, &versions);
        for client in 0..CLIENTS {
            let (app, cache, versions) = (app.clone(), process.cache.clone(), versions.clone());
            clients.spawn(async move {
                let (mut got, mut known) = (Got::default(), <[Option<String>; PAGES]>::default());
                for request in 0..REQUESTS {
                    let chance = cache.runtime().random();
                    let page = usize::try_from(chance >> 32).unwrap() % PAGES;
                    if chance % 20 == 0 {
                        let new = versions[page].fetch_add(1, Ordering::SeqCst) + 1;
                        let selector = Selector::under(("page", page));
                        // It is in force here when that returns.
                        let _ = cache.invalidate([selector]).await;
                        ask(&app, page, None, new, &mut got).await;
                    } else {
                        let condition = known[page].as_deref().filter(|_| chance % 3 == 0);
                        if let Some(etag) = ask(&app, page, condition, 0, &mut got).await {
                            known[page] = Some(etag);
                        }
                    }
                    assert!(got.answers > request, "process {place}, client {client}");
                }
                got
            });
        }
        processes.push(process);
    }
    let mut all = Got::default();
    while let Some(got) = clients.join_next().await {
        all.add(&got.unwrap());
    }
    println!("lesson 24: {all:?}");
    assert_eq!(all.answers, 2 * CLIENTS * REQUESTS);
    assert!(all.hits > 500 && all.not_modified > 20 && all.errors > 0 && all.broken > 0, "{all:?}");
    for process in &processes {
        process.idle().await;
    }
    no_lease(&server).await;
    let from_redis: u64 = processes.iter().map(|p| p.cache.stats().namespaces["page"].hits_remote).sum();
    assert!(from_redis > 0, "what one process has stored the other has served");
}
