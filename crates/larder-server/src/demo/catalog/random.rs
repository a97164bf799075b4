//! Chance that repeats itself: the same seed gives the same catalog on every machine, so it uses whole numbers only.

/// A small generator (SplitMix64). Good enough to make sample text look varied, and nothing more.
pub(in crate::demo) struct Random {
    state: u64,
}

impl Random {
    pub(in crate::demo) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// Seeded by a text (FNV-1a).
    pub(super) fn from_text(text: &str) -> Random {
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Random::new(hash)
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which must not be zero. The remainder favours small numbers by less than one part in a
    /// billion at the sizes used here.
    pub(in crate::demo) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `texts`, which must not be empty.
    pub(super) fn pick<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.index(texts.len())]
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.index(last + 1);
            items.swap(last, other);
        }
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("it is below a usize")
    }
}

/// Ranks drawn unevenly: the first is the most popular.
pub(super) struct Popularity {
    /// The running sum of the weights.
    sums: Vec<u64>,
}

impl Popularity {
    /// Rank `n` weighs `1/n`, the way words and plug-in types spread.
    pub(super) fn zipf(len: usize) -> Popularity {
        Popularity::weighing(len, |rank| 1_000_000 / rank)
    }

    /// Rank `n` weighs about `1/√n`: uneven, but the first does not take everything.
    pub(super) fn gentle(len: usize) -> Popularity {
        Popularity::weighing(len, |rank| 1_000_000_000 / (rank * 1_000_000).isqrt())
    }

    fn weighing(len: usize, weight: impl Fn(u64) -> u64) -> Popularity {
        let mut sum = 0;
        let sums = (1..=len as u64)
            .map(|rank| {
                sum += weight(rank);
                sum
            })
            .collect();
        Popularity { sums }
    }

    /// A rank, counted from 0.
    pub(super) fn draw(&self, random: &mut Random) -> usize {
        let total = self.sums.last().copied().expect("there is at least one rank");
        let at = random.below(total);
        self.sums.partition_point(|&sum| sum <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_and_another_seed_another() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| random.below(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_more_popular_rank_is_drawn_more_often() {
        for popularity in [Popularity::zipf(8), Popularity::gentle(8)] {
            let mut random = Random::new(1);
            let mut drawn = [0_u32; 8];
            for _ in 0..100_000 {
                drawn[popularity.draw(&mut random)] += 1;
            }
            assert!(drawn.is_sorted_by(|earlier, later| earlier > later), "{drawn:?}");
            assert!(drawn[7] > 0);
        }
    }

    #[test]
    fn shuffling_loses_nothing() {
        let mut items: Vec<u32> = (0..50).collect();
        Random::new(3).shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
