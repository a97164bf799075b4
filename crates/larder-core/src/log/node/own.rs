//! This node's own invalidations on their way: called, sent, come back; and those that the log has lost again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::log::{Author, Epoch, Mode};
use crate::runtime::Moment;
use crate::selector::{self, Selector, SelectorHash};
use crate::tag::Tag;

/// Invalidations that wait to be sent, at the most. One more, and they become "everything".
pub(super) const QUEUE_LIMIT: usize = 1024;
/// All that are on their way, those that a call is sending included: 64 full records.
const PENDING_LIMIT: usize = 64 * SELECTORS_PER_RECORD;
/// Own invalidations that have come back and are remembered, so that they can be sent again if the log loses them.
const SENT_LIMIT: usize = 1024;
/// Selectors in one record.
const SELECTORS_PER_RECORD: usize = 256;
/// No record's `op`.
const NO_OP: u64 = 0;

/// What becomes one record, told by its `op`.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) mode: Mode,
    pub(crate) selectors: Vec<Selector>,
    pub(crate) op: u64,
    /// Who called it, whenever it is sent.
    pub(crate) author: Arc<Author>,
}

impl Batch {
    /// As many batches as it takes, each with an `op` of its own: the record that comes back says by its `op` what has
    /// arrived, so it must have carried all that goes by this name.
    pub(crate) fn of(
        mode: Mode,
        selectors: Vec<Selector>,
        author: &Arc<Author>,
        mut op: impl FnMut() -> u64,
    ) -> Vec<Batch> {
        let mut batch =
            |selectors| Batch { mode, selectors, op: op().max(NO_OP + 1), author: author.clone() };
        if selectors.len() <= SELECTORS_PER_RECORD {
            return vec![batch(selectors)];
        }
        selectors.chunks(SELECTORS_PER_RECORD).map(|chunk| batch(chunk.to_vec())).collect()
    }
}

/// An own invalidation that has not come back through the log.
#[derive(Clone, Debug)]
struct Pending {
    /// The record that settles it, whenever it comes.
    op: u64,
    /// When it was called: the first of those that took each other's place.
    since: Moment,
    selector: Selector,
    author: Arc<Author>,
    /// Is some call sending it, or has it been answered? Else it is to be sent, under a new `op`.
    sent: bool,
    /// Once the log has answered: its position, and which answer that was.
    answered: Option<(Epoch, u64)>,
}

/// One that has.
#[derive(Clone, Debug)]
struct Sent {
    selector: Selector,
    author: Arc<Author>,
    mode: Mode,
    token: Epoch,
}

/// The own invalidations of one node.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// By selector and mode: `expire` does not stand in for an `invalidate` that is on its way, nor the reverse.
    pending: BTreeMap<(SelectorHash, Mode), Pending>,
    sent: VecDeque<Sent>,
    /// The last of those that `sent` had no room for.
    sent_before: Option<Epoch>,
    /// On which line `sent` was found to be part of the log.
    sent_holds_on: Option<u64>,
    /// Answers so far: orders them against rounds.
    answers: u64,
}

impl Own {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Since when the oldest is on its way.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.pending.values().map(|pending| pending.since).min()
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    /// Notes that the caller is about to send an invalidation as `op`. A later call for the same takes its place.
    pub(super) fn call(
        &mut self,
        selector: &Selector,
        mode: Mode,
        op: u64,
        author: &Arc<Author>,
        now: Moment,
    ) {
        let (selector, author) = (selector.clone(), author.clone());
        let key = (selector.hash(), mode);
        let since = self.pending.get(&key).map_or(now, |before| before.since);
        let pending = Pending { op, since, selector, author, sent: op != NO_OP, answered: None };
        self.pending.insert(key, pending);
    }

    /// Too many: everything that was queued is part of "everything". No record under way says so: it is still to be sent.
    /// True if it came to that.
    pub(super) fn overflow(&mut self, now: Moment) -> bool {
        let queued = || self.pending.values().filter(|p| !p.sent).count();
        let many = self.pending.len();
        let overflows = many > PENDING_LIMIT || many > QUEUE_LIMIT && queued() > QUEUE_LIMIT;
        if overflows {
            self.queue_everything(now);
        }
        overflows
    }

    fn queue_everything(&mut self, now: Moment) {
        let since = self.oldest().unwrap_or(now);
        let of = self.pending.values().map(|p| &p.author).chain(self.sent.iter().map(|s| &s.author)).next();
        let node = of.map_or_else(String::new, |author| author.node.clone());
        let reason = "too many invalidations waited for the log".to_owned();
        let author = Arc::new(Author { node, reason, actor: String::new() });
        self.pending.clear();
        self.call(&Selector::all(), Mode::Hard, NO_OP, &author, since);
    }

    /// What waits for the log, under new `op`s, by who called it; the hard ones first.
    pub(super) fn take(&mut self, mut op: impl FnMut() -> u64) -> Vec<Batch> {
        let mut waiting = BTreeMap::<_, Vec<_>>::new();
        for ((_, mode), p) in self.pending.iter().filter(|(_, p)| !p.sent) {
            let group = waiting.entry((Reverse(*mode), p.author.clone())).or_default();
            group.push(p.selector.clone());
        }
        let taken: Vec<_> = waiting
            .into_iter()
            .flat_map(|((Reverse(mode), author), selectors)| Batch::of(mode, selectors, &author, &mut op))
            .collect();
        for batch in &taken {
            for selector in &batch.selectors {
                if let Some(pending) = self.pending.get_mut(&(selector.hash(), batch.mode)) {
                    (pending.op, pending.sent, pending.answered) = (batch.op, true, None);
                }
            }
        }
        taken
    }

    /// Is there something to send that no call is sending?
    pub(super) fn has_unsent(&self) -> bool {
        self.pending.values().any(|p| !p.sent)
    }

    /// The append of `op` has failed, or nobody knows: what is still pending under it is to be sent again.
    pub(super) fn unanswered(&mut self, op: u64) {
        self.pending.values_mut().filter(|p| p.op == op && p.answered.is_none()).for_each(|p| p.sent = false);
    }

    /// The log has answered the append of `op`: its record stands at `token`.
    pub(super) fn answered(&mut self, op: u64, token: Epoch) {
        self.answers += 1;
        let answer = self.answers;
        let of_op = self.pending.values_mut().filter(|p| p.op == op);
        of_op.for_each(|p| p.answered = Some((token, answer)));
    }

    /// Is `op` on its way?
    pub(super) fn awaits(&self, op: u64) -> bool {
        op != NO_OP && self.pending.values().any(|p| p.op == op)
    }

    /// The record of `op` has come back.
    pub(super) fn came_back(&mut self, op: u64, token: Epoch) {
        self.settle(|p| (p.op == op && op != NO_OP).then_some(token));
    }

    /// The position has moved: what it has passed is no longer on its way.
    pub(super) fn settle_reached(&mut self, reached: impl Fn(Epoch) -> bool) {
        self.settle(|p| p.answered.map(|(token, _)| token).filter(|token| reached(*token)));
    }

    fn settle(&mut self, arrived: impl Fn(&Pending) -> Option<Epoch>) {
        let Own { pending, sent, sent_before, .. } = self;
        pending.retain(|(_, mode), p| {
            let Some(token) = arrived(p) else { return true };
            let (selector, author) = (p.selector.clone(), p.author.clone());
            sent.push_back(Sent { selector, author, mode: *mode, token });
            if sent.len() > SENT_LIMIT {
                *sent_before = sent.pop_front().map(|s| s.token);
            }
            false
        });
    }

    /// The node has caught up, on the line `line`, with a round at `now` before which the log had given so many `answers`. What was
    /// answered by then and is not behind the node has been lost: it is queued again. True if there was any.
    pub(super) fn find_lost(
        &mut self,
        line: u64,
        answers: u64,
        now: Moment,
        reached: impl Fn(Epoch) -> bool,
    ) -> bool {
        let mut lost = false;
        for p in self.pending.values_mut() {
            if p.answered.is_some_and(|(token, answer)| answer <= answers && !reached(token)) {
                (p.sent, p.answered, lost) = (false, None, true);
            }
        }
        // What has come back once can only be lost with its line.
        if self.sent_holds_on.replace(line) == Some(line) {
            return lost;
        }
        if self.sent_before.take_if(|token| !reached(*token)).is_some() {
            self.queue_everything(now);
            self.sent.clear();
            return true;
        }
        for one in std::mem::take(&mut self.sent) {
            if reached(one.token) {
                self.sent.push_back(one);
            } else {
                lost = true;
                // A later call for the same selector that is on its way says as much.
                let Sent { selector, author, mode, .. } = one;
                let key = (selector.hash(), mode);
                let again = Pending { op: NO_OP, since: now, selector, author, sent: false, answered: None };
                self.pending.entry(key).or_insert(again);
            }
        }
        self.overflow(now) || lost
    }

    /// Is an invalidation on its way that names an entry with this key and these tags?
    pub(super) fn mode_of(&self, key: &[u8], tags: &[Tag]) -> Option<Mode> {
        if self.pending.is_empty() {
            return None;
        }
        let mut mode = None;
        selector::each_of(key, tags, |hash| {
            for m in [Mode::Soft, Mode::Hard] {
                if self.pending.contains_key(&(hash, m)) {
                    mode = mode.max(Some(m));
                }
            }
        });
        mode
    }
}
