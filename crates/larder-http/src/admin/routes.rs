//! The routes of the admin API.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode, Uri};
use larder_core::{Cache, Delivery, Invalidated, MAX_TAG_BYTES, Selector};
use percent_encoding::percent_decode_str;

use super::auth::{AdminAuth, Refusal};
use super::event::event;
use crate::problem::problem;

/// Builds the admin API: `GET stats`, `GET health`, `POST clear`, `POST event`,
/// `DELETE ?pattern=|tag=|namespace=|key=|all=true`.
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
}

pub(super) struct Admin {
    pub(super) cache: Cache,
    auth: AdminAuth,
    bare_delete: bool,
}

impl AdminRouter {
    /// The admin API of a cache, for clients on this machine.
    pub fn new(cache: &Cache) -> Self {
        AdminRouter { cache: cache.clone(), auth: AdminAuth::default(), bare_delete: false }
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

    /// The router.
    pub fn build(self) -> Router {
        let admin = Arc::new(Admin { cache: self.cache, auth: self.auth, bare_delete: self.bare_delete });
        let guarded = Router::new()
            .route("/stats", get(stats))
            .route("/clear", post(clear))
            .route("/event", post(event))
            .route("/", delete(remove))
            .route_layer(middleware::from_fn_with_state(admin.clone(), guard));
        Router::new()
            .route("/health", get(health))
            .merge(guarded)
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
            .layer(middleware::map_response(no_store))
            .with_state(admin)
    }
}

async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match admin.auth.judge(&parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
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

const ROUTES: &str = "There are GET stats, GET health, POST clear, POST event, and DELETE with pattern, tag, namespace, key \
                      or all=true.";

async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "No such route", ROUTES)
}

async fn wrong_method() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "Wrong method", ROUTES)
}

async fn stats(State(admin): State<Arc<Admin>>) -> Response {
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
    let health = admin.cache.health();
    let (parts, _) = request.into_parts();
    match admin.auth.judge(&parts) {
        Ok(()) => Json(health).into_response(),
        Err(_) => Json(serde_json::json!({ "status": health.status })).into_response(),
    }
}

async fn clear(State(admin): State<Arc<Admin>>, uri: Uri) -> Response {
    match uri.query().unwrap_or_default() {
        "" => done(&["*".to_owned()], &admin.cache.invalidate([Selector::all()]).await),
        _ => bad("POST clear takes no parameters: it clears everything. To clear less, use DELETE."),
    }
}

async fn remove(State(admin): State<Arc<Admin>>, uri: Uri) -> Response {
    match selectors(uri.query().unwrap_or_default(), admin.bare_delete) {
        Ok(selectors) => {
            let patterns: Vec<String> = selectors.iter().map(ToString::to_string).collect();
            done(&patterns, &admin.cache.invalidate(selectors).await)
        }
        Err(why) => bad(&why),
    }
}

pub(super) fn bad(detail: &str) -> Response<Body> {
    problem(StatusCode::BAD_REQUEST, "Not understood", detail)
}

fn done(patterns: &[String], invalidated: &Invalidated) -> Response {
    Json(effect(patterns, invalidated)).into_response()
}

/// What was invalidated, and how far it has come.
pub(super) fn effect(patterns: &[String], invalidated: &Invalidated) -> serde_json::Value {
    let token = invalidated.token.map(|token| token.to_string());
    serde_json::json!({ "patterns": patterns, "state": state(invalidated.state), "token": token })
}

pub(super) fn state(state: Delivery) -> &'static str {
    match state {
        Delivery::Delivered => "delivered",
        Delivery::Queued => "queued",
    }
}

/// The selectors that a query names; an unknown parameter is a mistake, never "everything".
fn selectors(query: &str, bare_delete: bool) -> Result<Vec<Selector>, String> {
    if query.is_empty() {
        return if bare_delete {
            Ok(vec![Selector::all()])
        } else {
            Err("Say what to delete: pattern=, tag=, namespace=, key=, or all=true.".to_owned())
        };
    }
    query
        .split('&')
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            let value =
                percent_decode_str(&value).decode_utf8().map_err(|_| format!("{name} is no UTF-8"))?;
            selector(name, &value)
        })
        .collect()
}

fn selector(name: &str, value: &str) -> Result<Selector, String> {
    let parse = |text: &str| Selector::parse(text).map_err(|e| format!("{name}={value}: {e}."));
    let plain = |what: &str| match value {
        "" => Err(format!("{name} is empty: name {what}.")),
        _ if name != "tag" && value.contains('*') => Err(format!("{name}={value}: use pattern= for a `*`.")),
        _ => Ok(()),
    };
    match name {
        "pattern" => parse(value),
        // Literal: no white space is trimmed, no `*` means anything.
        "tag" if value.len() > MAX_TAG_BYTES => Err(format!("tag is longer than {MAX_TAG_BYTES} bytes.")),
        "tag" => plain("a tag").map(|()| Selector::tag(value)),
        "key" if value.starts_with('#') => Err(format!("key={value}: use tag= for a tag.")),
        "key" => plain("a key").and_then(|()| parse(value)),
        "namespace" => {
            plain("a namespace")?;
            match value.contains(':') {
                true => Err(format!("namespace={value}: a namespace has no `:`; use pattern={value}:*.")),
                false => Ok(Selector::under(value)),
            }
        }
        "all" if value == "true" => Ok(Selector::all()),
        "all" => Err(format!("all={value}: only all=true is understood.")),
        _ => Err(format!("Unknown parameter {name}: there are pattern, tag, namespace, key and all.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Vec<String>, String> {
        Ok(selectors(query, false)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_form_of_delete_becomes_its_selector() {
        assert_eq!(read("pattern=trig:123:*").unwrap(), ["trig:123:*"]);
        assert_eq!(read("pattern=trig%3A123%3A%2A&tag=site").unwrap(), ["trig:123:*", "#site"]);
        assert_eq!(read("namespace=trig").unwrap(), ["trig:*"]);
        assert_eq!(read("key=trig:123").unwrap(), ["trig:123"]);
        assert_eq!(read("tag=*").unwrap(), ["#*"]);
        assert_eq!(selectors("tag=a%20", false).unwrap(), [Selector::tag("a ")]);
        assert_eq!(read("all=true").unwrap(), ["*"]);
    }

    #[test]
    fn what_is_not_understood_is_never_everything() {
        for query in [
            "",
            "patern=trig:*",
            "all",
            "all=1",
            "tag=",
            "key=trig:*",
            "key=%23a",
            "namespace=a:b",
            "pattern=",
            "&",
        ] {
            assert!(read(query).is_err(), "{query:?}");
        }
        assert_eq!(selectors("", true).unwrap(), [Selector::all()]);
    }
}
