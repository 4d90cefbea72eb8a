//! Paired comparison of two variants on the tasks that both have tried.

use super::stats::{self, Bootstrap, Interval, RESAMPLES};
use super::{Corner, TrialSet};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Confidence of every interval that is shown.
const CONFIDENCE: f64 = 0.95;
/// Number of differing tasks from which a bootstrap alone gives the lower bound.
const MANY_DIFFERING: usize = 10;

/// A comparison of a candidate with a base.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The base.
    pub base: String,
    /// The candidate.
    pub candidate: String,
    /// Tasks in which both have a valid trial.
    pub tasks: usize,
    /// Mean pass rate of the base on these tasks.
    pub base_rate: f64,
    /// Mean pass rate of the candidate on these tasks.
    pub candidate_rate: f64,
    /// Difference of the pass rates, candidate minus base.
    pub difference: f64,
    /// Its 95 % bootstrap interval over tasks.
    pub interval: Option<Interval>,
    /// Its lower bound at 95 % confidence, one-sided: the smaller one of the bootstrap's 5 % quantile and what so few
    /// tasks can exclude at all.
    pub lower_bound: f64,
    /// One-sided p-value that the candidate is better (sign-flip permutation test).
    pub p_better: f64,
    /// One-sided p-value that the candidate is worse.
    pub p_worse: f64,
    /// Two-sided p-value of the exact McNemar test, if each task has one trial per variant.
    pub mcnemar: Option<f64>,
    /// Tasks that the candidate passes more often.
    pub gained: Vec<String>,
    /// Tasks that the candidate passes less often.
    pub lost: Vec<String>,
    /// Tasks that the base passed at least once, and the candidate never.
    pub lost_entirely: Vec<String>,
    /// Difference of the rates of false landings, candidate minus base.
    pub false_landings: f64,
    /// Cost of the candidate divided by the cost of the base; `None` if the base cost nothing.
    pub cost_ratio: Option<f64>,
    /// Its 95 % bootstrap interval over tasks.
    pub cost_interval: Option<Interval>,
    /// Difference of the rates that would be found in four of five evaluations of this size, judging from the spread.
    pub detectable: Option<f64>,
}

impl Comparison {
    /// Compares two sets of trials of the same suite.
    pub fn new(base: &TrialSet, candidate: &TrialSet) -> Comparison {
        Comparison::with_resamples(base, candidate, RESAMPLES)
    }

    /// Compares with a given number of resamples.
    pub(super) fn with_resamples(base: &TrialSet, candidate: &TrialSet, resamples: usize) -> Comparison {
        let seed = seed(&base.id, &candidate.id);
        let pairs = pairs(&base.rates(Corner::LandedCorrect), &candidate.rates(Corner::LandedCorrect));
        let differences: Vec<f64> = pairs.iter().map(|p| p.candidate - p.base).collect();
        let wrong = pairs_of(base, candidate, Corner::LandedWrong);
        let false_landings: Vec<f64> = wrong.iter().map(|p| p.candidate - p.base).collect();
        let bootstrap = Bootstrap::new(&differences, resamples, seed, |d| Some(stats::mean(d)));
        let cost = |set: &TrialSet| -> BTreeMap<String, f64> {
            let by_task = set.by_task(|trial| trial.spent.cost_micros as f64);
            by_task.into_iter().map(|(task, cost)| (task.to_owned(), cost)).collect()
        };
        let (base_cost, candidate_cost) = (cost(base), cost(candidate));
        let costs: Vec<(f64, f64)> =
            pairs.iter().filter_map(|p| Some((*base_cost.get(&p.task)?, *candidate_cost.get(&p.task)?))).collect();
        let named = |holds: &dyn Fn(&Pair) -> bool| -> Vec<String> {
            pairs.iter().filter(|p| holds(p)).map(|p| p.task.clone()).collect()
        };
        let (gained, lost) = (named(&|p| p.candidate > p.base), named(&|p| p.candidate < p.base));
        Comparison {
            base: base.id.clone(),
            candidate: candidate.id.clone(),
            tasks: pairs.len(),
            base_rate: stats::mean(&pairs.iter().map(|p| p.base).collect::<Vec<_>>()),
            candidate_rate: stats::mean(&pairs.iter().map(|p| p.candidate).collect::<Vec<_>>()),
            difference: stats::mean(&differences),
            interval: bootstrap.interval(CONFIDENCE),
            lower_bound: lower_bound(&bootstrap, lost.len(), lost.len() + gained.len(), pairs.len()),
            p_better: stats::sign_flip(&differences, resamples, seed),
            p_worse: stats::sign_flip(&differences.iter().map(|d| -d).collect::<Vec<_>>(), resamples, seed),
            mcnemar: mcnemar(base, candidate, &pairs),
            gained,
            lost_entirely: named(&|p| p.base > 0.0 && p.candidate <= 0.0),
            lost,
            false_landings: stats::mean(&false_landings),
            cost_ratio: ratio(&costs),
            cost_interval: Bootstrap::new(&costs, resamples, seed, ratio).interval(CONFIDENCE),
            detectable: detectable(&differences),
        }
    }
}

/// Rates of one task.
struct Pair {
    task: String,
    base: f64,
    candidate: f64,
}

fn pairs(base: &BTreeMap<&str, f64>, candidate: &BTreeMap<&str, f64>) -> Vec<Pair> {
    let both = |(task, base): (&&str, &f64)| {
        candidate.get(task).map(|c| Pair { task: (*task).to_owned(), base: *base, candidate: *c })
    };
    base.iter().filter_map(both).collect()
}

fn pairs_of(base: &TrialSet, candidate: &TrialSet, corner: Corner) -> Vec<Pair> {
    pairs(&base.rates(corner), &candidate.rates(corner))
}

/// Returns the lower bound of the difference. A bootstrap does not see losses that happened in no task. So with few
/// differing tasks, the bound is not above what the number of tasks can exclude: the exact upper bound of the share of
/// tasks that are lost.
fn lower_bound(bootstrap: &Bootstrap, lost: usize, differing: usize, tasks: usize) -> f64 {
    let by_bootstrap = bootstrap.quantile(0.05).unwrap_or(-1.0);
    if differing >= MANY_DIFFERING {
        return by_bootstrap;
    }
    // The upper end of a two-sided 90 % interval is a one-sided bound at 95 %.
    by_bootstrap.min(-stats::clopper_pearson(lost as u64, tasks as u64, 0.90).high)
}

/// Returns the p-value of McNemar's test, which applies only if each task has one trial per variant.
fn mcnemar(base: &TrialSet, candidate: &TrialSet, pairs: &[Pair]) -> Option<f64> {
    let is_single = |set: &TrialSet| {
        let valid: Vec<&str> = set.trials.iter().filter(|t| t.is_valid()).map(|t| t.task.as_str()).collect();
        valid.iter().collect::<BTreeSet<_>>().len() == valid.len()
    };
    let count = |holds: &dyn Fn(&Pair) -> bool| pairs.iter().filter(|p| holds(p)).count() as u64;
    (is_single(base) && is_single(candidate))
        .then(|| stats::mcnemar(count(&|p| p.candidate > p.base), count(&|p| p.candidate < p.base)))
}

fn ratio(costs: &[(f64, f64)]) -> Option<f64> {
    let (base, candidate) = costs.iter().fold((0.0, 0.0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1));
    (base > 0.0).then(|| candidate / base)
}

/// Returns the difference that a one-sided test at 5 % finds with a power of 80 %.
fn detectable(differences: &[f64]) -> Option<f64> {
    /// Sum of the normal quantiles of 0.95 and 0.8.
    const QUANTILES: f64 = 1.644_853_627 + 0.841_621_234;
    let n = differences.len() as f64;
    if n < 2.0 {
        return None;
    }
    let mean = stats::mean(differences);
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some(QUANTILES * (variance / n).sqrt())
}

/// Returns a seed that depends only on the names of the two sets (FNV-1a).
fn seed(base: &str, candidate: &str) -> u64 {
    let bytes = base.bytes().chain([0]).chain(candidate.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
