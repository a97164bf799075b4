//! The servers that are measured, each in a child process.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use larder_core::units::HOUR;
use larder_core::{Cache, Policy};
use larder_http::ResponseCache;

/// The word by which a child process is told to serve.
pub const WORD: &str = "serve";

/// Which server.
#[derive(Clone, Copy)]
pub enum Kind {
    /// The route with the cache around it.
    Cached,
    /// The route alone.
    Plain,
    /// With the cache around it, in Redis only.
    RemoteCached,
    /// A handler that asks Redis for its answer.
    HandWrittenGet,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Cached => "cached",
            Kind::Plain => "plain",
            Kind::RemoteCached => "remote-cached",
            Kind::HandWrittenGet => "hand-written-get",
        }
    }

    pub fn words(self) -> [&'static str; 2] {
        [WORD, self.word()]
    }
}

/// How often the handler ran.
static HANDLED: AtomicU64 = AtomicU64::new(0);

/// 1 KiB of JSON.
pub static JSON: &str = include_str!("answer.json");

/// Counts a run of a handler.
pub fn handled() {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// The answer of all servers, made in the same way.
fn answer() -> impl IntoResponse {
    handled();
    ([(CONTENT_TYPE, "application/json")], Bytes::from_static(JSON.as_bytes()))
}

/// In the child: serves until the parent is gone.
pub fn serve(kind: &str, rest: &[&str]) -> ! {
    assert_eq!(JSON.len(), 1024);
    // The parent holds the other end of this pipe, and its end is ours.
    let orphaned = || {
        let _ = std::io::stdin().lines().next();
        std::process::exit(0);
    };
    std::thread::spawn(orphaned);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (route, cache) = route(kind, rest).await;
        let router =
            Router::new().route("/item", route).route("/counted", get(async move || counted(cache.as_ref())));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        axum::serve(listener, router).await.unwrap();
    });
    unreachable!("a server does not end");
}

async fn route(kind: &str, rest: &[&str]) -> (MethodRouter, Option<Cache>) {
    let plain = get(async || answer());
    match (kind, rest) {
        ("plain", []) => (plain, None),
        ("cached", []) => {
            let cache = Cache::builder().build().await.unwrap();
            let layer = ResponseCache::new(&cache, "item", Policy::ttl(HOUR)).unwrap();
            (plain.layer(layer), Some(cache))
        }
        ("remote-cached", [url]) => {
            let cache = Cache::builder().remote(larder_redis::Redis::at(*url)).build().await.unwrap();
            let layer = ResponseCache::new(&cache, "item", Policy::ttl(HOUR).remote_only()).unwrap();
            (plain.layer(layer), Some(cache))
        }
        ("hand-written-get", [url]) => (super::by_hand::route(url).await, None),
        _ => panic!("no server is called {kind} {rest:?}"),
    }
}

/// What was counted since the start: hits, loads and runs of the handler.
fn counted(cache: Option<&Cache>) -> String {
    let stats = cache.map(Cache::stats);
    let stats = stats.and_then(|stats| stats.namespaces.get("item").cloned()).unwrap_or_default();
    format!("{} {} {}\n", stats.hits, stats.loads, HANDLED.load(Ordering::Relaxed))
}
