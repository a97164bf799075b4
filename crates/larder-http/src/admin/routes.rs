//! The routes of the admin API.

use std::error::Error as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode, Uri};
use larder_core::Cache;
use tokio::sync::Semaphore;

use super::auth::{AdminAuth, Refusal};
use super::event::event;
use super::query::{none, once, parameters};
use super::remove::{MOST_SWEEPS, clear, remove};
use crate::problem::problem;

/// Builds the admin API:
///
/// | request | answers |
/// |---|---|
/// | `GET health` | `status`, to anybody; to whoever is let in how tiers, breaker and log are |
/// | `GET stats` | what has been counted |
/// | `GET metrics` | the same for Prometheus (text format 0.0.4) |
/// | `GET explain?key=trig:123` | what the tiers have under a key, whether it may be served, and who invalidated it when and why |
/// | `DELETE ?pattern=\|tag=\|namespace=\|key=\|all=true` | invalidates; may be combined |
/// | `POST clear` | invalidates everything |
/// | `POST event` | publishes what has happened: `{"name": .., "payload": ..}`; its handlers run here |
///
/// `DELETE` and `POST clear` take `reason=`, which `explain` shows later. They answer as soon as the invalidation holds: `state`
/// (`delivered`, or `queued` while Redis is away) and `token`. What they have killed is freed and counted beside, and an
/// event `cache_swept` says how much; with `sweep=wait` the answer waits for that and has the counts, with `sweep=off`
/// nothing is freed before its ttl ends. `sweep` in the answer: `started`, `done`, `off`, or `busy` (16 are waiting
/// already, and this one is left out; it is invalidated all the same). A pattern whose `*` does not stand at the end of a
/// segment becomes wider: the answer has `folded`: true then, and in `became` what each such pattern became.
///
/// A parameter that is not understood is a 400.
///
/// ```
/// # use larder_core::Cache;
/// # use larder_http::{AdminAuth, AdminRouter};
/// # fn f(cache: &Cache, token: String) {
/// let admin: axum::Router = AdminRouter::new(cache).auth(AdminAuth::Bearer(token)).build();
/// let app = axum::Router::<()>::new().nest("/admin/cache", admin);
/// # let _ = app; }
/// ```
pub struct AdminRouter {
    cache: Cache,
    auth: AdminAuth,
    bare_delete: bool,
    more: Router,
}

pub(super) struct Admin {
    pub(super) cache: Cache,
    auth: AdminAuth,
    pub(super) bare_delete: bool,
    /// Room for sweeps that nobody waits for.
    pub(super) sweeps: Arc<Semaphore>,
}

impl AdminRouter {
    /// The admin API of a cache, for clients on this machine.
    pub fn new(cache: &Cache) -> Self {
        AdminRouter {
            cache: cache.clone(),
            auth: AdminAuth::default(),
            bare_delete: false,
            more: Router::new(),
        }
    }

    /// Who is let in. `GET health` answers anybody with `status` alone. Default: [`AdminAuth::Loopback`].
    pub fn auth(mut self, auth: AdminAuth) -> Self {
        self.auth = auth;
        self
    }

    /// Lets a `DELETE` without parameters clear everything. Default: it is a 400.
    pub fn bare_delete_clears(mut self, clears: bool) -> Self {
        self.bare_delete = clears;
        self
    }

    /// Routes of your own beside these, for those who are let in. Default: none.
    ///
    /// # Panics
    /// In [`build`](Self::build), if one of them is a route of the admin API.
    pub fn also(mut self, routes: Router) -> Self {
        self.more = self.more.merge(routes);
        self
    }

    /// The router.
    pub fn build(self) -> Router {
        let admin = Arc::new(Admin {
            cache: self.cache,
            auth: self.auth,
            bare_delete: self.bare_delete,
            sweeps: Arc::new(Semaphore::new(MOST_SWEEPS)),
        });
        let guarded = Router::new()
            .route("/stats", get(stats))
            .route("/metrics", get(metrics))
            .route("/explain", get(explain))
            .route("/clear", post(clear))
            .route("/event", post(event))
            .route("/", delete(remove))
            .with_state(admin.clone())
            .merge(self.more)
            .route_layer(middleware::from_fn_with_state(admin.clone(), guard));
        Router::new()
            .route("/health", get(health))
            .with_state(admin)
            .merge(guarded)
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
            .layer(middleware::map_response(no_store))
    }
}

async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match admin.auth.judge(&parts) {
        Ok(actor) => {
            parts.extensions.insert(actor);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(Refusal::Place(why)) => problem(StatusCode::FORBIDDEN, "Not allowed", why),
        Err(Refusal::Token) => {
            let mut response = problem(
                StatusCode::UNAUTHORIZED,
                "A token is needed",
                "Send Authorization: Bearer with the admin token.",
            );
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
}

const ROUTES: &str = "There are GET stats, GET health, GET metrics, GET explain, POST clear, POST event, and \
                      DELETE with pattern, tag, namespace, key or all=true.";

async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "No such route", ROUTES)
}

async fn wrong_method() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "Wrong method", ROUTES)
}

async fn stats(State(admin): State<Arc<Admin>>, uri: Uri) -> Response {
    if let Err(why) = none("GET stats", uri.query()) {
        return bad(&why);
    }
    let stats = admin.cache.stats();
    let ratios: serde_json::Map<String, serde_json::Value> = stats
        .namespaces
        .iter()
        .map(|(name, stats)| (name.clone(), serde_json::json!(stats.hit_ratio())))
        .collect();
    match serde_json::to_value(&stats) {
        Ok(mut document) => {
            document["hit_ratios"] = ratios.into();
            Json(document).into_response()
        }
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "No statistics", "They could not be written."),
    }
}

/// Liveness for anybody; the details for whoever is let in. Always 200 while the process answers: a cache without its
/// remote tier goes on working, and a probe that restarts it would not help.
async fn health(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    if let Err(why) = none("GET health", request.uri().query()) {
        return bad(&why);
    }
    let health = admin.cache.health();
    let (parts, _) = request.into_parts();
    match admin.auth.judge(&parts) {
        Ok(_) => Json(health).into_response(),
        Err(_) => Json(serde_json::json!({ "status": health.status })).into_response(),
    }
}

/// How the cache is, for Prometheus.
async fn metrics(State(admin): State<Arc<Admin>>, uri: Uri) -> Response {
    if let Err(why) = none("GET metrics", uri.query()) {
        return bad(&why);
    }
    let text = super::metrics::text(&admin.cache.stats(), &admin.cache.health());
    ([(CONTENT_TYPE, super::metrics::CONTENT_TYPE)], text).into_response()
}

/// Why a key is served or not.
async fn explain(State(admin): State<Arc<Admin>>, uri: Uri) -> Response {
    let key = match key_of(uri.query().unwrap_or_default()) {
        Ok(key) => key,
        Err(why) => return bad(&why),
    };
    match admin.cache.explain(&key).await {
        Ok(explanation) => Json(explanation).into_response(),
        Err(error) => {
            let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            bad(&format!("key={key}{why}."))
        }
    }
}

fn key_of(query: &str) -> Result<String, String> {
    let mut key = None;
    for (name, value) in parameters(query)? {
        match name {
            "key" => once(&mut key, name, value)?,
            _ => return Err(format!("Unknown parameter {name}: there is key.")),
        }
    }
    key.ok_or_else(|| "Say which key: key=trig:123.".to_owned())
}

pub(super) fn bad(detail: &str) -> Response<Body> {
    problem(StatusCode::BAD_REQUEST, "Not understood", detail)
}
