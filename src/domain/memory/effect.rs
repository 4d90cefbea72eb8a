//! Whether memory helps: the ended runs that were given rows, compared with the holdout.

use crate::domain::eval::stats::{Interval, clopper_pearson};
use crate::domain::improve::fisher;

/// Confidence of the intervals.
const CONFIDENCE: f64 = 0.95;
/// Runs in each arm below which a comparison says nothing.
pub const MIN_RUNS: u64 = 20;

/// Arm of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arm {
    /// The run was opened without memory.
    Off,
    /// The run is given rows, if any fit.
    Given,
    /// The run is given none, for comparison.
    Holdout,
}

impl Arm {
    /// Returns the name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Arm::Off => "off",
            Arm::Given => "given",
            Arm::Holdout => "holdout",
        }
    }
}

/// Runs of one arm whose end says something about their work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArmResult {
    /// Number of runs.
    pub runs: u64,
    /// Runs that landed after at most one round of rework.
    pub landed: u64,
    /// Runs that landed after more.
    pub landed_late: u64,
    /// Rounds of rework of all runs.
    pub rounds: u64,
    /// Cost of all runs, in micro-USD.
    pub cost_micros: u64,
    /// Runs of which an attempt was given a row.
    pub with_rows: u64,
}

impl ArmResult {
    /// Returns the interval in which the share of runs that land in time lies with 95 % confidence.
    pub fn interval(&self) -> Interval {
        match self.runs {
            0 => Interval { low: 0.0, high: 1.0 },
            runs => clopper_pearson(self.landed, runs, CONFIDENCE),
        }
    }

    /// Returns the share of runs that landed in time.
    pub fn share(&self) -> f64 {
        self.landed as f64 / self.runs.max(1) as f64
    }

    /// Returns the mean of an amount per run.
    pub fn mean(&self, amount: u64) -> f64 {
        amount as f64 / self.runs.max(1) as f64
    }
}

/// The comparison. By intention to treat: a run without a fitting row counts as given, or the arms would differ by what
/// their tasks are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Runs that were given rows, if any fitted.
    pub given: ArmResult,
    /// Runs that were given none.
    pub holdout: ArmResult,
    /// Runs that ended for a reason that says nothing about their work.
    pub void: u64,
}

impl Effect {
    /// Returns the two-sided p-value of Fisher's exact test for the shares of runs that landed in time.
    pub fn p_value(&self) -> f64 {
        let split = |arm: &ArmResult| (arm.landed, arm.runs.saturating_sub(arm.landed));
        let ((a, b), (c, d)) = (split(&self.given), split(&self.holdout));
        fisher::p_value(a, b, c, d)
    }

    /// Returns whether there are enough runs in both arms.
    pub fn is_conclusive(&self) -> bool {
        self.given.runs.min(self.holdout.runs) >= MIN_RUNS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comparison_uses_the_exact_tests() {
        let arm = |runs, landed| ArmResult { runs, landed, ..ArmResult::default() };
        // As in scipy.stats.fisher_exact.
        let effect = Effect { given: arm(50, 20), holdout: arm(30, 2), void: 3 };
        assert!((effect.p_value() - 0.001_502_069_490_797_920_5).abs() < 1e-9);
        assert!(effect.is_conclusive());
        let interval = effect.given.interval();
        assert!(interval.low < 0.4 && interval.high > 0.4 && interval.low > 0.2 && interval.high < 0.6);
        let nothing = Effect::default();
        assert!(!nothing.is_conclusive());
        assert!((nothing.p_value() - 1.0).abs() < 1e-9);
        assert_eq!(nothing.given.interval(), Interval { low: 0.0, high: 1.0 });
    }
}
