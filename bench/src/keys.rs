//! The keys of the typed benchmarks, and the order in which they are read.

/// The key of this number: 40 bytes.
pub fn key(number: usize) -> String {
    format!("customer-profile-settings-{number:014}")
}

/// `count` numbers below `items`, number `n` with a likelihood of `1 / (n + 1)^exponent` (Zipf). The same `seed`, the
/// same numbers.
pub fn zipf(items: usize, exponent: f64, count: usize, seed: u64) -> Vec<usize> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=items)
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut draw = || random.f64() * sum;
    (0..count)
        .map(|_| {
            let drawn = draw();
            sums.partition_point(|&upto| upto < drawn).min(items - 1)
        })
        .collect()
}
