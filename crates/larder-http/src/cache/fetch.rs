//! Running the handler, and what becomes of its answer.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use larder_core::{Found, Moment, Outcome, SkipReason};

use super::asked::Asked;
use super::body::{Gathered, Gathering};
use super::config::Config;
use super::failed::Failed;
use super::handler::Handler;
use super::keeper::{Keeper, Kept};
use super::stored::StoredResponse;
use super::style::Told;

/// Runs the handler to the end of its answer's head, and sees to the rest.
pub(super) async fn run<S: Handler>(
    config: Arc<Config>,
    mut keeper: Keeper,
    inner: S,
    asked: Arc<Asked>,
    request: Request<Body>,
) -> Response<Body> {
    if let Keeper::Lead(lead) = &mut keeper {
        lead.begin();
    }
    // For the head and the body together: nobody waits longer for the two than for a load.
    let until = config.calendar().now().plus(config.handle.policy().load_deadline());
    match contain(&config, until, call(inner, request)).await {
        Ok(response) => settle(&config, keeper, &asked, response, until).await,
        Err(failed) => match keeper.fail(&config, &asked.key, failed) {
            Some(found) => asked.instead(&config, &found, failed),
            None => failed.answer(),
        },
    }
}

/// Calls a service once it is ready.
pub(super) async fn call<S: Handler>(mut inner: S, request: Request<Body>) -> Response<Body> {
    let Ok(()) = poll_fn(|cx| inner.poll_ready(cx)).await;
    let Ok(response) = inner.call(request).await;
    response.into_response()
}

/// The handler's panic, and its slowness, are answers.
async fn contain(
    config: &Config,
    until: Moment,
    work: impl Future<Output = Response<Body>>,
) -> Result<Response<Body>, Failed> {
    let mut work = pin!(work);
    let mut timer = None;
    let runtime = config.cache.runtime();
    poll_fn(|cx| {
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(Poll::Ready(response)) => return Poll::Ready(Ok(response)),
            Ok(Poll::Pending) => {}
            Err(_) => return Poll::Ready(Err(Failed::Panicked)),
        }
        let timer = timer.get_or_insert_with(|| runtime.sleep(until.since(runtime.now())));
        timer.as_mut().poll(cx).map(|()| Err(Failed::TimedOut))
    })
    .await
}

/// Stores an answer if it may be stored, and hands it to its client in any case.
async fn settle(
    config: &Arc<Config>,
    keeper: Keeper,
    asked: &Arc<Asked>,
    response: Response<Body>,
    until: Moment,
) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let length = body.size_hint().exact();
    let keep = match config.storable().judge(parts.status, &parts.headers, length) {
        Ok(keep) => keep,
        Err(reason) => return refuse(config, keeper, asked, Response::from_parts(parts, body), reason),
    };
    let finish = {
        let (config, asked) = (config.clone(), asked.clone());
        move |keeper: Keeper, parts: http::response::Parts, body: Bytes| {
            let mut fill = asked.fill.clone();
            // What cannot be tagged could not be invalidated: with tags that panic it is not stored.
            let complete = AssertUnwindSafe(|| config.complete(&mut fill, keep, &parts, &body));
            if catch_unwind(complete).is_ok() && fill.tags_fit() {
                let stored = StoredResponse::new(parts.status, parts.headers, body);
                Ok(keeper.keep(&config, stored, &fill))
            } else {
                Err(Box::new((keeper, parts, body)))
            }
        }
    };
    match Gathering::new(body, length.unwrap_or(0)).at_once().await {
        Gathered::Whole(body) => match finish(keeper, parts, body) {
            Ok(kept) => asked.answer(config, &kept.value, &told(&kept, config, asked)),
            Err(refused) => {
                let (keeper, parts, body) = *refused;
                let response = Response::from_parts(parts, Body::from(body));
                refuse(config, keeper, asked, response, SkipReason::Tags)
            }
        },
        Gathered::Broken(rest) => {
            let response = Response::from_parts(parts, rest.pass_on());
            refuse(config, keeper, asked, response, SkipReason::Truncated)
        }
        Gathered::Waiting(gathering) => {
            let (body, mut pump) = gathering.tee();
            let (head, of_work, of_request) = (parts.clone(), config.clone(), asked.clone());
            let outcome = keeper.outcome();
            keeper.watch();
            config.cache.runtime().spawn(Box::pin(tracing::Instrument::in_current_span(async move {
                let (keeper, reason, failed) = match within(&of_work, until, pump.fill()).await {
                    Some(Some(body)) => match finish(keeper, head, body) {
                        Ok(_) => return,
                        Err(refused) => (refused.0, SkipReason::Tags, None),
                    },
                    Some(None) => (keeper, SkipReason::Truncated, Some(Failed::Truncated)),
                    None => (keeper, SkipReason::Truncated, Some(Failed::TimedOut)),
                };
                // The client has its head; what is stale is for those who wait.
                drop(end(&of_work, keeper, &of_request, reason, failed));
                pump.rest().await;
            })));
            let mut response = Response::from_parts(parts, body);
            asked.tell(config, outcome, None, response.headers_mut());
            asked.hand_over(response)
        }
    }
}

/// A panic outside of the handler itself (its body, say) is an answer too.
pub(super) async fn contained(work: impl Future<Output = Response<Body>>) -> Response<Body> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)))
            .unwrap_or_else(|_| Poll::Ready(Failed::Panicked.answer()))
    })
    .await
}

async fn within<T>(config: &Config, until: Moment, work: impl Future<Output = T>) -> Option<T> {
    let runtime = config.cache.runtime();
    let (mut work, mut timer) = (pin!(work), runtime.sleep(until.since(runtime.now())));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// An answer for its first client alone; or, if it is a failure and there is something stale, for nobody.
fn refuse(
    config: &Config,
    keeper: Keeper,
    asked: &Asked,
    mut response: Response<Body>,
    reason: SkipReason,
) -> Response<Body> {
    let outcome = match keeper.outcome() {
        Outcome::Bypass => Outcome::Bypass,
        _ => Outcome::Skip,
    };
    let failed = Failed::of(response.status(), reason);
    if let (Some(found), Some(failed)) = (end(config, keeper, asked, reason, failed), failed) {
        return asked.instead(config, &found, failed);
    }
    asked.tell(config, outcome, Some(reason), response.headers_mut());
    asked.hand_over(response)
}

/// Ends the load of an answer that is not stored. If it has failed: with something stale, if there is any.
fn end(
    config: &Config,
    keeper: Keeper,
    asked: &Asked,
    reason: SkipReason,
    failed: Option<Failed>,
) -> Option<Found<StoredResponse>> {
    match failed {
        Some(failed) if keeper.fails_softly() => keeper.fail(config, &asked.key, failed),
        _ => {
            config.cache.skipped(&asked.path, reason);
            keeper.refuse(config);
            None
        }
    }
}

fn told<'a>(kept: &Kept, config: &'a Config, asked: &'a Asked) -> Told<'a> {
    Told {
        outcome: kept.outcome,
        age: Duration::ZERO,
        ttl: kept.ttl,
        stored: kept.stored,
        key: Some(asked.key.name()),
        reason: None,
        failed: None,
        late: asked.late,
        calendar: config.calendar(),
    }
}
