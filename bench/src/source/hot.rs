//! `hot-key`: one key that everybody reads, and that is stale once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use larder_core::{Cache, Outcome, Policy};

use super::{runtime, stream};
use crate::report::{Row, Target};
use crate::rounds::Effort;

const TTL: Duration = Duration::from_secs(1);
const LOAD: Duration = Duration::from_millis(50);
/// Waits for a load of its own, or of somebody else.
const WAITED: [Outcome; 3] = [Outcome::Miss, Outcome::Coalesced, Outcome::Skip];

pub fn run(effort: Effort) -> Vec<Row> {
    let seconds = effort.pick(30, 5);
    let (waited, loads) = runtime().block_on(async {
        let cache = Cache::builder().build().await.expect("the options are good");
        let loads = Arc::new(AtomicUsize::new(0));
        let counted = loads.clone();
        let policy = Policy::ttl(TTL).stale_while_revalidate(TTL);
        let rows = cache.namespace::<u64>("row", policy).expect("nothing clashes").loader(move |_: u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            async {
                tokio::time::sleep(LOAD).await;
                Ok::<_, std::io::Error>(7)
            }
        });
        assert_eq!(*rows.load(1_u64).await.expect("a load succeeds"), 7);
        let outcomes = stream(Duration::from_secs(seconds), || {
            let rows = rows.clone();
            async move { rows.fetch(1_u64).await.expect("a value is there").outcome }
        })
        .await;
        let waited = outcomes.iter().filter(|outcome| WAITED.contains(outcome)).count();
        (waited, loads.load(Ordering::SeqCst))
    });
    let row = |what: &str, count: usize, limit: u64| Row {
        name: "hot-key",
        what: format!("{what}, 500 requests/s for {seconds} s, ttl 1 s, load 50 ms"),
        ours: count.to_string(),
        rival: String::new(),
        judged: count as f64,
        unit: "",
        target: Target::AtMost(limit as f64),
    };
    vec![row("requests that waited after the first", waited, 0), row("loads", loads, seconds + 1)]
}
