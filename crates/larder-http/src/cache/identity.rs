//! Extractors that run on every request, hits too.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::IntoResponse;
use http::Response;
use http::request::Parts;

type Identified = Result<Option<String>, Box<Response<Body>>>;

/// Runs an extractor: the user's part of the key, or the rejection.
pub(super) type Identify =
    Arc<dyn for<'p> Fn(&'p mut Parts) -> Pin<Box<dyn Future<Output = Identified> + Send + 'p>> + Send + Sync>;

/// Runs `A`, and makes a part of the key of it.
pub(super) fn by_extractor<A, S>(
    state: S,
    key: impl Fn(&A) -> Option<String> + Send + Sync + 'static,
) -> Identify
where
    A: FromRequestParts<S> + Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    let shared = Arc::new((state, key));
    Arc::new(move |parts: &mut Parts| {
        let shared = shared.clone();
        Box::pin(async move {
            match A::from_request_parts(parts, &shared.0).await {
                Ok(extracted) => Ok((shared.1)(&extracted)),
                Err(rejection) => Err(Box::new(rejection.into_response())),
            }
        })
    })
}
