//! Rounds that alternate between the sides, and their medians.

/// How much trouble to take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    Full,
    Quick,
}

impl Effort {
    /// `full`, or `quick`.
    pub fn pick<T>(self, full: T, quick: T) -> T {
        if self == Effort::Full { full } else { quick }
    }
}

/// Measures each side once per round, in turn, after one round that is thrown away. Answers each side's median.
pub fn alternating<const SIDES: usize>(
    rounds: usize,
    mut sides: [&mut dyn FnMut() -> f64; SIDES],
) -> [f64; SIDES] {
    for side in &mut sides {
        side();
    }
    let mut measured: [Vec<f64>; SIDES] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for _ in 0..rounds {
        for (side, measured) in sides.iter_mut().zip(&mut measured) {
            measured.push(side());
        }
    }
    measured.map(median)
}

/// The middle; of an even number, the mean of the two in the middle.
pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    let middle = of.len() / 2;
    if of.len() % 2 == 1 { of[middle] } else { f64::midpoint(of[middle - 1], of[middle]) }
}
