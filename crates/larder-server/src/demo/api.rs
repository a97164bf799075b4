//! The sample API: its routes, how each is cached, and what each write invalidates.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use larder_core::units::{MINUTE, SECOND};
use larder_core::{Cache, NamespaceError, Policy, Runtime, Selector};
use larder_http::{ReadYourWrites, ResponseCache};
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, CatalogError, Filters, NewRepository};
use crate::exit::chain;

struct Api {
    cache: Cache,
    catalog: Catalog,
    runtime: Arc<dyn Runtime>,
}

type Shared = State<Arc<Api>>;

/// The API. Each `ResponseCache` line is all it takes to cache its route.
///
/// # Errors
/// A cache namespace that is none; not with these names.
pub(super) fn router(
    cache: &Cache,
    catalog: Catalog,
    runtime: Arc<dyn Runtime>,
) -> Result<Router, NamespaceError> {
    let ten_minutes = Policy::ttl(10 * MINUTE).stale_while_revalidate(MINUTE);
    let five_minutes = Policy::ttl(5 * MINUTE).stale_while_revalidate(MINUTE);
    let negative = ten_minutes.clone().negative_ttl(10 * SECOND);

    let facets = ResponseCache::new(cache, "facets", ten_minutes)?.fixed_id("all").vary_query([
        "q",
        "trigger",
        "action",
        "blueprint",
    ]);
    let search = ResponseCache::new(cache, "search", five_minutes.clone())?.vary_query([
        "q",
        "trigger",
        "action",
        "blueprint",
        "page",
    ]);
    let statistics = ResponseCache::new(cache, "stats", five_minutes)?.fixed_id("global").vary_query([]);
    let repository = ResponseCache::new(cache, "repository", negative)?.id("id").vary_query([]);

    let api = Arc::new(Api { cache: cache.clone(), catalog, runtime });
    Ok(Router::new()
        .route("/api/v1/facets", get(show_facets).layer(facets))
        .route("/api/v1/search", get(show_search).layer(search))
        .route("/api/v1/statistics", get(show_statistics).layer(statistics))
        .route("/api/v1/repositories", axum::routing::post(add_repository))
        .route(
            "/api/v1/repositories/{id}",
            get(show_repository).layer(repository).put(describe_repository).delete(delete_repository),
        )
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "There is no such path.") })
        // Writes have no response cache of their own: this tells their tokens.
        .layer(ReadYourWrites::new(cache))
        .with_state(api))
}

#[derive(Deserialize)]
struct Page {
    page: Option<u32>,
}

async fn show_facets(State(api): Shared, filters: Result<Query<Filters>, QueryRejection>) -> Answer {
    let Query(filters) = filters?;
    api.read(move |catalog, _| catalog.facets(&filters)).await
}

async fn show_search(
    State(api): Shared,
    filters: Result<Query<Filters>, QueryRejection>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer {
    let (Query(filters), Query(page)) = (filters?, page?);
    api.read(move |catalog, _| catalog.search(&filters, page.page.unwrap_or(1))).await
}

async fn show_statistics(State(api): Shared) -> Answer {
    api.read(|catalog, now_ms| catalog.statistics(now_ms)).await
}

async fn show_repository(State(api): Shared, id: Result<Path<i64>, PathRejection>) -> Answer {
    let Path(id) = id?;
    match api.run(move |catalog, _| catalog.repository(id)).await? {
        Some(repository) => Ok(Json(repository).into_response()),
        None => Err(no_repository(id)),
    }
}

async fn add_repository(State(api): Shared, new: Result<Json<NewRepository>, JsonRejection>) -> Answer {
    let Json(new) = new?;
    let added = api.run(move |catalog, now_ms| catalog.add_repository(&new, now_ms)).await?;
    api.contents_changed(added.id).await;
    let location = format!("/api/v1/repositories/{}", added.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(added)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    description: String,
}

async fn describe_repository(
    State(api): Shared,
    id: Result<Path<i64>, PathRejection>,
    new: Result<Json<Description>, JsonRejection>,
) -> Answer {
    let (Path(id), Json(new)) = (id?, new?);
    let described =
        api.run(move |catalog, now_ms| catalog.describe_repository(id, &new.description, now_ms)).await?;
    let Some(repository) = described else { return Err(no_repository(id)) };
    // A description shows on the repository's own page and nowhere else: facets and searches stay warm.
    let _ = api.cache.invalidate([Selector::under(("repository", id))]).await;
    Ok(Json(repository).into_response())
}

async fn delete_repository(State(api): Shared, id: Result<Path<i64>, PathRejection>) -> Answer {
    let Path(id) = id?;
    if !api.run(move |catalog, _| catalog.delete_repository(id)).await? {
        return Err(no_repository(id));
    }
    api.contents_changed(id).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn no_repository(id: i64) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, &format!("There is no repository {id}."))
}

impl Api {
    /// A repository came or went, with its automations: everything that counts or lists them has changed. It is
    /// committed already: an invalidation before the commit could be overtaken by a load of the old data.
    async fn contents_changed(&self, id: i64) {
        // Delivered or queued, it holds here; the log of events says which.
        let _ = self
            .cache
            .invalidate([
                Selector::under("facets"),
                Selector::under("search"),
                Selector::under("stats"),
                Selector::under(("repository", id)),
            ])
            .await;
    }

    /// Runs a piece of database work on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Catalog, u64) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, Problem> {
        let (catalog, now_ms) = (self.catalog.clone(), self.runtime.wall_millis());
        match tokio::task::spawn_blocking(move || work(&catalog, now_ms)).await {
            Ok(result) => result.map_err(Problem::from),
            Err(error) => {
                tracing::error!(target: "larder", %error, "database work ended in a panic");
                Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "The database failed."))
            }
        }
    }

    async fn read<T: Serialize + Send + 'static>(
        &self,
        work: impl FnOnce(&Catalog, u64) -> Result<T, CatalogError> + Send + 'static,
    ) -> Answer {
        Ok(Json(self.run(work).await?).into_response())
    }
}

type Answer = Result<Response<Body>, Problem>;

/// An error as its client sees it.
struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: &str) -> Self {
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
