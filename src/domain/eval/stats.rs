//! Statistics of paired comparisons, without a library: exact tests, an exact interval, and bootstrap intervals.
//!
//! Resampling draws from [`SplitMix`], whose seed the caller gives: the same trials always give the same figures.

use serde::Serialize;

/// Number of resamples of a bootstrap.
pub const RESAMPLES: usize = 10_000;
/// Number of non-zero differences up to which all signs are enumerated.
const MAX_EXACT: usize = 16;
/// Sums that differ by less are equal: they are rounded.
const TOLERANCE: f64 = 1e-9;
/// Steps of a bisection; each halves the error.
const BISECTIONS: usize = 60;

/// An interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A generator of random numbers: SplitMix64, by Steele, Lea and Flood.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// Creates a generator.
    pub fn new(seed: u64) -> SplitMix {
        SplitMix(seed)
    }

    /// Returns the next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, which must not be zero. The bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

/// Returns the mean; 0 of no values.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Returns the quantile `q` of sorted values, interpolated between neighbours; 0 of no values.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = q * last as f64;
    let (low, high) = (at.floor() as usize, (at.ceil() as usize).min(last));
    sorted[low] + (sorted[high] - sorted[low]) * (at - at.floor())
}

/// Returns the two-sided p-value of the exact McNemar test for `b` and `c` discordant pairs.
pub fn mcnemar(b: u64, c: u64) -> f64 {
    (2.0 * binomial_tail(b.min(c), b + c, 0.5)).min(1.0)
}

/// Returns the probability of at most `hits` successes in `n` trials with probability `p` each.
fn binomial_tail(hits: u64, n: u64, p: f64) -> f64 {
    if p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return if hits >= n { 1.0 } else { 0.0 };
    }
    let mut ln_term = n as f64 * (1.0 - p).ln();
    let mut sum = ln_term.exp();
    for k in 1..=hits.min(n) {
        ln_term += ((n - k + 1) as f64 / k as f64).ln() + (p / (1.0 - p)).ln();
        sum += ln_term.exp();
    }
    sum.min(1.0)
}

/// Returns the exact (Clopper-Pearson) two-sided interval of a proportion.
pub fn clopper_pearson(hits: u64, n: u64, confidence: f64) -> Interval {
    let alpha = (1.0 - confidence) / 2.0;
    // Both ends solve a tail probability for p, which is monotonous in p.
    let solve = |is_below: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..BISECTIONS {
            let middle = (low + high) / 2.0;
            if is_below(middle) { low = middle } else { high = middle }
        }
        (low + high) / 2.0
    };
    let low = match hits {
        0 => 0.0,
        hits => solve(&|p| 1.0 - binomial_tail(hits - 1, n, p) < alpha),
    };
    let high = if hits >= n { 1.0 } else { solve(&|p| binomial_tail(hits, n, p) > alpha) };
    Interval { low, high }
}

/// Returns the one-sided p-value of the sign-flip permutation test: the share of all sign vectors under which the sum of
/// the differences is at least as large as observed. With differences of -1, 0 and 1 it is the one-sided McNemar test.
/// Many differences are tested with `draws` random sign vectors.
pub fn sign_flip(differences: &[f64], draws: usize, seed: u64) -> f64 {
    let sizes: Vec<f64> = differences.iter().map(|d| d.abs()).filter(|d| *d > TOLERANCE).collect();
    let observed: f64 = differences.iter().sum();
    let reaches = |sum: f64| sum >= observed - TOLERANCE;
    if sizes.len() <= MAX_EXACT {
        // In Gray code, each vector differs from the one before in one sign.
        let (mut sum, mut positive) = (-sizes.iter().sum::<f64>(), 0_u32);
        let mut reached = u32::from(reaches(sum));
        let all = 1_u32 << sizes.len();
        for step in 1..all {
            let flipped = step.trailing_zeros();
            positive ^= 1 << flipped;
            let sign = if positive >> flipped & 1 == 1 { 2.0 } else { -2.0 };
            sum += sign * sizes[flipped as usize];
            reached += u32::from(reaches(sum));
        }
        return f64::from(reached) / f64::from(all);
    }
    let mut random = SplitMix::new(seed);
    let mut draw = || -> f64 {
        let signed = |chunk: &[f64]| {
            let bits = random.next_u64();
            let sign = |i: usize| if bits >> i & 1 == 1 { 1.0 } else { -1.0 };
            chunk.iter().enumerate().map(|(i, size)| sign(i) * size).sum::<f64>()
        };
        sizes.chunks(64).map(signed).sum()
    };
    let reached = (0..draws).filter(|_| reaches(draw())).count();
    // The observed signs are one of the possible vectors, so the value is never 0.
    (reached + 1) as f64 / (draws + 1) as f64
}

/// Distribution of a statistic over resamples of the tasks.
#[derive(Clone, Debug)]
pub struct Bootstrap(Vec<f64>);

impl Bootstrap {
    /// Resamples tasks with replacement, and computes a statistic of each resample. Resamples without one are left out.
    pub fn new<T: Copy>(
        tasks: &[T],
        resamples: usize,
        seed: u64,
        statistic: impl Fn(&[T]) -> Option<f64>,
    ) -> Bootstrap {
        let mut random = SplitMix::new(seed);
        let mut sample = Vec::with_capacity(tasks.len());
        let mut found = Vec::with_capacity(resamples);
        for _ in 0..if tasks.is_empty() { 0 } else { resamples } {
            sample.clear();
            sample.extend((0..tasks.len()).map(|_| tasks[random.below(tasks.len())]));
            found.extend(statistic(&sample));
        }
        found.sort_by(f64::total_cmp);
        Bootstrap(found)
    }

    /// Returns the percentile interval; `None` without resamples.
    pub fn interval(&self, confidence: f64) -> Option<Interval> {
        let alpha = (1.0 - confidence) / 2.0;
        (!self.0.is_empty()).then(|| Interval { low: quantile(&self.0, alpha), high: quantile(&self.0, 1.0 - alpha) })
    }

    /// Returns a quantile; `None` without resamples.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| quantile(&self.0, q))
    }
}

#[cfg(test)]
mod tests;
