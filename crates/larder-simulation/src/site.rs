//! One process: a cache, its connections, and the application around it. What the application does is in `application`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use larder_core::testing::{TestRemote, has_reached, position, serves};
use larder_core::{
    AnyKey, BreakerState, Cache, Epoch, Event, LeaseAnswer, LeaseRequest, Moment, Namespace, NoLoader,
    Observer, Runtime,
};
use parking_lot::Mutex;

use crate::application;
use crate::chance::Chance;
use crate::counts::Counts;
use crate::database::{Database, Doc, RESOURCES};
use crate::executor::{Machine, Process, Time};
use crate::heard::{self, Heard};
use crate::loads::{Account, End, KeyId, Known, Loads};
use crate::oracle::{Called, Oracle, Reading, Returned, Violation};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::way::Way;

/// What all of the run knows: nothing of it is visible to a cache.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) db: Database,
    pub(crate) oracle: Oracle,
    pub(crate) loads: Loads,
    pub(crate) heard: Heard,
    /// Calls of the application that have not returned, by number.
    pub(crate) open: BTreeMap<u64, String>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) counts: Counts,
    pub(crate) trace: Trace,
    pub(crate) violation: Option<Violation>,
    /// Texts of the promises that count; none: all do.
    pub(crate) promises: Box<[String]>,
    /// Loads are quick and do not fail.
    pub(crate) calm: bool,
    /// Loads of this row end no sooner than that.
    pub(crate) slow: Option<(usize, Time)>,
    /// Loads of this row fail until then.
    pub(crate) failing: Option<(usize, Time)>,
}

impl Facts {
    pub(crate) fn break_promise(&mut self, row: Option<usize>, what: String) {
        if self.promises.is_empty() || self.promises.iter().any(|promise| what.contains(promise)) {
            self.violation.get_or_insert(Violation { row, what });
        }
    }

    /// What the promises about loads are judged by.
    pub(crate) fn known(&mut self, now: Time) -> (&mut Loads, Known<'_>) {
        let Facts { db, oracle, loads, counts, .. } = self;
        (loads, Known { db, oracle, counts, now })
    }

    /// The load timeout of a row.
    pub(crate) fn timeout(&self, row: usize) -> Duration {
        self.plan.rules[self.db.rows[row].resource].load_timeout
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
    /// Where its log stood when somebody last looked.
    stood: Mutex<Option<Epoch>>,
}

impl Site {
    pub(crate) fn new(
        index: usize,
        machine: Arc<Machine>,
        remote: Arc<TestRemote>,
        facts: Arc<Mutex<Facts>>,
        chance: Chance,
    ) -> Arc<Self> {
        let (chance, app, stood) = (Mutex::new(chance), OnceLock::new(), Mutex::default());
        Arc::new(Site { index, machine, remote, facts, chance, app, stood })
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
        let cache = Cache::builder()
            .observer(Arc::new(Listener(Arc::downgrade(&self))))
            .memory(plan.memory.0)
            .remote(Way::new(&self))
            .runtime(self.machine.clone())
            .breaker(plan.breaker)
            .stamp_limit(plan.stamp_limit)
            .disconnected_ttl(plan.disconnected_ttl)
            .build()
            .await
            .expect("the plan breaks no rule");
        let (mut docs, mut loading, weight) = (Vec::new(), Vec::new(), plan.memory.1);
        for (at, resource) in RESOURCES.iter().enumerate() {
            let (policy, negative) = (plan.rules[at].policy.clone(), plan.rules[at].negative);
            let handle = match resource.sub {
                "" => cache.namespace::<Doc>(resource.namespace, policy),
                sub => cache.namespace::<Doc>((resource.namespace, sub), policy),
            };
            let handle = handle.expect("the names are names, and clash with none").weigh(move |_| weight);
            // A value says which load it came from; as content that is of no account.
            let handle = handle.content_hash(|doc: &Doc| doc.version as u64);
            let handle = handle.absent(move |doc: &Doc| negative && doc.version % 3 == 2);
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

    /// Notes which tokens the log of this process has reached, if it has moved. It may move on to where it has not reached them:
    /// what was in force once stays so.
    pub(crate) fn look(&self) {
        let Some(app) = self.app() else { return };
        let stands = position(&app.cache);
        if std::mem::replace(&mut *self.stood.lock(), stands) != stands {
            self.facts.lock().oracle.look(self.process(), |token| has_reached(&app.cache, token));
        }
    }

    /// Waits.
    pub(crate) async fn pause(&self, time: Duration) {
        self.machine.pause(time).await;
    }

    /// A read starts.
    pub(crate) fn reading(&self, app: &App, key: KeyId, token: Option<usize>) -> Reading {
        let misled = self.remote.redis().misled(self.remote.id()).map(time_of);
        let now = self.now();
        let reached = |token| has_reached(&app.cache, token);
        self.facts.lock().oracle.read_begins(self.process(), key, now, misled, token, reached)
    }

    /// A read has returned something, in a way that does not say how it was found.
    pub(crate) fn read_quietly(&self, reading: &Reading, doc: Doc, how: &'static str) {
        let called = {
            let facts = &mut *self.facts.lock();
            let called = facts.heard.called(reading.process, reading.key, reading.began, reading.reader);
            facts.counts.add(match called {
                Called::Fresh => "called: fresh, as heard",
                Called::Stale => "called: stale, as heard",
                Called::Either => "called: nobody knows",
            });
            called
        };
        self.read(reading, doc, called, how);
    }

    /// A read has returned something.
    pub(crate) fn read(&self, reading: &Reading, doc: Doc, called: Called, how: &'static str) {
        let now = self.now();
        self.machine.executor().note(doc.load as u64);
        let misled = self.remote.redis().misled(self.remote.id()).map(time_of);
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
        let (loads, known) = facts.known(now);
        let why = loads.may_be_old(reading.process, reading.key, reading.at, &known);
        let is_old = std::cell::Cell::new(false);
        let excuse = || {
            is_old.set(true);
            why.is_some()
        };
        // A process that stood still goes by the time at which it looked.
        // What a batch finds at once it keeps until the rest is loaded.
        let at_once = how != "get_many_or_load" && loads.has_run_since(reading.process, reading.at);
        let at = if at_once { now } else { reading.at };
        let returned = Returned { called, at, misled };
        let broken = known.oracle.check(reading, doc, returned, known.db, known.counts, excuse);
        if let (true, Some(why)) = (is_old.get(), why) {
            known.counts.add(why);
        }
        for broken in broken {
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

    /// A read has failed.
    pub(crate) fn fails(&self, reading: &Reading, reason: &'static str, how: &'static str) {
        let now = self.now();
        let facts = &mut *self.facts.lock();
        facts.counts.add(if reason == "refused" { "read: refused" } else { "read: failed" });
        let (loads, known) = facts.known(now);
        if loads.may_fail(reading.process, reading.key, reading.at, reason, &known) {
            return;
        }
        let name = &facts.db.rows[reading.row].name;
        let what = format!(
            "{self}: a read of {name} by {how}, since {:.6} s, failed ({reason}), and no load gave it reason to",
            seconds(reading.at)
        );
        facts.break_promise(Some(reading.row), what);
    }

    /// A load begins, for others or for its caller alone.
    pub(crate) fn load_begins(&self, key: KeyId, led: bool) -> usize {
        let (process, now) = (self.process(), self.now());
        let app = self.app();
        let position = app.and_then(|app| position(&app.cache));
        let caught_up = self.is_caught_up();
        let serves = app.is_some_and(|app| serves(&app.cache));
        let account = Account { led, position, caught_up, serves };
        let facts = &mut *self.facts.lock();
        let began = facts.oracle.next();
        facts.counts.add("load");
        let load = facts.db.begin(key / 2, process, began);
        let name = &facts.db.rows[key / 2].name;
        facts.trace.say(now, Some(key / 2), || format!("{self}: load {load} of {name} begins, at {began}"));
        let (loads, mut known) = facts.known(now);
        let verdict = loads.begins(process, key, load, account, &mut known);
        self.judge(facts, key, verdict);
        load
    }

    /// Has this node heard of all that is in the log?
    fn is_caught_up(&self) -> bool {
        let standing = self.remote.redis().standing();
        standing.is_some() && self.app().and_then(|app| position(&app.cache)) == standing
    }

    pub(crate) fn load_ends(&self, load: usize, end: End) {
        let now = self.now();
        let facts = &mut *self.facts.lock();
        let row = facts.db.loads[load].row;
        facts.trace.say(now, Some(row), || format!("{self}: load {load} ends: {end:?}"));
        let (loads, mut known) = facts.known(now);
        loads.ends(load, end, &mut known);
    }

    fn judge(&self, facts: &mut Facts, key: KeyId, verdict: Result<(), String>) {
        if let Err(broken) = verdict {
            let what = format!("{self} and {}: {broken}", facts.db.rows[key / 2].name);
            facts.break_promise(Some(key / 2), what);
        }
    }

    /// A value is put by hand.
    pub(crate) fn puts(&self, key: KeyId) {
        self.facts.lock().loads.puts(self.process(), key, self.now());
    }

    /// A load had no room.
    pub(crate) fn overloaded(&self, key: KeyId) {
        let facts = &mut *self.facts.lock();
        facts.counts.add("load: no room");
        facts.loads.overloaded(self.process(), facts.db.rows[key / 2].resource, self.now());
    }

    /// Something stale was served from memory.
    pub(crate) fn shows(&self, reading: &Reading, doc: Doc) {
        let (now, caught_up) = (self.now(), self.is_caught_up());
        let facts = &mut *self.facts.lock();
        let (loads, known) = facts.known(now);
        loads.shows(reading.process, reading.key, doc.load, caught_up, &known);
    }

    /// The cache asks for a lease.
    pub(crate) fn asks(&self, key: &[u8], request: &LeaseRequest) {
        let now = self.now();
        let facts = &mut *self.facts.lock();
        let Some(key) = facts.db.key_named(key) else { return };
        facts.trace.say(now, Some(key / 2), || {
            let (token, vain) = (request.token, request.vain);
            format!("{self}: asks {token:x} for the lease of key {key}, vain: {vain:x?}")
        });
        let (loads, mut known) = facts.known(now);
        let verdict = loads.asks(self.process(), key, request, &mut known);
        self.judge(facts, key, verdict);
    }

    /// A store was refused.
    pub(crate) fn overtaken(&self, key: &[u8]) {
        let facts = &mut *self.facts.lock();
        facts.counts.add("lease: late store refused");
        if let Some(key) = facts.db.key_named(key) {
            facts.loads.overtaken(self.process(), key, self.now());
        }
    }

    /// The cache gives up a look at a key.
    pub(crate) fn gives_up_look(&self, key: &[u8]) {
        let facts = &mut *self.facts.lock();
        if let Some(key) = facts.db.key_named(key) {
            facts.trace.say(self.now(), Some(key / 2), || format!("{self}: gives up its look at key {key}"));
            facts.loads.gives_up_look(self.process(), key, self.now());
        }
    }

    /// It has its answer, or gives up.
    pub(crate) fn told(&self, key: &[u8], token: u64, answer: Option<&LeaseAnswer>) {
        let now = self.now();
        let facts = &mut *self.facts.lock();
        let Some(key) = facts.db.key_named(key) else { return };
        facts.trace.say(now, Some(key / 2), || {
            let told = match answer {
                Some(LeaseAnswer::Value(_)) => "a value".to_owned(),
                other => format!("{other:?}"),
            };
            format!("{self}: its question {token:x} for a lease: {told}")
        });
        if let Some(app) = self.app() {
            facts.oracle.look(self.process(), |token| has_reached(&app.cache, token));
        }
        let (loads, mut known) = facts.known(now);
        loads.told(self.process(), key, token, answer, &mut known);
    }

    /// The cache extends a lease, or ends it.
    pub(crate) fn calls(&self, token: u64, ends: bool) {
        self.facts.lock().loads.calls(token, ends);
    }

    /// That is over.
    pub(crate) fn called(&self, token: u64, answered: bool) {
        self.facts.lock().loads.called(self.process(), token, answered, self.now());
    }

    pub(crate) fn count(&self, name: &'static str) {
        self.facts.lock().counts.add(name);
    }

    pub(crate) fn say(&self, row: Option<usize>, text: impl FnOnce() -> String) {
        let now = self.now();
        self.facts.lock().trace.say(now, row, || format!("{self}: {}", text()));
    }
}

/// Hears what the engine tells.
struct Listener(Weak<Site>);

impl Observer for Listener {
    fn wants_reads(&self) -> bool {
        true
    }

    fn on_event(&self, event: &Event) {
        let Some(site) = self.0.upgrade() else { return };
        site.say(None, || format!("  {event:?}"));
        let (process, now) = (site.process(), site.now());
        let facts = &mut *site.facts.lock();
        match event {
            Event::Read { key, outcome, .. } => {
                let Some(key) = facts.db.key_named(key.as_bytes()) else { return };
                let at = facts.oracle.next();
                facts.heard.answer(process, key, at, heard::polled(), *outcome);
            }
            Event::Breaker { to, .. } => facts.loads.breaker(process, *to != BreakerState::Closed, now),
            Event::Gap { .. } => facts.loads.gap(process),
            Event::LeaseLost { .. } => facts.counts.add("lease: lost while loading, as its holder hears"),
            Event::LoadFailed { key, reason: "overloaded", .. } => {
                facts.counts.add("load: no room");
                if let Some(key) = facts.db.key_named(key.as_bytes()) {
                    facts.loads.overloaded(process, facts.db.rows[key / 2].resource, now);
                }
            }
            _ => {}
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
