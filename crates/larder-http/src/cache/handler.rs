//! What the layer wraps.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::IntoResponse;
use http::Request;
use tower_service::Service;

/// A service that always answers, with anything that is a response: an axum route.
pub(super) trait Handler:
    Service<Request<Body>, Response: IntoResponse, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Handler for S
where
    S: Service<Request<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
}
