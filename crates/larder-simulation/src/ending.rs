//! The end of a run: all faults stop, and the caches must find back to where everything is in order, by themselves.

use std::sync::Arc;
use std::time::Duration;

use larder_core::testing::{Path, PathFaults, has_reached, position, serves};
use larder_core::{Delivery, Invalidated, Outcome, Selector};
use parking_lot::Mutex;

use crate::application;
use crate::executor::Time;
use crate::oracle::nanos;
use crate::site::{Site, spawn};
use crate::world::World;

/// How long it may take until all nodes have caught up and sent what was queued: pauses between attempts grow to 5 s. Not
/// longer, or what should be gone would have expired anyway.
const REST: Duration = Duration::from_secs(12);

/// Longer than any pause after which a node opens the log again although nothing is wrong.
const NO_WRITES: Duration = Duration::from_secs(150);

impl World {
    pub(crate) fn come_to_rest(&mut self) {
        {
            let facts = &mut *self.facts.lock();
            let apps = self.sites.iter().filter_map(|site| site.app());
            facts.counts.many("pushed back", apps.map(|app| app.cache.stats().pushed_back).sum());
            facts.counts.calm_down();
        }
        self.rest();
    }

    fn rest(&mut self) {
        self.stop_faults();
        self.run_for(REST);
        if self.is_broken() || !self.all_have_caught_up("after all faults have ended") {
            return;
        }
        self.facts.lock().oracle.all_in_force();
        let rows = self.facts.lock().db.rows.len();
        // Readers see what is in force, and close the breakers.
        for _ in 0..3 {
            for site in self.sites.clone() {
                application::read_all(&site, rows);
            }
            self.run_for(Duration::from_secs(10));
        }
        if self.is_broken() || !self.nothing_is_left() || !self.one_load_is_a_hit_everywhere() {
            return;
        }
        if self.chance.percent(50) && !self.a_lost_log_is_noticed() {
            return;
        }
        if self.chance.percent(30) {
            self.nodes_serve_on_though_nothing_is_written();
        }
    }

    fn stop_faults(&mut self) {
        self.say(|| "*** all faults end".to_owned());
        let now = self.executor.now();
        let mut endings = std::mem::take(&mut self.endings);
        endings.sort_by_key(|(at, _)| *at);
        for (_, ending) in endings {
            ending(self);
        }
        // What these have left for later is to end now, too.
        for (_, ending) in std::mem::take(&mut self.endings) {
            ending(self);
        }
        self.facts.lock().loads.split(false, now);
        self.redis.end_deposed();
        let delay = self.plan.delay;
        for site in &self.sites {
            for path in Path::ALL {
                if site.remote.is_astray(path) {
                    site.remote.cut(path);
                }
            }
            site.remote.set(|faults| {
                faults.hold_stores = false;
                for path in Path::ALL {
                    *faults.on(path) = PathFaults { delay: Some(delay), ..PathFaults::default() };
                }
            });
        }
        self.slots.clear();
        self.facts.lock().calm = true;
        debug_assert!(self.paused.is_empty() && self.executor.now() == now);
    }

    /// How long news take to every node: a trip to the server and one from it, if the reader asks for them just now one
    /// more each.
    fn trips(&self, trips: u32) -> Duration {
        self.plan.delay.1 * trips + Duration::from_millis(20)
    }

    fn fail(&mut self, what: String) -> bool {
        self.facts.lock().break_promise(None, what);
        false
    }

    fn all_have_caught_up(&mut self, when: &str) -> bool {
        let standing = self.redis.standing();
        for site in self.sites.clone() {
            let Some(app) = site.app() else { return self.fail(format!("{site} has not started, {when}")) };
            let at = position(&app.cache);
            if at != standing || at.is_none() {
                return self.fail(format!("{site} stands at {at:?}, the log at {standing:?}, {when}"));
            }
            let pending = app.cache.stats().pending_invalidations;
            if pending > 0 {
                return self.fail(format!("{site} has {pending} invalidations to send, {when}"));
            }
        }
        true
    }

    /// No lease is held, no load runs or hangs, no flight is open.
    fn nothing_is_left(&mut self) -> bool {
        let leases = self.redis.leases();
        // With its clock set back a server keeps leases longer than they were granted for; nobody waits for those.
        if !leases.is_empty() && !self.facts.lock().oracle.clock_was_set {
            return self.fail(format!("the leases {leases:x?} are held although nobody loads"));
        }
        for site in self.sites.clone() {
            let Some(app) = site.app() else { continue };
            let stats = app.cache.stats();
            let left = [stats.flights, stats.hung_loads, stats.leases];
            if left != [0; 3] {
                return self.fail(format!("{site} has flights, hung loads, leases left: {left:?}"));
            }
        }
        let now = self.executor.now();
        let open = self.facts.lock().open.values().next().cloned();
        if let Some(open) = open {
            return self.fail(format!("{open}: it has not returned, though all is well"));
        }
        let (running, settled) = {
            let facts = &mut *self.facts.lock();
            let (loads, mut known) = facts.known(now);
            (loads.still_running(), loads.settle(&mut known))
        };
        if let Err(broken) = settled {
            return self.fail(broken);
        }
        running == 0 || self.fail(format!("{running} loads still run"))
    }

    /// Runs something on a node to its end.
    fn drive<T: Send + 'static>(
        &mut self,
        site: &Arc<Site>,
        limit: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let place = Arc::new(Mutex::new(None));
        let result = place.clone();
        spawn(site, async move { *result.lock() = Some(work.await) });
        let until: Time = self.executor.now() + nanos(limit);
        while place.lock().is_none() && self.executor.step(until) {}
        place.lock().take()
    }

    fn invalidate_everything(&mut self, site: &Arc<Site>) -> Option<Invalidated> {
        let calling = site.clone();
        self.drive(site, Duration::from_secs(2), async move {
            let app = calling.app()?;
            Some(app.cache.invalidate([Selector::all()]).await)
        })?
    }

    fn one_load_is_a_hit_everywhere(&mut self) -> bool {
        let first = self.sites[self.chance.index(self.sites.len())].clone();
        let done = self.invalidate_everything(&first);
        let Some(Invalidated { token: Some(token), state: Delivery::Delivered, .. }) = done else {
            return self
                .fail(format!("{first}: an invalidation is not delivered though all is well: {done:?}"));
        };
        let news = self.trips(6);
        self.run_for(news);
        for site in self.sites.clone() {
            if !site.app().is_some_and(|app| has_reached(&app.cache, token)) {
                return self.fail(format!("{site} has not heard of {token} {news:?} after it was delivered"));
            }
        }
        let rows = self.facts.lock().db.rows.len();
        let mut loaders = Vec::new();
        for row in 0..rows {
            let loader = self.sites[self.chance.index(self.sites.len())].clone();
            loaders.push(loader.clone());
            if !self.fetch(&loader, row, &[Outcome::Miss]) {
                return false;
            }
        }
        // Stores are on their way, and a replica may have to catch up.
        self.run_for(self.plan.redis.replica.unwrap_or_default() + self.trips(4));
        for (row, loader) in loaders.iter().enumerate() {
            let (remote, memory) = {
                let rules = &self.plan.rules[self.facts.lock().db.rows[row].resource];
                (rules.remote, rules.memory)
            };
            for site in self.sites.clone() {
                // Nodes learn of a step of the server's clock late, and differ about the age of entries until then.
                let agree = !self.facts.lock().oracle.clock_was_set;
                // Nor must an entry stay where there is room for a few only.
                let stays = memory && self.plan.memory.1 < 1000 && site.process() == loader.process();
                let hits = remote && agree || stays;
                let wanted: &[Outcome] = if hits { &[Outcome::Hit] } else { &[Outcome::Hit, Outcome::Miss] };
                if !self.fetch(&site, row, wanted) {
                    return false;
                }
            }
        }
        true
    }

    /// Fetches a row: it must be the last version, found in one of these ways.
    fn fetch(&mut self, site: &Arc<Site>, row: usize, wanted: &'static [Outcome]) -> bool {
        let reading = site.clone();
        let found = self.drive(site, Duration::from_secs(2), async move {
            let app = reading.app()?;
            let (resource, id) = {
                let facts = reading.facts.lock();
                (facts.db.rows[row].resource, facts.db.rows[row].id)
            };
            let hit = app.loading[resource].fetch(id).await.ok()?;
            Some((*hit.value, hit.outcome))
        });
        let (name, latest) = {
            let facts = self.facts.lock();
            (facts.db.rows[row].name.clone(), facts.db.latest(row))
        };
        match found.flatten() {
            Some((doc, outcome)) if doc.version == latest && wanted.contains(&outcome) => true,
            other => {
                let what = format!(
                    "all is well, and {site} should find v{latest} of {name} as one of {wanted:?}; it found {other:?}"
                );
                self.facts.lock().break_promise(Some(row), what);
                false
            }
        }
    }

    /// "connected nodes notice a log that vanished within a second".
    fn a_lost_log_is_noticed(&mut self) -> bool {
        self.say(|| "*** the log is deleted".to_owned());
        self.redis.lose_log();
        // A second, and what it takes to read the snapshot: an open, some scans, a look at the head.
        self.run_for(Duration::from_secs(1) + self.trips(20));
        let standing = self.redis.standing().map(|epoch| epoch.line);
        for site in self.sites.clone() {
            let line = site.app().and_then(|app| position(&app.cache)).map(|epoch| epoch.line);
            if line.is_none() || line != standing {
                return self.fail(format!("{site} has not noticed within a second that the log was deleted"));
            }
        }
        true
    }

    /// Following the log takes no write. A server that refuses them for minutes (its disk is full, its replicas are gone) is no
    /// reason to serve nothing.
    fn nodes_serve_on_though_nothing_is_written(&mut self) {
        self.facts.lock().counts.add("end: no writes for minutes");
        self.say(|| "*** the server refuses to write".to_owned());
        // All nodes stand on the line that is there.
        self.run_for(Duration::from_secs(3));
        self.redis.refuse_writes(true);
        let began = self.executor.now();
        while self.executor.now() < began + nanos(NO_WRITES) && !self.is_broken() {
            self.run_for(Duration::from_secs(1));
            for site in self.sites.clone() {
                if !site.app().is_some_and(|app| serves(&app.cache)) {
                    let after = (self.executor.now() - began) / 1_000_000_000;
                    self.fail(format!(
                        "{site} serves nothing after {after} s in which the server refused to write"
                    ));
                }
            }
        }
        self.redis.refuse_writes(false);
    }
}
