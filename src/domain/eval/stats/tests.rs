//! The figures are those of scipy 1.17.1 and statsmodels 0.15.0.

use super::*;

/// Discordant pairs, and `statsmodels.stats.contingency_tables.mcnemar(exact=True)`.
const MCNEMAR: &[((u64, u64), f64)] = &[
    ((0, 0), 1.0),
    ((1, 0), 1.0),
    ((6, 0), 0.03125),
    ((9, 1), 0.021484375),
    ((12, 2), 0.012939453125),
    ((20, 5), 0.004077315330505371),
    ((7, 7), 1.0),
    ((3, 14), 0.012725830078125),
    ((40, 21), 0.0204147137996349),
    ((120, 90), 0.045114087864840696),
];

/// Hits, trials and confidence, and the interval.
type Interval = ((u64, u64, f64), (f64, f64));

/// Intervals by `scipy.stats.binomtest(…).proportion_ci(confidence, "exact")`.
const CLOPPER_PEARSON: &[Interval] = &[
    ((0, 59, 0.9), (0.0, 0.04950760988846834)),
    ((0, 12, 0.9), (0.0, 0.220922191945552)),
    ((1, 12, 0.9), (0.004265318777438977, 0.3386806684341239)),
    ((3, 30, 0.9), (0.027815549739701424, 0.23859785729325106)),
    ((12, 12, 0.95), (0.7353515306029488, 1.0)),
    ((7, 20, 0.95), (0.1539092047845412, 0.5921885345328283)),
    ((1, 1, 0.95), (0.025000000000000022, 1.0)),
    ((250, 1000, 0.99), (0.21549682324153818, 0.2869221344399952)),
    ((0, 100, 0.9), (0.0, 0.02951304960715665)),
];

const THIRD: f64 = 1.0 / 3.0;

/// Differences, and `scipy.stats.permutation_test(…, permutation_type="samples", alternative="greater")`, exact.
const SIGN_FLIP: &[(&[f64], f64)] = &[
    (&[1.0, 1.0, 1.0, 1.0, 1.0], 0.03125),
    (&[1.0, 1.0, 1.0, -1.0, 0.0, 0.0, 1.0], 0.1875),
    (&[THIRD, 2.0 * THIRD, -THIRD, 1.0, 0.0, THIRD], 0.125),
    (&[-1.0, -1.0, 1.0], 0.875),
    (&[0.0, 0.0, 0.0], 1.0),
    (&[THIRD, 2.0 * THIRD, THIRD, 0.0, 0.0, 2.0 * THIRD, -1.0, 2.0 * THIRD, THIRD, 0.0, 0.0, 0.0, 0.0, 0.0], 0.1640625),
];

#[test]
fn exact_figures_are_those_of_scipy_and_statsmodels() {
    for ((b, c), p) in MCNEMAR {
        assert!((mcnemar(*b, *c) - p).abs() < 1e-12, "{b} {c}: {} instead of {p}", mcnemar(*b, *c));
        assert!((mcnemar(*c, *b) - p).abs() < 1e-12, "the order makes no difference");
    }
    for ((hits, n, confidence), (low, high)) in CLOPPER_PEARSON {
        let found = clopper_pearson(*hits, *n, *confidence);
        assert!((found.low - low).abs() < 1e-9 && (found.high - high).abs() < 1e-9, "{hits} of {n}: {found:?}");
    }
    for (differences, p) in SIGN_FLIP {
        let found = sign_flip(differences, RESAMPLES, 1);
        assert!((found - p).abs() < 1e-12, "{differences:?}: {found} instead of {p}");
    }
}

#[test]
fn random_signs_agree_with_all_signs() {
    // Twenty-one differences are drawn; the exact value of 15 gains and 6 losses is the binomial tail.
    let differences: Vec<f64> = std::iter::repeat_n(1.0, 15).chain(std::iter::repeat_n(-1.0, 6)).collect();
    let exact = binomial_tail(6, 21, 0.5);
    let drawn = sign_flip(&differences, RESAMPLES, 3);
    assert!((drawn - exact).abs() < 0.01, "{drawn} instead of {exact}");
    assert_eq!(drawn.to_bits(), sign_flip(&differences, RESAMPLES, 3).to_bits(), "the same seed gives the same value");
}

#[test]
fn bootstrap_intervals_are_those_of_scipy() {
    let seventh = 2.0 * THIRD;
    let differences = [
        0.0, 1.0, THIRD, 0.0, -THIRD, seventh, 0.0, 0.0, 1.0, -seventh, THIRD, 0.0, 0.0, THIRD, 1.0, 0.0, -THIRD, 0.0,
        seventh, 0.0,
    ];
    // `scipy.stats.bootstrap(…, method="percentile", n_resamples=200000)`; the mean moves in steps of 1/60.
    let found = Bootstrap::new(&differences, RESAMPLES, 5, |d| Some(mean(d)));
    for (confidence, low, high) in [(0.95, 0.0, 0.4), (0.9, 0.0333333, 0.3666667)] {
        let interval = found.interval(confidence).unwrap();
        assert!((interval.low - low).abs() < 0.018 && (interval.high - high).abs() < 0.018, "{interval:?}");
    }
    let base = [1.2, 0.4, 3.1, 0.9, 2.2, 0.7, 1.5, 1.1, 0.3, 2.0];
    let candidate = [0.9, 0.5, 2.2, 0.8, 1.9, 0.9, 1.0, 1.2, 0.2, 1.6];
    let pairs: Vec<(f64, f64)> = base.into_iter().zip(candidate).collect();
    let ratio = |pairs: &[(f64, f64)]| {
        let sums = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        (sums.0 > 0.0).then(|| sums.1 / sums.0)
    };
    let interval = Bootstrap::new(&pairs, RESAMPLES, 5, ratio).interval(0.95).unwrap();
    assert!((interval.low - 0.7543860).abs() < 0.01 && (interval.high - 0.9638554).abs() < 0.01, "{interval:?}");
    assert!(Bootstrap::new(&[], 10, 5, ratio).interval(0.95).is_none(), "nothing to resample");
}
