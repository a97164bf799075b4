//! How long values are kept: jitter, early refresh, a ttl that learns, and what is not there.
//!
//! `cargo run -p larder --example timing`
#![expect(clippy::print_stdout, reason = "an example that shows something")]

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use larder::testing::{ManualRuntime, TestRedis, TestRemote};
use larder::{AnyKey, Cache, Moment, Namespace, NoLoader, Outcome, Policy, Runtime, units::*};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A thousand keys, loaded in one second. Then each is read every second: how many loads has the worst one?
async fn jitter(part: f64) -> Result<String> {
    let time = ManualRuntime::new(1);
    let cache = Cache::builder().memory(MIB).runtime(time.clone()).build().await?;
    let policy = Policy::ttl(10 * MINUTE).jitter(part);
    let rows =
        cache.namespace::<u64>("row", policy)?.loader(|id: u64| async move { Ok::<_, Infallible>(id) });
    let mut loads = Vec::new();
    for second in 0..=600 {
        let before = cache.stats().namespaces["row"].loads;
        // Before the first can expire there is nothing to see.
        if second == 0 || f64::from(second) >= 600.0 * (1.0 - part) {
            for id in 0..1000 {
                rows.load(id).await?;
            }
        }
        loads.push(cache.stats().namespaces["row"].loads - before);
        time.advance(SECOND);
    }
    let worst = loads.iter().skip(1).max().copied().unwrap_or_default();
    Ok(worst.to_string())
}

/// Twenty processes read one key twice a second, for five minutes. Its load takes a second.
async fn hot_key(policy: Policy) -> Result<String> {
    let time = ManualRuntime::new(1);
    let redis = TestRemote::new(time.clone()).redis().clone();
    let loads = Arc::new(AtomicU32::new(0));
    let readers = (0..20).map(|node| reader(&time, &redis, node, policy.clone(), &loads));
    let (mut waited, mut stale) = (0, 0);
    for counts in time.drive(join_all(readers)).await {
        let counts = counts?;
        waited += counts.0;
        stale += counts.1;
    }
    Ok(format!("{waited} | {stale} | {}", loads.load(Ordering::Relaxed)))
}

/// One process: how many of its requests waited, and how many were answered with something stale.
async fn reader(
    time: &Arc<ManualRuntime>,
    redis: &Arc<TestRedis>,
    node: u64,
    policy: Policy,
    loads: &Arc<AtomicU32>,
) -> Result<(u32, u32)> {
    let remote = TestRemote::on(redis.clone(), time.clone(), node);
    let cache = Cache::builder().memory(MIB).remote(remote).runtime(time.clone()).build().await?;
    let (source, loads) = (time.clone(), loads.clone());
    let prices = cache.namespace::<u64>("price", policy)?.loader(move |_: u64| {
        let (source, loads) = (source.clone(), loads.clone());
        async move {
            loads.fetch_add(1, Ordering::Relaxed);
            source.sleep(SECOND).await;
            Ok::<_, Infallible>(1)
        }
    });
    let (mut waited, mut stale) = (0, 0);
    for _ in 0..600 {
        let asked = time.now();
        let hit = prices.fetch(1_u64).await?;
        waited += u32::from(time.now() > asked);
        stale += u32::from(hit.outcome == Outcome::Stale);
        time.sleep(SECOND / 2).await;
    }
    Ok((waited, stale))
}

/// A day in which a row changes every so often, and is read every ten seconds: loads, and answers that were out of date.
async fn day(changes: Duration, policy: Policy) -> Result<String> {
    let time = ManualRuntime::new(1);
    let cache = Cache::builder().memory(MIB).runtime(time.clone()).build().await?;
    let source = time.clone();
    let version = move || source.now().since(Moment::ORIGIN).as_secs() / changes.as_secs();
    let database = version.clone();
    let rows = cache.namespace::<u64>("row", policy)?.loader(move |_: u64| {
        let row = database();
        async move { Ok::<_, Infallible>(row) }
    });
    let mut old = 0;
    for _ in 0..8640 {
        old += u32::from(*rows.load(1_u64).await? != version());
        time.advance(10 * SECOND);
    }
    let part = f64::from(old) / 86.4;
    Ok(format!("{} | {part:.1} %", cache.stats().namespaces["row"].loads))
}

/// A user is looked for once a second, and signs up after a little more than five minutes: loads until he is seen, and how long that took.
async fn sign_up(policy: Policy) -> Result<String> {
    let time = ManualRuntime::new(1);
    let cache = Cache::builder().memory(MIB).runtime(time.clone()).build().await?;
    let users: Namespace<AnyKey, Option<u64>, NoLoader> = cache.namespace("user", policy)?;
    let signs_up = Moment::ORIGIN.plus(305 * SECOND);
    loop {
        let is_there = time.now() >= signs_up;
        let user =
            users.get_or_load(7_u64, move || async move { Ok::<_, Infallible>(is_there.then_some(7)) });
        if user.await?.is_some() {
            let late = time.now().since(signs_up).as_secs();
            return Ok(format!("{} | {late} s", cache.stats().namespaces["user"].loads));
        }
        time.advance(SECOND);
    }
}

pub(crate) async fn report() -> Result<String> {
    let mut report = "1000 keys, loaded in one second and kept for ten minutes:\n\n\
         | jitter | loads in the worst second after that |\n|---|---|\n"
        .to_owned();
    for part in [0.0, 0.05, 0.2] {
        writeln!(report, "| {part} | {} |", jitter(part).await?)?;
    }
    report.push_str(
        "\n12,000 requests of 20 processes for one key in five minutes:\n\n\
         | policy | waited for a load | answered stale | loads |\n|---|---|---|---|\n",
    );
    let minute = || Policy::ttl(MINUTE).jitter(0.0);
    for (name, policy) in [
        ("`Policy::ttl(MINUTE)`", minute()),
        ("`.stale_while_revalidate(MINUTE)`", minute().stale_while_revalidate(MINUTE)),
        ("`.early_refresh(1.0)`", minute().early_refresh(1.0)),
    ] {
        writeln!(report, "| {name} | {} |", hot_key(policy).await?)?;
    }
    report.push_str(
        "\nA day of 8640 reads:\n\n| the row changes | policy | loads | answers out of date |\n|---|---|---|---|\n",
    );
    let fixed = || Policy::ttl(5 * MINUTE);
    for (name, changes) in [("every six hours", 6 * HOUR), ("every two minutes", 2 * MINUTE)] {
        let learns = fixed().adaptive_ttl(MINUTE / 2, HOUR);
        writeln!(report, "| {name} | `Policy::ttl(5 * MINUTE)` | {} |", day(changes, fixed()).await?)?;
        writeln!(report, "| {name} | `.adaptive_ttl(MINUTE / 2, HOUR)` | {} |", day(changes, learns).await?)?;
    }
    report.push_str(
        "\nA user who is looked for every second, and signs up after 305 s:\n\n| policy | loads | seen after |\n|---|---|---|\n",
    );
    let hour = || Policy::ttl(HOUR).jitter(0.0);
    for (name, policy) in
        [("`Policy::ttl(HOUR)`", hour()), ("`.negative_ttl(20 * SECOND)`", hour().negative_ttl(20 * SECOND))]
    {
        writeln!(report, "| {name} | {} |", sign_up(policy).await?)?;
    }
    Ok(report)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    println!("{}", report().await?);
    Ok(())
}
