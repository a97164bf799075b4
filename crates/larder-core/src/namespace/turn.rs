//! Between the look into the tiers and the load: the lease, and a place among the loads of this process.

use std::time::Duration;

use super::Found;
use super::claim::GRACE;
use super::fetch::Fetch;
use super::lead::Lead;
use crate::engine::{Fetched, Lease, Waiting};
use crate::entry::{Entry, Freshness};
use crate::flight::Failure;
use crate::log::Verdict;
use crate::outcome::Tier;
use crate::policy::defaults::LEASE_LIFE;
use crate::remote::{LeaseAnswer, LeaseRequest};
use crate::runtime::{Moment, within};

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

/// What the remote tier said of a lease.
enum Asked {
    Obtained(Obtained),
    Held(Held),
}

impl Asked {
    fn without() -> Self {
        Asked::Obtained(Obtained::Without)
    }
}

/// Somebody else has it.
struct Held {
    waiting: Waiting,
    left: Duration,
}

/// How far the asking has come.
struct Asking {
    token: u64,
    give_up: Moment,
    /// What is left of the time for calls to the remote tier.
    budget: Duration,
    pause: Duration,
    vain: Option<u64>,
    values: usize,
}

impl Asking {
    fn new<V: Send + Sync + 'static>(lead: &Lead<V>) -> Self {
        let engine = lead.handle.engine();
        let now = engine.runtime.now();
        let budget = engine.remote.as_ref().map_or(Duration::ZERO, |remote| remote.budget);
        Asking {
            token: engine.runtime.random(),
            give_up: now.plus(lead.handle.policy.load_timeout),
            budget: lead.asked().map_or(budget, |asked| budget.saturating_sub(now.since(asked))),
            pause: ASK_AGAIN.0,
            vain: None,
            values: 0,
        }
    }

    /// What comes after a wait is not a part of the read's budget.
    fn has_waited(&mut self, budget: Duration) {
        self.budget = budget;
        self.pause = (self.pause * 2).min(ASK_AGAIN.1);
    }
}

/// What comes of the first half of a turn, the lease.
pub(super) enum FirstTurn<V: Send + Sync + 'static> {
    Found(Found<V>),
    /// It has its lease, or needs none.
    Load(Lead<V>),
    /// Another process is at it.
    Later(Lead<V>),
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
                    self.gathered().permit = Some(permit);
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
    pub async fn turn(self) -> Turn<V> {
        let mut lead = match self.leased().await {
            FirstTurn::Found(found) => return Turn::Found(found),
            FirstTurn::Load(lead) | FirstTurn::Later(lead) => lead,
        };
        let Some(gate) = lead.handle.gate.clone() else { return Turn::Load(lead) };
        let runtime = lead.handle.engine().runtime.clone();
        match gate.enter(&*runtime, lead.handle.policy.load_timeout).await {
            Some(permit) => {
                lead.gathered().permit = Some(permit);
                Turn::Load(lead)
            }
            None => Turn::Overloaded(lead.fail(Failure::Overloaded)),
        }
    }

    /// The first half of it: never [`FirstTurn::Later`].
    pub(super) async fn leased(mut self) -> FirstTurn<V> {
        self.sets_out();
        if !self.wants_lease() {
            return FirstTurn::Load(self);
        }
        let obtained = self.obtain().await;
        self.with(obtained)
    }

    /// Asks for a lease once, and waits for nobody.
    pub(super) async fn first_turn(mut self) -> FirstTurn<V> {
        self.sets_out();
        if !self.wants_lease() {
            return FirstTurn::Load(self);
        }
        let mut asking = Asking::new(&self);
        match self.ask(&mut asking).await {
            Asked::Held(_) => {
                // As for one who has waited already: what comes now is not a part of the read's budget.
                self.gathered().asked = None;
                FirstTurn::Later(self)
            }
            Asked::Obtained(obtained) => self.with(obtained),
        }
    }

    fn with(mut self, obtained: Obtained) -> FirstTurn<V> {
        match obtained {
            Obtained::Lease(lease) => self.gathered().lease = Some(lease),
            Obtained::Without => {}
            Obtained::Entry(entry) => {
                return self.share(entry, Some(Tier::Remote)).map_or_else(FirstTurn::Load, FirstTurn::Found);
            }
        }
        FirstTurn::Load(self)
    }

    /// On the way to the load somebody looks after those who wait.
    fn sets_out(&self) {
        let engine = self.handle.engine();
        let limit = self.handle.policy.load_timeout;
        self.flight.prepares(engine.runtime.now().plus(limit * 2 + GRACE));
        engine.watch();
    }

    fn wants_lease(&self) -> bool {
        self.handle.policy.lease && self.handle.asks_remote()
    }

    async fn obtain(&mut self) -> Obtained {
        let engine = self.handle.engine().clone();
        let mut asking = Asking::new(self);
        loop {
            let held = match self.ask(&mut asking).await {
                Asked::Obtained(obtained) => return obtained,
                Asked::Held(held) => held,
            };
            let left = asking.give_up.since(engine.runtime.now());
            let patience = asking.pause.min(held.left).min(left).max(Duration::from_millis(1));
            if within(&*engine.runtime, patience, held.waiting.rung()).await == Ok(false) {
                return Obtained::Without;
            }
            asking.has_waited(engine.remote.as_ref().map_or(Duration::ZERO, |remote| remote.budget));
        }
    }

    /// Asks for the lease, until it is clear whether somebody else has it.
    async fn ask(&mut self, asking: &mut Asking) -> Asked {
        let engine = self.handle.engine().clone();
        let (Some(remote), runtime) = (&engine.remote, &*engine.runtime) else { return Asked::without() };
        loop {
            let now = runtime.now();
            // Without a position nothing that is loaded goes to the remote tier, where others would wait for it.
            let Some(epoch) = engine.node.mark(now).epoch else { return Asked::without() };
            let knows = self.handle.asks_remote();
            if !knows || now >= asking.give_up || asking.budget.is_zero() || engine.is_closing() {
                return Asked::without();
            }
            let request = LeaseRequest {
                token: asking.token,
                epoch,
                life: LEASE_LIFE,
                rejected: self.gathered().rejected.clone(),
                vain: asking.vain,
                waiter: engine.leases.waiter(),
            };
            // From before the question on: the holder may be done before the answer is here.
            let waiting = engine.wait_for_lease(&self.key);
            // Granted or not, without an answer it is given back.
            let lease = engine.ask_lease(&self.key, asking.token);
            let answer = remote.lease(runtime, self.key.as_bytes(), &request, asking.budget).await;
            let Some(answer) = answer else { return Asked::without() };
            match answer {
                LeaseAnswer::Granted => {
                    return Asked::Obtained(Obtained::Lease(lease.granted(asking.give_up.plus(LEASE_LIFE))));
                }
                LeaseAnswer::Value(bytes) => {
                    lease.ended();
                    asking.values += 1;
                    if asking.values > MOST_VALUES {
                        return Asked::without();
                    }
                    match self.handle.read(&self.key, Fetched::read(self.key.as_bytes(), &bytes)) {
                        Fetch::Entry(entry, head) => {
                            self.gathered().rejected = Some(head);
                            if self.is_good(&entry) {
                                return Asked::Obtained(Obtained::Entry(entry));
                            }
                            self.knows(&entry, Tier::Remote);
                        }
                        Fetch::Rejected(head) => self.gathered().rejected = head,
                    }
                }
                LeaseAnswer::Held { token: holder, epoch, left } => {
                    lease.ended();
                    // What the holder loads is dead on arrival: not to be waited for. Nor is a lease that ends later than
                    // any is granted for: the server's clock was set back, and its holder may be gone for long.
                    let is_dead =
                        engine.node.check_remote(self.key.as_bytes(), &[], epoch).0 == Verdict::Dead;
                    if !is_dead && left <= LEASE_LIFE * 2 {
                        return Asked::Held(Held { waiting, left });
                    }
                    asking.vain = Some(holder);
                }
            }
        }
    }

    /// Is an entry that has come meanwhile what this load is for?
    fn is_good(&self, entry: &Entry) -> bool {
        let now = self.handle.engine().clock.now();
        entry.freshness(now) == Freshness::Fresh && self.is_news(entry, now)
    }
}
