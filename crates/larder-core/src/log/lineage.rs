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

    /// The later of two positions, as far as the line `line`, whose lineage this is, knows them: on lines by their order, on
    /// one line by where they are. One it does not know is older than any it does.
    pub(crate) fn later(&self, line: u64, a: Epoch, b: Epoch) -> Epoch {
        let rank = |epoch: Epoch| match epoch.line == line {
            true => Some(self.0.len()),
            false => self.0.iter().position(|cut| cut.line == epoch.line),
        };
        if (rank(a), a.at) >= (rank(b), b.at) { a } else { b }
    }

    pub(crate) fn push(&mut self, cut: Epoch) {
        self.0.push(cut);
        if self.0.len() > KEPT {
            self.0.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_positions_is_told_by_their_lines_first() {
        let at = |line, at| Epoch { line, at };
        let lineage = Lineage::new(vec![at(1, 900), at(2, 100)]);
        for (older, newer) in [
            (at(3, 5), at(3, 6)),
            (at(2, 90), at(3, 5)),
            (at(1, 800), at(2, 50)),
            (at(1, 950), at(3, 1)),
            (at(9, 5000), at(1, 1)),
        ] {
            assert_eq!(lineage.later(3, older, newer), newer);
            assert_eq!(lineage.later(3, newer, older), newer);
        }
    }
}
