//! What goes wrong with the sample database, on request: it is slow, or it fails.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use larder_core::Runtime;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// Where it is told, on the admin listener.
pub(super) const PATH: &str = "/api/v1/_faults";
/// The longest that a query can be held up: longer than any load may take.
const LONGEST_MS: u64 = 60_000;

/// The faults of the database, shared by all that ask it.
#[derive(Clone, Default)]
pub(super) struct Faults(Arc<Mutex<Now>>);

/// What is wrong now, and how often the database was asked since that was said.
#[derive(Clone, Copy, Default, Serialize)]
struct Now {
    #[serde(flatten)]
    wanted: Wanted,
    queries: u64,
}

/// What is to be wrong. Left out is healthy.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    latency_ms: u64,
    fail: bool,
}

impl Faults {
    /// One query: counted, held up, and refused if it is to fail.
    ///
    /// # Errors
    /// The database is away, as was asked for.
    pub(super) async fn befall(&self, runtime: &dyn Runtime) -> Result<(), Problem> {
        let Wanted { latency_ms, fail } = {
            let mut now = self.0.lock();
            now.queries += 1;
            now.wanted
        };
        if latency_ms > 0 {
            runtime.sleep(Duration::from_millis(latency_ms)).await;
        }
        match fail {
            true => {
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "The database is away, as was asked for."))
            }
            false => Ok(()),
        }
    }

    /// The routes that tell and change what is wrong.
    pub(super) fn routes(&self) -> Router {
        Router::new().route(PATH, get(show).post(set)).with_state(self.clone())
    }
}

async fn show(State(faults): State<Faults>) -> Json<Now> {
    Json(*faults.0.lock())
}

async fn set(
    State(faults): State<Faults>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(wanted) = wanted?;
    if wanted.latency_ms > LONGEST_MS {
        let detail = format!("latency_ms is {}: at most {LONGEST_MS}.", wanted.latency_ms);
        return Err(Problem::new(StatusCode::BAD_REQUEST, &detail));
    }
    let now = Now { wanted, queries: 0 };
    *faults.0.lock() = now;
    Ok(Json(now).into_response())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use larder_core::TokioRuntime;
    use tower::ServiceExt as _;

    use super::*;

    async fn post(faults: &Faults, body: &'static str) -> StatusCode {
        let request = Request::post(PATH).header("content-type", "application/json").body(Body::from(body));
        faults.routes().oneshot(request.expect("a request")).await.expect("it answers").status()
    }

    #[tokio::test]
    async fn what_is_asked_for_befalls_queries_and_what_makes_no_sense_changes_nothing() {
        let (faults, runtime) = (Faults::default(), TokioRuntime::current());
        assert!(faults.befall(&runtime).await.is_ok());
        assert_eq!(post(&faults, r#"{"fail": true}"#).await, StatusCode::OK);
        for wrong in [r#"{"fial": true}"#, r#"{"latency_ms": 60001}"#, r#"{"latency_ms": -1}"#, ""] {
            assert!(post(&faults, wrong).await.is_client_error(), "{wrong}");
        }
        assert!(faults.befall(&runtime).await.is_err());
        assert_eq!(faults.0.lock().queries, 1, "counted from the last change on");
        assert_eq!(post(&faults, "{}").await, StatusCode::OK);
        assert!(faults.befall(&runtime).await.is_ok());
    }
}
