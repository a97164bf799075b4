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
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use larder_core::{Failure, Outcome, SkipReason};

use super::asked::Asked;
use super::body::{Gathered, Gathering};
use super::config::Config;
use super::handler::Handler;
use super::keeper::{Keeper, Kept};
use super::stored::StoredResponse;
use super::style::Told;
use crate::problem::problem;

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
    match contain(&config, call(inner, request)).await {
        Ok(response) => settle(&config, keeper, &asked, response).await,
        Err(failure) => {
            let answer = failed(&failure);
            keeper.fail(failure);
            answer
        }
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
    work: impl Future<Output = Response<Body>>,
) -> Result<Response<Body>, Failure> {
    let mut work = pin!(work);
    let mut timer = None;
    let (runtime, limit) = (config.cache.runtime(), config.handle.policy().load_deadline());
    poll_fn(|cx| {
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(Poll::Ready(response)) => return Poll::Ready(Ok(response)),
            Ok(Poll::Pending) => {}
            Err(_) => return Poll::Ready(Err(Failure::Panicked)),
        }
        let timer = timer.get_or_insert_with(|| runtime.sleep(limit));
        timer.as_mut().poll(cx).map(|()| Err(Failure::TimedOut))
    })
    .await
}

/// What a client hears of a load that failed.
pub(super) fn failed(failure: &Failure) -> Response<Body> {
    match failure {
        Failure::TimedOut => problem(
            StatusCode::GATEWAY_TIMEOUT,
            "The answer took too long",
            "The handler did not answer within the route's load timeout.",
        ),
        Failure::ShuttingDown => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "Shutting down",
            "The service is being shut down; try again.",
        ),
        _ => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The handler failed",
            "The handler panicked; its message is in the service's log.",
        ),
    }
}

/// Stores an answer if it may be stored, and hands it to its client in any case.
async fn settle(
    config: &Arc<Config>,
    keeper: Keeper,
    asked: &Arc<Asked>,
    response: Response<Body>,
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
            let (head, of_work, path) = (parts.clone(), config.clone(), asked.path.clone());
            let outcome = keeper.outcome();
            config.cache.runtime().spawn(Box::pin(tracing::Instrument::in_current_span(async move {
                let limit = of_work.handle.policy().load_deadline();
                let (keeper, reason) = match within(&of_work, limit, pump.fill()).await.flatten() {
                    Some(body) => match finish(keeper, head, body) {
                        Ok(_) => return,
                        Err(refused) => (refused.0, SkipReason::Tags),
                    },
                    None => (keeper, SkipReason::Truncated),
                };
                of_work.cache.skipped(&path, reason);
                keeper.refuse(&of_work);
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
            .unwrap_or_else(|_| Poll::Ready(failed(&Failure::Panicked)))
    })
    .await
}

async fn within<T>(config: &Config, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut timer) = (pin!(work), config.cache.runtime().sleep(limit));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// An answer for its first client alone.
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
    config.cache.skipped(&asked.path, reason);
    keeper.refuse(config);
    asked.tell(config, outcome, Some(reason), response.headers_mut());
    asked.hand_over(response)
}

fn told<'a>(kept: &Kept, config: &'a Config, asked: &'a Asked) -> Told<'a> {
    Told {
        outcome: kept.outcome,
        age: Duration::ZERO,
        ttl: kept.ttl,
        stored: kept.stored,
        key: Some(asked.key.name()),
        reason: None,
        late: asked.late,
        calendar: config.calendar(),
    }
}
