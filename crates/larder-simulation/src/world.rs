//! A run: nodes, servers, and a script that the seed writes as it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder_core::testing::{Happening, Path, TestRedis, TestRemote, Watcher};
use larder_core::{Epoch, Mode};
use parking_lot::Mutex;

use crate::application::{self, Held, Named};
use crate::chance::Chance;
use crate::counts::MANY_NODES;
use crate::database::Database;
use crate::executor::{Executor, Machine, Process, Time};
use crate::heard::Heard;
use crate::loads::Loads;
use crate::oracle::{Names, Oracle, nanos};
use crate::plan::Plan;
use crate::site::{Facts, NETWORK, Site, spawn};
use crate::trace::Trace;
use crate::{Counts, Outcome};

/// How long a slot is kept before it is filled or dropped.
const SLOT_AGE: Time = 5_000_000_000;
/// Slots held at one time.
const SLOTS: usize = 8;

type Ending = Box<dyn FnOnce(&mut World)>;

pub(crate) struct World {
    pub(crate) executor: Arc<Executor>,
    pub(crate) redis: Arc<TestRedis>,
    pub(crate) facts: Arc<Mutex<Facts>>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) chance: Chance,
    /// By node; the process that runs now.
    pub(crate) sites: Vec<Arc<Site>>,
    pub(crate) paused: BTreeSet<Process>,
    pub(crate) slots: Vec<Held>,
    /// What is still to end, and when.
    pub(crate) endings: Vec<(Time, Ending)>,
    processes: Process,
    broken: Arc<AtomicBool>,
}

/// Runs a seed.
pub(crate) fn run(seed: u64, traced: bool, promises: &[String]) -> Outcome {
    let mut world = World::new(seed, traced, promises);
    world.play();
    if !world.is_broken() {
        world.come_to_rest();
    }
    world.end(seed)
}

impl World {
    fn new(seed: u64, traced: bool, promises: &[String]) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Arc::new(Plan::new(&mut chance));
        let executor = Executor::new(chance.fork());
        let mut names = Names::default();
        let db = Database::new(plan.rows, &mut names);
        let facts = Arc::new(Mutex::new(Facts {
            db,
            oracle: Oracle::new(names, plan.times()),
            loads: Loads::new(&plan),
            heard: Heard::default(),
            open: BTreeMap::new(),
            plan: plan.clone(),
            counts: Counts::default(),
            trace: Trace::new(traced),
            violation: None,
            promises: promises.into(),
            calm: false,
            slow: None,
            failing: None,
        }));
        let network = Machine::new(&executor, NETWORK, Duration::ZERO, chance.fork());
        let watch = watcher(&executor, &facts);
        let redis = TestRedis::watched(network, plan.redis, Some(watch));
        let mut world = World {
            executor,
            redis,
            facts,
            plan,
            chance,
            sites: Vec::new(),
            paused: BTreeSet::new(),
            slots: Vec::new(),
            endings: Vec::new(),
            processes: NETWORK,
            broken: Arc::default(),
        };
        for node in 0..world.plan.nodes {
            world.begin_process(node);
        }
        let nodes = world.plan.nodes as u64;
        {
            let counts = &mut world.facts.lock().counts;
            counts.many("most: nodes", nodes);
            counts.many("seed of 11 nodes or more", u64::from(nodes >= MANY_NODES));
        }
        world
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.facts.lock().violation.is_some()
    }

    pub(crate) fn say(&self, text: impl FnOnce() -> String) {
        let now = self.executor.now();
        self.facts.lock().trace.say(now, None, text);
    }

    pub(crate) fn count(&self, name: &'static str, text: impl FnOnce() -> String) {
        let now = self.executor.now();
        let mut facts = self.facts.lock();
        facts.counts.add(name);
        facts.trace.say(now, None, || format!("*** {}", text()));
    }

    /// A node begins, or begins again after its death.
    pub(crate) fn begin_process(&mut self, node: usize) {
        self.processes += 1;
        let process = self.processes;
        // Monotonic clocks of different machines have nothing to do with each other.
        let ahead = self.chance.millis(0, 10_000_000);
        let machine = Machine::new(&self.executor, process, ahead, self.chance.fork());
        let remote = TestRemote::on(self.redis.clone(), machine.clone(), process);
        let (delay, from_replica) = (self.plan.delay, self.chance.percent(self.plan.replica_readers));
        remote.set(|faults| {
            Path::ALL.into_iter().for_each(|path| faults.on(path).delay = Some(delay));
            faults.read_from_replica = from_replica;
        });
        let site = Site::new(node, machine, remote, self.facts.clone(), self.chance.fork());
        {
            let facts = &mut *self.facts.lock();
            facts.oracle.process_begins(process);
            facts.loads.process_begins(process, site.remote.clone());
        }
        self.say(|| format!("{site}: begins"));
        let looking = Arc::downgrade(&site);
        self.executor.after_each(process, move || {
            if let Some(site) = looking.upgrade() {
                site.look();
            }
        });
        spawn(&site, site.clone().start(self.plan.clone()));
        match self.sites.get_mut(node) {
            Some(place) => *place = site,
            None => self.sites.push(site),
        }
    }

    /// Lets the world run for a while; ends what is due to end.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.executor.now() + nanos(time);
        loop {
            let due = self.endings.iter().map(|(at, _)| *at).min().filter(|at| *at <= until);
            self.executor.run_until(due.unwrap_or(until));
            if self.is_broken() {
                return;
            }
            let Some(due) = due else { return };
            // In the order in which they were made.
            if let Some(at) = self.endings.iter().position(|(at, _)| *at == due) {
                let (_, ending) = self.endings.remove(at);
                ending(self);
            }
        }
    }

    fn play(&mut self) {
        self.run_for(Duration::from_millis(50));
        let mut left = self.plan.operations;
        while left > 0 && !self.is_broken() {
            if self.plan.fault_rate > 0 && self.chance.percent(self.plan.fault_rate) {
                self.break_something();
            }
            if self.operate() {
                left -= 1;
                self.facts.lock().counts.add("operation");
            }
            match self.chance.below(100) {
                0..25 => {}
                25..50 => {
                    for _ in 0..self.chance.below(30) {
                        self.executor.step(self.executor.now());
                    }
                }
                50..97 => {
                    let gap = self.chance.millis(0, self.plan.gap_ms * 2);
                    self.run_for(gap);
                }
                _ => {
                    let gap = self.chance.millis(500, 4000);
                    self.run_for(gap);
                }
            }
        }
    }

    /// One operation of the application; false if the node it fell on cannot, or there is nothing to do it with.
    fn operate(&mut self) -> bool {
        let site = self.chance.pick(&(0..self.sites.len()).collect::<Vec<_>>());
        let site = self.sites[site].clone();
        if self.paused.contains(&site.process()) || site.app().is_none() {
            // Time must pass, or it never can.
            self.run_for(Duration::from_millis(20));
            return false;
        }
        if self.plan.floods > 0 && self.chance.below(1000) < self.plan.floods {
            let row = self.any_row();
            application::call(&site, "a flood", application::flood(site.clone(), row));
        }
        let row = self.any_row();
        match self.chance.below(100) {
            0..62 => {
                // Several at once, now and then.
                let times = if self.chance.percent(15) { self.chance.between(2, 5) } else { 1 };
                for _ in 0..times {
                    self.read(&site, row);
                }
            }
            62..70 => return self.read_at_least(&site, row),
            70..84 => {
                let mode = if self.chance.percent(65) { Mode::Hard } else { Mode::Soft };
                let commit = self.chance.percent(85);
                let write = application::write(site.clone(), row, mode, commit, self.plan.noise);
                application::call(&site, "a write", write);
            }
            84..89 => {
                let held = if self.slots.len() < SLOTS { application::take_slot(&site, row) } else { None };
                let taken = held.is_some();
                self.slots.extend(held);
                return taken;
            }
            89..94 => return self.fill_slot(),
            94..96 => {
                // Nothing lies between reading and storing.
                let held = application::take_slot(&site, row);
                let taken = held.is_some();
                held.into_iter().for_each(application::fill_slot);
                return taken;
            }
            _ => application::call(&site, "an update", application::update(site.clone(), row)),
        }
        true
    }

    /// Some rows are hot.
    pub(crate) fn any_row(&mut self) -> usize {
        let rows = self.facts.lock().db.rows.len();
        self.chance.index(rows).min(self.chance.index(rows))
    }

    /// Several reads of a row on a node, whatever befalls that node just now; perhaps others write meanwhile.
    pub(crate) fn rush(&mut self, node: usize) {
        let (site, row) = (self.sites[node].clone(), self.any_row());
        if self.chance.percent(40) {
            for _ in 0..self.chance.between(1, 6) {
                let row = self.any_row();
                self.write_somewhere(row);
            }
        }
        for _ in 0..self.chance.between(1, 4) {
            self.read(&site, row);
        }
    }

    pub(crate) fn write_somewhere(&mut self, row: usize) {
        let site = self.sites[self.chance.index(self.sites.len())].clone();
        let (commit, hard) = (self.chance.percent(50), self.chance.percent(65));
        let mode = if hard { Mode::Hard } else { Mode::Soft };
        let write = application::write(site.clone(), row, mode, commit, self.plan.noise);
        application::call(&site, "a write", write);
    }

    pub(crate) fn read(&mut self, site: &Arc<Site>, row: usize) {
        let way = self.chance.below(100);
        let token = if way > 80 && self.chance.percent(30) { self.any_token() } else { None };
        let read = application::read(site.clone(), row, way, token);
        let patiently = application::patiently(site.clone(), read);
        application::call(site, "a read", async move {
            patiently.await;
        });
    }

    fn read_at_least(&mut self, site: &Arc<Site>, row: usize) -> bool {
        let Some(token) = self.any_token() else { return false };
        application::call(site, "a read", application::read_at_least(site.clone(), row, token));
        true
    }

    /// What a client may name: a token that was told, most likely a recent one, or one that was made up.
    fn any_token(&mut self) -> Option<Named> {
        let (at, epoch) = {
            let facts = self.facts.lock();
            let tokens = facts.oracle.tokens();
            let recent = tokens.len().min(if self.chance.percent(80) { 3 } else { 1000 });
            if recent == 0 {
                return None;
            }
            let at = tokens.len() - 1 - self.chance.index(recent);
            (at, tokens[at].epoch)
        };
        Some(match self.chance.below(100) {
            0..3 => Named { told: None, epoch: Epoch { at: epoch.at + self.chance.below(1 << 40), ..epoch } },
            3..6 => Named { told: None, epoch: Epoch { line: self.chance.next(), ..epoch } },
            _ => Named { told: Some(at), epoch },
        })
    }

    fn fill_slot(&mut self) -> bool {
        let now = self.executor.now();
        self.slots.retain(|held| now - held.since <= SLOT_AGE);
        if self.slots.is_empty() {
            return false;
        }
        let at = self.chance.index(self.slots.len());
        let runs = !self.paused.contains(&self.slots[at].site.process());
        if runs {
            application::fill_slot(self.slots.swap_remove(at));
        }
        runs
    }

    fn end(self, seed: u64) -> Outcome {
        let (hash, now) = (self.executor.hash(), self.executor.now());
        let World { executor, facts, sites, slots, endings, .. } = self;
        drop((slots, endings));
        executor.end();
        drop(sites);
        let mut facts = facts.lock();
        let violation = facts.violation.take().map(|violation| crate::Violation {
            what: violation.what,
            story: match facts.trace.is_on() {
                true => facts.trace.last(crate::STORY, violation.row),
                false => String::new(),
            },
        });
        let story = if facts.trace.is_on() { facts.trace.last(usize::MAX, None) } else { String::new() };
        let counts = std::mem::take(&mut facts.counts);
        Outcome { seed, hash, lasted: Duration::from_nanos(now), counts, violation, story }
    }
}

/// What the servers tell: what is in the primary's history from when on, and that no load is replaced by an earlier one.
fn watcher(executor: &Arc<Executor>, facts: &Arc<Mutex<Facts>>) -> Watcher {
    // Weak: the run's tasks hold the servers.
    let (executor, facts) = (Arc::downgrade(executor), Arc::downgrade(facts));
    Box::new(move |happening| {
        let (Some(executor), Some(facts)) = (executor.upgrade(), facts.upgrade()) else { return };
        let (now, facts) = (executor.now(), &mut *facts.lock());
        if let Some((by, append)) = happening.invalidation() {
            let Happening::Appended { record, .. } = happening else { return };
            let names = &mut facts.oracle.names;
            let selectors: Vec<_> = append.selectors.iter().map(|text| names.sel(text)).collect();
            if facts.oracle.appended(by, append.mode, &selectors, record.epoch, now) {
                facts.counts.add("queue overflowed");
            }
        }
        match happening {
            Happening::Appended { by, primary, record } => facts.trace.say(now, None, || {
                format!("redis: {} by process {by}, primary: {primary}: {:?}", record.epoch, record.body)
            }),
            Happening::Stored { key, over, epoch, lease, held, .. } => {
                facts.trace.say(now, None, || {
                    format!(
                        "redis: {} stored, {epoch} over {over:?}, {lease:?}",
                        String::from_utf8_lossy(key)
                    )
                });
                let is_later = |over: &Epoch| over.line == epoch.line && over.at > epoch.at;
                let name = || String::from_utf8_lossy(key);
                if let Some(over) = over.filter(is_later) {
                    let what = format!("{} was replaced by an earlier load: {over} by {epoch}", name());
                    facts.break_promise(None, what);
                }
                if let Err(broken) = facts.loads.stored(*over, *epoch, *lease, *held) {
                    facts.break_promise(None, format!("{} is stored: {broken}", name()));
                }
            }
            _ => leases(facts, happening, now),
        }
    })
}

/// What the servers tell of leases.
fn leases(facts: &mut Facts, happening: &Happening, now: Time) {
    facts.trace.say(now, None, || match happening {
        Happening::Leased { by, key, request, held, .. } => {
            let key = String::from_utf8_lossy(key);
            format!("redis: lease {:x} of {key} granted to process {by}, over {held:x?}", request.token)
        }
        Happening::Refused { by, request, held, .. } => {
            format!("redis: lease {:x} refused to process {by}, {held:x} lives", request.token)
        }
        Happening::Extended { token } => format!("redis: lease {token:x} extended"),
        Happening::Ended { token, how, .. } => format!("redis: lease {token:x} ends: {how:?}"),
        Happening::Appended { .. } | Happening::Stored { .. } => String::new(),
    });
    let named = |facts: &Facts, key: &[u8]| facts.db.key_named(key);
    let verdict = match happening {
        Happening::Leased { by, primary, key, request, held } => {
            let Some(key) = named(facts, key) else { return };
            let (loads, mut known) = facts.known(now);
            loads.granted(*by, *primary, key, request, *held, &mut known)
        }
        Happening::Refused { by, server, request, held, .. } => {
            let (loads, mut known) = facts.known(now);
            loads.refused(*by, *server, request.token, *held, &mut known);
            Ok(())
        }
        Happening::Extended { token } => {
            let (loads, mut known) = facts.known(now);
            loads.extended(*token, &mut known);
            Ok(())
        }
        Happening::Ended { server, token, how } => {
            let (loads, mut known) = facts.known(now);
            loads.ended(*server, *token, *how, &mut known);
            Ok(())
        }
        Happening::Appended { .. } | Happening::Stored { .. } => Ok(()),
    };
    if let Err(broken) = verdict {
        facts.break_promise(None, broken);
    }
}
