//! Lesson 24: other caches have handed out corrupted, truncated, mixed up and blank bodies, and always under load. So: two
//! processes, real threads, a handler that answers, streams, breaks off, fails, panics, hangs and answers privately, pages that
//! are invalidated all the while; and every body is checked against the digest that its handler sent along.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use common::*;
use http_body_util::BodyExt as _;
use larder_core::testing::{ManualRuntime, RedisOptions, TestRedis, TestRemote};
use larder_core::{Cache, Policy, Runtime, Selector, TokioRuntime};
use larder_http::ResponseCache;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

const PAGES: usize = 4;
const CLIENTS: usize = 8;
const REQUESTS: usize = 250;
const MS: Duration = Duration::from_millis(1);

struct World {
    runtime: Arc<dyn Runtime>,
    chance: Arc<ManualRuntime>,
    /// What the database has.
    versions: [AtomicU64; PAGES],
    /// What each process has been told to forget everything before: an answer from it is no older.
    floors: [[AtomicU64; PAGES]; 2],
    runs: AtomicUsize,
    /// The private answers that somebody has.
    private: Mutex<HashSet<String>>,
    seen: Mutex<BTreeMap<String, usize>>,
}

impl World {
    fn below(&self, limit: u64) -> u64 {
        self.chance.random() % limit
    }

    async fn while_passing(&self, most_ms: u64) {
        self.runtime.sleep(MS * u32::try_from(self.below(most_ms)).unwrap()).await;
    }

    /// The handler.
    async fn answer(self: Arc<Self>, page: usize) -> Response {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        let version = self.versions[page].load(Ordering::SeqCst);
        self.while_passing(5).await;
        let length = self.below(20_000);
        let text = format!("{page} {version} {run} {}", "x".repeat(usize::try_from(length).unwrap()));
        let digest = [("x-digest", xxh3_64(text.as_bytes()).to_string())];
        match self.below(20) {
            0..=9 => (digest, text).into_response(),
            10..=12 => {
                let (feed, body) = fed(Some(text.len() as u64));
                let of_pump = self.clone();
                self.runtime.spawn(Box::pin(async move {
                    for piece in text.as_bytes().chunks(7000) {
                        of_pump.while_passing(3).await;
                        feed.bytes(piece);
                    }
                }));
                (digest, body).into_response()
            }
            13 => {
                let (feed, body) = fed(Some(text.len() as u64));
                feed.send("half of it");
                feed.fail();
                ([("x-ends", "badly")], body).into_response()
            }
            14 | 15 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            // As a panic, without the noise.
            16 => std::panic::resume_unwind(Box::new("on purpose")),
            17 => std::future::pending().await,
            18 => StatusCode::NOT_FOUND.into_response(),
            _ => ([("cache-control", "private"), ("x-private", "yes")], digest, text).into_response(),
        }
    }

    async fn ask(&self, app: &Router, node: usize) {
        let page = usize::try_from(self.below(PAGES as u64)).unwrap();
        let floor = self.floors[node][page].load(Ordering::SeqCst);
        let response = begin(app, get(&format!("/{page}"))).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let said = |name: &str| headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
        *self.seen.lock().entry(format!("{} {}", status.as_u16(), said("x-cache-status"))).or_default() += 1;
        let body = match response.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                // What streams may be slower than the load timeout; its client still gets it.
                assert_eq!(said("x-ends"), "badly", "a body broke off that was whole at its source");
                assert_ne!(said("x-cache-status"), "HIT");
                return;
            }
        };
        match status.as_u16() {
            200 => self.check(page, floor, &headers, std::str::from_utf8(&body).unwrap()),
            404 | 503 => assert_eq!(said("x-digest"), "-"),
            500 | 504 => assert_eq!(said("content-type"), "application/problem+json"),
            other => panic!("{other}"),
        }
    }

    fn check(&self, page: usize, floor: u64, headers: &HeaderMap, text: &str) {
        let digest = headers.get("x-digest").expect("a whole answer").to_str().unwrap();
        assert_eq!(digest, xxh3_64(text.as_bytes()).to_string(), "another body than the handler's");
        assert_eq!(headers["content-length"].to_str().unwrap(), text.len().to_string());
        let mut words = text.split(' ');
        assert_eq!(words.next(), Some(&*page.to_string()), "the body of another page");
        let version: u64 = words.next().unwrap().parse().unwrap();
        assert!(version >= floor, "version {version} after {floor} was invalidated: {headers:?}");
        if headers.contains_key("x-private") {
            assert!(self.private.lock().insert(text.to_owned()), "a private answer for two clients");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_body_is_whole_and_its_handlers_own_while_handlers_fail_and_pages_are_invalidated() {
    for seed in [1, 2, 3] {
        let seen = trial(seed).await;
        let of =
            |what: &str| seen.iter().filter(|(told, _)| told.contains(what)).map(|(_, n)| n).sum::<usize>();
        for what in ["HIT", "MISS", "STALE", "BYPASS", "404", "50"] {
            assert!(of(what) > 0, "seed {seed}: none was {what}: {seen:?}");
        }
        assert_eq!(seen.values().sum::<usize>(), CLIENTS * REQUESTS, "seed {seed}: everybody has an answer");
    }
}

#[expect(clippy::print_stdout, reason = "a seed that finds something is worth knowing")]
async fn trial(seed: u64) -> BTreeMap<String, usize> {
    println!("seed {seed}");
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::current());
    let redis = TestRedis::new(runtime.clone(), RedisOptions::default());
    let world = Arc::new(World {
        runtime: runtime.clone(),
        chance: ManualRuntime::new(seed),
        versions: Default::default(),
        floors: Default::default(),
        runs: AtomicUsize::new(0),
        private: Mutex::default(),
        seen: Mutex::default(),
    });
    let policy = Policy::ttl(8 * MS)
        .stale_while_revalidate(4 * MS)
        .stale_if_error(100 * MS)
        .soft_timeout(4 * MS)
        .retry_after(3 * MS)
        .load_timeout(30 * MS);
    let mut nodes = Vec::new();
    for id in [1, 2] {
        let remote = TestRemote::on(redis.clone(), runtime.clone(), id);
        let cache = Cache::builder().runtime(runtime.clone()).remote(remote).build().await.unwrap();
        let of_handler = world.clone();
        let handler = move |Path(page): Path<usize>| of_handler.clone().answer(page);
        let pages = ResponseCache::new(&cache, "page", policy.clone()).unwrap().id("page");
        nodes.push((cache, Router::new().route("/{page}", routing::get(handler).layer(pages))));
    }
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (world, app, node) = (world.clone(), nodes[client % 2].1.clone(), client % 2);
        clients.spawn(async move {
            for _ in 0..REQUESTS {
                world.while_passing(4).await;
                world.ask(&app, node).await;
            }
        });
    }
    let mut turn = 0;
    while !clients.is_empty() {
        // One write, and one invalidation by one of the processes, every few milliseconds.
        let (node, page) = (turn % 2, turn / 2 % PAGES);
        let version = world.versions[page].fetch_add(1, Ordering::SeqCst) + 1;
        // Queued or delivered: this process knows.
        let _ = nodes[node].0.invalidate([Selector::under(("page", page))]).await;
        world.floors[node][page].store(version, Ordering::SeqCst);
        turn += 1;
        world.while_passing(12).await;
        while let Some(client) = clients.try_join_next() {
            client.unwrap();
        }
    }
    let seen = world.seen.lock().clone();
    println!("{} handlers run, {turn} pages written: {seen:?}", world.runs.load(Ordering::SeqCst));
    for (cache, _) in nodes {
        assert!(cache.shutdown(Duration::from_secs(10)).await, "seed {seed}: something is under way still");
        assert_eq!((cache.stats().flights, cache.stats().leases), (0, 0), "seed {seed}");
    }
    seen
}
