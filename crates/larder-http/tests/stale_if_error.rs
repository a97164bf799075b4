//! What clients get of a handler that fails while a stale answer is there: RFC 5861 section 4, and lesson 5, that nothing
//! which was invalidated is served whatever fails.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::*;
use http_body_util::BodyExt as _;
use larder_core::testing::{ManualRuntime, Recorder};
use larder_core::{Cache, Policy};
use larder_http::ResponseCache;

const SECOND: Duration = Duration::from_secs(1);
/// With each of these a handler says that it has failed.
const FAILURES: [u16; 4] = [500, 502, 503, 504];

/// A minute fresh, and ten more for when the handler fails.
fn lenient() -> Policy {
    policy().stale_if_error(10 * MINUTE).load_timeout(5 * SECOND)
}

fn status(status: u16) -> Response {
    (StatusCode::from_u16(status).unwrap(), format!("error {status}")).into_response()
}

/// A body that is all bytes, with headers that are hard to keep.
fn page() -> Response {
    let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let mut response = bytes.into_response();
    for link in [b"</a>; rel=next".as_slice(), b"caf\xc3\xa9 \xff"] {
        response.headers_mut().append(header::LINK, HeaderValue::from_bytes(link).unwrap());
    }
    response
}

/// A body that says it has ten bytes, and breaks off.
fn broken() -> Response {
    let (feed, body) = fed(Some(10));
    feed.send("one ");
    feed.fail();
    body.into_response()
}

struct Site {
    origin: Origin,
    app: Router,
    cache: Cache,
    runtime: Arc<ManualRuntime>,
    events: Arc<Recorder>,
}

/// A site in one process, without a remote tier.
async fn site(policy: Policy) -> Site {
    let events = Recorder::new();
    let (cache, runtime) = built(Cache::builder().observer(events.clone())).await;
    let origin = Origin::new();
    let app = origin.behind(ResponseCache::new(&cache, "page", policy).unwrap());
    Site { origin, app, cache, runtime, events }
}

/// Asks, and lets the load timeout pass if that is what it takes.
async fn ask_patiently(site: &Site) -> Reply {
    let mut asked = ask_beside(&site.app, vec![get("/")]).await;
    for _ in 0..6 {
        if let Some(reply) = asked.try_join_next() {
            return reply.unwrap();
        }
        site.runtime.advance(SECOND);
        settle().await;
    }
    panic!("no answer after six seconds");
}

#[tokio::test]
async fn each_failure_of_the_handler_is_answered_with_the_stale_bytes_their_age_and_why() {
    type Act = fn() -> futures::Act;
    let failing = |act: Act, told: &'static str, waits: u64| (act, told, waits);
    let all = [
        failing(|| futures::ready(status(500)), "larder; fwd=stale; fwd-status=500", 0),
        failing(|| futures::ready(status(502)), "larder; fwd=stale; fwd-status=502", 0),
        failing(|| futures::ready(status(503)), "larder; fwd=stale; fwd-status=503", 0),
        failing(|| futures::ready(status(504)), "larder; fwd=stale; fwd-status=504", 0),
        failing(|| Box::pin(async { panic!("on purpose") }), "larder; fwd=stale; detail=panicked", 0),
        failing(|| Box::pin(pending()), "larder; fwd=stale; detail=timed_out", 5),
        failing(|| futures::ready(broken()), "larder; fwd=stale; detail=truncated", 0),
        failing(
            || futures::ready(([("content-length", "11")], "ten bytes.").into_response()),
            "larder; fwd=stale; detail=truncated",
            0,
        ),
    ];
    for (act, told, waits) in all {
        let site = site(lenient()).await;
        site.origin.does(|_| async { page() });
        let first = ask(&site.app, get("/")).await;
        site.runtime.advance(2 * MINUTE);
        site.origin.does(move |_| act());
        let stale = ask_patiently(&site).await;
        assert_eq!((stale.status, &stale.body), (StatusCode::OK, &first.body), "{told}");
        assert_eq!((stale.header("cache-status"), stale.word()), (told, "STALE"));
        assert_eq!(stale.header("age"), (120 + waits).to_string(), "{told}");
        let links = |reply: &Reply| reply.headers.get_all(header::LINK).iter().cloned().collect::<Vec<_>>();
        assert_eq!((stale.header("etag"), links(&stale)), (first.header("etag"), links(&first)));
        assert_eq!(site.events.count("cache_load_failed"), 1, "{told}");
        // Nobody is left behind, nothing is counted twice.
        let stats = site.cache.stats();
        assert_eq!((stats.flights, stats.leases), (0, 0));
        let page = &stats.namespaces["page"];
        assert_eq!((page.misses, page.stale, page.loads, page.load_failures), (1, 1, 2, 1), "{told}");
        let head = ask(&site.app, head("/")).await;
        assert_eq!((head.word(), head.header("content-length"), head.text()), ("STALE", "10000", ""));
        let known = with("/", &[("if-none-match", first.header("etag"))]);
        assert_eq!(ask(&site.app, known).await.status, StatusCode::NOT_MODIFIED);
    }
}

/// Handlers as values of one type.
mod futures {
    use std::pin::Pin;

    use super::Response;

    pub(crate) type Act = Pin<Box<dyn Future<Output = Response> + Send>>;

    pub(crate) fn ready(response: Response) -> Act {
        Box::pin(std::future::ready(response))
    }
}

#[tokio::test]
async fn without_a_stale_answer_a_failure_reaches_its_client_as_it_is() {
    // Never there; past its window; a route that allows nothing stale.
    for (policy, later) in [(lenient(), None), (lenient(), Some(11 * MINUTE)), (policy(), Some(MINUTE))] {
        for failure in FAILURES {
            let site = site(policy.clone()).await;
            if let Some(later) = later {
                assert_eq!(ask(&site.app, get("/")).await.told(), "MISS body 1");
                site.runtime.advance(later);
            }
            site.origin.does(move |_| async move { status(failure) });
            let reply = ask(&site.app, get("/")).await;
            assert_eq!((reply.status.as_u16(), reply.text()), (failure, &*format!("error {failure}")));
            assert_eq!(reply.header("cache-status"), "larder; fwd=bypass; detail=status");
            assert_eq!(site.events.count("cache_load_failed"), 0);
        }
    }
}

#[tokio::test]
async fn a_bypass_is_never_answered_stale() {
    let site = site(lenient()).await;
    ask(&site.app, get("/")).await;
    site.runtime.advance(MINUTE);
    site.origin.does(|_| async { status(503) });
    let reply = ask(&site.app, with("/", &[("cache-control", "no-cache")])).await;
    assert_eq!((reply.status.as_u16(), reply.word()), (503, "BYPASS"));
    assert_eq!(ask(&site.app, get("/")).await.told(), "STALE body 1", "and it ends nothing");
}

/// The origin is down and a page is asked for a thousand times a second. One request in five seconds finds out whether it is
/// back, however many come at that moment; lesson 20: the pause has nothing to do with ttl or jitter.
#[tokio::test]
async fn the_pause_after_a_failure_bounds_how_often_the_handler_runs() {
    let retry = lenient().stale_while_revalidate(MINUTE).retry_after(3 * SECOND);
    for policy in [lenient().retry_after(3 * SECOND), retry] {
        let site = site(policy).await;
        ask(&site.app, get("/")).await;
        site.runtime.advance(MINUTE);
        site.origin.does(|_| async {
            tokio::task::yield_now().await;
            status(503)
        });
        for run in 2..6 {
            for _ in 0..3 {
                let replies = ask_beside(&site.app, (0..20).map(|_| get("/")).collect()).await;
                for reply in replies.join_all().await {
                    assert_eq!(reply.told(), "STALE body 1");
                }
                assert_eq!(site.origin.runs(), run);
                site.runtime.advance(SECOND);
            }
        }
        site.origin.is_well();
        ask(&site.app, get("/")).await;
        settle().await;
        assert_eq!(ask(&site.app, get("/")).await.told(), "HIT body 6");
    }
}

/// Those who wait for a handler that fails get what its first client gets: whether it was a miss in this process or not.
#[tokio::test]
async fn everybody_who_waits_for_a_handler_that_fails_gets_the_stale_answer() {
    let site = site(lenient()).await;
    ask(&site.app, get("/")).await;
    site.runtime.advance(MINUTE);
    let gate = Gate::new();
    for failure in [|| status(502), || panic!("on purpose")] {
        let of_handler = gate.clone();
        site.origin.does(move |_| {
            let gate = of_handler.clone();
            async move {
                gate.pass().await;
                failure()
            }
        });
        let before = site.origin.runs();
        let asked = ask_beside(&site.app, (0..10).map(|_| get("/")).collect()).await;
        gate.open();
        for reply in asked.join_all().await {
            assert_eq!(reply.told(), "STALE body 1");
        }
        assert_eq!(site.origin.runs(), before + 1);
        site.runtime.advance(MINUTE);
    }
}

/// A body streams to its first client and breaks off: he cannot be given another one. Those who wait for it can.
#[tokio::test]
async fn those_who_wait_for_a_body_that_breaks_off_get_the_stale_one() {
    let site = site(lenient()).await;
    ask(&site.app, get("/")).await;
    site.runtime.advance(MINUTE);
    for late in [false, true] {
        let (feed, body) = fed(Some(10));
        let body = Arc::new(parking_lot::Mutex::new(Some(body)));
        site.origin.does(move |_| {
            let body = body.lock().take().unwrap_or_default();
            async move { body }
        });
        let first = begin(&site.app, get("/")).await;
        feed.send("one ");
        let waiters = ask_beside(&site.app, vec![get("/"), get("/")]).await;
        if late {
            for _ in 0..5 {
                site.runtime.advance(SECOND);
                settle().await;
            }
        } else {
            feed.fail();
        }
        for reply in waiters.join_all().await {
            assert_eq!(reply.told(), "STALE body 1", "late: {late}");
        }
        assert_eq!(ask(&site.app, get("/")).await.told(), "STALE body 1");
        drop(feed);
        assert!(first.into_body().collect().await.is_err());
        site.runtime.advance(MINUTE);
    }
    assert_eq!((site.events.count("cache_load_failed"), site.cache.stats().flights), (2, 0));
}

/// Another process finds the stale answer in the remote tier alone, and so does one without memory.
#[tokio::test]
async fn a_stale_answer_that_only_the_remote_tier_has_is_as_good() {
    for policy in [lenient(), lenient().remote_only()] {
        let world = World::new();
        let (a, b) = (world.process().await, world.process().await);
        let origin = Origin::new();
        let [a, b] =
            [a, b].map(|cache| origin.behind(ResponseCache::new(&cache, "page", policy.clone()).unwrap()));
        assert_eq!(ask(&a, get("/")).await.told(), "MISS body 1");
        settle().await;
        world.runtime.advance(2 * MINUTE);
        origin.does(|_| async { status(503) });
        for _ in 0..5 {
            let reply = ask(&b, get("/")).await;
            assert_eq!((reply.told().as_str(), reply.header("age")), ("STALE body 1", "120"));
        }
        assert_eq!(origin.runs(), 2, "the pause holds for what only the remote tier has too");
    }
}

/// An answer that says "this page is not what it was" and may not be stored: gone, private, with a cookie. What is stale
/// was served on until its window ended, here and wherever else Redis was asked.
#[tokio::test]
async fn an_answer_that_is_not_stored_ends_the_stale_one_here_and_in_the_remote_tier() {
    type Answer = fn() -> Response;
    let answers: [(&str, Answer); 7] = [
        ("404", || status(404)),
        ("410", || status(410)),
        ("403", || status(403)),
        ("private", || ([(header::CACHE_CONTROL, "private")], "yours").into_response()),
        ("no-store", || ([(header::CACHE_CONTROL, "no-store")], "yours").into_response()),
        ("Set-Cookie", || ([(header::SET_COOKIE, "session=1")], "yours").into_response()),
        ("too large", || vec![b'x'; 20_000].into_response()),
    ];
    let revalidating = policy().stale_while_revalidate(10 * MINUTE);
    for (what, answer) in answers {
        for policy in [&revalidating, &lenient()] {
            let world = World::new();
            let policy = policy.clone().max_stored_size(15_000);
            let (a, b) = (world.process().await, world.process().await);
            let origin = Origin::new();
            let [a, b] = [&a, &b]
                .map(|cache| origin.behind(ResponseCache::new(cache, "page", policy.clone()).unwrap()));
            assert_eq!(ask(&a, get("/")).await.told(), "MISS body 1");
            settle().await;
            world.runtime.advance(MINUTE);
            origin.does(move |_| async move { answer() });
            // The first one may get it: his request is what has the page looked at again.
            ask(&a, get("/")).await;
            settle().await;
            assert!(world.remote.is_empty(), "{what}: the remote tier has it still");
            for (name, app) in [("here", &a), ("elsewhere", &b)] {
                let reply = ask(app, get("/")).await;
                assert_ne!(reply.text(), "body 1", "{what}, {name}");
            }
            // Nor does it come back when the handler fails.
            origin.does(|_| async { status(503) });
            for app in [&a, &b] {
                assert_eq!(ask(app, get("/")).await.status.as_u16(), 503, "{what}");
            }
        }
    }
}

/// With a negative ttl a 404 is an answer like others: it takes the stale one's place.
#[tokio::test]
async fn a_refresh_that_finds_a_page_gone_stores_that_if_it_may() {
    let site = site(lenient().stale_while_revalidate(MINUTE).negative_ttl(MINUTE)).await;
    ask(&site.app, get("/")).await;
    site.runtime.advance(MINUTE);
    site.origin.does(|_| async { status(404) });
    assert_eq!(ask(&site.app, get("/")).await.told(), "STALE body 1");
    settle().await;
    assert_eq!(ask(&site.app, get("/")).await.told(), "HIT error 404");
}

/// Ways for a stale answer to be served, each begun before the invalidation or after it; lesson 5: on the node that
/// invalidates at once, on another as soon as it has heard.
#[tokio::test]
async fn a_hard_invalidation_beats_every_stale_path_on_both_nodes() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum When {
        Before,
        While,
        InThePause,
    }
    let failures: [fn() -> futures::Act; 4] = [
        || futures::ready(status(503)),
        || Box::pin(async { panic!("on purpose") }),
        || Box::pin(pending()),
        || futures::ready(([("content-length", "11")], "ten bytes.").into_response()),
    ];
    let soft = lenient().soft_timeout(SECOND);
    let all = [lenient(), soft.clone(), soft.stale_while_revalidate(5 * MINUTE), lenient().remote_only()];
    for (number, policy) in all.into_iter().enumerate() {
        for when in [When::Before, When::While, When::InThePause] {
            for failure in failures {
                for pattern in ["page", "#site", "*"] {
                    beats(number, &policy, when == When::InThePause, when == When::While, failure, pattern)
                        .await;
                }
            }
        }
    }

    async fn beats(
        number: usize,
        policy: &Policy,
        in_pause: bool,
        during: bool,
        failure: fn() -> futures::Act,
        pattern: &str,
    ) {
        let story = format!("policy {number}, pause {in_pause}, during {during}, {pattern}");
        let world = World::new();
        let (a, b) = (world.process().await, world.process().await);
        let origin = Origin::new();
        let sites = [&a, &b].map(|cache| {
            let pages = ResponseCache::new(cache, "page", policy.clone()).unwrap();
            origin.behind(pages.tags(|_| vec!["site".into()]))
        });
        for app in &sites {
            assert_eq!(ask(app, get("/")).await.text(), "body 1");
            settle().await;
        }
        world.runtime.advance(MINUTE);
        let gate = Gate::new();
        let of_handler = gate.clone();
        origin.does(move |_| {
            let gate = of_handler.clone();
            async move {
                gate.pass().await;
                failure().await
            }
        });
        if in_pause {
            let mut asked = Vec::new();
            for app in &sites {
                asked.push(ask_beside(app, vec![get("/")]).await);
                gate.open();
                settle().await;
            }
            for asked in asked {
                assert_eq!(world.answers(asked).await[0].text(), "body 1", "{story}");
            }
        }
        let mut before = Vec::new();
        if during {
            for app in &sites {
                before.push(ask_beside(app, vec![get("/"), get("/")]).await);
            }
        }
        drop_all(&a, &[pattern]).await;
        settle().await;
        let mut after = Vec::new();
        for app in &sites {
            after.push(ask_beside(app, vec![get("/"), get("/")]).await);
        }
        (0..20).for_each(|_| gate.open());
        for asked in after {
            for reply in world.answers(asked).await {
                assert_ne!(reply.text(), "body 1", "{story}: {}", reply.word());
            }
        }
        // Whoever asked before it has his answer too; he may have had the stale one by then.
        for asked in before {
            assert_eq!(world.answers(asked).await.len(), 2, "{story}");
        }
        for app in &sites {
            origin.does(|_| async { status(503) });
            assert_eq!(ask(app, get("/")).await.status.as_u16(), 503, "{story}");
        }
        assert!(world.events.count("cache_load_overdue") == 0, "{story}");
    }
}

/// The handler takes its time while something stale is there. Each client waits a second and no longer; then the handler
/// goes on, once, and what it brings is there for the next.
#[tokio::test]
async fn a_slow_handler_is_waited_for_as_long_as_the_soft_timeout_and_fills_the_cache() {
    let site = site(lenient().soft_timeout(SECOND)).await;
    ask(&site.app, get("/")).await;
    site.runtime.advance(MINUTE);
    let gate = Gate::new();
    let of_handler = gate.clone();
    site.origin.does(move |n| {
        let gate = of_handler.clone();
        async move {
            gate.pass().await;
            format!("body {n}")
        }
    });
    let mut asked = ask_beside(&site.app, vec![get("/"), get("/"), head("/")]).await;
    site.runtime.advance(SECOND - Duration::from_millis(1));
    settle().await;
    assert!(asked.try_join_next().is_none());
    site.runtime.advance(Duration::from_millis(1));
    let replies = asked.join_all().await;
    let told: Vec<&str> = replies.iter().map(|reply| reply.header("cache-status")).collect();
    assert_eq!(told.iter().filter(|told| **told == "larder; fwd=stale; detail=slow").count(), 1, "{told:?}");
    for reply in replies {
        assert_eq!((reply.word(), reply.header("age"), reply.status.as_u16()), ("STALE", "61", 200));
        assert!(reply.text() == "body 1" || reply.text().is_empty());
    }
    assert_eq!((site.origin.runs(), site.cache.stats().flights), (2, 1));
    gate.open();
    settle().await;
    assert_eq!(ask(&site.app, get("/")).await.told(), "HIT body 2");
    let stats = site.cache.stats();
    let page = &stats.namespaces["page"];
    assert_eq!((page.misses, page.stale, page.loads, page.refreshes), (1, 3, 2, 1));
    assert_eq!((site.origin.runs(), stats.flights), (2, 0));
}

/// With nothing stale there the soft timeout is nothing to wait for.
#[tokio::test]
async fn without_a_stale_answer_a_client_waits_for_the_load_timeout() {
    let site = site(lenient().soft_timeout(SECOND)).await;
    site.origin.does(|_| pending::<Body>());
    let mut asked = ask_beside(&site.app, vec![get("/"), get("/")]).await;
    for _ in 0..4 {
        site.runtime.advance(SECOND);
        settle().await;
        assert!(asked.try_join_next().is_none());
    }
    site.runtime.advance(SECOND);
    for reply in asked.join_all().await {
        assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT);
    }
}
