//! Between the look into the tiers and the load: the lease, and a place among the loads of this process.

use std::time::Duration;

use super::Found;
use super::claim::GRACE;
use super::fetch::Fetch;
use super::lead::Lead;
use crate::engine::{Fetched, Lease};
use crate::entry::{Entry, Freshness};
use crate::flight::Failure;
use crate::log::Verdict;
use crate::outcome::Tier;
use crate::policy::defaults::LEASE_LIFE;
use crate::remote::{LeaseAnswer, LeaseRequest};
use crate::runtime::within;

/// Pauses between two questions for a lease that somebody else has: the first, and the longest. A ring comes sooner; these
/// are for rings that were lost and for holders that are gone.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// Values of no use that may come while a lease is asked for, one after the other: processes of two releases that do not
/// understand each other go on side by side.
const MOST_VALUES: usize = 4;

/// Whose turn it is to load.
#[must_use = "a Lead that is dropped sends those who wait for it away empty-handed"]
pub enum Turn<V: Send + Sync + 'static> {
    /// Another process has loaded it meanwhile; those who wait have it too.
    Found(Found<V>),
    /// This one's: begin.
    Load(Lead<V>),
    /// Too many loads are under way here. Those who wait hear of it; something stale may be served instead.
    Overloaded(Option<Found<V>>),
}

/// What came of asking for a lease.
enum Obtained {
    Lease(Lease),
    Entry(Entry),
    /// It is to be loaded without one: the remote tier does not answer, or others have been at it for too long.
    Without,
}

impl<V: Send + Sync + 'static> Lead<V> {
    /// A load that needs no lease and finds a place at once need not wait for its turn.
    ///
    /// # Errors
    /// The lead, to wait with.
    pub fn turn_at_once(mut self) -> Result<Lead<V>, Lead<V>> {
        if self.wants_lease() {
            return Err(self);
        }
        match &self.handle.gate {
            None => Ok(self),
            Some(gate) => match gate.enter_at_once() {
                Some(permit) => {
                    self.permit = Some(permit);
                    Ok(self)
                }
                None => Err(self),
            },
        }
    }

    /// Waits for this load's turn: for a lease, so that no other process loads the same, and for a place among the loads of
    /// this process. For each of the two at most as long as a load may take.
    ///
    /// Cancel safe: dropped, the lead passes on to one of those who wait.
    pub async fn turn(mut self) -> Turn<V> {
        let limit = self.handle.policy.load_timeout;
        let engine = self.handle.engine().clone();
        self.flight.prepares(engine.runtime.now().plus(limit * 2 + GRACE));
        engine.watch();
        if self.wants_lease() {
            match self.obtain().await {
                Obtained::Lease(lease) => self.lease = Some(lease),
                Obtained::Without => {}
                Obtained::Entry(entry) => match self.share(entry, Some(Tier::Remote)) {
                    Ok(found) => return Turn::Found(found),
                    Err(lead) => self = lead,
                },
            }
        }
        if let Some(gate) = self.handle.gate.clone() {
            match gate.enter(&*engine.runtime, limit).await {
                Some(permit) => self.permit = Some(permit),
                None => return Turn::Overloaded(self.fail(Failure::Overloaded)),
            }
        }
        Turn::Load(self)
    }

    fn wants_lease(&self) -> bool {
        self.handle.policy.lease && self.handle.asks_remote()
    }

    async fn obtain(&mut self) -> Obtained {
        let engine = self.handle.engine().clone();
        let (Some(remote), runtime) = (&engine.remote, &*engine.runtime) else { return Obtained::Without };
        let began = runtime.now();
        let give_up = began.plus(self.handle.policy.load_timeout);
        // What the look-up has left of this read's budget; after a wait it is another matter.
        let mut budget =
            self.asked.map_or(remote.budget, |asked| remote.budget.saturating_sub(began.since(asked)));
        let mut pause = ASK_AGAIN.0;
        let token = runtime.random();
        let (mut vain, mut values) = (None, 0);
        loop {
            let now = runtime.now();
            // Without a position nothing that is loaded goes to the remote tier, where others would wait for it.
            let Some(epoch) = engine.node.mark(now).epoch else { return Obtained::Without };
            if now >= give_up || budget.is_zero() || engine.is_closing() {
                return Obtained::Without;
            }
            let rejected = self.rejected.clone();
            let waiter = engine.leases.waiter();
            let request = LeaseRequest { token, epoch, life: LEASE_LIFE, rejected, vain, waiter };
            // From before the question on: the holder may be done before the answer is here.
            let waiting = engine.wait_for_lease(&self.key);
            // Granted or not, without an answer it is given back.
            let lease = engine.ask_lease(&self.key, token);
            let answer = remote.lease(runtime, self.key.as_bytes(), &request, budget).await;
            let Some(answer) = answer else { return Obtained::Without };
            match answer {
                LeaseAnswer::Granted => return Obtained::Lease(lease.granted(give_up.plus(LEASE_LIFE))),
                LeaseAnswer::Value(bytes) => {
                    lease.ended();
                    values += 1;
                    if values > MOST_VALUES {
                        return Obtained::Without;
                    }
                    let fetched = Fetched::read(self.key.as_bytes(), &bytes);
                    match self.handle.read(&self.key, fetched) {
                        Fetch::Entry(entry, head) => {
                            self.rejected = Some(head);
                            if self.is_good(&entry) {
                                return Obtained::Entry(entry);
                            }
                            self.knows(&entry, Tier::Remote);
                        }
                        Fetch::Rejected(head) => self.rejected = head,
                    }
                }
                LeaseAnswer::Held { token: holder, epoch, left } => {
                    lease.ended();
                    // What the holder loads is dead on arrival: not to be waited for.
                    if engine.node.check_remote(self.key.as_bytes(), &[], epoch).0 == Verdict::Dead {
                        vain = Some(holder);
                        continue;
                    }
                    let patience = pause.min(left).min(give_up.since(now)).max(Duration::from_millis(1));
                    if within(runtime, patience, waiting.rung()).await == Ok(false) {
                        return Obtained::Without;
                    }
                    pause = (pause * 2).min(ASK_AGAIN.1);
                }
            }
            budget = remote.budget;
        }
    }

    /// Is an entry that has come meanwhile what this load is for?
    fn is_good(&self, entry: &Entry) -> bool {
        let now = self.handle.engine().clock.now();
        entry.freshness(now) == Freshness::Fresh && self.is_news(entry, now)
    }
}
