//! `log-hit`: hits in memory while others invalidate something else.
//!
//! Two nodes on one Redis. One reads 100,000 entries in Zipf order: keys of a namespace and three levels, two tags each.
//! The other invalidates what nobody reads, 1,000 a second: in turn a key elsewhere, a subtree of the same namespace, and
//! a tag. Each invalidation that comes in makes the next read of every entry look its selectors up once.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use larder_core::units::HOUR;
use larder_core::{Cache, Fill, Namespace, Policy, Selector};

use super::{SERVER_CORE, delivered, node, runtime};
use crate::http::redis::Redis;
use crate::keys::zipf;
use crate::report::{Row, Target};
use crate::rounds::{Effort, median};

const ENTRIES: usize = 100_000;
const RATE: u64 = 1000;
const LIMIT: f64 = 1.5;
/// Per thousand.
const NEEDLESS: f64 = 1.0;

type Typed = Namespace<(String, String, String), u64, Infallible>;
type Levels = (String, String, String);

pub fn run(effort: Effort) -> Vec<Row> {
    let runtime = runtime();
    let redis = Redis::start(SERVER_CORE);
    let (reader, writer) = runtime.block_on(async { (node(&redis.url).await, node(&redis.url).await) });
    let keys: Vec<Levels> = (0..ENTRIES).map(levels).collect();
    let loads = Arc::new(AtomicU64::new(0));
    let typed = fill(&reader, &keys, &loads);
    let order = zipf(ENTRIES, 0.99, effort.pick(4_000_000, 1_000_000), 7);

    let writing = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    runtime.spawn(invalidate(writer, writing.clone(), written.clone()));
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    let (mut reads, mut invalidations) = (0_u64, 0_u64);
    for round in 0..effort.pick(9, 3) {
        let calm = per_read(&order, &keys, &typed);
        let (before, began) = (written.load(Ordering::Relaxed), Instant::now());
        writing.store(true, Ordering::Relaxed);
        let under_fire = per_read(&order, &keys, &typed);
        writing.store(false, Ordering::Relaxed);
        let during = written.load(Ordering::Relaxed) - before;
        let rate = during as f64 / began.elapsed().as_secs_f64();
        assert!(rate > 0.8 * RATE as f64, "{rate:.0} invalidations a second, not {RATE}");
        if round > 0 {
            quiet.push(calm);
            busy.push(under_fire);
        }
        reads += order.len() as u64;
        invalidations += during;
    }
    let (quiet, busy) = (median(quiet), median(busy));
    let needless = loads.load(Ordering::Relaxed);
    let share = needless as f64 / reads as f64 * 1000.0;
    vec![
        Row {
            name: "log-hit",
            what: format!("{RATE} invalidations/s of others, ns per hit"),
            ours: format!("{busy:.0} ns"),
            rival: format!("without them {quiet:.0} ns"),
            judged: busy / quiet,
            unit: "x",
            target: Target::AtMost(LIMIT),
        },
        Row {
            name: "log-hit",
            what: format!("needless misses in {reads} reads, {invalidations} invalidations"),
            ours: needless.to_string(),
            rival: String::new(),
            judged: share,
            unit: "per thousand",
            target: Target::AtMost(NEEDLESS),
        },
    ]
}

fn levels(number: usize) -> Levels {
    (
        format!("region-{}", number % 50),
        format!("customer-{}", number / 10),
        format!("section-{}", number % 10),
    )
}

fn fill(cache: &Cache, keys: &[Levels], loads: &Arc<AtomicU64>) -> Typed {
    let loads = loads.clone();
    let typed = cache
        .namespace::<u64>("profile", Policy::ttl(HOUR).memory_only())
        .expect("a new name")
        .loader(move |_: Levels| {
            loads.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, Infallible>(0) }
        });
    for (number, key) in keys.iter().enumerate() {
        let tags = vec![format!("plan-{}", number % 7), format!("site-{}", number % 1000)];
        assert!(typed.begin(key).put_with(number as u64, &Fill::new().tags(tags)));
    }
    typed
}

/// Invalidates one key after the other, evenly, while it is told to.
async fn invalidate(writer: Cache, writing: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut number = 0_u64;
    loop {
        tick.tick().await;
        if !writing.load(Ordering::Relaxed) {
            tick.reset();
            continue;
        }
        number += 1;
        let selector = elsewhere(number);
        let (writer, written) = (writer.clone(), written.clone());
        tokio::spawn(async move {
            delivered(&writer.invalidate([selector]).await);
            written.fetch_add(1, Ordering::Relaxed);
        });
    }
}

/// What no entry that is read carries: 20,000 selectors, of each kind a third.
fn elsewhere(number: u64) -> Selector {
    let one = number % 20_000;
    match one % 3 {
        0 => Selector::key(("order", one, "lines")),
        1 => Selector::under(("profile", format!("region-{}", one % 50), format!("nobody-{one}"))),
        _ => Selector::tag(&format!("nowhere-{one}")),
    }
}

fn per_read(order: &[usize], keys: &[Levels], typed: &Typed) -> f64 {
    let began = Instant::now();
    for &at in order {
        let found = pin!(typed.load(&keys[at])).poll(&mut Context::from_waker(Waker::noop()));
        match found {
            Poll::Ready(Ok(value)) => assert!(*value == at as u64 || *value == 0),
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => panic!("neither a hit nor this loader waits for anything"),
        }
    }
    began.elapsed().as_secs_f64() * 1e9 / order.len() as f64
}
