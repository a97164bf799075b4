//! Leases, as the servers grant them and as the processes ask for them.

use std::collections::BTreeMap;

use larder_core::testing::{LeaseEnd, Path};
use larder_core::{Epoch, LeaseAnswer, LeaseRequest, Mode, StoreLease};

use super::{ASKINGS, KeyId, Known, Loads, SLACK, TURN, Token, When};
use crate::executor::{Process, Time};
use crate::oracle::nanos;

/// A lease that was granted.
#[derive(Debug)]
pub(super) struct Lease {
    process: Process,
    key: KeyId,
    /// Where the log stood for its holder.
    epoch: Epoch,
    granted: When,
    renewed: Time,
    until: Time,
    life: Time,
    /// By the primary.
    primary: bool,
    losses: u64,
    pub(super) fate: Option<Fate>,
    /// Its holder knows that it has it.
    told: bool,
    /// Its holder has sent its end.
    given_back: bool,
    /// Calls about it under way.
    calls: usize,
    /// Those who were refused, by the tokens they asked with; and by which server.
    waiters: BTreeMap<Token, (Process, u64)>,
    /// A load has begun with it.
    pub(super) used: bool,
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    GivenBack,
    Broken,
    Overtaken,
    Lost,
    RanOut,
}

/// How far a process has come with asking for the lease of a key.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) token: Token,
    pub(super) first: Time,
    pub(super) last: Time,
    pub(super) values: usize,
    pub(super) answer: Answer,
    /// It was told that others' answers are for themselves.
    pub(super) apart: bool,
    /// The lease that it waits for is in vain, as it knows.
    vain: Option<Token>,
    /// Since when it can have heard that the lease it waits for has ended.
    woken: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// None yet.
    Open,
    None,
    Granted,
    Value,
    Held(Time),
}

impl Loads {
    /// A process asks.
    pub(crate) fn asks(
        &mut self,
        process: Process,
        key: KeyId,
        request: &LeaseRequest,
        known: &mut Known<'_>,
    ) -> Result<(), String> {
        let now = known.now;
        let allowed = self.trip() + SLACK + self.nodes.len() as u64 * TURN;
        let has_run =
            |loads: &Loads, since| loads.nodes.get(&process).is_some_and(|n| n.has_run_since(since));
        let mut verdict = Ok(());
        let of_key = self.askings.get(&(process, key));
        let again = of_key.and_then(|all| all.iter().find(|asking| asking.token == request.token));
        if let Some(asking) = again {
            if let (Some(vain), true) = (asking.vain, request.vain != asking.vain) {
                verdict = Err(format!("it waits for the lease {vain:x}, which is in vain, as it knows"));
            }
            if let (Answer::Held(told), Some(woken)) = (asking.answer, asking.woken)
                && has_run(self, told)
            {
                known.counts.add("lease: waiter woken");
                let late = now.saturating_sub(told.max(woken));
                if late > allowed {
                    let late = late / 1_000_000;
                    verdict =
                        Err(format!("it asks again {late} ms after the lease that it waits for has ended"));
                }
            }
        }
        let (first, values, apart) = again.map_or((now, 0, false), |a| (a.first, a.values, a.apart));
        let (token, answer) = (request.token, Answer::Open);
        let asking = Asking { token, first, last: now, values, answer, apart, vain: None, woken: None };
        let all = self.askings.entry((process, key)).or_default();
        all.retain(|asking| asking.token != token);
        all.push_front(asking);
        all.truncate(ASKINGS);
        verdict
    }

    /// It has its answer, or gives up.
    pub(crate) fn told(
        &mut self,
        process: Process,
        key: KeyId,
        token: Token,
        answer: Option<&LeaseAnswer>,
        known: &mut Known<'_>,
    ) {
        let now = known.now;
        if answer.is_none() {
            self.node(process).trouble = now;
            known.counts.add("lease: no answer");
        }
        let vain = match answer {
            Some(LeaseAnswer::Held { token: held, .. }) => self.leases.get(held).and_then(|lease| {
                let sels = &known.db.rows[key / 2].selectors;
                known.oracle.in_force_since(process, Mode::Hard, sels, lease.granted.seq).then_some(*held)
            }),
            _ => None,
        };
        if let (Some(LeaseAnswer::Granted), Some(lease)) = (answer, self.leases.get_mut(&token)) {
            lease.told = true;
        }
        let Some(asking) = self.asking(process, key, token) else { return };
        asking.last = now;
        asking.vain = vain;
        asking.answer = match answer {
            None => Answer::None,
            Some(LeaseAnswer::Granted) => Answer::Granted,
            Some(LeaseAnswer::Value(_)) => {
                asking.values += 1;
                Answer::Value
            }
            Some(LeaseAnswer::Held { .. }) => Answer::Held(now),
        };
    }

    /// A process has looked a key up, and gives up: then its budget is spent.
    pub(crate) fn gives_up_look(&mut self, process: Process, key: KeyId, now: Time) {
        self.gave_up.insert((process, key), now);
    }

    /// A call about a lease that a process has: it is extended, given back, or ends with a store.
    pub(crate) fn calls(&mut self, token: Token, ends: bool) {
        if let Some(lease) = self.leases.get_mut(&token) {
            lease.calls += 1;
            lease.given_back |= ends;
        }
    }

    /// That call is over.
    pub(crate) fn called(&mut self, process: Process, token: Token, answered: bool, now: Time) {
        if let Some(lease) = self.leases.get_mut(&token) {
            lease.calls = lease.calls.saturating_sub(1);
        }
        if !answered {
            self.node(process).trouble = now;
        }
    }

    /// A server grants one.
    pub(crate) fn granted(
        &mut self,
        process: Process,
        primary: bool,
        key: KeyId,
        request: &LeaseRequest,
        held: Option<Token>,
        known: &mut Known<'_>,
    ) -> Result<(), String> {
        known.counts.add("lease: granted");
        let (now, token, seq) = (known.now, request.token, known.oracle.now());
        let mut verdict = Ok(());
        let mut waiters = BTreeMap::new();
        match held.filter(|held| *held != token) {
            Some(held) if request.vain == Some(held) => {
                known.counts.add("lease: taken over in vain");
                if let Some(lease) = self.leases.get(&held) {
                    verdict = self.is_in_vain(process, lease, known);
                }
                if let Some(lease) = self.leases.get_mut(&held) {
                    lease.fate.get_or_insert(Fate::Overtaken);
                    waiters = std::mem::take(&mut lease.waiters);
                }
            }
            Some(held) => verdict = Err(format!("the lease {token:x} is granted, although {held:x} lives")),
            None if primary => {
                if let Some(last) = self.current.get(&key).copied().filter(|last| *last != token) {
                    verdict = self.is_gone(last, known);
                }
            }
            None => {}
        }
        waiters.remove(&token);
        if primary {
            self.current.insert(key, token);
        }
        let life = nanos(request.life);
        let lease = Lease {
            process,
            key,
            epoch: request.epoch,
            granted: When { seq, at: now },
            renewed: now,
            until: now + life,
            life,
            primary,
            losses: self.losses,
            fate: None,
            told: false,
            given_back: false,
            calls: 0,
            waiters,
            used: false,
        };
        self.leases.insert(token, lease);
        verdict
    }

    /// A lease that nobody has ended is there no more: why?
    fn is_gone(&mut self, token: Token, known: &mut Known<'_>) -> Result<(), String> {
        let Some(lease) = self.leases.get(&token).filter(|lease| lease.fate.is_none()) else { return Ok(()) };
        let has_run_out = known.now >= lease.until || known.oracle.clock_was_set;
        let (fate, verdict) = match has_run_out {
            _ if lease.losses != self.losses => (Fate::Lost, Ok(())),
            true => (Fate::RanOut, self.may_run_out(token, lease, known)),
            false => (Fate::Lost, Err(format!("the lease {token:x} has vanished"))),
        };
        known.counts.add(match fate {
            Fate::RanOut => "lease: run out",
            _ => "lease: lost by the store",
        });
        if let Some(lease) = self.leases.get_mut(&token) {
            lease.fate = Some(fate);
        }
        verdict
    }

    /// A lease runs out only if its holder is gone, stood still, or could not get through.
    fn may_run_out(&self, token: Token, lease: &Lease, known: &Known<'_>) -> Result<(), String> {
        let Some(node) = self.nodes.get(&lease.process) else { return Ok(()) };
        let gets_through = !node.breaker_open
            && node.breaker_closed < lease.renewed
            && node.trouble < lease.renewed
            && lease.calls == 0
            && lease.told;
        if known.oracle.clock_was_set || !node.has_run_since(lease.renewed) || !gets_through {
            return Ok(());
        }
        Err(format!(
            "the lease {token:x} of process {} has run out, although nothing kept it from being {}",
            lease.process,
            if self.running.iter().any(|run| run.token == Some(token)) { "extended" } else { "given back" }
        ))
    }

    /// Was what the holder of a lease began to load invalidated, so that `by` may take it over?
    fn is_in_vain(&self, by: Process, lease: &Lease, known: &mut Known<'_>) -> Result<(), String> {
        let sels = &known.db.rows[lease.key / 2].selectors;
        let since = self.reach(lease.granted.at);
        let count = match () {
            () if known.oracle.has_later(Mode::Hard, sels, lease.epoch) => "lease: in vain by the log",
            () if known.oracle.is_pending(by, Mode::Hard, sels) => "lease: in vain by a pending call",
            () if self.split => "lease: in vain by a deposed primary",
            () if self.log_broke.is_some_and(|broke| broke >= since) => "lease: in vain by a loss",
            () if known.oracle.clock_was_set => "lease: in vain by a clock",
            () if known.oracle.applied_since(since) >= self.forgets => "lease: in vain by a rotation",
            () => {
                return Err(format!(
                    "the lease of process {} is taken over by process {by}, although nothing was invalidated since {}",
                    lease.process, lease.epoch
                ));
            }
        };
        known.counts.add(count);
        Ok(())
    }

    /// A server refuses one.
    pub(crate) fn refused(
        &mut self,
        process: Process,
        server: u64,
        token: Token,
        held: Token,
        known: &mut Known<'_>,
    ) {
        known.counts.add("lease: refused");
        if let Some(lease) = self.leases.get_mut(&held) {
            lease.waiters.insert(token, (process, server));
        }
    }

    pub(crate) fn extended(&mut self, token: Token, known: &mut Known<'_>) {
        known.counts.add("lease: extended");
        if let Some(lease) = self.leases.get_mut(&token) {
            (lease.renewed, lease.until) = (known.now, known.now + lease.life);
        }
    }

    pub(crate) fn ended(&mut self, server: u64, token: Token, how: LeaseEnd, known: &mut Known<'_>) {
        let (fate, count) = match how {
            LeaseEnd::Stored => (Fate::GivenBack, "lease: ended by a fill"),
            LeaseEnd::Broken => (Fate::Broken, "lease: broken by a put"),
            LeaseEnd::Released { shared: true } => (Fate::GivenBack, "lease: given back"),
            LeaseEnd::Released { shared: false } => (Fate::GivenBack, "lease: given back, not for sharing"),
        };
        known.counts.add(count);
        let Some(lease) = self.leases.get_mut(&token) else { return };
        lease.fate.get_or_insert(fate);
        let (key, waiters) = (lease.key, std::mem::take(&mut lease.waiters));
        for (token, (process, by)) in waiters {
            let hears = by == server && self.is_well(process, Path::Log);
            let Some(asking) = self.asking(process, key, token) else { continue };
            asking.apart |= how == LeaseEnd::Released { shared: false };
            if hears {
                asking.woken.get_or_insert(known.now);
            }
        }
    }

    /// A server stores what was loaded under a lease.
    pub(crate) fn stored(
        &self,
        over: Option<Epoch>,
        epoch: Epoch,
        store: StoreLease,
        held: Option<Token>,
    ) -> Result<(), String> {
        let StoreLease::Ends(token) = store else { return Ok(()) };
        match (held, over) {
            (Some(held), _) if held != token => {
                Err(format!("it was loaded under the lease {token:x}, and {held:x} lives"))
            }
            (None, Some(over)) if over.line == epoch.line && over.at >= epoch.at => Err(format!(
                "it was loaded under the lease {token:x}, which is over, and takes the place of what is not older: {over}"
            )),
            _ => Ok(()),
        }
    }

    /// Is a lease that a load began with still what it was? If not, why that is excepted.
    pub(super) fn lost_lease(&mut self, token: Token, known: &mut Known<'_>) -> Option<&'static str> {
        let lease = self.leases.get(&token)?;
        if !lease.primary {
            return Some("overlap: a deposed primary");
        }
        if lease.fate.is_none() && lease.losses != self.losses {
            return Some("overlap: the store has lost the lease");
        }
        Some(match lease.fate? {
            Fate::Broken => "overlap: a value was put",
            Fate::Overtaken => "overlap: the older load is in vain",
            Fate::Lost => "overlap: the store has lost the lease",
            Fate::RanOut => "overlap: the lease has run out",
            Fate::GivenBack => {
                let node = self.nodes.get(&lease.process);
                match node.is_some_and(|node| node.closing) {
                    true => "overlap: a shutdown has given it back",
                    false => return None,
                }
            }
        })
        .inspect(|_| known.counts.add("lease: lost while loading"))
    }

    /// A lease that its holder knows of, and has not given back.
    pub(super) fn has_lease(&self, token: Token) -> bool {
        self.leases.get(&token).is_some_and(|lease| !lease.given_back && !lease.used)
    }

    pub(super) fn use_lease(&mut self, token: Token) {
        if let Some(lease) = self.leases.get_mut(&token) {
            lease.used = true;
        }
    }

    /// At the end: leases that nobody has ended have run out.
    pub(crate) fn settle(&mut self, known: &mut Known<'_>) -> Result<(), String> {
        let open: Vec<_> = self.current.values().copied().collect();
        open.into_iter().try_for_each(|token| self.is_gone(token, known))
    }
}
