//! What goes wrong, and how it ends.

use std::time::Duration;

use larder_core::testing::{Path, PathFaults};

use crate::oracle::nanos;
use crate::site::spawn;
use crate::world::World;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A black hole on one way, or on all.
    Partition,
    /// The link goes down, and calls fail at once.
    Down,
    /// A connection breaks and is made again.
    Reset,
    /// Calls take long.
    Slow,
    /// Requests and answers are lost.
    Loss,
    /// The server refuses: full, loading, read only.
    Refusals,
    /// It refuses whatever would change something, for minutes: MISCONF, NOREPLICAS.
    NoWrites,
    /// Stores are on their way for a long time.
    StoresHeld,
    /// The process stands still.
    Pause,
    /// The process dies, and another begins.
    Kill,
    /// The cache is shut down before.
    Shutdown,
    /// FLUSHALL.
    Flush,
    /// Another server process, with the data; perhaps without its tail.
    RestartWithData,
    /// Another server process, without any data.
    RestartEmpty,
    /// A replica takes over, perhaps without the last writes.
    Failover,
    /// The same for the log alone: values are on another shard, and lose nothing.
    LogFailover,
    /// FLUSHALL, and a replica takes over that has not heard of it.
    RollBack,
    /// The same, and the old primary goes on answering some nodes.
    SplitBrain,
    /// The stream is trimmed.
    Trim,
    /// The stream is evicted.
    LoseStream,
    /// State and stamps are evicted.
    LoseStamps,
    /// The older stamps are evicted.
    LoseOld,
    /// All of the log is deleted.
    LoseLog,
    /// All leases are evicted.
    LoseLeases,
    /// Loads of a row fail.
    Source,
    /// The calendar of a node steps.
    Calendar,
    /// The clock of the server steps.
    ServerClock,
}

impl Fault {
    pub(crate) const ALL: [Fault; 27] = [
        Fault::Partition,
        Fault::Down,
        Fault::Reset,
        Fault::Slow,
        Fault::Loss,
        Fault::Refusals,
        Fault::NoWrites,
        Fault::StoresHeld,
        Fault::Pause,
        Fault::Kill,
        Fault::Shutdown,
        Fault::Flush,
        Fault::RestartWithData,
        Fault::RestartEmpty,
        Fault::Failover,
        Fault::LogFailover,
        Fault::RollBack,
        Fault::SplitBrain,
        Fault::Trim,
        Fault::LoseStream,
        Fault::LoseStamps,
        Fault::LoseOld,
        Fault::LoseLog,
        Fault::LoseLeases,
        Fault::Source,
        Fault::Calendar,
        Fault::ServerClock,
    ];
}

const LOSS: &str = "fault: loss on the way";

/// How far a clock steps.
const STEP: Duration = Duration::from_secs(15 * 60);

/// What takes over from a primary.
#[derive(Clone, Copy, Debug, Default)]
struct Successor {
    /// The old one goes on answering.
    split: bool,
    /// Values are elsewhere, and lose nothing.
    values_stay: bool,
    /// It has not heard of the last FLUSHALL.
    before_flush: bool,
}

impl World {
    /// Breaks something, and sees to it that it ends.
    pub(crate) fn break_something(&mut self) {
        let fault = self.chance.pick(&self.plan.faults.clone());
        let node = self.chance.index(self.sites.len());
        let path = self.chance.pick(&Path::ALL);
        // Most faults are short; some outlast `disconnected_ttl`.
        let lasts = match self.chance.below(100) {
            0..60 => self.chance.millis(5, 1500),
            60..85 => self.chance.millis(1000, 6000),
            _ => self.plan.disconnected_ttl + self.chance.millis(0, 10_000),
        };
        // The moments around the end are those in which old knowledge meets new.
        for _ in 0..self.chance.below(3) {
            let at = (lasts + self.chance.millis(0, 60)).saturating_sub(self.chance.millis(0, 120));
            self.later(at, move |world| world.rush(node));
        }
        match fault {
            Fault::Partition => self.partition(node, lasts),
            Fault::Down => self.on_paths(node, path, lasts, "fault: link down", |faults| faults.down = true),
            Fault::Reset => {
                self.count("fault: connection reset", || format!("node {node}: connection reset, {path:?}"));
                self.sites[node].remote.cut(path);
            }
            Fault::Slow => {
                let most = Duration::from_millis(self.chance.pick(&[30, 200, 1500]));
                self.on_paths(node, path, lasts, "fault: slow", |faults| {
                    faults.delay = Some((most / 20, most));
                });
            }
            Fault::Loss => {
                let (there, back) = (self.chance.pick(&[0, 100, 400]), self.chance.pick(&[100, 400, 1000]));
                self.on_paths(node, path, lasts, LOSS, |faults| {
                    (faults.lose_requests, faults.lose_answers) = (there, back);
                });
            }
            Fault::Refusals => {
                let most = self.chance.pick(&[200, 1000]);
                self.on_paths(node, path, lasts, "fault: refusals", |faults| faults.refuse = most);
            }
            Fault::NoWrites => {
                self.count("fault: no writes", || "the server refuses to write".to_owned());
                self.redis.refuse_writes(true);
                let lasts = lasts + self.chance.millis(0, 90_000);
                self.later(lasts, |world| {
                    world.say(|| "the server writes again".to_owned());
                    world.redis.refuse_writes(false);
                });
            }
            Fault::StoresHeld => {
                self.count("fault: stores held", || format!("node {node}: its stores are held"));
                self.sites[node].remote.set(|faults| faults.hold_stores = true);
                let remote = self.sites[node].remote.clone();
                self.later(lasts.min(Duration::from_millis(1900)), move |_| {
                    remote.set(|faults| faults.hold_stores = false);
                });
            }
            Fault::Pause => self.pause(node, lasts),
            Fault::Kill => self.kill(node),
            Fault::Shutdown => self.shut_down(node),
            Fault::LoseLeases => {
                self.count("fault: leases lost", || "all leases are evicted".to_owned());
                self.facts.lock().loads.leases_lost();
                self.redis.lose_leases();
            }
            Fault::Source => self.source(lasts),
            Fault::Flush => {
                self.count("fault: flush", || "FLUSHALL".to_owned());
                self.facts.lock().loads.leases_lost();
                self.log_breaks();
                self.redis.flush();
            }
            Fault::RestartWithData => {
                self.count("fault: restart with data", || "the server restarts with its data".to_owned());
                self.fail_over(Successor::default());
            }
            Fault::RestartEmpty => {
                self.count("fault: restart without data", || "the server restarts empty".to_owned());
                self.facts.lock().loads.leases_lost();
                self.log_breaks();
                self.redis.restart_empty();
                self.notice_the_new_server();
            }
            Fault::Failover => {
                self.count("fault: failover", || "failover".to_owned());
                self.fail_over(Successor::default());
            }
            Fault::LogFailover => {
                self.count("fault: failover of the log alone", || "failover of the log's shard".to_owned());
                self.fail_over(Successor { values_stay: true, ..Successor::default() });
            }
            Fault::RollBack => {
                if self.plan.redis.replica.is_none() {
                    return;
                }
                self.count("fault: rolled back to before a flush", || "FLUSHALL, and a failover".to_owned());
                self.facts.lock().loads.leases_lost();
                self.log_breaks();
                self.redis.flush();
                // Some notice, some do not.
                let soon = self.chance.millis(0, 60);
                self.run_for(soon);
                self.fail_over(Successor { before_flush: true, ..Successor::default() });
            }
            Fault::SplitBrain => {
                self.count("fault: deposed primary answers", || {
                    "failover; the old primary goes on answering".to_owned()
                });
                self.facts.lock().loads.split(true, self.executor.now());
                self.fail_over(Successor { split: true, ..Successor::default() });
                self.later(lasts, |world| {
                    world.facts.lock().loads.split(false, world.executor.now());
                    world.say(|| "the deposed primary ends".to_owned());
                    world.redis.end_deposed();
                    world.notice_the_new_server();
                });
            }
            Fault::Trim if self.chance.percent(40) => self.trim_unread(node),
            Fault::Trim => {
                let kept = self.chance.index(3);
                self.count("fault: stream trimmed", || format!("the stream is trimmed to {kept}"));
                self.log_breaks();
                self.redis.trim(kept);
            }
            Fault::LoseStream => {
                self.count("fault: stream lost", || "the stream is evicted".to_owned());
                self.log_breaks();
                self.redis.lose_records();
            }
            Fault::LoseStamps => {
                self.count("fault: stamps lost", || "state and stamps are evicted".to_owned());
                self.log_breaks();
                self.redis.lose_state();
            }
            Fault::LoseOld => {
                self.count("fault: old stamps lost", || "the older stamps are evicted".to_owned());
                self.log_breaks();
                self.redis.lose_old();
            }
            Fault::LoseLog => {
                self.count("fault: log lost", || "all of the log is deleted".to_owned());
                self.log_breaks();
                self.redis.lose_log();
            }
            Fault::Calendar => {
                let back = self.chance.percent(50);
                self.count("fault: calendar step", || {
                    format!("node {node}: its calendar steps, back: {back}")
                });
                let step = i64::try_from(STEP.as_millis()).unwrap_or(0);
                self.sites[node].machine.step_calendar(if back { -step } else { step });
            }
            Fault::ServerClock => {
                let back = self.chance.percent(50);
                self.count("fault: server clock step", || format!("the server's clock steps, back: {back}"));
                self.facts.lock().oracle.clock_was_set = true;
                self.redis.step_clock(STEP, back);
            }
        }
    }

    /// The stream is trimmed while a node does not read it; when it does, it must read the stamps, slowly, and they rotate under its
    /// eyes.
    fn trim_unread(&mut self, node: usize) {
        self.count("fault: trimmed unread", || {
            format!("node {node}: does not read what is going to be trimmed")
        });
        let (remote, delay) = (self.sites[node].remote.clone(), self.plan.delay);
        let trip = self.chance.millis(60, 300);
        remote.set(|faults| {
            faults.on(Path::Follow).hang = true;
            faults.on(Path::Log).delay = Some((trip, trip * 2));
        });
        for _ in 0..3 {
            let (at, row) = (self.chance.millis(0, 250), self.any_row());
            self.later(at, move |world| world.write_somewhere(row));
        }
        let (follow, unread) = (remote.clone(), Duration::from_millis(400));
        self.later(unread, move |world| {
            world.log_breaks();
            world.redis.trim(0);
            follow.set(|faults| faults.on(Path::Follow).hang = false);
        });
        for _ in 0..self.chance.between(8, 24) {
            let at = unread + self.chance.millis(0, 2500);
            let row = self.any_row();
            self.later(at, move |world| world.write_somewhere(row));
        }
        for _ in 0..4 {
            let at = unread + self.chance.millis(500, 4000);
            self.later(at, move |world| world.rush(node));
        }
        self.later(Duration::from_secs(4), move |_| {
            remote.set(|faults| faults.on(Path::Log).delay = Some(delay));
        });
    }

    fn log_breaks(&self) {
        self.facts.lock().loads.log_broke(self.executor.now());
    }

    /// Loads of a row fail for a while; readers come all the same.
    fn source(&mut self, lasts: Duration) {
        let row = self.any_row();
        self.count("fault: source away", || format!("loads of row {row} fail"));
        self.facts.lock().failing = Some((row, self.executor.now() + nanos(lasts)));
        for _ in 0..self.chance.between(5, 20) {
            let at = self.chance.millis(0, u64::try_from(lasts.as_millis()).unwrap_or(1000));
            self.later(at, move |world| {
                let node = world.chance.index(world.sites.len());
                let site = world.sites[node].clone();
                if !world.paused.contains(&site.process()) {
                    world.read(&site, row);
                }
            });
        }
    }

    fn partition(&mut self, node: usize, lasts: Duration) {
        let (paths, name): (&[Path], _) = match self.chance.below(4) {
            0 => (&[Path::Values], "fault: partition, values"),
            1 => (&[Path::Log, Path::Follow], "fault: partition, log"),
            2 => (&[Path::Follow], "fault: partition, follower"),
            _ => (&Path::ALL, "fault: partition, all"),
        };
        self.count(name, || format!("node {node}: partition of {paths:?}"));
        let longest = self.plan.disconnected_ttl + Duration::from_millis(1200);
        let row = self.any_row();
        let outlasts = longest < self.facts.lock().timeout(row);
        let lasts = match paths.contains(&Path::Follow) && outlasts && self.chance.percent(50) {
            true => self.blind(node, row),
            false => lasts,
        };
        let remote = self.sites[node].remote.clone();
        remote.set(|faults| paths.iter().for_each(|path| faults.on(*path).hang = true));
        let cut = self.chance.percent(50);
        self.later(lasts, move |world| {
            world.say(|| format!("node {node}: the partition of {paths:?} ends, connections break: {cut}"));
            // What the black hole held goes through, or is lost with its connection.
            if cut {
                paths.iter().for_each(|path| remote.cut(*path));
            }
            remote.set(|faults| paths.iter().for_each(|path| faults.on(*path).hang = false));
        });
    }

    /// A node is cut off for a little longer than `disconnected_ttl`, with a load under way all the while: others write, readers
    /// come to that load at the very end. Answers how long the node is cut off.
    fn blind(&mut self, node: usize, row: usize) -> Duration {
        let lasts = self.plan.disconnected_ttl + self.chance.millis(300, 1000);
        let until = self.executor.now() + nanos(lasts + self.chance.millis(0, 60));
        self.facts.lock().slow = Some((row, until));
        let site = self.sites[node].clone();
        self.read(&site, row);
        for _ in 0..2 {
            let at = self.chance.millis(1, 200);
            self.later(at, move |world| world.write_somewhere(row));
        }
        for _ in 0..3 {
            let at = lasts.saturating_sub(self.chance.millis(0, 40));
            self.later(at, move |world| {
                let site = world.sites[node].clone();
                world.read(&site, row);
            });
        }
        lasts
    }

    fn on_paths(
        &mut self,
        node: usize,
        path: Path,
        lasts: Duration,
        name: &'static str,
        change: impl Fn(&mut PathFaults),
    ) {
        let paths: &[Path] = match (self.chance.percent(50), path) {
            (true, _) => &Path::ALL,
            (false, Path::Values) => &[Path::Values],
            (false, Path::Log) => &[Path::Log],
            (false, Path::Follow) => &[Path::Follow],
        };
        self.count(name, || format!("node {node}: {name} on {paths:?}"));
        let (remote, delay) = (self.sites[node].remote.clone(), self.plan.delay);
        remote.set(|faults| paths.iter().for_each(|path| change(faults.on(*path))));
        self.later(lasts, move |world| {
            world.say(|| format!("node {node}: {name} on {paths:?} ends"));
            if name == LOSS {
                // A connection that loses something does not live on.
                paths.iter().for_each(|path| remote.cut(*path));
            }
            remote.set(|faults| {
                for path in paths {
                    let hang = faults.on(*path).hang;
                    *faults.on(*path) = PathFaults { delay: Some(delay), hang, ..PathFaults::default() };
                }
            });
        });
    }

    /// Another server takes over.
    fn fail_over(&mut self, successor: Successor) {
        let Successor { split, values_stay, before_flush } = successor;
        let most = self.redis.unreplicated();
        let lost = match before_flush {
            true => self.redis.since_flush(),
            false if most > 0 && self.chance.percent(70) => self.chance.index(most) + 1,
            false => 0,
        };
        let clock = match self.plan.faults.contains(&Fault::ServerClock) && self.chance.percent(40) {
            true => {
                self.facts.lock().oracle.clock_was_set = true;
                let step = i64::try_from(STEP.as_micros()).unwrap_or(0);
                self.chance.pick(&[-step, step])
            }
            false => 0,
        };
        if lost > 0 || split {
            self.facts.lock().loads.leases_lost();
        }
        self.log_breaks();
        let lost = self.redis.fail_over(lost, values_stay, split, clock);
        if !lost.is_empty() {
            self.facts.lock().counts.add("fault: records lost with a primary");
            self.facts.lock().oracle.lost(&lost);
        }
        self.say(|| {
            let lost: Vec<_> = lost.iter().map(ToString::to_string).collect();
            format!("a new primary; lost: [{}]", lost.join(", "))
        });
        if split {
            // Some notice at once, the others go on with the old one.
            for node in 0..self.sites.len() {
                for path in Path::ALL {
                    if self.chance.percent(40) {
                        self.sites[node].remote.cut(path);
                    }
                }
            }
        } else {
            self.notice_the_new_server();
        }
    }

    /// Connections to a server that is gone break: at once, or after a silence.
    fn notice_the_new_server(&mut self) {
        for node in 0..self.sites.len() {
            for path in Path::ALL {
                let remote = self.sites[node].remote.clone();
                if !remote.is_astray(path) {
                    continue;
                }
                if self.chance.percent(70) {
                    remote.cut(path);
                } else {
                    remote.set(|faults| faults.on(path).hang = true);
                    let silence = self.chance.millis(10, 5000);
                    self.later(silence, move |_| {
                        remote.cut(path);
                        remote.set(|faults| faults.on(path).hang = false);
                    });
                }
            }
        }
    }

    fn pause(&mut self, node: usize, lasts: Duration) {
        let site = self.sites[node].clone();
        if !self.paused.insert(site.process()) {
            return;
        }
        self.count("fault: node paused", || format!("{site}: stands still"));
        self.facts.lock().loads.process_stops(site.process());
        self.executor.pause(site.process());
        self.later(lasts, move |world| {
            world.say(|| format!("{site}: goes on"));
            world.paused.remove(&site.process());
            let now = world.executor.now();
            world.facts.lock().loads.process_goes_on(site.process(), now);
            world.executor.resume(site.process());
        });
    }

    /// As a rolling restart does it.
    fn shut_down(&mut self, node: usize) {
        let site = self.sites[node].clone();
        if site.app().is_none() || self.paused.contains(&site.process()) {
            return;
        }
        self.count("fault: node shut down", || format!("{site}: is shut down"));
        self.facts.lock().loads.process_closes(site.process());
        let closing = site.clone();
        spawn(&site, async move {
            if let Some(app) = closing.app() {
                let in_time = app.cache.shutdown(Duration::from_secs(1)).await;
                closing.say(None, || format!("shut down, in time: {in_time}"));
            }
        });
        self.later(Duration::from_millis(1100), move |world| {
            if world.sites[node].process() == site.process() {
                world.replace(node);
            }
        });
    }

    fn kill(&mut self, node: usize) {
        let process = self.sites[node].process();
        self.count("fault: node killed", || format!("node {node} (process {process}) dies"));
        self.replace(node);
    }

    /// A process ends, and another begins.
    fn replace(&mut self, node: usize) {
        let site = self.sites[node].clone();
        self.slots.retain(|held| held.site.process() != site.process());
        self.paused.remove(&site.process());
        {
            let facts = &mut *self.facts.lock();
            facts.oracle.process_dies(site.process());
            facts.loads.process_dies(site.process());
        }
        self.executor.kill(site.process());
        self.begin_process(node);
    }

    /// Does something after a while.
    pub(crate) fn later(&mut self, after: Duration, what: impl FnOnce(&mut World) + 'static) {
        let at = self.executor.now() + nanos(after);
        self.endings.push((at, Box::new(what)));
    }
}
