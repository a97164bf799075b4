//! The service: from a request to its answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::IntoResponse;
use http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE,
    DATE, ETAG, EXPIRES, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, TRANSFER_ENCODING,
    VARY,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as _;
use larder_core::{BoxFuture, Claim, Fill, Flown, Found, Key, Lead, LookedUp, Outcome, SkipReason, at_once};
use tower_service::Service;

use super::body::nothing;
use super::config::Config;
use super::fetch::{self, Keeper};
use super::key;
use super::stored::StoredResponse;
use super::style::Told;
use crate::problem::problem;
use crate::rules::conditional::client_has_it;
use crate::rules::request::Verdict;
use crate::tokens::{self, Late};

/// How often a request that finds the loads of others unusable claims again, before its handler runs for it alone.
const MOST_TURNS: usize = 4;

/// What [`ResponseCache`](crate::ResponseCache) makes of a service.
pub struct ResponseCacheService<S> {
    config: Arc<Config>,
    /// Cloned only for requests that get as far as the handler: a clone of an axum route is an allocation, and a hit has no
    /// use for it.
    inner: Arc<S>,
}

impl<S> Clone for ResponseCacheService<S> {
    fn clone(&self) -> Self {
        ResponseCacheService { config: self.config.clone(), inner: self.inner.clone() }
    }
}

impl<S> ResponseCacheService<S> {
    pub(super) fn new(config: Arc<Config>, inner: S) -> Self {
        ResponseCacheService { config, inner: Arc::new(inner) }
    }
}

/// The answer: there already, or on its way.
pub enum Answer {
    /// A hit.
    Ready(Option<Response<Body>>),
    /// Anything else.
    Waiting(BoxFuture<'static, Response<Body>>),
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Answer::Ready(response) => {
                Poll::Ready(Ok(response.take().expect("a future is not polled after it was ready")))
            }
            Answer::Waiting(future) => future.as_mut().poll(cx).map(Ok),
        }
    }
}

impl<S> Service<Request<Body>> for ResponseCacheService<S>
where
    S: Service<Request<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    /// Always: a hit needs nobody, and each clone that is called is asked itself whether it is ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let (mut parts, body) = request.into_parts();
        let verdict = judge(&self.config, &parts, &body);
        let to_wait_for = self.config.identify.is_some() || tokens::are_named(&parts);
        if to_wait_for || matches!(verdict, Verdict::Pass(_)) {
            let (config, inner) = (self.config.clone(), S::clone(&self.inner));
            return Answer::Waiting(Box::pin(prepared(config, inner, verdict, parts, body)));
        }
        let key = match key::write(&self.config, &mut parts, None) {
            Ok(key) => key,
            Err(reason) => {
                let (config, inner) = (self.config.clone(), S::clone(&self.inner));
                let request = Request::from_parts(parts, body);
                return Answer::Waiting(Box::pin(pass(config, inner, request, reason)));
            }
        };
        let mut claimed = None;
        if verdict == Verdict::Cache && !Running::is(&parts, key.as_bytes()) {
            match self.config.handle.claim(key.as_bytes()) {
                Claim::Found(found) => {
                    return Answer::Ready(Some(hit(&self.config, &parts, key.as_bytes(), &found)));
                }
                // Nothing to wait for but the handler, which may not have to wait either.
                Claim::Lead(lead) if !lead.has_remote() => {
                    let (config, inner, key) =
                        (self.config.clone(), S::clone(&self.inner), lead.key().clone());
                    Running::note(&mut parts, &key);
                    let asked = Arc::new(Asked::take(&config, key, &mut parts));
                    let request = Request::from_parts(parts, body);
                    let work = fetch::run(config.clone(), Keeper::Lead(lead), inner, asked, request);
                    return match begin(work) {
                        Begun::Done(response) => Answer::Ready(Some(response)),
                        Begun::Waits(work) => Answer::Waiting(Box::pin(detached(config, work))),
                    };
                }
                other => claimed = Some(other),
            }
        }
        let key = key.to_key();
        let (config, inner) = (self.config.clone(), S::clone(&self.inner));
        Answer::Waiting(Box::pin(answer(config, inner, verdict, parts, key, claimed)))
    }
}

fn judge(config: &Config, parts: &Parts, body: &Body) -> Verdict {
    if !config.cache.is_enabled() {
        return Verdict::Pass(SkipReason::Off);
    }
    match config.judge(parts) {
        // HTTP/2 needs no header to announce a body; no key covers one.
        Verdict::Cache | Verdict::Bypass | Verdict::OnlyIfCached if !is_empty(body) => {
            Verdict::Pass(SkipReason::Route)
        }
        verdict => verdict,
    }
}

fn is_empty(body: &Body) -> bool {
    body.is_end_stream() || body.size_hint().upper() == Some(0)
}

/// Runs the route's extractor first, whatever becomes of the request then: who is refused on a hit is refused on a Range
/// request too, and with the cache switched off. Then waits for the tokens that the request names.
async fn prepared<S>(
    config: Arc<Config>,
    inner: S,
    verdict: Verdict,
    mut parts: Parts,
    body: Body,
) -> Response<Body>
where
    S: Service<Request<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    let user = match &config.identify {
        None => None,
        Some(identify) => match identify(&mut parts).await {
            Ok(user) => user,
            Err(rejection) => return *rejection,
        },
    };
    if let Verdict::Pass(reason) = verdict {
        return pass(config, inner, Request::from_parts(parts, body), reason).await;
    }
    if tokens::are_named(&parts) {
        tokens::arrive(&config.cache, &mut parts).await;
    }
    let key = match key::write(&config, &mut parts, user.as_deref()) {
        Ok(key) => key.to_key(),
        Err(reason) => return pass(config.clone(), inner, Request::from_parts(parts, body), reason).await,
    };
    answer(config, inner, verdict, parts, key, None).await
}

/// None of the cache's business: the handler answers, and the answer says why. A write's says its token.
async fn pass<S>(config: Arc<Config>, inner: S, request: Request<Body>, reason: SkipReason) -> Response<Body>
where
    S: Service<Request<Body>, Error = Infallible>,
    S::Response: IntoResponse,
{
    if reason == SkipReason::Off {
        return fetch::call(inner, request).await;
    }
    let write = !request.method().is_safe();
    let (parts, body) = request.into_parts();
    if reason != SkipReason::Method {
        config.passed(&parts, reason);
    }
    let handler = fetch::call(inner, Request::from_parts(parts, body));
    let mut response = if write {
        let (mut response, token) = config.cache.collect_tokens(handler).await;
        tokens::tell(&mut response, token);
        response
    } else {
        handler.await
    };
    if reason == SkipReason::Method {
        return response;
    }
    let told = Told::nothing_stored(Outcome::Skip, Some(reason), None, config.calendar());
    config.style.tell(&told, response.headers_mut());
    response
}

/// What was asked, as far as it matters to the answer.
pub(super) struct Asked {
    pub(super) key: Key,
    pub(super) path: String,
    pub(super) fill: Fill,
    /// Is this node behind a token that the request names?
    pub(super) late: bool,
    head: bool,
    /// `If-None-Match` and `If-Modified-Since`, which the handler does not get to see.
    conditions: HeaderMap,
}

impl Asked {
    /// Takes from a request what is for the cache, and leaves what is for the handler.
    fn take(config: &Config, key: Key, parts: &mut Parts) -> Self {
        let mut conditions = HeaderMap::new();
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE] {
            for value in parts.headers.get_all(&name) {
                conditions.append(name.clone(), value.clone());
            }
            parts.headers.remove(&name);
        }
        // HEAD runs as GET, so that what is stored has a body.
        let head = std::mem::replace(&mut parts.method, Method::GET) == Method::HEAD;
        let path = parts.uri.path().to_owned();
        let late = parts.extensions.get::<Late>().is_some();
        Asked { key, path, fill: config.fill(parts), late, head, conditions }
    }

    /// An answer made from a stored response.
    pub(super) fn answer(&self, config: &Config, stored: &StoredResponse, told: &Told<'_>) -> Response<Body> {
        give(config, self.head, &self.conditions, stored, told)
    }

    /// Adds headers to an answer that is not stored, or not yet.
    pub(super) fn tell(
        &self,
        config: &Config,
        outcome: Outcome,
        reason: Option<SkipReason>,
        headers: &mut HeaderMap,
    ) {
        let told = Told::nothing_stored(outcome, reason, Some(self.key.name()), config.calendar());
        config.style.tell(&Told { late: self.late, ..told }, headers);
    }

    /// What a client gets of an answer that is not stored, or not yet. The handler ran as a plain GET, so what the client
    /// made of it is seen to here: HEAD, and the answer it has already.
    pub(super) fn hand_over(&self, response: Response<Body>) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        if parts.status.is_success() && client_has_it(&self.conditions, &parts.headers) {
            parts.status = StatusCode::NOT_MODIFIED;
            for name in OF_CONTENT {
                parts.headers.remove(name);
            }
            return Response::from_parts(parts, nothing());
        }
        if !self.head {
            return Response::from_parts(parts, body);
        }
        let length = body.size_hint().exact().filter(|_| parts.status != StatusCode::NO_CONTENT);
        if let (Some(length), false) = (length, parts.headers.contains_key(CONTENT_LENGTH)) {
            parts.headers.insert(CONTENT_LENGTH, length.into());
        }
        Response::from_parts(parts, nothing())
    }
}

/// What a 304 does not say of the content it does not have.
const OF_CONTENT: [HeaderName; 5] =
    [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, TRANSFER_ENCODING];

/// The keys whose handlers a request is on its way to. A route that lies in two layers of one key would wait for itself.
#[derive(Clone, Default)]
struct Running(Vec<Key>);

impl Running {
    fn is(parts: &Parts, key: &[u8]) -> bool {
        let running = parts.extensions.get::<Running>();
        running.is_some_and(|running| running.0.iter().any(|k| k.as_bytes() == key))
    }

    fn note(parts: &mut Parts, key: &Key) {
        let mut running = parts.extensions.remove::<Running>().unwrap_or_default();
        running.0.push(key.clone());
        parts.extensions.insert(running);
    }
}

/// The way of a request whose key is known and whose answer is not in memory.
async fn answer<S>(
    config: Arc<Config>,
    inner: S,
    verdict: Verdict,
    mut parts: Parts,
    key: Key,
    mut claimed: Option<Claim<StoredResponse>>,
) -> Response<Body>
where
    S: Service<Request<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
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
async fn alone<S>(
    config: Arc<Config>,
    inner: S,
    asked: Arc<Asked>,
    request: Request<Body>,
    outcome: Outcome,
) -> Response<Body>
where
    S: Service<Request<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    let keeper = Keeper::Slot(config.handle.begin_at(&asked.key), outcome);
    let work = fetch::run(config.clone(), keeper, inner, asked, request);
    to_its_end(config.clone(), work).await
}

/// How far work came at its first poll.
enum Begun {
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
async fn detached(config: Arc<Config>, work: BoxFuture<'static, Response<Body>>) -> Response<Body> {
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

fn refresh<S>(
    config: &Arc<Config>,
    inner: S,
    asked: &Arc<Asked>,
    request: Request<Body>,
    lead: Option<Lead<StoredResponse>>,
) where
    S: Service<Request<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
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

/// The fast path: nothing is taken from the request but what the answer depends on.
fn hit(config: &Config, parts: &Parts, key: &[u8], found: &Found<StoredResponse>) -> Response<Body> {
    let name = match config.style.key {
        true => key.split(|&b| b == b'~').next().unwrap_or_default(),
        false => b"",
    };
    let told = Told::found(found, name, config.calendar());
    give(config, parts.method == Method::HEAD, &parts.headers, &found.value, &told)
}

/// What 304 carries of what 200 would have (RFC 9110 section 15.4.5).
const IN_304: [HeaderName; 8] =
    [AGE, CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY];

fn give(
    config: &Config,
    head: bool,
    conditions: &HeaderMap,
    stored: &StoredResponse,
    told: &Told<'_>,
) -> Response<Body> {
    let conditional = conditions.contains_key(IF_NONE_MATCH) || conditions.contains_key(IF_MODIFIED_SINCE);
    if let (false, false, Some(instance)) =
        (conditional, head, config.style.instance(told, config.style_number))
    {
        let headers = stored.head_at(instance, |headers| config.style.tell(told, headers));
        let mut response = Response::new(Body::from(stored.body.clone()));
        *response.status_mut() = stored.status;
        *response.headers_mut() = headers;
        return response;
    }
    let mut headers = stored.fresh_headers();
    let (mut status, mut body) = (stored.status, None);
    if conditional && status.is_success() && client_has_it(conditions, &headers) {
        status = StatusCode::NOT_MODIFIED;
        let names: Vec<HeaderName> = headers.keys().filter(|n| !IN_304.contains(n)).cloned().collect();
        names.iter().for_each(|name| drop(headers.remove(name)));
    } else if !head {
        body = Some(Body::from(stored.body.clone()));
    } else if status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, stored.body.len().into());
    }
    config.style.tell(told, &mut headers);
    let mut response = Response::new(body.unwrap_or_else(nothing));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
