//! One process: a cache, its connections, and the application around it. What the application does is in `application`.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use larder_core::testing::{TestRemote, has_reached};
use larder_core::{AnyKey, Cache, Event, Moment, Namespace, NoLoader, Observer, Runtime};
use parking_lot::Mutex;

use crate::application;
use crate::chance::Chance;
use crate::counts::Counts;
use crate::database::{Database, Doc, RESOURCES};
use crate::executor::{Machine, Process, Time};
use crate::oracle::{Called, Oracle, Reading, Violation};
use crate::plan::Plan;
use crate::trace::Trace;

/// What all of the run knows: nothing of it is visible to a cache.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) db: Database,
    pub(crate) oracle: Oracle,
    pub(crate) counts: Counts,
    pub(crate) trace: Trace,
    pub(crate) violation: Option<Violation>,
    /// Loads are quick and do not fail.
    pub(crate) calm: bool,
    /// Loads of this row end no sooner than that.
    pub(crate) slow: Option<(usize, Time)>,
}

impl Facts {
    pub(crate) fn break_promise(&mut self, row: Option<usize>, what: String) {
        self.violation.get_or_insert(Violation { row, what });
    }
}

/// The handles of one process.
pub(crate) struct App {
    pub(crate) cache: Cache,
    /// As they come.
    pub(crate) docs: Vec<Namespace<AnyKey, Doc, NoLoader>>,
    /// With loaders.
    pub(crate) loading: Vec<Namespace<u64, Doc, application::Broken>>,
}

pub(crate) struct Site {
    /// Which node.
    pub(crate) index: usize,
    pub(crate) machine: Arc<Machine>,
    pub(crate) remote: Arc<TestRemote>,
    pub(crate) facts: Arc<Mutex<Facts>>,
    pub(crate) chance: Mutex<Chance>,
    app: OnceLock<App>,
}

impl Site {
    pub(crate) fn new(
        index: usize,
        machine: Arc<Machine>,
        remote: Arc<TestRemote>,
        facts: Arc<Mutex<Facts>>,
        chance: Chance,
    ) -> Arc<Self> {
        Arc::new(Site { index, machine, remote, facts, chance: Mutex::new(chance), app: OnceLock::new() })
    }

    pub(crate) fn process(&self) -> Process {
        self.machine.process()
    }

    pub(crate) fn now(&self) -> Time {
        self.machine.executor().now()
    }

    /// The handles; `None` while the process starts.
    pub(crate) fn app(&self) -> Option<&App> {
        self.app.get()
    }

    /// What the process does first.
    pub(crate) async fn start(self: Arc<Self>, plan: Arc<Plan>) {
        let mut builder = Cache::builder();
        if self.facts.lock().trace.is_on() {
            builder = builder.observer(Arc::new(Listener(Arc::downgrade(&self))));
        }
        let cache = builder
            .memory(plan.memory.0)
            .remote(self.remote.clone())
            .runtime(self.machine.clone())
            .breaker(plan.breaker)
            .stamp_limit(plan.stamp_limit)
            .disconnected_ttl(plan.disconnected_ttl)
            .build()
            .await
            .expect("the plan breaks no rule");
        let (mut docs, mut loading, weight) = (Vec::new(), Vec::new(), plan.memory.1);
        for (at, resource) in RESOURCES.iter().enumerate() {
            let policy = plan.policies[at].clone();
            let handle = match resource.sub {
                "" => cache.namespace::<Doc>(resource.namespace, policy),
                sub => cache.namespace::<Doc>((resource.namespace, sub), policy),
            };
            let handle = handle.expect("the names are names, and clash with none").weigh(move |_| weight);
            docs.push(handle.clone());
            let site = Arc::downgrade(&self);
            loading.push(handle.loader(move |id: u64| {
                let site = site.upgrade();
                async move {
                    match site {
                        Some(site) => application::load_by_id(&site, at, id).await,
                        None => Err(application::Broken),
                    }
                }
            }));
        }
        let _ = self.app.set(App { cache, docs, loading });
    }

    /// Waits.
    pub(crate) async fn pause(&self, time: Duration) {
        self.machine.pause(time).await;
    }

    /// A read starts.
    pub(crate) fn reading(&self, app: &App, row: usize, token: Option<usize>) -> Reading {
        let misled = self.remote.redis().misled(self.remote.id()).map(time_of);
        let now = self.now();
        let reached = |token| has_reached(&app.cache, token);
        self.facts.lock().oracle.read_begins(self.process(), row, now, misled, token, reached)
    }

    /// A read has returned something.
    pub(crate) fn read(&self, reading: &Reading, doc: Doc, called: Called, how: &'static str) {
        let now = self.now();
        self.machine.executor().note(doc.load as u64);
        let facts = &mut *self.facts.lock();
        let name = &facts.db.rows[reading.row].name;
        facts.trace.say(now, Some(reading.row), || {
            format!(
                "{self}: read {name} ({how}, since {} ms): v{} of load {}, {called:?}",
                (now - reading.at) / 1_000_000,
                doc.version,
                doc.load
            )
        });
        if let Err(broken) = facts.oracle.check(reading, doc, called, &facts.db) {
            let name = &facts.db.rows[reading.row].name;
            let what = format!(
                "{self} returned v{} of {name} by {how}: {broken}\n(load {} began on process {} at {}; the read began at {:.6} s)",
                doc.version,
                doc.load,
                facts.db.loads.get(doc.load).map_or(0, |load| load.process),
                facts.db.loads.get(doc.load).map_or(0, |load| load.began),
                seconds(reading.at),
            );
            facts.break_promise(Some(reading.row), what);
        }
    }

    pub(crate) fn count(&self, name: &'static str) {
        self.facts.lock().counts.add(name);
    }

    pub(crate) fn say(&self, row: Option<usize>, text: impl FnOnce() -> String) {
        let now = self.now();
        self.facts.lock().trace.say(now, row, || format!("{self}: {}", text()));
    }
}

/// Puts what the engine tells into the trace.
struct Listener(Weak<Site>);

impl Observer for Listener {
    fn on_event(&self, event: &Event) {
        if let Some(site) = self.0.upgrade() {
            site.say(None, || format!("  {event:?}"));
        }
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {} (process {})", self.index, self.process())
    }
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

pub(crate) fn seconds(at: Time) -> f64 {
    Duration::from_nanos(at).as_secs_f64()
}

/// The servers' machine has no clock of its own.
fn time_of(moment: Moment) -> Time {
    Time::try_from(moment.since(Moment::ORIGIN).as_nanos()).unwrap_or(Time::MAX)
}

/// The servers' own process, which no fault of a node concerns.
pub(crate) const NETWORK: Process = 0;

/// Runs `work` in the process of the site.
pub(crate) fn spawn(site: &Arc<Site>, work: impl Future<Output = ()> + Send + 'static) {
    site.machine.spawn(Box::pin(work));
}
