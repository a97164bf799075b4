//! Errors as their clients see them.

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use larder_core::LoadError;

use super::catalog::CatalogError;
use crate::exit::chain;

/// An error as its client sees it.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: &str) -> Self {
        Problem { status, detail: detail.to_owned() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let document = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], document.to_string())
            .into_response()
    }
}

/// The one place where errors of the database become statuses.
impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        let (status, detail) = match &error {
            error if error.is_invalid() => (StatusCode::BAD_REQUEST, error.to_string()),
            error if error.is_duplicate() => (StatusCode::CONFLICT, error.to_string()),
            CatalogError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "Busy; try again.".to_owned()),
            _ => {
                tracing::error!(target: "larder", error = chain(&error), "the database failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "The database failed.".to_owned())
            }
        };
        Problem { status, detail }
    }
}

macro_rules! rejections {
    ($($rejection:ty)*) => {$(
        impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                Problem { status: rejection.status(), detail: rejection.body_text() }
            }
        }
    )*};
}
rejections! { JsonRejection PathRejection QueryRejection }

/// A load of a typed handle: its own error, or what became of it.
impl From<&LoadError<Problem>> for Problem {
    fn from(error: &LoadError<Problem>) -> Self {
        match error {
            LoadError::Loader(problem) => (**problem).clone(),
            LoadError::TimedOut => Problem::new(StatusCode::GATEWAY_TIMEOUT, "The database took too long."),
            LoadError::Overloaded => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Too many queries are under way; try again.")
            }
            other => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, &other.to_string()),
        }
    }
}
