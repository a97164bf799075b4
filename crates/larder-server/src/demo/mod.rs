//! `larder demo`: a real service with cached routes, to try by hand.

mod api;
pub mod catalog;
mod check;
mod client;
mod faults;
mod guide;
mod nodes;
mod problem;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_core::{Cache, Runtime, Selector, TokioRuntime};
use larder_http::{AdminAuth, AdminRouter};
use larder_redis::Redis;
use tokio::net::TcpListener;

use self::catalog::Catalog;
use self::faults::Faults;
use self::guide::Place;
use crate::cli::Demo;
use crate::exit::Failure;

/// How long requests, loads and stores may take to end once the process is told to stop.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Runs the demo until SIGINT or SIGTERM; with `--check`, until every printed line has been tried.
///
/// # Errors
/// Wrong options, before a port is bound; a port or file that is not to be had; lines that do not do what they say.
pub async fn run(options: Demo, admin_token: Option<String>) -> Result<(), Failure> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::current());
    if let Some(nodes) = options.nodes {
        let ended = nodes::run(&options, nodes, admin_token, runtime);
        return tokio::select! {
            result = ended => result,
            () = told_to_stop() => Err(Failure::stopped()),
        };
    }
    let addresses = Addresses::of(&options);
    let auth = addresses.auth(admin_token.clone())?;
    let (catalog, _temporary) = open_catalog(&options, &*runtime).await?;
    let cache = build_cache(&options, &catalog, runtime.clone()).await?;
    let faults = Faults::default();
    let app = api::router(&cache, catalog.clone(), faults.clone(), runtime.clone())
        .map_err(|error| Failure::unavailable("the sample API", &error))?;
    let admin = AdminRouter::new(&cache).auth(auth).also(faults.routes()).build();

    let api_listener = listen("--listen", addresses.api).await?;
    let admin_listener = listen("--admin", addresses.admin).await?;
    let here = Place { api: at(&api_listener)?, admin: at(&admin_listener)? };
    let next_id =
        catalog.next_repository_id().map_err(|error| Failure::unavailable("the sample data", &error))?;
    let steps = guide::steps(here, next_id, admin_token.as_deref());

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let serve_api = serve(api_listener, app, stopped.clone());
    let serve_admin = serve(admin_listener, admin, stopped);
    let work = async {
        let result = if options.check {
            // What an earlier process left in Redis is not what the lines expect.
            let _ = cache.invalidate([Selector::all()]).await;
            check::run(&steps).await
        } else {
            say(&guide::text(&steps, here, admin_token.as_deref(), &options));
            told_to_stop().await;
            Ok(())
        };
        stop.send_replace(true);
        result
    };
    let ended = async {
        let (api, admin, result) = tokio::join!(serve_api, serve_admin, work);
        api.and(admin).map_err(|error| Failure::unavailable("serving", &error))?;
        result
    };
    let result = ended.await;
    if !cache.shutdown(LAST_WORDS).await {
        tracing::warn!(target: "larder", "stopped before everything under way was done");
    }
    result
}

/// Says something on standard output. Who closes it does not want to hear it.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Where to listen.
struct Addresses {
    api: SocketAddr,
    admin: SocketAddr,
}

impl Addresses {
    fn of(options: &Demo) -> Self {
        let port = |port| if options.check { 0 } else { port };
        let here = |p| SocketAddr::from(([127, 0, 0, 1], port(p)));
        Addresses {
            api: options.listen.unwrap_or_else(|| here(8080)),
            admin: options.admin.unwrap_or_else(|| here(9090)),
        }
    }

    fn auth(&self, token: Option<String>) -> Result<AdminAuth, Failure> {
        match token {
            Some(token) => Ok(AdminAuth::Bearer(token)),
            None if self.admin.ip().is_loopback() => Ok(AdminAuth::Loopback),
            None => Err(Failure::option("--admin", &NeedsToken(self.admin))),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "{0} can be reached from other machines and needs a token: set LARDER_ADMIN_TOKEN, or listen on 127.0.0.1"
)]
struct NeedsToken(SocketAddr);

async fn listen(option: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::unavailable(&format!("cannot listen on {option} {address}"), &error))
}

fn at(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::unavailable("the address of a listener", &error))
}

/// The catalog, and the temporary folder it is in, if it is.
async fn open_catalog(
    options: &Demo,
    runtime: &dyn Runtime,
) -> Result<(Catalog, Option<tempfile::TempDir>), Failure> {
    let temporary = match options.data {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("larder-demo-")
                .tempdir()
                .map_err(|error| Failure::unavailable("a temporary folder", &error))?,
        ),
    };
    let path = match (&options.data, &temporary) {
        (Some(path), _) => path.clone(),
        (None, Some(folder)) => folder.path().join("catalog.db"),
        (None, None) => PathBuf::from("catalog.db"),
    };
    let (level, now_ms) = (options.level, runtime.wall_millis());
    let opened = tokio::task::spawn_blocking(move || Catalog::open(&path, level, now_ms)).await;
    match opened {
        Ok(Ok(catalog)) => Ok((catalog, temporary)),
        Ok(Err(error)) => Err(Failure::option("--data", &error)),
        Err(error) => Err(Failure::unavailable("the sample data", &error)),
    }
}

/// The cache. Values in Redis belong to one catalog: another file's answers must not be taken for this one's.
async fn build_cache(options: &Demo, catalog: &Catalog, runtime: Arc<dyn Runtime>) -> Result<Cache, Failure> {
    let mut builder = Cache::builder().runtime(runtime);
    if let Some(url) = &options.redis {
        builder = builder.remote(Redis::at(url.as_str()).prefix(prefix(catalog)?));
    }
    // The error names the value, without the password.
    builder.build().await.map_err(|error| Failure::option("--redis", &error))
}

/// What the keys of a catalog begin with.
fn prefix(catalog: &Catalog) -> Result<String, Failure> {
    let identity = catalog.identity().map_err(|error| Failure::unavailable("the sample data", &error))?;
    Ok(format!("larder-demo-{identity}"))
}

async fn serve(
    listener: TcpListener,
    app: axum::Router,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) -> std::io::Result<()> {
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(async move {
            // The sender lives as long as the demo; if it is gone, that is an end too.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        })
        .await
}

async fn told_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = interrupt => {}
                    _ = terminate.recv() => {}
                }
            }
            Err(error) => {
                tracing::warn!(target: "larder", %error, "SIGTERM cannot be heard: stop with ^C");
                let _ = interrupt.await;
            }
        }
    }
    #[cfg(not(unix))]
    let _ = interrupt.await;
}
