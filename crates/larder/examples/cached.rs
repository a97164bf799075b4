//! What `#[cached]` saves, and what it costs.
//!
//! `cargo run -p larder --release --example cached`
#![expect(clippy::print_stdout, reason = "an example that shows something")]

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use larder::{Cache, LoadError, Policy, cached, units::*};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Trig {
    id: u64,
    name: String,
}

#[derive(Debug)]
enum ApiError {
    NoSuchTrig,
    Unavailable(&'static str),
}

impl From<LoadError<ApiError>> for ApiError {
    fn from(error: LoadError<ApiError>) -> Self {
        match error.loader_error() {
            Some(ApiError::NoSuchTrig) => ApiError::NoSuchTrig,
            Some(ApiError::Unavailable(reason)) => ApiError::Unavailable(reason),
            None => ApiError::Unavailable(error.as_str()),
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ApiError::NoSuchTrig => f.write_str("there is no such trig point"),
            ApiError::Unavailable(reason) => write!(f, "not available: {reason}"),
        }
    }
}

impl Error for ApiError {}

#[derive(Clone, Default)]
struct Database {
    queries: Arc<AtomicUsize>,
}

impl Database {
    async fn trig(&self, id: u64) -> Result<Trig, ApiError> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        if id == 0 {
            return Err(ApiError::NoSuchTrig);
        }
        Ok(Trig { id, name: format!("Trig {id}") })
    }
}

#[derive(Clone)]
struct Trigs {
    cache: Cache,
    database: Database,
}

impl Trigs {
    #[cached(namespace = "trig", key = "{id}", ttl = "24h", stale = "1h", tags = ["trigs"])]
    async fn trig(&self, id: u64) -> Result<Trig, ApiError> {
        self.database.trig(id).await
    }
}

/// The same by hand, to compare: a handle that is kept.
async fn by_hand(cache: &Cache) -> Result<Duration, Box<dyn Error>> {
    let handle = cache.namespace::<Trig>("by_hand", Policy::ttl(24 * HOUR))?;
    let load = || async { Ok::<_, Infallible>(Trig { id: 7, name: "Trig 7".into() }) };
    handle.get_or_load(7_u64, load).await?;
    timed(async || {
        std::hint::black_box(Trig::clone(&*handle.get_or_load(7_u64, load).await?));
        Ok(())
    })
    .await
}

/// The time of one call, on average.
#[expect(clippy::disallowed_methods, reason = "an example that measures")]
async fn timed(
    mut call: impl AsyncFnMut() -> Result<(), Box<dyn Error>>,
) -> Result<Duration, Box<dyn Error>> {
    const CALLS: u32 = 2_000_000;
    let start = Instant::now();
    for _ in 0..CALLS {
        call().await?;
    }
    Ok(start.elapsed() / CALLS)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let cache = Cache::builder().memory(64 * MIB).build().await?;
    let trigs = Trigs { cache: cache.clone(), database: Database::default() };
    let queries = || trigs.database.queries.load(Ordering::Relaxed);

    let calls = (0..10_000).map(|n| trigs.trig(1 + n % 100));
    let answers = futures_util::future::try_join_all(calls).await?;
    println!("{} calls at once, {} queries", answers.len(), queries());

    let _ = cache.invalidate_str(&["#trigs"]).await?;
    trigs.trig(7).await?;
    println!("trig 7 after an invalidation of the tag: {} queries", queries());
    if let Err(error) = trigs.trig(0).await {
        println!("trig 0: {error}; {} queries", queries());
    }

    let attribute = timed(async || {
        std::hint::black_box(trigs.trig(7).await?);
        Ok(())
    })
    .await?;
    println!("a hit: {attribute:?} with the attribute, {:?} by hand", by_hand(&cache).await?);
    Ok(())
}
