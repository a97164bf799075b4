//! What was invalidated is not served again (attack 49; lessons 1, 2, 24; design 4.5).
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::routing;
use common::*;
use larder_core::{Cache, Selector};
use larder_http::ResponseCache;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

#[tokio::test]
async fn every_selector_that_names_an_answer_removes_it_and_no_other_does() {
    let (cache, _) = cache().await;
    let count = Count::default();
    let handler = move |Path(_): Path<String>| async move { count.up().to_string() };
    let pages = layer(&cache)
        .id("id")
        .sub("logs")
        .version("v1")
        .tags(|parts| vec!["site".into(), format!("path {}", parts.uri.path())])
        .tags_from(|_, body| vec![format!("body:{}", body.len())]);
    let app = Router::new().route("/{id}", routing::get(handler).layer(pages));
    let mut last = ask(&app, get("/7")).await.text().to_owned();
    for pattern in
        ["page:7:logs:v1", "page:7:logs:*", "page:7:*", "page:*", "*", "#site", "#path /7", "#body:1"]
    {
        assert_eq!(ask(&app, get("/7")).await.told(), format!("HIT {last}"));
        drop_all(&cache, &[pattern]).await;
        let reply = ask(&app, get("/7")).await;
        assert_eq!(reply.word(), "MISS", "{pattern}");
        assert_ne!(reply.text(), last);
        reply.text().clone_into(&mut last);
        if last.len() > 1 {
            break;
        }
    }
    for pattern in
        ["page:8:*", "page:7", "page:7:log:*", "page:7:logs", "#sit", "#site2", "site:*", "#path", "#7"]
    {
        drop_all(&cache, &[pattern]).await;
        assert_eq!(ask(&app, get("/7")).await.told(), format!("HIT {last}"), "{pattern}");
    }
}

/// One name, several answers (hosts, query, languages): they live and die together (lesson 13).
#[tokio::test]
async fn all_variants_of_a_name_go_at_once() {
    let (cache, _) = cache().await;
    let handler = || async { "body" };
    let pages = layer(&cache).fixed_id("x").vary_headers([http::header::ACCEPT_LANGUAGE]);
    let app = Router::new().route("/", routing::get(handler).layer(pages));
    let all = || {
        [get("/"), with("/", &[("host", "b.test")]), with("/", &[("accept-language", "de")]), get("/?p=1")]
    };
    for word in ["MISS", "HIT"] {
        for request in all() {
            assert_eq!(ask(&app, request).await.word(), word);
        }
    }
    drop_all(&cache, &["page:x:*"]).await;
    for request in all() {
        assert_eq!(ask(&app, request).await.word(), "MISS");
    }
}

/// Lesson 1 (FusionCache#625), rule 49: the handler has read the old state; before it answers, the state changes and is
/// invalidated. Its answer is right for those who asked before, and for nobody after: not from the cache, and not by
/// waiting for it either. The same for the answer of a reload, which goes past the load under way.
#[tokio::test]
async fn a_fill_that_raced_an_invalidation_is_never_served_after_it() {
    let reload = [("cache-control", "no-cache")];
    for pattern in ["page", "page:*", "#site", "*"] {
        for headers in [&[][..], &reload[..]] {
            let (cache, _) = cache().await;
            let (gate, state) = (Gate::new(), Arc::new(AtomicU64::new(1)));
            let handler = {
                let (gate, state) = (gate.clone(), state.clone());
                move || async move {
                    let read = state.load(Ordering::SeqCst);
                    gate.pass().await;
                    format!("state {read}")
                }
            };
            let pages = layer(&cache).tags_from(|_, _| vec!["site".into()]);
            let app = Router::new().route("/", routing::get(handler).layer(pages));
            let before = ask_beside(&app, vec![with("/", headers)]).await;
            gate.reached().await;
            state.store(2, Ordering::SeqCst);
            drop_all(&cache, &[pattern]).await;
            let after = ask_beside(&app, vec![get("/"), get("/")]).await;
            (0..4).for_each(|_| gate.open());
            assert_eq!(before.join_all().await[0].text(), "state 1", "{pattern}");
            for reply in after.join_all().await {
                assert_eq!(reply.text(), "state 2", "{pattern} {headers:?}");
            }
            assert_eq!(ask(&app, get("/")).await.text(), "state 2", "{pattern} {headers:?}");
            assert_eq!(ask(&app, get("/")).await.told(), "HIT state 2", "{pattern} {headers:?}");
        }
    }
}

/// The refresh of a stale answer reads the old state, too.
#[tokio::test]
async fn a_refresh_that_raced_an_invalidation_is_never_served_after_it() {
    let (cache, runtime) = cache().await;
    let (gate, count) = (Gate::new(), Count::default());
    let handler = {
        let (gate, count) = (gate.clone(), count.clone());
        move || async move {
            let n = count.up();
            gate.pass().await;
            format!("state {n}")
        }
    };
    let pages = ResponseCache::new(&cache, "page", policy().stale_while_revalidate(MINUTE)).unwrap();
    let app = Router::new().route("/", routing::get(handler).layer(pages));
    gate.open();
    assert_eq!(ask(&app, get("/")).await.told(), "MISS state 1");
    runtime.advance(MINUTE);
    assert_eq!(ask(&app, get("/")).await.told(), "STALE state 1");
    settle().await;
    drop_all(&cache, &["page"]).await;
    (0..3).for_each(|_| gate.open());
    settle().await;
    assert_eq!(ask(&app, get("/")).await.told(), "MISS state 3");
}

/// A reload and a load of one key at one time: the load began first and ends last. What it brings is the older state.
#[tokio::test]
async fn a_load_that_a_reload_has_overtaken_does_not_overwrite_it() {
    let (cache, _) = cache().await;
    let (gate, count) = (Gate::new(), Count::default());
    let handler = {
        let (gate, count) = (gate.clone(), count.clone());
        move || async move {
            let n = count.up();
            if n == 1 {
                gate.pass().await;
            }
            format!("state {n}")
        }
    };
    let app = Router::new().route("/", routing::get(handler).layer(layer(&cache)));
    let first = ask_beside(&app, vec![get("/")]).await;
    assert_eq!(ask(&app, with("/", &[("cache-control", "no-cache")])).await.told(), "BYPASS state 2");
    gate.open();
    assert_eq!(first.join_all().await[0].text(), "state 1");
    assert_eq!(ask(&app, get("/")).await.told(), "HIT state 2");
}

/// A small generator: the test's own, so that a failure can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Lesson 24 (corrupted, truncated, duplicated, blank bodies; purges that silently did nothing): sixteen clients read and
/// change random bodies in every way there is. Whatever they get is whole, is its own digest's body, is of the resource
/// they asked for, and is not older than the last change they know to be complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_body_is_whole_and_none_is_older_than_the_last_invalidation() {
    const RESOURCES: usize = 4;
    let cache = Cache::builder().memory(4 * 1024 * 1024).build().await.unwrap();
    let state: Arc<[AtomicU64; RESOURCES]> = Arc::default();
    let read = state.clone();
    let handler = move |Path(id): Path<usize>, asked: HeaderMap| async move {
        let version = read[id].load(Ordering::SeqCst);
        tokio::task::yield_now().await;
        let mut dice = Dice(version << 8 | id as u64);
        let body: Vec<u8> = (0..dice.roll(9000)).map(|_| dice.roll(256).to_le_bytes()[0]).collect();
        let digest = format!("{id} {version} {:016x}", xxh3_64(&body));
        let body = match asked.contains_key("x-slowly") {
            false => axum::body::Body::from(body),
            true => {
                let (feed, slow) = fed(Some(body.len() as u64));
                feed.bytes(&body);
                slow
            }
        };
        ([("x-digest", digest)], body)
    };
    let pages = layer(&cache).id("id").tags(|parts| vec![parts.uri.path().to_owned()]);
    let app = Router::new().route("/{id}", routing::get(handler).layer(pages));
    let mut tasks = JoinSet::new();
    for seed in 0..16 {
        let (app, cache, state) = (app.clone(), cache.clone(), state.clone());
        tasks.spawn(async move {
            let (mut dice, mut hits) = (Dice(seed), 0);
            for _ in 0..400 {
                let id = usize::try_from(dice.roll(RESOURCES as u64)).unwrap();
                let path = format!("/{id}");
                let least = state[id].load(Ordering::SeqCst);
                match dice.roll(12) {
                    0 => {
                        // Changed, then invalidated; from here on nobody may be told the state before.
                        let now = state[id].fetch_add(1, Ordering::SeqCst) + 1;
                        let selector = match dice.roll(4) {
                            0 => Selector::under(("page", id)),
                            1 => Selector::key(("page", id)),
                            2 => Selector::tag(&path),
                            _ => Selector::under("page"),
                        };
                        let _ = cache.invalidate([selector]).await;
                        let reply = ask(&app, get(&path)).await;
                        assert!(check(&reply, id) >= now, "older than the invalidation");
                    }
                    1 => {
                        let reply = ask(&app, with(&path, &[("cache-control", "no-cache")])).await;
                        assert!(check(&reply, id) >= least);
                    }
                    2 => drop(begin(&app, with(&path, &[("x-slowly", "1")])).await),
                    3 => drop(check(&ask(&app, with(&path, &[("x-slowly", "1")])).await, id)),
                    _ => {
                        let reply = ask(&app, get(&path)).await;
                        hits += usize::from(reply.word() == "HIT");
                        check(&reply, id);
                    }
                }
            }
            hits
        });
    }
    let hits: usize = tasks.join_all().await.into_iter().sum();
    assert!(hits > 500, "only {hits} hits: this has tested nothing");
    assert_eq!(cache.stats().flights, 0);
}

/// The version of a reply that is whole, and of this resource.
fn check(reply: &Reply, resource: usize) -> u64 {
    let mut parts = reply.header("x-digest").split(' ');
    let mut next = || parts.next().expect("three parts");
    assert_eq!(next(), resource.to_string());
    let version = next().parse().unwrap();
    assert_eq!(next(), format!("{:016x}", xxh3_64(&reply.body)));
    version
}
