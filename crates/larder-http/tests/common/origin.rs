//! A handler that does as a test tells it, and counts how often it was run.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing;
use larder_http::ResponseCache;
use parking_lot::Mutex;

use super::Count;

type Act = Arc<dyn Fn(usize) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Origin {
    act: Arc<Mutex<Act>>,
    runs: Count,
}

fn act<F, R>(act: impl Fn(usize) -> F + Send + Sync + 'static) -> Act
where
    F: Future<Output = R> + Send + 'static,
    R: IntoResponse,
{
    Arc::new(move |n| {
        let answer = act(n);
        Box::pin(async move { answer.await.into_response() })
    })
}

impl Origin {
    /// Says "body 1", "body 2", ...
    pub(crate) fn new() -> Self {
        let origin = Origin {
            act: Arc::new(Mutex::new(act(|n| async move { n.to_string() }))),
            runs: Count::default(),
        };
        origin.is_well();
        origin
    }

    pub(crate) fn is_well(&self) {
        self.does(|n| async move { format!("body {n}") });
    }

    /// What it does from now on, with the number of the run.
    pub(crate) fn does<F, R>(&self, what: impl Fn(usize) -> F + Send + Sync + 'static)
    where
        F: Future<Output = R> + Send + 'static,
        R: IntoResponse,
    {
        *self.act.lock() = act(what);
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.get()
    }

    /// A site whose every page it makes.
    pub(crate) fn behind(&self, pages: ResponseCache) -> Router {
        let origin = self.clone();
        let handler = move || {
            let act = origin.act.lock().clone();
            act(origin.runs.up())
        };
        Router::new()
            .route("/{*page}", routing::get(handler.clone()).layer(pages.clone()))
            .route("/", routing::get(handler).layer(pages))
    }
}
