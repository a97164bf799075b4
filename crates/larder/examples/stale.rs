//! What readers get while a source is slow, and then away: the same minute under several policies.
//!
//! `cargo run -p larder --example stale`
#![expect(clippy::print_stdout, reason = "an example that shows something")]

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use larder::testing::ManualRuntime;
use larder::{Cache, LoadError, Moment, Namespace, Policy, Runtime, units::*};

const MS: Duration = Duration::from_millis(1);

type Away = &'static str;
type Pages = Namespace<u64, u64, Away>;

/// The minute of the source: twenty seconds well, twenty slow, twenty away.
async fn load(time: Arc<ManualRuntime>) -> Result<u64, Away> {
    let second = time.now().since(Moment::ORIGIN).as_secs();
    match second {
        0..20 => time.sleep(20 * MS).await,
        20..40 => time.sleep(2 * SECOND).await,
        _ => {
            time.sleep(50 * MS).await;
            return Err("the source is away");
        }
    }
    Ok(second)
}

async fn pages(time: &Arc<ManualRuntime>, policy: Policy) -> Result<(Cache, Pages), Box<dyn Error>> {
    let cache = Cache::builder().memory(MIB).runtime(time.clone()).build().await?;
    let pages = cache.namespace::<u64>("page", policy)?;
    let source = time.clone();
    Ok((cache, pages.loader(move |_: u64| load(source.clone()))))
}

/// 1200 requests for ten pages, 20 each second.
async fn minute(policy: Policy) -> Result<String, Box<dyn Error>> {
    let time = ManualRuntime::new(1);
    let (cache, pages) = pages(&time, policy).await?;
    let request = async |n: u32| {
        time.sleep(50 * MS * n).await;
        let asked = time.now();
        let answer = pages.load(u64::from(n % 10)).await;
        (answer.is_err(), time.now().since(asked))
    };
    let answers = time.drive(join_all((0..1200).map(request))).await;
    let errors = answers.iter().filter(|(is_error, _)| *is_error).count();
    let slow = answers.iter().filter(|(_, waited)| *waited > 100 * MS).count();
    let slowest = answers.iter().map(|(_, waited)| *waited).max().unwrap_or_default();
    let stats = cache.stats().namespaces["page"].clone();
    let (loads, failed) = (stats.loads, stats.load_failures);
    Ok(format!("{errors} | {slow} | {:.2} s | {loads}, {failed} failed", slowest.as_secs_f64()))
}

/// What one page is answered with while the source is away, by what became of the entry.
async fn entry(age: Duration, change: Option<&str>) -> Result<String, Box<dyn Error>> {
    let time = ManualRuntime::new(1);
    let policy = Policy::ttl(5 * SECOND).stale_while_revalidate(10 * SECOND).stale_if_error(HOUR).jitter(0.0);
    let (_cache, pages) = pages(&time, policy).await?;
    time.advance(MINUTE);
    pages.put(1_u64, 7);
    time.advance(age);
    match change {
        Some("expire") => drop(pages.expire(1_u64).await),
        Some(_) => drop(pages.invalidate(1_u64).await),
        None => {}
    }
    let asked = time.now();
    let answer = match time.drive(pages.fetch(1_u64)).await {
        Ok(hit) if hit.ttl.is_zero() => "stale",
        Ok(_) => "fresh",
        Err(LoadError::Loader(_)) => "the loader's error",
        Err(_) => "another error",
    };
    Ok(match time.now().since(asked) {
        Duration::ZERO => format!("{answer}, at once"),
        waited => format!("{answer}, after a load that failed ({} ms)", waited.as_millis()),
    })
}

pub(crate) async fn report() -> Result<String, Box<dyn Error>> {
    let ttl = || Policy::ttl(5 * SECOND);
    let policies = [
        ("`Policy::ttl(5 * SECOND)`", ttl()),
        ("`.stale_while_revalidate(10 * SECOND)`", ttl().stale_while_revalidate(10 * SECOND)),
        ("`.stale_if_error(HOUR)`", ttl().stale_if_error(HOUR)),
        ("the same, `.retry_after(Duration::ZERO)`", ttl().stale_if_error(HOUR).retry_after(Duration::ZERO)),
        (
            "`.stale_if_error(HOUR)`, `.soft_timeout(100 * MS)`",
            ttl().stale_if_error(HOUR).soft_timeout(100 * MS),
        ),
        (
            "both windows, `.soft_timeout(100 * MS)`",
            ttl().stale_while_revalidate(10 * SECOND).stale_if_error(HOUR).soft_timeout(100 * MS),
        ),
    ];
    let mut report = "1200 requests in a minute:\n\n\
         | policy | errors | slower than 100 ms | slowest | loads |\n|---|---|---|---|---|\n"
        .to_owned();
    for (name, policy) in policies {
        writeln!(report, "| {name} | {} |", minute(policy).await?)?;
    }
    report.push_str("\nWhile the source is away:\n\n| the entry | the answer |\n|---|---|\n");
    for (name, age, change) in [
        ("3 s old", 3 * SECOND, None),
        ("10 s old", 10 * SECOND, None),
        ("a minute old", MINUTE, None),
        ("3 s old, then `expire`", 3 * SECOND, Some("expire")),
        ("3 s old, then `invalidate`", 3 * SECOND, Some("invalidate")),
        ("two hours old", 2 * HOUR, None),
    ] {
        writeln!(report, "| {name} | {} |", entry(age, change).await?)?;
    }
    Ok(report)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", report().await?);
    Ok(())
}
