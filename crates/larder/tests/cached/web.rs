//! On axum handlers: behind the extractors, so nobody gets from the cache what he may not have.

use axum::extract::{FromRef, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, body::Body, routing::get};
use http_body_util::BodyExt;
use larder::{Cache, LoadError, cached};
use serde::{Deserialize, Serialize};
use tower::ServiceExt;

use crate::{Count, cache};

#[derive(Clone)]
struct App {
    cache: Cache,
    loads: Count,
}

impl FromRef<App> for Cache {
    fn from_ref(app: &App) -> Cache {
        app.cache.clone()
    }
}

/// Who asks; nobody is refused.
struct User(#[expect(dead_code, reason = "it is there, that is all")] String);

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let name = parts.headers.get("authorization").and_then(|name| name.to_str().ok());
        name.map(|name| User(name.to_owned())).ok_or(StatusCode::UNAUTHORIZED)
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Trig {
    id: u64,
    load: usize,
}

struct Refused(StatusCode);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl From<LoadError<Refused>> for Refused {
    fn from(error: LoadError<Refused>) -> Self {
        Refused(error.loader_error().map_or(StatusCode::SERVICE_UNAVAILABLE, |own| own.0))
    }
}

#[cached(cache = app.cache, namespace = "trig", key = "{id}", ttl = "24h", stale = "1h", wrap = Json)]
async fn trig(_user: User, State(app): State<App>, Path(id): Path<u64>) -> Result<Json<Trig>, Refused> {
    if id == 0 {
        return Err(Refused(StatusCode::NOT_FOUND));
    }
    Ok(Json(Trig { id, load: app.loads.up() }))
}

/// The cache from a state of its own, and a foreign error.
#[cached(key = "{id}:{part}", wrap = Json, error = |_| StatusCode::BAD_GATEWAY)]
async fn part(
    State(cache): State<Cache>,
    Path((id, part)): Path<(u64, String)>,
) -> Result<Json<String>, StatusCode> {
    Ok(Json(format!("{part} of {id}")))
}

async fn ask(app: &Router, path: &str, user: Option<&str>) -> (u16, String) {
    let request = Request::get(path);
    let request = match user {
        Some(user) => request.header("authorization", user),
        None => request,
    };
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn who_is_not_let_in_gets_nothing_from_the_cache() {
    let (cache, ..) = cache().await;
    let app = App { cache, loads: Count::default() };
    let loads = app.loads.clone();
    let router =
        Router::new().route("/trigs/{id}", get(trig)).route("/trigs/{id}/{part}", get(part)).with_state(app);
    let answer = (200, r#"{"id":7,"load":1}"#.to_owned());
    assert_eq!(ask(&router, "/trigs/7", Some("ann")).await, answer);
    assert_eq!(ask(&router, "/trigs/7", Some("bob")).await, answer, "it is kept");
    assert_eq!(ask(&router, "/trigs/7", None).await, (401, String::new()));
    assert_eq!(ask(&router, "/trigs/x", Some("ann")).await.0, 400, "the path is read before, too");
    assert_eq!(ask(&router, "/trigs/0", Some("ann")).await, (404, String::new()));
    assert_eq!(ask(&router, "/trigs/7/logs", None).await, (200, r#""logs of 7""#.to_owned()));
    assert_eq!(loads.so_far(), 1);
}
