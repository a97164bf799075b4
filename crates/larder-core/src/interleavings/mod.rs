//! Orders of single memory operations, explored with Shuttle: `cargo xtask interleavings`.
//!
//! The code under test is the real one: node, stamp table, flights, engine, claims, and the map of the memory tier, which
//! brings its own support for Shuttle. At each lock, each atomic and each point of [`crate::sync`] the scheduler chooses
//! who goes on: at random for one half of the schedules, by PCT (few preemptions, well spread) for the other.
//!
//! What this does not show:
//! - Shuttle takes every atomic for sequentially consistent. Why the weaker orders of `n` and `floor` are enough stands in
//!   `log/node/mod.rs`.
//! - Channels, semaphores and the in-process remote tier are one step per call. Time stands still: nothing runs out.
//! - Schedules are drawn, not enumerated: what is rare enough may be missed.
//!
//! A test here must be able to fail: each has been seen to, with one order in the code turned round.

#![allow(clippy::print_stdout, reason = "how to run a failed schedule again is for whoever runs the tests")]

mod flights;
mod leases;
mod memory;
mod node;
mod replaced;
mod shares;
mod snapshot;
mod whole;

use std::convert::Infallible;
use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shuttle::future::{JoinHandle, block_on, spawn, yield_now};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner, thread};

use crate::cache::Cache;
use crate::runtime::{BoxFuture, CoarseClock, Moment, Runtime};
use crate::testing::TestRemote;

/// Schedules per test, unless `LARDER_ITERATIONS` says otherwise.
const ITERATIONS: usize = 1000;
/// The first seed, unless `LARDER_SEED` says otherwise.
const SEED: u64 = 1;
/// Preemptions that PCT tries per schedule.
const DEPTH: usize = 3;
/// More steps than any schedule here takes: beyond, something turns in circles.
const STEPS: usize = 20_000;
/// Steps in a row after which a thread is taken to spin; the longest way of one that does not is shorter.
const ROW: usize = 1000;
/// Futures of the read path, unoptimised, and the panic of a test that fails.
const STACK: usize = 512 * 1024;

#[expect(clippy::disallowed_methods, reason = "a test program: how much to explore is told from outside")]
fn told(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Runs `scenario` under many schedules, or under the one in the file that `LARDER_REPLAY` names.
fn explore(scenario: fn()) {
    let number = |name, default| match told(name) {
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        None => default,
    };
    if let Some(file) = told("LARDER_REPLAY") {
        let replay = ReplayScheduler::new_from_file(&file).expect("the file has a schedule");
        return run(replay, scenario);
    }
    let (seed, iterations) = (number("LARDER_SEED", SEED), number("LARDER_ITERATIONS", ITERATIONS as u64));
    let iterations = usize::try_from(iterations).unwrap_or(usize::MAX).max(2);
    println!("{iterations} schedules, seed {seed}");
    run(RandomScheduler::new_from_seed(seed, iterations / 2), scenario);
    run(Fair::new(PctScheduler::new_from_seed(seed, DEPTH, iterations - iterations / 2)), scenario);
}

/// A scheduler that has no thread go on for ever while others could: to PCT it looks as if that one had asked to yield. The
/// map spins where one thread waits for another to finish putting, and PCT alone would have it spin for good.
struct Fair<S> {
    inner: S,
    last: Option<TaskId>,
    /// How many steps the last one has taken in a row.
    row: usize,
}

impl<S> Fair<S> {
    fn new(inner: S) -> Self {
        Fair { inner, last: None, row: 0 }
    }
}

impl<S: Scheduler> Scheduler for Fair<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        (self.last, self.row) = (None, 0);
        self.inner.new_execution()
    }

    fn next_task(&mut self, able: &[&Task], current: Option<TaskId>, yields: bool) -> Option<TaskId> {
        let spins = self.row > 0 && self.row.is_multiple_of(ROW);
        let next = self.inner.next_task(able, current, yields || spins);
        self.row = if next == self.last { self.row + 1 } else { 0 };
        self.last = next;
        next
    }

    fn next_u64(&mut self) -> u64 {
        self.inner.next_u64()
    }
}

fn run(scheduler: impl Scheduler + 'static, scenario: fn()) {
    let mut config = Config::new();
    config.stack_size = STACK;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.silence_warnings = true;
    if let Some(folder) = told("LARDER_SCHEDULES") {
        config.failure_persistence = FailurePersistence::File(Some(folder.into()));
    }
    let ended = catch_unwind(AssertUnwindSafe(|| Runner::new(scheduler, config).run(scenario)));
    if let Err(failed) = ended {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        println!(
            "to run the schedule in the file named above: cargo xtask interleavings --replay FILE {test}"
        );
        resume_unwind(failed);
    }
}

/// Tasks are Shuttle's; time stands where the test puts it, so that nothing runs out; numbers follow from a counter.
#[derive(Debug)]
struct Scheduled {
    clock: CoarseClock,
    drawn: AtomicU64,
    /// Kept, so that one that never ends counts as hanging.
    tasks: parking_lot::Mutex<Vec<JoinHandle<()>>>,
    /// The test is over: who sleeps may wake up and see that there is nothing left to do.
    over: tokio::sync::watch::Sender<bool>,
}

impl Scheduled {
    fn new() -> Arc<Self> {
        Arc::new(Scheduled {
            clock: CoarseClock::at(Moment::ORIGIN.plus(Duration::from_secs(10))),
            drawn: AtomicU64::new(1),
            tasks: parking_lot::Mutex::default(),
            over: tokio::sync::watch::Sender::new(false),
        })
    }

    /// Waits for every task there is.
    fn settle(&self) {
        self.over.send_replace(true);
        loop {
            let Some(task) = self.tasks.lock().pop() else { return };
            block_on(task).expect("no task is cancelled");
        }
    }
}

impl Runtime for Scheduled {
    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn coarse_clock(&self) -> CoarseClock {
        self.clock.clone()
    }

    fn wall_millis(&self) -> u64 {
        1_700_000_000_000
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut over = self.over.subscribe();
        match duration.is_zero() {
            true => Box::pin(ready(())),
            false => Box::pin(async move {
                // Whoever made the runtime keeps it to the end.
                let _ = over.wait_for(|over| *over).await;
            }),
        }
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        // Another thread may go on while this spawns: the lock is taken after it.
        let task = spawn(task);
        self.tasks.lock().push(task);
    }

    fn random(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// What a test knows of its own run: no point of the schedule, for the code under test does not read it.
#[derive(Clone, Default)]
struct Told(Arc<AtomicU64>);

impl Told {
    fn set(&self, value: u64) {
        self.0.fetch_max(value, Ordering::SeqCst);
    }

    fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::SeqCst);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A cache on `runtime`, with the remote tier behind it if there is one.
fn cache(runtime: &Arc<Scheduled>, remote: Option<&Arc<TestRemote>>) -> Cache {
    let builder = Cache::builder().runtime(runtime.clone()).memory(1 << 20).stamp_limit(64);
    let builder = match remote {
        Some(remote) => builder.remote(remote.clone()),
        None => builder,
    };
    block_on(builder.build()).expect("the options are in order")
}

/// Lets go of a cache, and waits until nothing of it runs.
fn end(cache: Cache, runtime: &Scheduled) {
    end_all([cache], runtime);
}

fn end_all<const N: usize>(caches: [Cache; N], runtime: &Scheduled) {
    for cache in &caches {
        assert!(block_on(cache.shutdown(Duration::from_secs(1))), "time stands still");
    }
    drop(caches);
    runtime.settle();
}

/// Where values come from: one row. A load reads it, and others go on before it answers.
#[derive(Clone, Default)]
struct Database(Arc<shuttle::sync::atomic::AtomicU64>);

impl Database {
    fn commit(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }

    async fn read(self) -> Result<u64, Infallible> {
        let value = self.0.load(Ordering::SeqCst);
        // Twice: at the first the caller still polls for itself, at the second it can be asked to hand the work over.
        yield_now().await;
        yield_now().await;
        Ok(value)
    }
}

/// Runs these side by side, and waits for all of them.
fn together<const N: usize>(threads: [Box<dyn FnOnce() + Send>; N]) {
    let threads = threads.map(thread::spawn);
    for thread in threads {
        thread.join().expect("the thread has said what is wrong");
    }
}
