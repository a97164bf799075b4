//! A thousand pages expire at once, and the database takes five queries at a time: what a bound on loads changes.
//!
//! `cargo run -p larder --example limits`
#![expect(clippy::print_stdout, reason = "an example that shows something")]

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use larder::testing::ManualRuntime;
use larder::{Cache, LoadError, Outcome, Policy, Runtime, units::*};

const MS: Duration = Duration::from_millis(1);

struct Database {
    time: Arc<ManualRuntime>,
    running: AtomicU32,
    most: AtomicU32,
}

impl Database {
    /// Takes 20 ms with five at a time, and the longer the more there are.
    async fn query(self: Arc<Self>, id: u64) -> Result<u64, &'static str> {
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(running, Ordering::Relaxed);
        self.time.sleep(20 * MS * running.max(5) / 5).await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        Ok(id)
    }
}

async fn expire_at_once(policy: Policy) -> Result<String, Box<dyn Error>> {
    let time = ManualRuntime::new(1);
    let database = Arc::new(Database { time: time.clone(), running: 0.into(), most: 0.into() });
    let cache = Cache::builder().memory(MIB).runtime(time.clone()).build().await?;
    let source = database.clone();
    let pages = cache.namespace::<u64>("page", policy)?.loader(move |id: u64| source.clone().query(id));
    for id in 0..1000 {
        pages.put(id, id);
    }
    time.advance(2 * MINUTE);
    let began = time.now();
    let request = async |id: u64| {
        let answer = pages.fetch(id).await;
        (answer, time.now().since(began))
    };
    // Somebody else needs the same database.
    let order = async {
        time.sleep(10 * MS).await;
        let _ = database.clone().query(0).await;
        time.now().since(began) - 10 * MS
    };
    let (answers, order) = time.drive(join(join_all((0..1000).map(request)), order)).await;
    let longest = answers.iter().map(|(_, waited)| *waited).max().unwrap_or_default();
    let later = answers.iter().filter(|(answer, _)| matches!(answer, Err(LoadError::Overloaded))).count();
    let is_stale =
        |answer: &Result<larder::Hit<u64>, _>| answer.as_ref().is_ok_and(|hit| hit.outcome == Outcome::Stale);
    let stale = answers.iter().filter(|(answer, _)| is_stale(answer)).count();
    let most = database.most.load(Ordering::Relaxed);
    let (longest, order) = (longest.as_secs_f64(), order.as_secs_f64());
    Ok(format!("{most} | {longest:.2} s | {later} | {stale} | {order:.2} s"))
}

pub(crate) async fn report() -> Result<String, Box<dyn Error>> {
    let ttl = || Policy::ttl(MINUTE);
    let bound = || ttl().max_loads(5).load_queue(100);
    let mut report =
        "| policy | most queries at one time | longest wait | told to come later | answered stale | \
         an order meanwhile |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for (name, policy) in [
        ("no bound", ttl()),
        ("`.max_loads(5)`", ttl().max_loads(5)),
        ("`.max_loads(5).load_queue(100)`", bound()),
        ("the same, `.stale_if_error(HOUR)`", bound().stale_if_error(HOUR)),
        ("the same, `.soft_timeout(50 * MS)`", bound().stale_if_error(HOUR).soft_timeout(50 * MS)),
    ] {
        writeln!(report, "| {name} | {} |", expire_at_once(policy).await?)?;
    }
    Ok(report)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("1000 pages expire at once:\n\n{}", report().await?);
    Ok(())
}
