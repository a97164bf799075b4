//! Loads that fail: what is noted of them, and what their clients hear where nothing stale may be served instead.

use std::sync::Arc;

use axum::body::Body;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use larder_core::{Failure, SkipReason};

use crate::problem::problem;
use crate::rules::response::is_failure;

/// When a client that was turned away may come again, in seconds: most loads that were in his way are over by then.
const COME_AGAIN_AFTER: HeaderValue = HeaderValue::from_static("1");

/// How a load has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The handler answered with an error.
    Answered(StatusCode),
    /// The body ended before its length, or with an error.
    Truncated,
    /// The handler panicked.
    Panicked,
    /// It took longer than the load timeout.
    TimedOut,
    /// It takes longer than the soft timeout.
    Slow,
    /// It was not begun: too many loads are under way.
    Overloaded,
}

impl Failed {
    /// Is an answer of this status, which is not stored for this reason, a failure?
    pub(super) fn of(status: StatusCode, reason: SkipReason) -> Option<Self> {
        match reason {
            SkipReason::Status if is_failure(status) => Some(Failed::Answered(status)),
            SkipReason::Truncated => Some(Failed::Truncated),
            _ => None,
        }
    }

    /// The name in `Cache-Status`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Failed::Answered(_) => "status",
            Failed::Truncated => "truncated",
            Failed::Panicked => "panicked",
            Failed::TimedOut => "timed_out",
            Failed::Slow => "slow",
            Failed::Overloaded => "overloaded",
        }
    }

    /// The name in `cache_load_failed`, and what it says there.
    pub(super) fn event(self) -> (&'static str, String) {
        match self {
            Failed::Answered(status) => ("loader", format!("the handler answered {}", status.as_u16())),
            Failed::Truncated => ("loader", "the body of the answer was broken off".to_owned()),
            Failed::Panicked => ("panicked", "the handler panicked".to_owned()),
            Failed::TimedOut | Failed::Slow => ("timed_out", "the handler took too long".to_owned()),
            Failed::Overloaded => ("overloaded", "too many loads are under way".to_owned()),
        }
    }

    /// What those who wait for the load are told.
    pub(super) fn failure(self) -> Failure {
        match self {
            Failed::Answered(_) | Failed::Truncated => Failure::Loader(Arc::new(())),
            Failed::Panicked => Failure::Panicked,
            Failed::TimedOut | Failed::Slow => Failure::TimedOut,
            Failed::Overloaded => Failure::Overloaded,
        }
    }

    /// What the client hears.
    pub(super) fn answer(self) -> Response<Body> {
        failed(&self.failure())
    }
}

/// What a client hears of a load that failed.
pub(super) fn failed(failure: &Failure) -> Response<Body> {
    match failure {
        Failure::TimedOut => problem(
            StatusCode::GATEWAY_TIMEOUT,
            "The answer took too long",
            "The handler did not answer within the route's load timeout.",
        ),
        Failure::Overloaded => {
            let mut response = problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "Too much to do",
                "Too many answers of this kind are being made; try again.",
            );
            response.headers_mut().insert(RETRY_AFTER, COME_AGAIN_AFTER);
            response
        }
        Failure::ShuttingDown => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "Shutting down",
            "The service is being shut down; try again.",
        ),
        Failure::Panicked | Failure::Loader(_) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The handler failed",
            "The handler panicked; its message is in the service's log.",
        ),
    }
}
