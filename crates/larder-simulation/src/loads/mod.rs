//! Who loads what, and when: the promises about leases, flights and loads that fail, as something that can be broken.
//!
//! **At most one load.** While a load of a key runs that others may wait for, no other such load of it begins. Only this is
//! excepted, and each exception is argued here by what the run knows, never by what the engine says of itself (but for what is
//! named), and counted:
//! - *the policy* has no lease, or no remote tier: nothing holds between processes (within one it does);
//! - *apart*: a load for its caller alone (an `at_least` that did not arrive, an answer that is not for sharing, a read whose
//!   turns were all in vain). The engine says which; how many there may be is bounded;
//! - one of the two began **without a lease**: its question was not answered in time, or at all; the breaker was open; its node
//!   had no position in the log, or had heard of it too long ago (by its own account); its process was shutting down; it had
//!   waited for as long as a load may take; it was told that the answer is not for sharing; or values came that were of no use;
//! - one of the two **lost its lease** while it had it: the store did (flush, restart, failover, eviction), a value was put by
//!   hand, it ran out, or a shutdown gave it back;
//! - the older one was **in vain**: invalidated after it had asked, as the newer one's node knew;
//! - one of them was granted by a primary that was **deposed**.
//!
//! Within one process: a value was put meanwhile, the older load is past its timeout, or the process stood still.
//!
//! **Each exception has its own promise**, or it would swallow what is broken. A load begins without a lease only for one of the
//! reasons above. A lease is granted only where none lives, or in vain. It runs out only if its holder is dead, stood still, or
//! could not get through: whoever is well extends it, or gives it back. One that is overtaken is taken over at once by whoever
//! asks and knows. A store whose lease has passed on replaces nothing of a position that is not older.
//!
//! **Woken.** Who was refused asks again within a trip and [`SLACK`] of the lease's end, if nothing is wrong with the way on
//! which wakes come.
//!
//! **Throttled.** A node that has something stale to serve does not load a key within `retry_after` of its last failure.
//!
//! **Failed.** A read fails only if a load of its key failed, was given up or took too long while it waited, had no room, or was
//! refused by a loader that knows of none or by a process that is shutting down.
//!
//! **Kept.** A node that has loaded a key does not load it again while that load is good: whoever was answered before it ended.

mod leases;
mod runs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder_core::Epoch;
use larder_core::testing::{Path, TestRemote};

use crate::counts::Counts;
use crate::database::Database;
use crate::executor::{Process, Time};
use crate::oracle::{Oracle, Seq, nanos};
use crate::rules::Rules;

/// A key: its row, and which variant.
pub(crate) type KeyId = usize;
type Token = u64;

/// Questions of one process for the lease of one key that are remembered.
const ASKINGS: usize = 8;
/// Time that passes while a process that is ready does not get its turn.
pub(super) const SLACK: Time = 10_000_000;
/// How much longer that takes for each process that there is, when all of them have much to do at one time.
pub(super) const TURN: Time = 2_000_000;

/// What a loader ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Value,
    Failed,
    /// It knows of no such row.
    Unknown,
    /// It was dropped.
    Dropped,
}

/// What a process says of itself when a load begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    /// Others may wait for it.
    pub(crate) led: bool,
    /// Where its log stands.
    pub(crate) position: Option<Epoch>,
    /// It has heard of all that is in the log.
    pub(crate) caught_up: bool,
    /// It has heard of the log lately.
    pub(crate) serves: bool,
}

/// One process, as far as these promises depend on it.
#[derive(Default)]
struct Node {
    remote: Option<Arc<TestRemote>>,
    paused: bool,
    /// When it last went on.
    resumed: Time,
    dead: bool,
    closing: bool,
    breaker_open: bool,
    breaker_closed: Time,
    /// When a call about a lease last failed, or was given up.
    trouble: Time,
    /// How often part of the log went by unseen.
    gaps: u64,
    /// When it last had no room for a load, by resource.
    overloaded: BTreeMap<usize, Time>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("paused", &self.paused).field("dead", &self.dead).finish_non_exhaustive()
    }
}

impl Node {
    /// Has it run all the time since?
    fn has_run_since(&self, since: Time) -> bool {
        !self.dead && !self.paused && self.resumed < since
    }
}

/// What all of the run knows of loads and leases.
#[derive(Debug)]
pub(crate) struct Loads {
    rules: Vec<Rules>,
    delay: (Duration, Duration),
    /// So many selectors, and a table may have forgotten something.
    forgets: usize,
    /// A table has room for all selectors there are.
    wide: bool,
    disconnected_ttl: Duration,
    /// Memory has room for everything.
    roomy: bool,
    nodes: BTreeMap<Process, Node>,
    leases: BTreeMap<Token, leases::Lease>,
    /// The last lease of each key that a primary has granted.
    current: BTreeMap<KeyId, Token>,
    /// When a process last gave up a look at a key.
    gave_up: BTreeMap<(Process, KeyId), Time>,
    /// The last ones of a process for a key: a load that a value was put over may still be at it.
    askings: BTreeMap<(Process, KeyId), VecDeque<leases::Asking>>,
    /// How often the servers may have lost leases.
    losses: u64,
    /// When the log's history last broke.
    log_broke: Option<Time>,
    /// A primary that was deposed goes on answering.
    split: bool,
    running: Vec<runs::Run>,
    past: BTreeMap<(Process, KeyId), runs::Past>,
    /// When a place among the loads of a resource last became free in a process.
    freed: BTreeMap<(Process, usize), Time>,
    /// When a load of a process last failed, or was dropped.
    failures: BTreeMap<(Process, KeyId), Time>,
    /// Keys of which a loader has said that it knows of none.
    unknown: BTreeSet<KeyId>,
    /// When a load of the key last ended, anywhere.
    ended: BTreeMap<KeyId, (Process, Time)>,
}

/// What is needed to judge, of what the rest of the run knows.
pub(crate) struct Known<'a> {
    pub(crate) db: &'a Database,
    pub(crate) oracle: &'a Oracle,
    pub(crate) counts: &'a mut Counts,
    pub(crate) now: Time,
}

impl Known<'_> {
    fn resource(&self, key: KeyId) -> usize {
        self.db.rows[key / 2].resource
    }
}

impl Loads {
    pub(crate) fn new(plan: &crate::plan::Plan) -> Self {
        Loads {
            rules: plan.rules.clone(),
            delay: plan.delay,
            // A table has sixteen parts, and they fill up as chance has it.
            forgets: (plan.stamp_limit / 16).min(plan.redis.stamp_limit / 2).max(1),
            wide: plan.stamp_limit.min(plan.redis.stamp_limit) > 10_000,
            disconnected_ttl: plan.disconnected_ttl,
            roomy: plan.memory.1 < 1000,
            nodes: BTreeMap::new(),
            leases: BTreeMap::new(),
            current: BTreeMap::new(),
            gave_up: BTreeMap::new(),
            askings: BTreeMap::new(),
            losses: 0,
            log_broke: None,
            split: false,
            running: Vec::new(),
            past: BTreeMap::new(),
            freed: BTreeMap::new(),
            failures: BTreeMap::new(),
            unknown: BTreeSet::new(),
            ended: BTreeMap::new(),
        }
    }

    pub(crate) fn process_begins(&mut self, process: Process, remote: Arc<TestRemote>) {
        self.nodes.insert(process, Node { remote: Some(remote), ..Node::default() });
    }

    fn asking(&mut self, process: Process, key: KeyId, token: Token) -> Option<&mut leases::Asking> {
        self.askings.get_mut(&(process, key))?.iter_mut().find(|asking| asking.token == token)
    }

    fn node(&mut self, process: Process) -> &mut Node {
        self.nodes.entry(process).or_default()
    }

    pub(crate) fn process_dies(&mut self, process: Process) {
        let node = self.node(process);
        (node.dead, node.remote) = (true, None);
    }

    pub(crate) fn process_stops(&mut self, process: Process) {
        self.node(process).paused = true;
    }

    pub(crate) fn process_goes_on(&mut self, process: Process, now: Time) {
        let node = self.node(process);
        (node.paused, node.resumed) = (false, now);
    }

    pub(crate) fn process_closes(&mut self, process: Process) {
        self.node(process).closing = true;
    }

    pub(crate) fn breaker(&mut self, process: Process, open: bool, now: Time) {
        let node = self.node(process);
        node.breaker_open = open;
        if !open {
            node.breaker_closed = now;
        }
    }

    pub(crate) fn gap(&mut self, process: Process) {
        self.node(process).gaps += 1;
    }

    /// Has a process run all the time since?
    pub(crate) fn has_run_since(&self, process: Process, since: Time) -> bool {
        self.nodes.get(&process).is_some_and(|node| node.has_run_since(since))
    }

    fn gaps(&self, process: Process) -> u64 {
        self.nodes.get(&process).map_or(0, |node| node.gaps)
    }

    /// A load had no room.
    pub(crate) fn overloaded(&mut self, process: Process, resource: usize, now: Time) {
        self.node(process).overloaded.insert(resource, now);
    }

    /// The servers have lost leases, or what was done to them.
    pub(crate) fn leases_lost(&mut self) {
        self.losses += 1;
    }

    /// The log has lost something, or begins anew.
    pub(crate) fn log_broke(&mut self, now: Time) {
        self.log_broke = Some(now);
    }

    /// A primary that was deposed answers from now on, or does so no more.
    pub(crate) fn split(&mut self, split: bool, now: Time) {
        self.split = split;
        self.log_broke(now);
    }

    /// Nothing is wrong with a way of a process, and it takes no longer than it should.
    fn is_well(&self, process: Process, path: Path) -> bool {
        let remote = self.nodes.get(&process).and_then(|node| node.remote.as_ref());
        remote.is_some_and(|remote| {
            let faults = remote.faults(path);
            let lossless = faults.lose_requests == 0 && faults.lose_answers == 0 && faults.refuse == 0;
            lossless && !faults.down && !faults.hang && faults.delay == Some(self.delay)
        })
    }

    fn trip(&self) -> Time {
        nanos(self.delay.1)
    }

    /// Since when an invalidation may be unknown to a node that goes on loading.
    fn reach(&self, since: Time) -> Time {
        since.saturating_sub(nanos(self.disconnected_ttl + Duration::from_secs(3)))
    }
}

/// The number of a moment in the order of things, and its time.
#[derive(Clone, Copy, Debug, Default)]
struct When {
    seq: Seq,
    at: Time,
}
