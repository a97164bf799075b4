//! One load for many processes, on a real Redis: a herd with and without leases, and holders that come to no good.
//!
//! `cargo run -p larder --example leases [-- --redis redis://127.0.0.1:6379]`
//!
//! Without `--redis` it starts a `redis-server` of its own. It takes ten seconds: so long does the lease of a dead process live.
#![expect(clippy::print_stdout, reason = "an example that shows something")]

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all, pending};
use larder::redis::Redis;
use larder::{AnyKey, Cache, Moment, Namespace, NoLoader, Policy, Runtime, TokioRuntime, units::*};
use larder_testkit::RedisServer;
use tokio::sync::Notify;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
type Reports = Namespace<AnyKey, u64, NoLoader>;

const MS: Duration = Duration::from_millis(1);
const NO_REDIS: &str = "this needs a Redis: give one with --redis redis://127.0.0.1:6379, or install redis-server \
     (apt-get install redis-server, brew install redis), and this starts one of its own";

/// A process, as far as Redis can tell: connections and leases of its own.
async fn process(url: String, policy: Policy) -> Result<(Cache, Reports)> {
    let cache = Cache::builder().memory(MIB).remote(Redis::at(url).prefix("leases-example")).build().await?;
    let reports = cache.namespace("report", policy)?;
    Ok((cache, reports))
}

/// Four processes with 250 readers each want one cold key, whose load takes 200 ms: loads, and the last answer.
async fn herd(url: &str, policy: Policy) -> Result<String> {
    let time: Arc<dyn Runtime> = Arc::new(TokioRuntime::current());
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(process(url.to_owned(), policy.clone()).await?);
    }
    let (key, began) = (time.random(), time.now());
    let read = async |reports: &Reports| {
        let source = time.clone();
        let load = move || async move {
            source.sleep(200 * MS).await;
            Ok::<_, io::Error>(1)
        };
        reports.get_or_load(key, load).await
    };
    let readers = processes.iter().flat_map(|(_, reports)| std::iter::repeat_n(reports, 250));
    for answer in join_all(readers.map(read)).await {
        answer?;
    }
    let took = time.now().since(began).as_millis();
    let loads: u64 = processes.iter().map(|(cache, _)| cache.stats().namespaces["report"].loads).sum();
    Ok(format!("{loads} | {took} ms"))
}

/// What becomes of the process that loads.
#[derive(Clone, Copy)]
enum End {
    Fails,
    ShutsDown,
    Hangs,
    Dies,
}

/// Where a process runs. Killed, it leaves nothing behind that could tell Redis anything.
struct Executor(Option<tokio::runtime::Runtime>);

impl Executor {
    fn kill(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How long after that another process, which waits for the load, begins its own.
async fn taken_over(url: &str, end: End) -> Result<String> {
    let time: Arc<dyn Runtime> = Arc::new(TokioRuntime::current());
    let key = time.random();
    let limit = if matches!(end, End::Hangs) { SECOND } else { MINUTE };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let on = runtime.handle().clone();
    let mut executor = Executor(Some(runtime));

    let (cache, reports) =
        on.spawn(process(url.to_owned(), Policy::ttl(MINUTE).load_timeout(limit))).await??;
    let (begun, fail) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, fails) = (begun.clone(), fail.clone());
    let load = move || async move {
        begins.notify_one();
        if !matches!(end, End::Fails) {
            return pending().await;
        }
        fails.notified().await;
        Err(io::Error::other("the source is away"))
    };
    on.spawn(async move { reports.get_or_load(key, load).await.is_ok() });
    begun.notified().await;
    let began = time.now();

    let (_other, reports) = process(url.to_owned(), Policy::ttl(MINUTE)).await?;
    let source = time.clone();
    let waits = reports.get_or_load(key, move || async move { Ok::<_, io::Error>(source.now().as_nanos()) });
    let ends = async {
        time.sleep(100 * MS).await;
        let ended = time.now();
        match end {
            End::Fails => fail.notify_one(),
            End::ShutsDown => drop(cache.shutdown(Duration::ZERO).await),
            End::Hangs => return began,
            End::Dies => executor.kill(),
        }
        ended
    };
    let (taken, ended) = join(waits, ends).await;
    let after = Moment::from_nanos(*taken?).since(ended);
    Ok(if after < SECOND / 2 {
        format!("{} ms", after.as_millis())
    } else {
        format!("{:.1} s", after.as_secs_f64())
    })
}

pub(crate) async fn report(url: &str) -> Result<String> {
    let mut report = "1000 readers in four processes, a load of 200 ms:\n\n\
         | | loads | last answer after |\n|---|---|---|\n"
        .to_owned();
    writeln!(report, "| with leases | {} |", herd(url, Policy::ttl(MINUTE)).await?)?;
    writeln!(report, "| `.without_lease()` | {} |", herd(url, Policy::ttl(MINUTE).without_lease()).await?)?;
    report.push_str(
        "\nThe process that loads comes to no good:\n\n| it | another one loads after |\n|---|---|\n",
    );
    let ends = [
        ("fails", End::Fails),
        ("shuts down", End::ShutsDown),
        ("hangs, with `load_timeout(SECOND)`", End::Hangs),
        ("dies", End::Dies),
    ];
    let taken_over = ends.map(async |(name, end)| (name, taken_over(url, end).await));
    for (name, after) in join_all(taken_over).await {
        writeln!(report, "| {name} | {} |", after?)?;
    }
    Ok(report)
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip_while(|arg| arg != "--redis").skip(1);
    let (_server, url) = match args.next() {
        Some(url) => (None, url),
        None if Command::new("redis-server").arg("--version").output().is_err() => {
            return Err(NO_REDIS.into());
        }
        None => {
            let server = RedisServer::start().await;
            let url = server.url();
            (Some(server), url)
        }
    };
    println!("{}", report(&url).await?);
    Ok(())
}
