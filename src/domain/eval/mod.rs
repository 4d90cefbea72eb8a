//! Evaluation: what trials of a variant showed, how two variants compare, and whether one replaces the other.
//!
//! A task is the unit of every statistic. Trials of the same task are averaged first, because they are not independent.

pub mod compare;
pub mod gate;
pub mod stats;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a trial ended: whether its change landed, and whether the hidden tests accept the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corner {
    /// Landed, and correct.
    LandedCorrect,
    /// Landed, and wrong: a false landing.
    LandedWrong,
    /// Stopped before landing, although the kept work is correct.
    StoppedCorrect,
    /// Stopped before landing, without correct work.
    StoppedWrong,
}

impl Corner {
    /// All corners, the best one first.
    pub const ALL: [Corner; 4] =
        [Corner::LandedCorrect, Corner::LandedWrong, Corner::StoppedCorrect, Corner::StoppedWrong];

    /// Returns the corner of a trial.
    pub fn new(landed: bool, correct: bool) -> Corner {
        match (landed, correct) {
            (true, true) => Corner::LandedCorrect,
            (true, false) => Corner::LandedWrong,
            (false, true) => Corner::StoppedCorrect,
            (false, false) => Corner::StoppedWrong,
        }
    }

    /// Returns the name that is shown to people.
    pub fn label(self) -> &'static str {
        match self {
            Corner::LandedCorrect => "landed, correct",
            Corner::LandedWrong => "landed, wrong",
            Corner::StoppedCorrect => "stopped, correct",
            Corner::StoppedWrong => "stopped, wrong",
        }
    }
}

/// What a run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Tokens.
    pub tokens: u64,
    /// Cost in micro-USD.
    pub cost_micros: u64,
    /// Working time of attempts and checks, in milliseconds.
    pub wall_ms: u64,
    /// Model calls.
    pub turns: u64,
    /// Rounds of rework.
    pub rounds: u32,
    /// Attempts of all roles.
    pub attempts: u32,
}

/// Result of one trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Task.
    pub task: String,
    /// Number of the trial among those of its task and variant, from 1.
    pub number: u32,
    /// Id of the run, if one was opened.
    pub run: Option<String>,
    /// Where it ended; `None` if the infrastructure failed.
    pub corner: Option<Corner>,
    /// How the run ended: `delivered`, `unchanged`, `failed`, `cancelled`, or the code of the question that it waits on.
    pub end: String,
    /// Commit that was graded.
    pub commit: Option<String>,
    /// Why the work was judged wrong; empty if it is correct.
    pub grade: String,
    /// What kept the trial from saying anything about the variant, such as an unreachable provider.
    pub infrastructure: Option<String>,
    /// Where content of the hidden tests was found although the run must not know it.
    pub leaks: Vec<String>,
    /// Files that decide the grade and that the run changed. They were set back before grading.
    pub tampered: Vec<String>,
    /// What the run used.
    pub spent: Spent,
    /// Number of times it was started again because the infrastructure had failed.
    pub restarts: u32,
    /// Data directory with the run, for `skep --data-dir`.
    pub data_dir: String,
}

impl Trial {
    /// Returns whether the trial says something about its variant.
    pub fn is_valid(&self) -> bool {
        self.corner.is_some() && self.leaks.is_empty()
    }
}

/// Proof of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskProof {
    /// Name.
    pub task: String,
    /// Title.
    pub title: String,
    /// Kind of work, such as `bug`.
    pub kind: String,
    /// Programming language.
    pub language: String,
    /// What makes the task unusable; empty if it is proven.
    pub problems: Vec<String>,
}

/// Trials of one variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialSet {
    /// Name of the variant.
    pub variant: String,
    /// Name that is unique among all sets of the suite: the variant, and a digest of its settings and of the program.
    pub id: String,
    /// Version of the program that ran the trials.
    pub program: String,
    /// Number of trials that were requested.
    pub requested: u64,
    /// The finished trials, by task and number.
    pub trials: Vec<Trial>,
}

/// Counts and means of the trials of a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Trials by corner.
    pub corners: BTreeMap<Corner, u64>,
    /// Trials that say something about the variant.
    pub valid: u64,
    /// Trials that the infrastructure spoiled.
    pub infrastructure: u64,
    /// Trials that knew the hidden tests.
    pub leaked: u64,
    /// Trials that changed files which decide the grade.
    pub tampered: u64,
    /// Trials that were requested and have not finished.
    pub missing: u64,
    /// Mean over tasks of the share of trials that landed a correct change.
    pub pass_rate: f64,
    /// Share of tasks in which every valid trial landed a correct change.
    pub pass_all: f64,
    /// Cost of all trials, in micro-USD.
    pub cost_micros: u64,
    /// Cost per landed and correct trial, in micro-USD.
    pub cost_per_pass_micros: Option<u64>,
    /// Tokens of all trials.
    pub tokens: u64,
    /// Rounds of rework of all trials.
    pub rounds: u64,
    /// Working time of all trials, in milliseconds.
    pub wall_ms: u64,
}

impl TrialSet {
    /// Returns the mean of a value over the valid trials of each task.
    pub fn by_task(&self, value: impl Fn(&Trial) -> f64) -> BTreeMap<&str, f64> {
        let mut sums = BTreeMap::<&str, (f64, f64)>::new();
        for trial in self.trials.iter().filter(|trial| trial.is_valid()) {
            let sum = sums.entry(&trial.task).or_default();
            *sum = (sum.0 + value(trial), sum.1 + 1.0);
        }
        sums.into_iter().map(|(task, (sum, count))| (task, sum / count)).collect()
    }

    /// Returns the share of valid trials of each task that ended in a corner.
    pub fn rates(&self, corner: Corner) -> BTreeMap<&str, f64> {
        self.by_task(|trial| f64::from(u8::from(trial.corner == Some(corner))))
    }

    /// Returns the counts and means.
    pub fn summary(&self) -> Summary {
        let count = |holds: &dyn Fn(&Trial) -> bool| self.trials.iter().filter(|t| holds(t)).count() as u64;
        let sum = |value: &dyn Fn(&Trial) -> u64| self.trials.iter().map(value).fold(0, u64::saturating_add);
        let corners: BTreeMap<Corner, u64> = Corner::ALL
            .into_iter()
            .map(|corner| (corner, count(&|t| t.is_valid() && t.corner == Some(corner))))
            .collect();
        let rates: Vec<f64> = self.rates(Corner::LandedCorrect).into_values().collect();
        let passed = corners.get(&Corner::LandedCorrect).copied().unwrap_or_default();
        let cost_micros = sum(&|t| t.spent.cost_micros);
        let all: Vec<f64> = rates.iter().map(|rate| f64::from(u8::from(*rate >= 1.0))).collect();
        Summary {
            corners,
            valid: count(&Trial::is_valid),
            infrastructure: count(&|t| t.infrastructure.is_some()),
            leaked: count(&|t| !t.leaks.is_empty()),
            tampered: count(&|t| !t.tampered.is_empty()),
            missing: self.requested.saturating_sub(self.trials.len() as u64),
            pass_rate: stats::mean(&rates),
            pass_all: stats::mean(&all),
            cost_micros,
            cost_per_pass_micros: cost_micros.checked_div(passed),
            tokens: sum(&|t| t.spent.tokens),
            rounds: sum(&|t| t.spent.rounds.into()),
            wall_ms: sum(&|t| t.spent.wall_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn trial(task: &str, number: u32, corner: Corner, cost_micros: u64) -> Trial {
        Trial {
            task: task.to_owned(),
            number,
            run: None,
            corner: Some(corner),
            end: "delivered".to_owned(),
            commit: None,
            grade: String::new(),
            infrastructure: None,
            leaks: Vec::new(),
            tampered: Vec::new(),
            spent: Spent { cost_micros, ..Spent::default() },
            restarts: 0,
            data_dir: String::new(),
        }
    }

    #[test]
    fn trials_of_a_task_are_averaged_before_tasks_are() {
        let mut broken = trial("b", 2, Corner::LandedWrong, 5);
        broken.corner = None;
        broken.infrastructure = Some("the provider cannot be reached".to_owned());
        let mut leaked = trial("b", 3, Corner::LandedCorrect, 5);
        leaked.leaks.push("the log".to_owned());
        let trials = vec![
            trial("a", 1, Corner::LandedCorrect, 10),
            trial("a", 2, Corner::LandedWrong, 20),
            trial("a", 3, Corner::LandedWrong, 30),
            trial("a", 4, Corner::StoppedCorrect, 40),
            trial("b", 1, Corner::LandedCorrect, 50),
            broken,
            leaked,
        ];
        let set = TrialSet { variant: "x".into(), id: "x-1".into(), program: "0".into(), requested: 8, trials };
        let summary = set.summary();
        assert_eq!(summary.corners.into_values().collect::<Vec<_>>(), [2, 2, 1, 0]);
        assert_eq!((summary.valid, summary.infrastructure, summary.leaked, summary.missing), (5, 1, 1, 1));
        assert!((summary.pass_rate - 0.625).abs() < 1e-12, "{}", summary.pass_rate);
        assert!((summary.pass_all - 0.5).abs() < 1e-12, "{}", summary.pass_all);
        assert_eq!((summary.cost_micros, summary.cost_per_pass_micros), (160, Some(80)));
    }
}
