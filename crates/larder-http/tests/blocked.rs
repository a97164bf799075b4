//! Lesson 14: code that blocks its thread cannot be cancelled. Those who wait for it are let go, and health says so, until it
//! comes back. On real threads and real time, with a load timeout of a second.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use common::*;
use http_body::{Frame, SizeHint};
use larder_core::Cache;
use larder_core::testing::Recorder;
use larder_http::ResponseCache;
use parking_lot::Mutex;

/// Blocks whoever receives from it, until it is sent to or dropped.
type Wall = Arc<Mutex<mpsc::Receiver<()>>>;

fn wall() -> (mpsc::Sender<()>, Wall) {
    let (sender, receiver) = mpsc::channel();
    (sender, Arc::new(Mutex::new(receiver)))
}

/// A body that comes after a wait, and blocks then.
struct Blocking {
    waits: Pin<Box<dyn Future<Output = ()> + Send>>,
    wall: Wall,
    sent: bool,
}

impl http_body::Body for Blocking {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.sent {
            return Poll::Ready(None);
        }
        if self.waits.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        // An error is the end of the test.
        let _ = self.wall.lock().recv();
        self.sent = true;
        Poll::Ready(Some(Ok(Frame::data("body".into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(4)
    }
}

/// Looks for a minute whether `state` holds. A thread that blocks may be the one that would have woken the others for their
/// timers: work from outside wakes them.
async fn until(cache: &Cache, what: &str, mut state: impl FnMut() -> bool) {
    let runtime = cache.runtime();
    let began = runtime.now();
    while !state() {
        assert!(runtime.now().since(began) < MINUTE, "never came: {what}: {:?}", cache.health());
        runtime.spawn(Box::pin(async {}));
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_who_wait_for_a_handler_or_body_that_blocks_its_thread_are_let_go_and_health_is_not_green() {
    let events = Recorder::new();
    let cache = Cache::builder().observer(events.clone()).build().await.unwrap();
    let (origin, gate) = (Origin::new(), Gate::new());
    let (handlers, of_handler) = wall();
    let (bodies, of_body) = wall();
    origin.does({
        let gate = gate.clone();
        move |n| {
            let (gate, of_handler, of_body) = (gate.clone(), of_handler.clone(), of_body.clone());
            async move {
                if n == 1 {
                    gate.pass().await;
                    // An error is the end of the test.
                    let _ = of_handler.lock().recv();
                    return "body".into_response();
                }
                let waits = Box::pin(async move { gate.pass().await });
                Body::new(Blocking { waits, wall: of_body, sent: false }).into_response()
            }
        }
    });
    let policy = policy().load_timeout(Duration::from_secs(1));
    let app = origin.behind(ResponseCache::new(&cache, "page", policy).unwrap());
    let mut asked = ask_beside(&app, vec![get("/handler"), get("/handler")]).await;
    gate.reached().await;
    let streams = begin(&app, get("/body")).await;
    let mut waits = ask_beside(&app, vec![get("/body")]).await;
    gate.reached().await;
    gate.open();
    gate.open();
    let mut replies = Vec::new();
    until(&cache, "everybody is let go", || {
        replies.extend(asked.try_join_next().into_iter().chain(waits.try_join_next()));
        replies.len() == 3
    })
    .await;
    for reply in replies {
        assert_eq!(reply.unwrap().status.as_u16(), 504);
    }
    until(&cache, "both hang", || cache.health().hung_loads == 2).await;
    assert_eq!((cache.health().status, events.count("cache_load_overdue")), ("degraded", 2));
    drop((handlers, bodies));
    until(&cache, "both have come back", || cache.health().hung_loads == 0).await;
    assert_eq!((cache.health().status, cache.stats().flights), ("ok", 0));
    assert_eq!(whole(streams).await.text(), "body");
}
