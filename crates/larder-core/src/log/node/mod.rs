//! What one node knows of the log, and every decision that rests on it. Pure: no I/O, no clock.
//!
//! Here: the state, and the checks of entries. `advance`: how the state moves with the log. `own`: this node's own
//! invalidations on their way.
//!
//! Its rules, and why each is there: `docs/design/coherence.md`. Order of publication, everywhere: rows, then `n`, then position;
//! readers take `n` first. A reader that sees an `n` therefore sees every row that belongs to it.
//!
//! `interleavings` explores this with every atomic taken for sequentially consistent. That less is enough: `n` is stored
//! with Release and loaded with Acquire, so who loads an `n` sees the rows that were written before it. Whoever reads after
//! an invalidation has returned loads its `n` or a later one, for the return happens before the read. `floor` rises under
//! the lock under which rows are forgotten, and is loaded after that lock was taken: who misses a row sees the floor. An
//! entry's `seen` is Relaxed: it is no more than a copy of an `n` whose rows somebody has looked at, and who finds it at or
//! above his own `n` knows from the number alone that those include the rows he would look for.

mod advance;
mod own;

use std::time::Duration;

pub(crate) use self::advance::Looked;
pub(crate) use self::own::Batch;
use self::own::Own;
use super::table::Table;
use super::{Epoch, Lineage, Mark, Mode};
use crate::runtime::Moment;
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::tag::Tag;

/// What the log says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Not invalidated.
    Valid,
    /// Expired softly: stale.
    Stale,
    /// Invalidated, or not verifiable.
    Dead,
}

#[derive(Default)]
struct State {
    position: Option<Epoch>,
    lineage: Lineage,
    /// The table knows every invalidation on the line above this position.
    covered: u64,
    /// The highest `at` ever written to a row: what the table forgets lies at or below.
    highest: u64,
    own: Own,
    /// The server's clock less this process's, in microseconds: turns positions into moments.
    ahead_us: i64,
}

/// One node's view.
pub(crate) struct Node {
    n: AtomicU64,
    /// Until when an entry may be served that this node has not loaded itself, in nanoseconds.
    serve_until: AtomicU64,
    table: Table,
    state: RwLock<State>,
    /// How long after this node was last known to be caught up, or began to load it itself, an entry may be served.
    disconnected_ttl: Duration,
    /// When the last round was sent that found this node caught up; zero: none yet.
    synced: AtomicU64,
}

impl Node {
    /// A node of a log in a remote tier, of which it knows nothing yet. `limit`: selectors in one generation of its table.
    pub(crate) fn new(limit: usize, disconnected_ttl: Duration) -> Self {
        Node {
            n: AtomicU64::new(1),
            serve_until: AtomicU64::new(0),
            table: Table::new(limit),
            state: RwLock::default(),
            disconnected_ttl,
            synced: AtomicU64::new(0),
        }
    }

    /// A node without a remote tier: nobody else invalidates anything.
    pub(crate) fn alone(limit: usize) -> Self {
        Node { serve_until: AtomicU64::new(u64::MAX), ..Node::new(limit, Duration::MAX) }
    }

    /// Is this node's knowledge recent enough to serve an entry at `now`, whoever has loaded it?
    #[inline]
    pub(crate) fn serves_any(&self, now: Moment) -> bool {
        now.as_nanos() <= self.serve_until.load(Ordering::Acquire)
    }

    /// May an entry be served at `now` that this node began to load at `loaded` (zero: not this node)? Not if the node has
    /// heard nothing of the log for too long.
    pub(crate) fn serves(&self, loaded: Moment, now: Moment) -> bool {
        self.serves_any(now) || (loaded > Moment::default() && now <= loaded.plus(self.disconnected_ttl))
    }

    /// When the last round was sent that found this node caught up.
    pub(crate) fn synced(&self) -> Option<Moment> {
        let synced = self.synced.load(Ordering::Acquire);
        (synced > 0).then(|| Moment::from_nanos(synced))
    }

    fn caught_up(&self, at: Moment) {
        self.synced.fetch_max(at.as_nanos(), Ordering::AcqRel);
        self.serve_until.fetch_max(at.plus(self.disconnected_ttl).as_nanos(), Ordering::AcqRel);
    }

    /// How far back the table reaches on the log, in microseconds: what is older in the remote tier cannot be verified.
    pub(crate) fn horizon_us(&self) -> Option<u64> {
        let state = self.state.read();
        state.position.map(|p| p.at.saturating_sub(state.covered))
    }

    /// The counter of everything applied here.
    #[inline]
    pub(crate) fn n(&self) -> u64 {
        self.n.load(Ordering::Acquire)
    }

    /// Both clocks, as one pair, for a load that begins at `now`.
    pub(crate) fn mark(&self, now: Moment) -> Mark {
        let state = self.state.read();
        // A node that is alone serves whatever it has, whenever it was loaded.
        let loaded = if self.serves_any(Moment::MAX) { Moment::default() } else { now };
        Mark { n: self.n(), epoch: state.position, loaded }
    }

    pub(crate) fn position(&self) -> Option<Epoch> {
        self.state.read().position
    }

    pub(crate) fn pending(&self) -> usize {
        self.state.read().own.len()
    }

    /// Since when the oldest own invalidation is on its way to the log.
    pub(crate) fn oldest_pending(&self) -> Option<Moment> {
        self.state.read().own.oldest()
    }

    /// Rows in the stamp table.
    pub(crate) fn rows(&self) -> usize {
        self.table.len()
    }

    /// Has nothing happened, since the counter stood at `seen`, to an entry with this key and these tags? Takes no lock; false:
    /// [`check_since`](Self::check_since) knows.
    #[inline]
    pub(crate) fn is_untouched(&self, key: &[u8], tags: &[Tag], seen: u64) -> bool {
        self.table.is_untouched(key, tags, seen)
    }

    /// What happened, since the counter stood at `seen`, to an entry with this key and these tags?
    pub(crate) fn check_since(&self, key: &[u8], tags: &[Tag], seen: u64) -> Verdict {
        if self.table.is_untouched(key, tags, seen) {
            return Verdict::Valid;
        }
        let row = self.table.newest(key, tags);
        let (soft, hard) = (row.get(Mode::Soft), row.get(Mode::Hard));
        // The floor after the rows: rows are forgotten only after it has risen.
        if seen < self.table.floor() || hard.n > seen {
            Verdict::Dead
        } else if soft.n > seen {
            Verdict::Stale
        } else {
            Verdict::Valid
        }
    }

    /// When was an entry with this key and these tags last invalidated in this mode? Zero: not within the table's reach.
    pub(crate) fn last(&self, mode: Mode, key: &[u8], tags: &[Tag]) -> Moment {
        self.table.newest(key, tags).when(mode)
    }

    /// Has this node's log come as far as `token`?
    pub(crate) fn reached(&self, token: Epoch) -> bool {
        self.state.read().reached(token)
    }

    /// The later of two positions, as far as this node can tell.
    pub(crate) fn later(&self, a: Epoch, b: Epoch) -> Epoch {
        let state = self.state.read();
        state.position.map_or(b, |here| state.lineage.later(here.line, a, b))
    }

    /// May an entry that was read from the remote tier be used? Answers the `n` it is good for, too.
    pub(crate) fn check_remote(&self, key: &[u8], tags: &[Tag], epoch: Epoch) -> (Verdict, u64) {
        let n = self.n();
        let state = self.state.read();
        let on_lineage = state.position.is_some_and(|p| state.lineage.holds(p.line, epoch));
        if !on_lineage || epoch.at < state.covered {
            return (Verdict::Dead, n);
        }
        // The lock is kept: rows must not be forgotten, nor leave `pending`, between these look-ups.
        let pending = state.own.mode_of(key, tags);
        let row = self.table.newest(key, tags);
        let (soft, hard) = (row.get(Mode::Soft), row.get(Mode::Hard));
        let verdict = if pending == Some(Mode::Hard) || hard.at > epoch.at {
            Verdict::Dead
        } else if pending.is_some() || soft.at > epoch.at {
            Verdict::Stale
        } else {
            Verdict::Valid
        };
        (verdict, n)
    }

    /// Could this node tell whether something loaded at `epoch` was invalidated since?
    pub(crate) fn verifies(&self, epoch: Epoch) -> bool {
        let state = self.state.read();
        state.position.is_some_and(|p| state.lineage.holds(p.line, epoch)) && epoch.at >= state.covered
    }

    /// Is an invalidation of this entry on its way to the log? Then what was loaded is not stored there yet.
    pub(crate) fn is_pending(&self, key: &[u8], tags: &[Tag]) -> bool {
        self.state.read().own.mode_of(key, tags).is_some()
    }
}

impl State {
    fn reached(&self, token: Epoch) -> bool {
        self.position.is_some_and(|p| self.lineage.holds(p.line, token) && token.at <= p.at)
    }
}

#[cfg(test)]
mod tests;
