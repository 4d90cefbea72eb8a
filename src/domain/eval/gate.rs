//! The rules by which a candidate replaces the base of an evaluation.

use super::TrialSet;
use super::compare::Comparison;
use serde::{Deserialize, Serialize};

/// Significance level of the one-sided tests.
const LEVEL: f64 = 0.05;
/// Largest share of trials that the infrastructure may spoil.
const MAX_INFRASTRUCTURE: f64 = 0.02;

/// Settings of the gate, which the suite states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateRules {
    /// How much lower the pass rate, and how much higher the rate of false landings, may be for a candidate that saves
    /// money: 0.05 is five percentage points.
    pub margin: f64,
    /// Tasks that the candidate must not lose in all trials.
    pub must: Vec<String>,
}

impl Default for GateRules {
    fn default() -> Self {
        GateRules { margin: 0.05, must: Vec::new() }
    }
}

/// Verdict of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The candidate is better, or as good and cheaper.
    Kept,
    /// Neither was shown.
    NotShown,
    /// The candidate is worse.
    Worse,
    /// The trials do not allow a verdict.
    Unusable,
}

impl Verdict {
    /// Returns the name that is shown to people.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Kept => "kept",
            Verdict::NotShown => "not shown",
            Verdict::Worse => "worse",
            Verdict::Unusable => "unusable",
        }
    }
}

/// A verdict with its reasons.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateDecision {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, one sentence each.
    pub reasons: Vec<String>,
}

/// Decides about the candidate of a comparison.
pub fn decide(base: &TrialSet, candidate: &TrialSet, comparison: &Comparison, rules: &GateRules) -> GateDecision {
    let because = |verdict, reasons| GateDecision { verdict, reasons };
    let defects: Vec<String> = [base, candidate].into_iter().flat_map(defects).collect();
    if !defects.is_empty() {
        return because(Verdict::Unusable, defects);
    }
    if comparison.tasks == 0 {
        return because(Verdict::Unusable, vec!["no task has a valid trial of both variants".to_owned()]);
    }
    let percent = |value: f64| format!("{:.1}", value * 100.0);
    let mut against = Vec::new();
    if comparison.p_worse <= LEVEL {
        against.push(format!("the pass rate is lower (p = {:.4})", comparison.p_worse));
    }
    let must = comparison.lost_entirely.iter().filter(|task| rules.must.contains(task));
    against.extend(must.map(|task| format!("the task {task} must not be lost, and no trial passed it")));
    if !against.is_empty() {
        return because(Verdict::Worse, against);
    }
    if comparison.false_landings > rules.margin {
        let more = percent(comparison.false_landings);
        return because(Verdict::NotShown, vec![format!("false landings are {more} percentage points more frequent")]);
    }
    if comparison.p_better <= LEVEL {
        return because(Verdict::Kept, vec![format!("the pass rate is higher (p = {:.4})", comparison.p_better)]);
    }
    let mut open = vec![format!("a higher pass rate is not shown (p = {:.4})", comparison.p_better)];
    match comparison.cost_interval {
        Some(cost) if cost.high < 1.0 && comparison.lower_bound >= -rules.margin => {
            let what = format!(
                "it costs less (at most {:.2} times as much), and its pass rate is at most {} percentage points lower",
                cost.high,
                percent(-comparison.lower_bound)
            );
            return because(Verdict::Kept, vec![what]);
        }
        Some(cost) if cost.high < 1.0 => open.push(format!(
            "it costs less, but its pass rate may be {} percentage points lower; the margin is {}",
            percent(-comparison.lower_bound),
            percent(rules.margin)
        )),
        _ => open.push("lower cost is not shown".to_owned()),
    }
    because(Verdict::NotShown, open)
}

/// Returns what keeps a set from being judged.
fn defects(set: &TrialSet) -> Vec<String> {
    let summary = set.summary();
    let mut found = Vec::new();
    if summary.missing > 0 {
        found.push(format!("{}: {} of {} trials have not finished", set.id, summary.missing, set.requested));
    }
    if summary.leaked > 0 {
        found.push(format!("{}: the hidden tests leaked into {} trials", set.id, summary.leaked));
    }
    if summary.infrastructure as f64 > MAX_INFRASTRUCTURE * set.trials.len() as f64 {
        found.push(format!(
            "{}: the infrastructure spoiled {} of {} trials; at most 2 % are acceptable",
            set.id,
            summary.infrastructure,
            set.trials.len()
        ));
    }
    found
}

#[cfg(test)]
mod tests;
