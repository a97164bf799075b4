//! Loads as they run, side by side or one after the other.

use super::leases::Answer;
use super::{Account, End, KeyId, Known, Loads, SLACK, Token, When};
use crate::executor::{Process, Time};
use crate::oracle::nanos;

/// A load under way.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) load: usize,
    process: Process,
    key: KeyId,
    began: When,
    /// When its flight can have begun at the earliest.
    set_out: Time,
    led: bool,
    /// The lease it began with.
    pub(super) token: Option<Token>,
    /// Its process had heard of all that was in the log.
    caught_up: bool,
    /// Why it began without.
    without: Option<&'static str>,
}

/// What a process has done with a key.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Its last load that others might wait for: when it began, when it ended, and how.
    last: Option<(usize, When, Time, End)>,
    set_out: Time,
    /// It had heard of all that was in the log when that began; and how often it had missed something when it ended.
    caught_up: bool,
    gaps: u64,
    /// Until when the key rests: its last load has failed at this moment.
    failed: Option<Time>,
    /// Something stale was served from memory.
    shown: Option<(usize, When, u64)>,
    put: Time,
    /// A store was refused: others have something later, and what this process has is gone.
    overtaken: Time,
}

impl Loads {
    /// A load begins.
    pub(crate) fn begins(
        &mut self,
        process: Process,
        key: KeyId,
        load: usize,
        account: Account,
        known: &mut Known<'_>,
    ) -> Result<(), String> {
        let when = When { seq: known.oracle.now(), at: known.now };
        let Account { led, caught_up, .. } = account;
        let set_out = self.set_out(process, key, known);
        let mut run =
            Run { load, process, key, began: when, set_out, led, token: None, caught_up, without: None };
        if !account.led {
            known.counts.add("load: apart");
            self.running.push(run);
            return Ok(());
        }
        let mut verdict = self.is_alone_at_home(&run, known);
        verdict = verdict.and_then(|()| self.is_needed(process, key, account, known));
        verdict = verdict.and_then(|()| self.is_rested(process, key, account, known));
        if self.rules[known.resource(key)].lease {
            match self.turn(process, key, account, known) {
                Ok(Ok(token)) => {
                    known.counts.add("load: with a lease");
                    run.token = Some(token);
                    self.use_lease(token);
                }
                Ok(Err(reason)) => {
                    known.counts.add(reason);
                    run.without = Some(reason);
                }
                Err(broken) => verdict = verdict.and(Err(format!("load {load}: {broken}"))),
            }
            verdict = verdict.and_then(|()| self.is_alone(&run, known));
        }
        self.running.push(run);
        verdict
    }

    /// It ends.
    pub(crate) fn ends(&mut self, load: usize, end: End, known: &mut Known<'_>) {
        let Some(at) = self.running.iter().position(|run| run.load == load) else { return };
        let run = self.running.swap_remove(at);
        self.ended.insert(run.key, (run.process, known.now));
        self.freed.insert((run.process, known.resource(run.key)), known.now);
        match end {
            End::Failed | End::Dropped => drop(self.failures.insert((run.process, run.key), known.now)),
            End::Unknown => drop(self.unknown.insert(run.key)),
            End::Value => {}
        }
        if !run.led {
            return;
        }
        let timeout = nanos(self.rules[known.resource(run.key)].load_timeout);
        let is_over = end == End::Dropped && known.now >= run.began.at + timeout;
        let gaps = self.gaps(run.process);
        let past = self.past.entry((run.process, run.key)).or_default();
        past.last = Some((load, run.began, known.now, end));
        (past.gaps, past.caught_up, past.set_out) = (gaps, run.caught_up, run.set_out);
        if end == End::Failed || is_over {
            past.failed = Some(known.now);
            past.shown = None;
        } else if end == End::Value {
            past.failed = None;
        }
    }

    /// A value was put by hand.
    pub(crate) fn puts(&mut self, process: Process, key: KeyId, now: Time) {
        self.past.entry((process, key)).or_default().put = now;
    }

    /// A store of a process was refused.
    pub(crate) fn overtaken(&mut self, process: Process, key: KeyId, now: Time) {
        self.past.entry((process, key)).or_default().overtaken = now;
    }

    /// Something stale was served from memory.
    pub(crate) fn shows(
        &mut self,
        process: Process,
        key: KeyId,
        load: usize,
        caught_up: bool,
        known: &Known<'_>,
    ) {
        let (when, gaps) = (When { seq: known.oracle.now(), at: known.now }, self.gaps(process));
        let shown = caught_up.then_some((load, when, gaps));
        self.past.entry((process, key)).or_default().shown = shown;
    }

    /// Why a read of this process, since `since`, may be answered with what is too old to be served at once.
    pub(crate) fn may_be_old(
        &self,
        process: Process,
        key: KeyId,
        since: Time,
        known: &Known<'_>,
    ) -> Option<&'static str> {
        let (rules, now) = (&self.rules[known.resource(key)], known.now);
        let rest = since.saturating_sub(nanos(rules.retry_after) + SLACK);
        let failed = self.past.get(&(process, key)).and_then(|past| past.failed);
        if let Some(failed) = failed.filter(|failed| *failed >= rest) {
            return Some(if failed >= since { "stale: its load failed" } else { "stale: its key rests" });
        }
        let soft = rules.soft_timeout.map(nanos);
        if soft.is_some_and(|soft| now - since + SLACK >= soft) {
            return Some("stale: its load was slow");
        }
        let node = self.nodes.get(&process)?;
        if node.overloaded.get(&known.resource(key)).is_some_and(|at| *at >= rest) {
            return Some("stale: no room to load");
        }
        let timeout = nanos(rules.load_timeout);
        let is_late = |run: &&Run| run.process == process && run.key == key && run.began.at + timeout <= now;
        let is_late = self.running.iter().any(|run| is_late(&run));
        (is_late || !node.has_run_since(since)).then_some("stale: its process stood still")
    }

    /// May a read of this process, since `since`, have failed for this reason?
    pub(crate) fn may_fail(
        &self,
        process: Process,
        key: KeyId,
        since: Time,
        reason: &str,
        known: &Known<'_>,
    ) -> bool {
        let rules = &self.rules[known.resource(key)];
        let timeout = nanos(rules.load_timeout);
        let node = self.nodes.get(&process);
        let failed = self.failures.get(&(process, key)).is_some_and(|at| at + SLACK >= since);
        let closing = node.is_none_or(|node| node.closing);
        match reason {
            "loader" | "panicked" => failed,
            "timed_out" => {
                let is_late = |run: &Run| {
                    (run.process, run.key) == (process, key) && run.began.at + timeout <= known.now + SLACK
                };
                failed
                    || known.now + SLACK >= since + timeout
                    || self.running.iter().any(is_late)
                    || node.is_none_or(|node| !node.has_run_since(since))
            }
            "overloaded" => rules.max_loads.is_some(),
            "shutting_down" => closing,
            "refused" => closing || self.unknown.contains(&key),
            _ => false,
        }
    }

    /// In one process there is one load of a key.
    fn is_alone_at_home(&self, new: &Run, known: &mut Known<'_>) -> Result<(), String> {
        let Run { process, key, .. } = *new;
        let timeout = nanos(self.rules[known.resource(key)].load_timeout);
        let put = self.past.get(&(process, key)).map_or(0, |past| past.put);
        let node = self.nodes.get(&process);
        for run in self.running.iter().filter(|run| run.led && run.process == process && run.key == key) {
            // Whoever a value was put over goes on, and may begin to load after the next one.
            let since = run.set_out.min(new.set_out);
            let count = match () {
                () if put >= since => "in one process: a value was put",
                () if run.began.at + timeout <= known.now => "in one process: past its timeout",
                () if node.is_none_or(|node| !node.has_run_since(since)) => "in one process: it stood still",
                () => return Err(format!("process {process} loads it already: load {}", run.load)),
            };
            known.counts.add(count);
        }
        Ok(())
    }

    /// Among all processes there is one load of a key, while leases are to be had.
    fn is_alone(&mut self, new: &Run, known: &mut Known<'_>) -> Result<(), String> {
        let others: Vec<_> = self
            .running
            .iter()
            .filter(|run| run.led && run.key == new.key && run.process != new.process)
            .map(|run| (run.load, run.process, run.token, run.without))
            .collect();
        if others.is_empty() {
            if self.ended.contains_key(&new.key) {
                known.counts.add("pairs of loads judged");
            }
            return Ok(());
        }
        for (load, process, token, without) in others {
            known.counts.add("pairs of loads judged");
            let old = new.without.or(without).map(|_| "overlap: one is without a lease");
            let old = old.or_else(|| self.lost_lease(token?, known));
            match old.or_else(|| self.lost_lease(new.token?, known)) {
                Some(count) => known.counts.add(count),
                None => return Err(format!("process {process} loads it already, with a lease: load {load}")),
            }
        }
        Ok(())
    }

    /// The lease that a load begins with, or why it has none.
    fn turn(
        &self,
        process: Process,
        key: KeyId,
        account: Account,
        known: &Known<'_>,
    ) -> Result<Result<Token, &'static str>, String> {
        let askings = || self.askings.get(&(process, key)).into_iter().flatten();
        let held = askings().find(|asking| asking.answer == Answer::Granted && self.has_lease(asking.token));
        if let Some(asking) = held {
            return Ok(Ok(asking.token));
        }
        let (rules, now) = (&self.rules[known.resource(key)], known.now);
        let Some(node) = self.nodes.get(&process) else { return Err("a process that is none".to_owned()) };
        // Since when the lease may have been given up: those of a batch wait for each other's answers, and whoever has waited
        // for a place since has not asked again.
        let for_place = if self.has_waited(process, key, known) { nanos(rules.load_timeout) } else { 0 };
        let since = now.saturating_sub(for_place + nanos(larder_core::defaults::REMOTE_BUDGET) + SLACK);
        if account.position.is_none() || !account.serves {
            return Ok(Err("no lease: cut off from the log"));
        }
        if node.closing {
            return Ok(Err("no lease: shutting down"));
        }
        if node.breaker_open || node.breaker_closed >= since {
            return Ok(Err("no lease: the breaker is open"));
        }
        if self.gave_up.get(&(process, key)).is_some_and(|at| *at >= since) {
            return Ok(Err("no lease: no answer"));
        }
        for asking in askings() {
            let timeout = nanos(rules.load_timeout);
            if asking.answer == Answer::None && asking.last >= since {
                return Ok(Err("no lease: no answer"));
            }
            if asking.apart && asking.last >= since.saturating_sub(timeout) {
                return Ok(Err("no lease: not for sharing"));
            }
            if asking.last >= since.saturating_sub(timeout) && now - asking.first + SLACK >= timeout {
                return Ok(Err("no lease: waited as long as a load may take"));
            }
            if asking.values > 4 {
                return Ok(Err("no lease: values of no use"));
            }
        }
        if for_place > 0 {
            return Ok(Err("no lease: waited for a place"));
        }
        Err(format!("it begins without a lease, and nothing kept it from having one: {:?}", askings().next()))
    }

    /// When the flight of a load that begins now can have begun at the earliest: it has looked the key up, waited for a lease,
    /// and perhaps for a place.
    fn set_out(&self, process: Process, key: KeyId, known: &Known<'_>) -> Time {
        let rules = &self.rules[known.resource(key)];
        let budget = nanos(larder_core::defaults::REMOTE_BUDGET) + SLACK;
        let timeout = nanos(rules.load_timeout);
        let for_place = if rules.max_loads.is_some() { timeout } else { 0 };
        let askings = self.askings.get(&(process, key)).into_iter().flatten();
        // Who waits asks again every 200 ms.
        let near = known.now.saturating_sub(for_place + budget + 300_000_000);
        let asked = askings.filter(|asking| asking.last >= near).map(|asking| asking.first).min();
        asked.unwrap_or(known.now).min(known.now.saturating_sub(for_place)).saturating_sub(budget)
    }

    /// Has a load that begins now waited for a place among those of its process?
    fn has_waited(&self, process: Process, key: KeyId, known: &Known<'_>) -> bool {
        let resource = known.resource(key);
        let freed = self.freed.get(&(process, resource));
        self.rules[resource].max_loads.is_some() && freed.is_some_and(|at| at + SLACK >= known.now)
    }

    /// What a process has loaded and may serve is not loaded again.
    fn is_needed(
        &self,
        process: Process,
        key: KeyId,
        account: Account,
        known: &mut Known<'_>,
    ) -> Result<(), String> {
        let rules = &self.rules[known.resource(key)];
        let Some(past) = self.past.get(&(process, key)) else { return Ok(()) };
        let Some((load, began, ended, End::Value)) = past.last else { return Ok(()) };
        let is_good = known.now + SLACK < ended + nanos(rules.fresh.0);
        let others = self.ended.get(&key).is_some_and(|(of, _)| *of != process);
        let replaced = past.put.max(past.overtaken) >= past.set_out;
        if !rules.memory || rules.early || !is_good || others || replaced {
            return Ok(());
        }
        if !past.caught_up || past.gaps != self.gaps(process) || !self.is_quiet(load, began, account, known) {
            return Ok(());
        }
        Err(format!("it is loaded again, although load {load} is good"))
    }

    /// What a load has failed at is not tried again for a while, if there is something stale.
    fn is_rested(
        &self,
        process: Process,
        key: KeyId,
        account: Account,
        known: &mut Known<'_>,
    ) -> Result<(), String> {
        let rules = &self.rules[known.resource(key)];
        let Some(past) = self.past.get(&(process, key)) else { return Ok(()) };
        let (Some(failed), Some((load, shown, gaps))) = (past.failed, past.shown) else { return Ok(()) };
        let of = &known.db.loads[load];
        let rests = known.now + SLACK < failed + nanos(rules.retry_after);
        // When it came to this node it may have been a little older than it is here.
        let usable =
            (of.ended_at + nanos(rules.fresh.0 + rules.window)).saturating_sub(crate::oracle::LEARNED);
        let is_usable = known.now < usable && past.put < failed;
        let began = When { seq: of.began, at: shown.at };
        if !rests || !is_usable || gaps != self.gaps(process) || !self.is_quiet(load, began, account, known) {
            return Ok(());
        }
        Err(format!(
            "it failed {} ms ago, there is something stale (load {load}), and it is tried again",
            (known.now - failed) / 1_000_000
        ))
    }

    /// Has nothing befallen what this load brought?
    fn is_quiet(&self, load: usize, since: When, account: Account, known: &Known<'_>) -> bool {
        let of = &known.db.loads[load];
        let sels = known.db.rows[of.row].selectors.iter().chain(&of.tags);
        self.roomy
            && !known.oracle.clock_was_set
            && account.serves
            && self.log_broke.is_none_or(|broke| broke < self.reach(since.at))
            && (self.wide || known.oracle.applied_after(since.seq) == 0)
            && !sels.into_iter().any(|sel| known.oracle.is_named_since(*sel, of.began))
    }

    /// At the end nothing runs.
    pub(crate) fn still_running(&self) -> usize {
        self.running.len()
    }
}
