//! What the tests of the engine share: caches on time that stands still, a source of values that can be held up, and
//! ways to wait for a state without waiting for time.
#![allow(dead_code, unused_imports, reason = "each test file takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod gated;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use larder_core::testing::{ManualRuntime, Recorder, TestRemote};
use larder_core::units::{HOUR, MIB, SECOND};
use larder_core::{
    AnyKey, BreakerOptions, Cache, CacheBuilder, Claim, Fill, Flown, Lead, LookedUp, Namespace, NoLoader,
    Policy, Runtime, Selector, Turn,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use self::gated::GatedRemote;

/// A handle without a loader, the kind most tests use.
pub(crate) type Docs = Namespace<AnyKey, u64, NoLoader>;

/// How often a state is looked at before the test gives up.
const LOOKS: usize = 20_000;

/// Runs a task beside the test.
#[expect(clippy::disallowed_methods, reason = "tests have no Runtime port of their own to spawn through")]
pub(crate) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

/// Lets every other task run until it waits for something that is not another task.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Waits until `state` holds.
pub(crate) async fn until(what: &str, mut state: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if state() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never came: {what}");
}

/// A door that is open or shut.
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    pub(crate) fn open() -> Self {
        Gate(watch::Sender::new(true))
    }

    pub(crate) fn set(&self, open: bool) {
        self.0.send_replace(open);
    }

    /// A future that ends once the door is open.
    pub(crate) fn pass(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut door = self.0.subscribe();
        async move {
            // The sender lives as long as the test.
            let _ = door.wait_for(|open| *open).await;
        }
    }
}

/// Where values come from: a database with one row, whose value is its version.
pub(crate) struct Source {
    version: AtomicU64,
    loads: AtomicUsize,
    /// Shut: a load has read its data and does not answer.
    pub(crate) gate: Gate,
    pub(crate) failing: AtomicBool,
}

impl Source {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Source {
            version: AtomicU64::new(1),
            loads: AtomicUsize::new(0),
            gate: Gate::open(),
            failing: AtomicBool::new(false),
        })
    }

    /// Commits a new version.
    pub(crate) fn write(&self) -> u64 {
        self.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// How many loads have begun.
    pub(crate) fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// One load: the data is read at its first step, the answer comes when the gate is open.
    pub(crate) async fn read(self: Arc<Self>) -> Result<u64, &'static str> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let version = self.version.load(Ordering::SeqCst);
        self.gate.pass().await;
        if self.failing.load(Ordering::SeqCst) { Err("the source is away") } else { Ok(version) }
    }
}

/// One remote tier, and caches on it that share a clock.
pub(crate) struct Rig {
    pub(crate) runtime: Arc<ManualRuntime>,
    pub(crate) remote: Arc<TestRemote>,
    pub(crate) events: Arc<Recorder>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::seeded(1)
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        let runtime = ManualRuntime::new(seed);
        let remote = TestRemote::new(runtime.clone());
        Rig { runtime, remote, events: Recorder::new() }
    }

    pub(crate) fn builder(&self) -> CacheBuilder {
        Cache::builder()
            .memory(16 * MIB)
            .remote(self.remote.clone())
            .runtime(self.runtime.clone())
            .observer(self.events.clone())
            .breaker(BreakerOptions { failures: 5, open_for: 30 * SECOND })
            // Time moves in leaps here, and no node follows the log while it leaps. Tests about that set it.
            .disconnected_ttl(Duration::MAX)
    }

    /// A process that starts now.
    pub(crate) async fn cache(&self) -> Cache {
        self.drive(self.builder().build()).await.unwrap()
    }

    /// Runs `work` to its end, moving time on while it waits.
    pub(crate) async fn drive<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        for _ in 0..LOOKS {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = settle() => self.runtime.advance(Duration::from_millis(20)),
            }
        }
        panic!("never done");
    }

    /// Lets time pass, in small steps, so that whoever sleeps in between is woken in time.
    pub(crate) async fn pass(&self, time: Duration) {
        self.drive(self.runtime.sleep(time)).await;
    }

    /// Waits until `state` holds, moving time on.
    pub(crate) async fn eventually(&self, what: &str, mut state: impl FnMut() -> bool) {
        for _ in 0..2000 {
            settle().await;
            if state() {
                return;
            }
            self.runtime.advance(Duration::from_millis(50));
        }
        panic!("never came: {what}");
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.runtime.advance(by);
    }
}

/// The policy most tests use: an hour fresh, an hour stale, no chance in it.
pub(crate) fn policy() -> Policy {
    Policy::ttl(HOUR).stale_while_revalidate(HOUR).jitter(0.0)
}

pub(crate) fn docs(cache: &Cache) -> Docs {
    cache.namespace::<u64>("doc", policy()).unwrap()
}

/// A cache without a remote tier.
pub(crate) async fn alone(runtime: &Arc<ManualRuntime>) -> Cache {
    Cache::builder().memory(16 * MIB).runtime(runtime.clone()).build().await.unwrap()
}

/// The tag that [`read`] gives every value.
pub(crate) const TAG: &str = "red";

/// Every kind of selector that names the entry `doc:1` with its tag.
pub(crate) const SELECTORS: [&str; 5] = ["doc:1", "doc:1:*", "#red", "doc:*", "*"];

pub(crate) fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

/// Reads `doc:1` as a front door does, step by step; what is loaded carries [`TAG`]. Answers the value and whether it
/// was stale.
pub(crate) async fn read(docs: Docs, source: Arc<Source>) -> (u64, bool) {
    loop {
        let mut key = docs.key_writer();
        key.number(1);
        let lead = match docs.claim(key.as_bytes()) {
            Claim::Found(found) => return (*found.value, false),
            Claim::Stale(found, lead) => {
                if let Some(lead) = lead {
                    spawn(refresh(lead, source));
                }
                return (*found.value, true);
            }
            Claim::Join(flying) => match flying.wait().await {
                Flown::Found(found) => return (*found.value, found.outcome.as_str() == "stale"),
                Flown::Again => continue,
                Flown::Unshared | Flown::Failed(_) => panic!("the load failed"),
            },
            Claim::Lead(lead) => lead,
            Claim::Apart(reason) => panic!("apart: {reason:?}"),
        };
        match lead.look_up().await {
            LookedUp::Found(found) => return (*found.value, false),
            LookedUp::Stale(found, lead) => {
                if let Some(lead) = lead {
                    spawn(refresh(lead, source));
                }
                return (*found.value, true);
            }
            LookedUp::Nothing(lead) => return (fill(lead, source).await, false),
        }
    }
}

async fn refresh(lead: Lead<u64>, source: Arc<Source>) {
    if let LookedUp::Nothing(lead) = lead.look_up().await {
        fill(lead, source).await;
    }
}

async fn fill(lead: Lead<u64>, source: Arc<Source>) -> u64 {
    let mut lead = match lead.turn().await {
        Turn::Load(lead) => lead,
        Turn::Found(found) => return *found.value,
        Turn::Overloaded(_) => panic!("nothing bounds the loads"),
    };
    lead.begin();
    let value = source.read().await.unwrap();
    *lead.fill(Arc::new(value), &Fill::new().tags(vec![TAG.to_owned()])).value
}

/// What a join handle brings.
pub(crate) async fn joined<T: Debug>(handle: JoinHandle<T>) -> T {
    until("a task ends", || handle.is_finished()).await;
    handle.await.unwrap()
}

/// Numbers that follow from a seed.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
