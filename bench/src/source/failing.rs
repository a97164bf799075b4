//! `failing-loader`: the source fails for a while, and something stale is at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use larder_core::{Cache, Policy};

use super::{runtime, stream};
use crate::report::{Row, Target};
use crate::rounds::Effort;

const TTL: Duration = Duration::from_millis(100);
const WINDOW: Duration = Duration::from_secs(3600);

pub fn run(effort: Effort) -> Vec<Row> {
    let seconds = effort.pick(30, 6);
    let (errors, loads) = runtime().block_on(async {
        let cache = Cache::builder().build().await.expect("the options are good");
        let loads = Arc::new(AtomicUsize::new(0));
        let counted = loads.clone();
        let policy = Policy::ttl(TTL).stale_if_error(WINDOW);
        let rows = cache.namespace::<u64>("row", policy).expect("nothing clashes").loader(move |_: u64| {
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            async move { if first { Ok(7) } else { Err(std::io::Error::other("the source is away")) } }
        });
        assert_eq!(*rows.load(1_u64).await.expect("the first load succeeds"), 7);
        tokio::time::sleep(TTL * 2).await;
        let answers = stream(Duration::from_secs(seconds), || {
            let rows = rows.clone();
            async move { rows.load(1_u64).await.is_err() }
        })
        .await;
        (answers.iter().filter(|failed| **failed).count(), loads.load(Ordering::SeqCst) - 1)
    });
    let pause = Policy::DEFAULT_RETRY_AFTER.as_secs();
    let row = |what: &str, count: usize, limit: u64| Row {
        name: "failing-loader",
        what: format!("{what}, 500 requests/s for {seconds} s while every load fails"),
        ours: count.to_string(),
        rival: String::new(),
        judged: count as f64,
        unit: "",
        target: Target::AtMost(limit as f64),
    };
    vec![
        row("errors that callers saw", errors, 0),
        row(&format!("loads, at most one in {pause} s"), loads, seconds.div_ceil(pause)),
    ]
}
