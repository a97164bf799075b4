//! A list of a hundred rows: one by one, as a batch, as two batches that overlap.
//!
//! `cargo run -p larder --example batches`
#![expect(clippy::print_stdout, reason = "an example that shows something")]

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join;
use larder::testing::{Bytes, ManualRuntime, Path, RedisOptions, TestRedis, TestRemote};
use larder::{
    AnyKey, BoxFuture, Cache, LeaseAnswer, LeaseRequest, Namespace, NoLoader, Policy, Remote, RemoteError,
    Runtime, Values, units::*,
};

const MS: Duration = Duration::from_millis(1);

type Rows = Namespace<AnyKey, u64, NoLoader>;

/// A database that takes 5 ms for a query, whatever its length, and counts.
struct Database {
    time: Arc<ManualRuntime>,
    queries: AtomicUsize,
    rows: AtomicUsize,
}

impl Database {
    /// `SELECT .. WHERE id IN (..)`
    async fn select(self: Arc<Self>, ids: Vec<u64>) -> Result<Vec<(u64, u64)>, &'static str> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(ids.len(), Ordering::Relaxed);
        self.time.sleep(5 * MS).await;
        Ok(ids.into_iter().map(|id| (id, id * 10)).collect())
    }
}

#[derive(Clone, Copy)]
enum Way {
    OneByOne,
    Batch,
    TwoBatches,
}

async fn batch(rows: &Rows, database: &Arc<Database>, ids: std::ops::Range<u64>) -> usize {
    let database = database.clone();
    let found = rows.get_many_or_load(ids, move |missing| database.clone().select(missing)).await;
    found.iter().filter(|row| matches!(row, Ok(Some(_)))).count()
}

async fn one_by_one(rows: &Rows, database: &Arc<Database>, ids: std::ops::Range<u64>) -> usize {
    let mut found = 0;
    for id in ids {
        let database = database.clone();
        let load = move || async move { database.select(vec![id]).await.map(|rows| rows[0].1) };
        found += usize::from(rows.get_or_load(id, load).await.is_ok());
    }
    found
}

/// Queries, rows asked for, look-ups and leases in Redis, time: on a process that has nothing in memory.
async fn list(way: Way, redis: &Arc<TestRedis>, time: &Arc<ManualRuntime>) -> Result<String, Box<dyn Error>> {
    let to_redis = TestRemote::on(redis.clone(), time.clone(), 1);
    // A trip takes a millisecond.
    to_redis.set(|faults| faults.on(Path::Values).delay = Some((MS / 2, MS / 2)));
    let remote = Arc::new(Counted { inner: to_redis, look_ups: 0.into(), leases: 0.into() });
    let cache = Cache::builder().memory(MIB).remote(remote.clone()).runtime(time.clone());
    let cache = time.drive(cache.build()).await?;
    // It has tried the connection.
    remote.look_ups.store(0, Ordering::Relaxed);
    let rows: Rows = cache.namespace("row", Policy::ttl(HOUR))?;
    let database = Arc::new(Database { time: time.clone(), queries: 0.into(), rows: 0.into() });
    let began = time.now();
    let found = match way {
        Way::OneByOne => time.drive(one_by_one(&rows, &database, 0..100)).await,
        Way::Batch => time.drive(batch(&rows, &database, 0..100)).await,
        Way::TwoBatches => {
            let both = join(batch(&rows, &database, 0..60), batch(&rows, &database, 40..100));
            let (first, second) = time.drive(both).await;
            first + second - 20
        }
    };
    assert_eq!(found, 100, "each row is found");
    let took = time.now().since(began).as_millis();
    // Stores run in the background; a shutdown waits for them.
    time.drive(cache.shutdown(SECOND)).await;
    let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let (queries, asked) = (of(&database.queries), of(&database.rows));
    Ok(format!("{queries} | {asked} | {} | {} | {took} ms", of(&remote.look_ups), of(&remote.leases)))
}

pub(crate) async fn report() -> Result<String, Box<dyn Error>> {
    let mut report =
        "| | queries | rows asked for | look-ups in Redis | leases | time |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for (name, way) in [
        ("one by one", Way::OneByOne),
        ("a batch", Way::Batch),
        ("two batches at once, of 0..60 and 40..100", Way::TwoBatches),
    ] {
        let time = ManualRuntime::new(1);
        let redis = TestRedis::new(time.clone(), RedisOptions::default());
        writeln!(report, "| {name} | {} |", list(way, &redis, &time).await?)?;
        writeln!(report, "| the same in another process | {} |", list(way, &redis, &time).await?)?;
    }
    Ok(report)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("A list of 100 rows:\n\n{}", report().await?);
    Ok(())
}

/// Counts trips to the remote tier.
struct Counted {
    inner: Arc<TestRemote>,
    look_ups: AtomicUsize,
    leases: AtomicUsize,
}

impl Remote for Counted {
    larder_core::forward_remote! {
        inner: store extend release wakes reserve give_back remove open scan append head follow history page discard connect link log_link close describe
    }

    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        self.look_ups.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key)
    }

    fn get_many<'a>(&'a self, keys: &'a [&'a [u8]]) -> BoxFuture<'a, Values> {
        self.look_ups.fetch_add(1, Ordering::Relaxed);
        self.inner.get_many(keys)
    }

    fn lease<'a>(
        &'a self,
        key: &'a [u8],
        request: &'a LeaseRequest,
    ) -> BoxFuture<'a, Result<LeaseAnswer, RemoteError>> {
        self.leases.fetch_add(1, Ordering::Relaxed);
        self.inner.lease(key, request)
    }
}
