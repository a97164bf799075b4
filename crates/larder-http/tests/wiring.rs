//! What the compiler must let users do with the layer.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing;
use common::*;
use larder_core::{Cache, NamespaceError, Policy};
use larder_http::{AdminAuth, HeaderStyle, ResponseCache, ResponseCacheService, VaryQuery, WhoMayBypass};
use tower::{Layer, Service};

fn shareable<T: Clone + Send + Sync + 'static>() {}

fn infallible<S: Service<Request<Body>, Error = Infallible>>(_: &S)
where
    S::Future: Send,
{
}

#[tokio::test]
async fn the_layer_and_its_service_can_be_shared_and_never_fail() {
    shareable::<ResponseCache>();
    shareable::<ResponseCacheService<routing::Route>>();
    shareable::<ResponseCacheService<Router>>();
    shareable::<(HeaderStyle, VaryQuery, WhoMayBypass, AdminAuth)>();
    let (cache, _) = cache().await;
    infallible(&layer(&cache).layer(Router::new()));
}

/// The names of design section 6, in one place.
#[tokio::test]
async fn one_layer_takes_every_option_and_serves_many_routes() {
    let (cache, _) = cache().await;
    let pages = layer(&cache)
        .id("id")
        .sub("logs")
        .vary_query(["page"])
        .vary_headers([http::header::ACCEPT_LANGUAGE])
        .version("v1")
        .hash_label("include")
        .skip(|parts| parts.uri.path().ends_with("skip"))
        .ttl_with(|_| Duration::from_secs(5))
        .tags(|_| vec!["a".into()])
        .tags_from(|_, _| vec!["b".into()])
        .ignore_cookies(["theme"])
        .headers(HeaderStyle::all())
        .bypass(WhoMayBypass::Nobody);
    let app: Router = Router::new()
        .route("/a/{id}", routing::get(|| async { "a" }).layer(pages.clone()))
        .route("/b/{id}", routing::get(|| async { "b" }).route_layer(pages.clone()))
        .route("/c/{id}", routing::get(|| async { "c" }))
        .route_layer(pages.fixed_id("c"));
    for path in ["/a/1", "/b/1", "/c/1"] {
        assert_eq!(ask(&app, get(path)).await.word(), "MISS", "{path}");
        assert_eq!(ask(&app, get(path)).await.word(), "HIT", "{path}");
    }
    assert_eq!(ask(&app, get("/c/skip")).await.word(), "BYPASS");
}

#[tokio::test]
async fn a_bad_name_or_policy_is_an_error_at_the_start() {
    let (cache, _): (Cache, _) = cache().await;
    let error = |name, policy| ResponseCache::new(&cache, name, policy).err().unwrap();
    assert!(matches!(error("no name", policy()), NamespaceError::Name { .. }));
    assert!(matches!(error("page", Policy::ttl(Duration::ZERO)), NamespaceError::Policy { .. }));
}

/// Typed handles of the same namespace neither clash with the layer nor see its entries, and go with it.
#[tokio::test]
async fn routes_and_typed_handles_of_one_namespace_share_its_selectors() {
    let (cache, _) = cache().await;
    let typed = cache.namespace::<u32>("page", Policy::ttl(MINUTE)).unwrap();
    let app = Router::new().route("/{id}", routing::get(|| async { "web" }).layer(layer(&cache).id("id")));
    assert!(typed.put(7, 1));
    assert_eq!(ask(&app, get("/7")).await.told(), "MISS web");
    assert_eq!((typed.get(7).await.as_deref(), ask(&app, get("/7")).await.word()), (Some(&1), "HIT"));
    let _ = typed.invalidate_all().await;
    assert_eq!((typed.get(7).await, ask(&app, get("/7")).await.word()), (None, "MISS"));
}
