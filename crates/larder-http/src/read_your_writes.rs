//! The layer for whole routers: writes tell their token, whoever names it waits for it.

use std::task::{Context, Poll};

use http::{Request, Response};
use larder_core::{BoxFuture, Cache};
use tower_layer::Layer;
use tower_service::Service;

use crate::tokens;

/// Read-your-writes for a whole router, whatever its handlers read with: a client that sends the `Larder-Epoch` of its
/// last write with its reads is never answered from anything older, on whatever node.
///
/// ```
/// # use larder_core::Cache;
/// # use larder_http::ReadYourWrites;
/// # fn f(cache: &Cache, api: axum::Router) -> axum::Router {
/// api.layer(ReadYourWrites::new(cache))
/// # }
/// ```
///
/// **Writes**, every method but GET, HEAD, OPTIONS and TRACE: the answer carries the token of the newest invalidation that
/// was made in this cache while the handler ran. None if it made none, without a remote tier, and if any of it was queued
/// because Redis is away: then no node but this one is sure to see the write. A task that the handler spawned is not
/// seen ([`Cache::collect_tokens`]); a handler that knows better puts the [`Epoch`](larder_core::Epoch) into its
/// response's extensions.
///
/// **Requests** that name a token, writes too (they read before they write), wait until this node's log has reached it,
/// about a round trip when all is well, before anything further in sees them: response caches and typed handles are new
/// enough then. After half a second, and at once while the log is out of reach, the request goes on all the same, with [`Late`](crate::Late) in its extensions:
/// response caches further in are passed by, and a handler that must not serve anything older reads through
/// [`Namespace::at_least`](larder_core::Namespace::at_least).
///
/// Tokens that are made up, or that the log has lost, are ignored and counted (`larder_tokens_ignored_total`): they
/// cost one look at the log, shared by all who ask at the same time.
///
/// [`ResponseCache`](crate::ResponseCache) does both by itself for the requests that go through it. Together with it,
/// this layer goes around the router: `Router::layer` after all routes.
#[derive(Clone)]
pub struct ReadYourWrites {
    cache: Cache,
}

impl ReadYourWrites {
    /// The layer for what is cached in `cache`.
    pub fn new(cache: &Cache) -> Self {
        ReadYourWrites { cache: cache.clone() }
    }
}

impl<S> Layer<S> for ReadYourWrites {
    type Service = ReadYourWritesService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ReadYourWritesService { cache: self.cache.clone(), inner }
    }
}

/// What [`ReadYourWrites`] makes of a service.
#[derive(Clone)]
pub struct ReadYourWritesService<S> {
    cache: Cache,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for ReadYourWritesService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let write = !request.method().is_safe();
        let (mut parts, body) = request.into_parts();
        let named = tokens::are_named(&parts);
        if !self.cache.is_enabled() || !(named || write) {
            return Box::pin(self.inner.call(Request::from_parts(parts, body)));
        }
        let cache = self.cache.clone();
        // The one that was asked whether it is ready is the one that is called.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            if named {
                tokens::arrive(&cache, &mut parts).await;
            }
            if !write {
                return inner.call(Request::from_parts(parts, body)).await;
            }
            let work = async { inner.call(Request::from_parts(parts, body)).await };
            let (answer, token) = cache.collect_tokens(work).await;
            answer.map(|mut response| {
                tokens::tell(&mut response, token);
                response
            })
        })
    }
}
