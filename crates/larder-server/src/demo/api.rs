//! The sample API: its routes, how each is cached, and what each write invalidates.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use larder_core::units::{HOUR, MINUTE, SECOND};
use larder_core::{
    AnyKey, Cache, Compression, Namespace, NamespaceError, NoLoader, Policy, Runtime, Selector,
};
use larder_http::{ReadYourWrites, ResponseCache};
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, CatalogError, Filters, NewRepository, RepositoryDetail};
use super::faults::Faults;
use super::problem::Problem;

struct Api {
    cache: Cache,
    catalog: Catalog,
    faults: Faults,
    runtime: Arc<dyn Runtime>,
    /// Repositories for lists of them: each an entry of its own, below that of its page.
    rows: Namespace<AnyKey, RepositoryDetail, NoLoader>,
}

/// Repositories that one request may list.
const MOST_LISTED: usize = 100;

type Shared = State<Arc<Api>>;

/// The API. Each `ResponseCache` line is all it takes to cache its route.
///
/// # Errors
/// A cache namespace that is none; not with these names.
pub(super) fn router(
    cache: &Cache,
    catalog: Catalog,
    faults: Faults,
    runtime: Arc<dyn Runtime>,
) -> Result<Router, NamespaceError> {
    // Facets are large, and read in Redis by every process.
    let ten_minutes = Policy::ttl(10 * MINUTE).stale_while_revalidate(MINUTE).compress(Compression::lz4());
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

    let rows = cache.namespace(("repository", "row"), Policy::ttl(10 * MINUTE))?;
    // For trying what becomes of a slow or failing database: short lives and short patience.
    let guarded = Policy::ttl(SECOND)
        .jitter(0.0)
        .stale_if_error(HOUR)
        .retry_after(SECOND)
        .soft_timeout(Duration::from_millis(300))
        .load_timeout(2 * SECOND)
        .max_loads(8)
        .load_queue(0);
    let overview = ResponseCache::new(cache, "overview", guarded)?.id("id").vary_query([]);
    let learning = Policy::ttl(2 * SECOND).adaptive_ttl(SECOND, MINUTE).jitter(0.0);
    let level = ResponseCache::new(cache, "level", learning)?.vary_query([]);
    let early = Policy::ttl(2 * SECOND).early_refresh(100.0);
    let total = ResponseCache::new(cache, "total", early)?.vary_query([]);

    let api = Arc::new(Api { cache: cache.clone(), catalog, faults, runtime, rows });
    Ok(Router::new()
        .route("/api/v1/facets", get(show_facets).layer(facets))
        .route("/api/v1/search", get(show_search).layer(search))
        .route("/api/v1/statistics", get(show_statistics).layer(statistics))
        .route("/api/v1/overviews/{id}", get(show_repository).layer(overview))
        .route("/api/v1/level", get(show_level).layer(level))
        .route("/api/v1/total", get(show_total).layer(total))
        .route("/api/v1/repositories", get(list_repositories).post(add_repository))
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

async fn show_level(State(api): Shared) -> Answer {
    api.read(|catalog, _| Ok(catalog.level().to_string())).await
}

async fn show_total(State(api): Shared) -> Answer {
    api.read(|catalog, now_ms| Ok(catalog.statistics(now_ms)?.automations)).await
}

#[derive(Deserialize)]
struct Listed {
    ids: String,
}

/// One look-up and one query for all that are missing, however many there are. `X-Loaded` says how many were.
async fn list_repositories(State(api): Shared, listed: Result<Query<Listed>, QueryRejection>) -> Answer {
    let Query(Listed { ids }) = listed?;
    let ids: Result<Vec<i64>, _> = ids.split(',').map(|id| id.trim().parse()).collect();
    let Some(ids) = ids.ok().filter(|ids| ids.len() <= MOST_LISTED) else {
        let detail = format!("ids are numbers, with commas between, at most {MOST_LISTED}.");
        return Err(Problem::new(StatusCode::BAD_REQUEST, &detail));
    };
    let (loaded, source) = (Arc::new(AtomicUsize::new(0)), api.clone());
    let counted = loaded.clone();
    let load = move |missing: Vec<i64>| {
        counted.fetch_add(missing.len(), Ordering::Relaxed);
        let api = source.clone();
        async move { api.run(move |catalog, _| find(catalog, &missing)).await }
    };
    let rows = api.rows.get_many_or_load(ids, load).await;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        found.extend(row.map_err(|error| Problem::from(&error))?);
    }
    let found: Vec<&RepositoryDetail> = found.iter().map(|row| &**row).collect();
    let loaded = [("x-loaded", loaded.load(Ordering::Relaxed).to_string())];
    Ok((loaded, Json(found)).into_response())
}

fn find(catalog: &Catalog, ids: &[i64]) -> Result<Vec<(i64, RepositoryDetail)>, CatalogError> {
    let mut found = Vec::with_capacity(ids.len());
    for &id in ids {
        found.extend(catalog.repository(id)?.map(|repository| (id, repository)));
    }
    Ok(found)
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
        self.faults.befall(&*self.runtime).await?;
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
