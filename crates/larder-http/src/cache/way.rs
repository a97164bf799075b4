//! The way of a request whose key is known: the read path, step by step, as typed handles take it.

use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use larder_core::{BoxFuture, Claim, Flown, Found, Key, Lead, LookedUp, Outcome, at_once};

use super::asked::Asked;
use super::config::Config;
use super::fetch;
use super::handler::Handler;
use super::keeper::Keeper;
use super::stored::StoredResponse;
use super::style::Told;
use crate::problem::problem;
use crate::rules::request::Verdict;

/// How often a request that finds the loads of others unusable claims again, before its handler runs for it alone.
const MOST_TURNS: usize = 4;

/// The keys whose handlers a request is on its way to. A route that lies in two layers of one key would wait for itself.
#[derive(Clone, Default)]
pub(super) struct Running(Vec<Key>);

impl Running {
    pub(super) fn is(parts: &Parts, key: &[u8]) -> bool {
        let running = parts.extensions.get::<Running>();
        running.is_some_and(|running| running.0.iter().any(|k| k.as_bytes() == key))
    }

    pub(super) fn note(parts: &mut Parts, key: &Key) {
        let mut running = parts.extensions.remove::<Running>().unwrap_or_default();
        running.0.push(key.clone());
        parts.extensions.insert(running);
    }
}

/// The way of a request whose key is known and whose answer is not in memory.
pub(super) async fn answer<S: Handler>(
    config: Arc<Config>,
    inner: S,
    verdict: Verdict,
    mut parts: Parts,
    key: Key,
    mut claimed: Option<Claim<StoredResponse>>,
) -> Response<Body> {
    if Running::is(&parts, key.as_bytes()) {
        return fetch::call(inner, Request::from_parts(parts, Body::empty())).await;
    }
    Running::note(&mut parts, &key);
    let asked = Arc::new(Asked::take(&config, key, &mut parts));
    let request = || Request::from_parts(parts, Body::empty());
    if asked.late && verdict == Verdict::OnlyIfCached {
        return only_if_cached();
    }
    if asked.late || verdict == Verdict::Bypass {
        return alone(config, inner, asked, request(), Outcome::Bypass).await;
    }
    for _ in 0..MOST_TURNS {
        let lead = match claimed.take().unwrap_or_else(|| config.handle.claim(asked.key.as_bytes())) {
            Claim::Found(found) => return found_answer(&config, &asked, &found),
            Claim::Stale(found, lead) => {
                refresh(&config, inner, &asked, request(), lead);
                return found_answer(&config, &asked, &found);
            }
            Claim::Apart(_) => break,
            Claim::Join(flying) if verdict == Verdict::OnlyIfCached => {
                drop(flying);
                return only_if_cached();
            }
            Claim::Join(flying) => match flying.wait().await {
                Flown::Found(found) => return found_answer(&config, &asked, &found),
                Flown::Unshared => break,
                Flown::Again => continue,
                Flown::Failed(failure) => return fetch::failed(&failure),
            },
            Claim::Lead(lead) => lead,
        };
        let lead = match lead.look_up().await {
            LookedUp::Found(found) => return found_answer(&config, &asked, &found),
            LookedUp::Stale(found, lead) => {
                refresh(&config, inner, &asked, request(), lead);
                return found_answer(&config, &asked, &found);
            }
            LookedUp::Nothing(lead) => lead,
        };
        if verdict == Verdict::OnlyIfCached {
            return only_if_cached();
        }
        let work = fetch::run(config.clone(), Keeper::Lead(lead), inner, asked, request());
        return to_its_end(config.clone(), work).await;
    }
    if verdict == Verdict::OnlyIfCached {
        return only_if_cached();
    }
    alone(config, inner, asked, request(), Outcome::Miss).await
}

/// Runs the handler for this request alone, and stores its answer if it may be stored.
async fn alone<S: Handler>(
    config: Arc<Config>,
    inner: S,
    asked: Arc<Asked>,
    request: Request<Body>,
    outcome: Outcome,
) -> Response<Body> {
    let keeper = Keeper::Slot(config.handle.begin_at(&asked.key), outcome);
    let work = fetch::run(config.clone(), keeper, inner, asked, request);
    to_its_end(config.clone(), work).await
}

/// How far work came at its first poll.
pub(super) enum Begun {
    Done(Response<Body>),
    Waits(BoxFuture<'static, Response<Body>>),
}

/// What is done at once needs no task.
pub(super) fn begin(work: impl Future<Output = Response<Body>> + Send + 'static) -> Begun {
    let mut work: BoxFuture<'static, _> = Box::pin(fetch::contained(work));
    match at_once(&mut work) {
        Some(response) => Begun::Done(response),
        None => Begun::Waits(work),
    }
}

/// Begins work and sees it to its end.
async fn to_its_end(
    config: Arc<Config>,
    work: impl Future<Output = Response<Body>> + Send + 'static,
) -> Response<Body> {
    match begin(work) {
        Begun::Done(response) => response,
        Begun::Waits(work) => detached(config, work).await,
    }
}

/// Runs to its end whatever becomes of the client.
pub(super) async fn detached(
    config: Arc<Config>,
    work: BoxFuture<'static, Response<Body>>,
) -> Response<Body> {
    let (done, answer) = tokio::sync::oneshot::channel();
    config.cache.runtime().spawn(Box::pin(tracing::Instrument::in_current_span(async move {
        // The client may be gone; then the answer is for those who wait, and for the cache.
        let _ = done.send(work.await);
    })));
    match answer.await {
        Ok(response) => response,
        Err(_) => fetch::failed(&larder_core::Failure::ShuttingDown),
    }
}

fn refresh<S: Handler>(
    config: &Arc<Config>,
    inner: S,
    asked: &Arc<Asked>,
    request: Request<Body>,
    lead: Option<Lead<StoredResponse>>,
) {
    let Some(lead) = lead else { return };
    let (own, asked) = (config.clone(), asked.clone());
    let key = asked.key.clone();
    let work = async move {
        // Another node may have refreshed already.
        if let LookedUp::Nothing(lead) = lead.look_up().await {
            drop(fetch::run(own, Keeper::Lead(lead), inner, asked, request).await);
        }
    };
    config.handle.refresh_in_background(&key, tracing::Instrument::in_current_span(work));
}

fn only_if_cached() -> Response<Body> {
    problem(
        StatusCode::GATEWAY_TIMEOUT,
        "Not in the cache",
        "The request said only-if-cached, and the cache has no answer.",
    )
}

fn found_answer(config: &Config, asked: &Asked, found: &Found<StoredResponse>) -> Response<Body> {
    asked.answer(config, &found.value, &Told::found(found, asked.key.name(), config.calendar()))
}
