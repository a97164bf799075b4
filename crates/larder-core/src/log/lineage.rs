//! Which points of older lines are part of this line's history.

use super::Epoch;

/// Former lines, oldest first, each with the position where it was cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage(Vec<Epoch>);

/// How many former lines count. More cuts than this within an entry's life make misses, nothing worse.
const KEPT: usize = 8;

impl Lineage {
    /// A lineage of these cuts; only the last eight are kept.
    pub fn new(mut cuts: Vec<Epoch>) -> Self {
        cuts.drain(..cuts.len().saturating_sub(KEPT));
        Lineage(cuts)
    }

    /// The cuts, oldest first.
    pub fn cuts(&self) -> &[Epoch] {
        &self.0
    }

    /// The cut of `line`, if it is a former line.
    pub(crate) fn cut(&self, line: u64) -> Option<u64> {
        self.0.iter().find(|cut| cut.line == line).map(|cut| cut.at)
    }

    /// Is `epoch` part of the history of the line `line`, whose lineage this is?
    pub(crate) fn holds(&self, line: u64, epoch: Epoch) -> bool {
        epoch.line == line || self.cut(epoch.line).is_some_and(|cut| epoch.at <= cut)
    }

    pub(crate) fn push(&mut self, cut: Epoch) {
        self.0.push(cut);
        if self.0.len() > KEPT {
            self.0.remove(0);
        }
    }
}
