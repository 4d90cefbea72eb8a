//! Fisher's exact test of a two-by-two table.

/// Tables that are this much more likely than the observed one still count as equally likely: the sums are rounded.
const TOLERANCE: f64 = 1e-7;

/// Returns the two-sided p-value for `a` of `a + b` against `c` of `c + d`: the probability, with all margins fixed, of
/// a table that is at most as likely as the observed one.
pub fn p_value(a: u64, b: u64, c: u64, d: u64) -> f64 {
    let (first, second, hits) = (a + b, c + d, a + c);
    let ln_factorials = ln_factorials(first + second);
    let ln = |n: u64| usize::try_from(n).ok().and_then(|n| ln_factorials.get(n)).copied().unwrap_or(0.0);
    let ln_choose = |n: u64, k: u64| ln(n) - ln(k) - ln(n - k);
    let ln_probability = |x: u64| ln_choose(first, x) + ln_choose(second, hits - x) - ln_choose(first + second, hits);
    let observed = ln_probability(a).exp();
    let (least, most) = (hits.saturating_sub(second), hits.min(first));
    let likely = |p: &f64| *p <= observed * (1.0 + TOLERANCE);
    (least..=most).map(|x| ln_probability(x).exp()).filter(likely).sum::<f64>().min(1.0)
}

/// Returns the logarithms of the factorials of 0 to `n`.
fn ln_factorials(n: u64) -> Vec<f64> {
    let mut sum = 0.0;
    std::iter::once(0.0)
        .chain((1..=n).map(|k| {
            sum += (k as f64).ln();
            sum
        }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::p_value;

    /// Tables with the two-sided p-values of `scipy.stats.fisher_exact` 1.17.1.
    const SCIPY: &[([u64; 4], f64)] = &[
        ([12, 88, 1, 29], 0.2965477847979821),
        ([20, 30, 2, 28], 0.0015020694907979205),
        ([5, 45, 12, 18], 0.003659923852188679),
        ([3, 97, 3, 27], 0.13532540180017746),
        ([0, 30, 0, 30], 1.0),
        ([10, 0, 0, 10], 1.082508822446903e-05),
        ([1, 9, 11, 3], 0.0027594561852200836),
        ([8, 2, 1, 5], 0.034965034965034975),
        ([0, 10, 0, 0], 1.0),
        ([40, 160, 6, 24], 1.0),
        ([300, 700, 2, 28], 0.0037647728322806532),
        ([30, 70, 18, 12], 0.004597289549664316),
        ([7, 393, 4, 26], 0.004536297193013037),
        ([15, 485, 0, 30], 1.0),
    ];

    #[test]
    fn p_values_are_those_of_scipy() {
        for ([a, b, c, d], p) in SCIPY {
            let found = p_value(*a, *b, *c, *d);
            assert!((found - p).abs() <= 1e-9 * p.max(1e-3), "{a} {b} {c} {d}: {found} instead of {p}");
            assert!((found - p_value(*c, *d, *a, *b)).abs() < 1e-12, "the order of the rows makes no difference");
        }
    }
}
