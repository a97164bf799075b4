//! The service: from a request to its answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::IntoResponse;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body as _;
use larder_core::{BoxFuture, Claim, Outcome, SkipReason};
use tower_service::Service;

use super::asked::{self, Asked};
use super::config::Config;
use super::fetch;
use super::handler::Handler;
use super::key;
use super::style::Told;
use super::way::{self, Begun, Running};
use crate::rules::request::Verdict;
use crate::tokens;

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
                    return Answer::Ready(Some(asked::hit(&self.config, &parts, key.as_bytes(), &found)));
                }
                // Nothing to wait for but the handler, which may not have to wait either.
                Claim::Lead(lead) if !lead.has_remote() => {
                    let (config, inner, key) =
                        (self.config.clone(), S::clone(&self.inner), lead.key().clone());
                    Running::note(&mut parts, &key);
                    let asked = Arc::new(Asked::take(&config, key, &mut parts));
                    let request = Request::from_parts(parts, body);
                    return match way::take_off(config, inner, asked, request, lead) {
                        Begun::Done(response) => Answer::Ready(Some(response)),
                        Begun::Waits(response) => Answer::Waiting(response),
                    };
                }
                other => claimed = Some(other),
            }
        }
        let key = key.to_key();
        let (config, inner) = (self.config.clone(), S::clone(&self.inner));
        Answer::Waiting(Box::pin(way::answer(config, inner, verdict, parts, key, claimed)))
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
async fn prepared<S: Handler>(
    config: Arc<Config>,
    inner: S,
    verdict: Verdict,
    mut parts: Parts,
    body: Body,
) -> Response<Body> {
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
    way::answer(config, inner, verdict, parts, key, None).await
}

/// None of the cache's business: the handler answers, and the answer says why. A write's says its token.
async fn pass<S: Handler>(
    config: Arc<Config>,
    inner: S,
    request: Request<Body>,
    reason: SkipReason,
) -> Response<Body> {
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
