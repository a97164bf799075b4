//! The way of a request whose key is known: the read path, step by step, as typed handles take it.

use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use larder_core::{
    BoxFuture, Claim, Failure, Flown, Key, Lead, LookedUp, Outcome, SkipReason, Turn, at_once,
};

use super::asked::Asked;
use super::config::Config;
use super::failed::{Failed, failed};
use super::fetch;
use super::handler::Handler;
use super::keeper::Keeper;
use super::stored::StoredResponse;
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
            Claim::Found(found) => return asked.found(&config, &found),
            Claim::Stale(found, lead) => {
                refresh(&config, inner, &asked, request(), lead);
                return asked.found(&config, &found);
            }
            Claim::Apart(SkipReason::Overloaded) if verdict != Verdict::OnlyIfCached => {
                return config.turn_away(&asked.path, Outcome::Skip);
            }
            Claim::Apart(_) => break,
            Claim::Join(flying) if verdict == Verdict::OnlyIfCached => {
                drop(flying);
                return only_if_cached();
            }
            Claim::Join(flying) => match flying.wait().await {
                Flown::Found(found) => return asked.found(&config, &found),
                Flown::Unshared => break,
                Flown::Again => continue,
                // Its own answer, which says why, is for its first client.
                Flown::Failed(Failure::Loader(_)) => break,
                Flown::Failed(failure) => return failed(&failure),
            },
            Claim::Lead(lead) => lead,
        };
        let lead = match lead.look_up().await {
            LookedUp::Found(found) => return asked.found(&config, &found),
            LookedUp::Stale(found, lead) => {
                refresh(&config, inner, &asked, request(), lead);
                return asked.found(&config, &found);
            }
            LookedUp::Nothing(lead) => lead,
        };
        if verdict == Verdict::OnlyIfCached {
            return only_if_cached();
        }
        return match take_off(config, inner, asked, request(), lead) {
            Begun::Done(response) => response,
            Begun::Waits(response) => response.await,
        };
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
    let (own, slot) = (config.clone(), config.handle.begin_at(&asked.key));
    let work = async move {
        match slot.turn().await {
            Some(slot) => fetch::run(own, Keeper::Slot(slot, outcome), inner, asked, request).await,
            None => own.turn_away(&asked.path, outcome),
        }
    };
    match begin(work) {
        Begun::Done(response) => response,
        Begun::Waits(work) => handed_over(&config, work).await,
    }
}

/// How far work came at its first poll.
pub(super) enum Begun {
    Done(Response<Body>),
    Waits(BoxFuture<'static, Response<Body>>),
}

/// What is done at once needs no task.
fn begin(work: impl Future<Output = Response<Body>> + Send + 'static) -> Begun {
    let mut work: BoxFuture<'static, _> = Box::pin(fetch::contained(work));
    match at_once(&mut work) {
        Some(response) => Begun::Done(response),
        None => Begun::Waits(work),
    }
}

/// Runs the handler for everybody, as soon as it is this load's turn. The client need not wait for it longer than the policy
/// says.
pub(super) fn take_off<S: Handler>(
    config: Arc<Config>,
    inner: S,
    asked: Arc<Asked>,
    request: Request<Body>,
    lead: Lead<StoredResponse>,
) -> Begun {
    let seat = lead.seat();
    match begin(in_turn(config.clone(), inner, asked.clone(), request, lead)) {
        Begun::Waits(work) => Begun::Waits(Box::pin(async move {
            match seat.beside(handed_over(&config, work)).await {
                Ok(response) => response,
                Err(Some(found)) => asked.instead(&config, &found, Failed::Slow),
                Err(None) => Failed::TimedOut.answer(),
            }
        })),
        done @ Begun::Done(_) => done,
    }
}

/// Waits for the load's turn, and runs the handler.
async fn in_turn<S: Handler>(
    config: Arc<Config>,
    inner: S,
    asked: Arc<Asked>,
    request: Request<Body>,
    lead: Lead<StoredResponse>,
) -> Response<Body> {
    let lead = match lead.turn_at_once() {
        Ok(lead) => lead,
        Err(lead) => match lead.turn().await {
            Turn::Load(lead) => lead,
            Turn::Found(found) => return asked.found(&config, &found),
            Turn::Overloaded(found) => {
                config.failed(&asked.key, Failed::Overloaded);
                return match found {
                    Some(found) => asked.instead(&config, &found, Failed::Overloaded),
                    None => Failed::Overloaded.answer(),
                };
            }
        },
    };
    fetch::run(config, Keeper::Lead(lead), inner, asked, request).await
}

/// Runs to its end in a task, whatever becomes of the client.
async fn handed_over(config: &Config, work: BoxFuture<'static, Response<Body>>) -> Response<Body> {
    let (done, answer) = tokio::sync::oneshot::channel();
    config.cache.runtime().spawn(Box::pin(tracing::Instrument::in_current_span(async move {
        // The client may be gone; then the answer is for those who wait, and for the cache.
        let _ = done.send(work.await);
    })));
    answer.await.unwrap_or_else(|_| failed(&Failure::ShuttingDown))
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
            drop(in_turn(own, inner, asked, request, lead).await);
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
