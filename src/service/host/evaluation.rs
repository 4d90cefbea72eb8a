//! Requests and results of `skep eval`.

use super::{HostContext, HostError, HostResult};
use crate::domain::eval::gate::{self, GateDecision, GateRules};
use crate::domain::eval::{Summary, TrialSet};
use async_trait::async_trait;
use serde::Serialize;
use std::path::{Path, PathBuf};

pub use crate::domain::eval::compare::Comparison;
pub use crate::domain::eval::gate::Verdict;
pub use crate::domain::eval::{Corner, TaskProof, Trial};

/// Use cases of evaluations.
#[async_trait]
pub trait Evaluator: Send + Sync {
    /// Proves the tasks of a suite; reports each one as it is done.
    async fn check_suite(
        &self,
        context: &HostContext,
        request: &SuiteRequest,
        on_task: &(dyn Fn(TaskProof) + Send + Sync),
    ) -> HostResult<Vec<TaskProof>>;
    /// Carries out the trials of a suite that have not finished; reports each one as it finishes.
    async fn run_trials(
        &self,
        context: &HostContext,
        request: &TrialsRequest,
        on_trial: &(dyn Fn(FinishedTrial) + Send + Sync),
    ) -> HostResult<Evaluation>;
    /// Reads the results of a suite.
    async fn read_evaluation(&self, context: &HostContext, suite: &Path) -> HostResult<Evaluation>;
    /// Writes a suite or its results as another tool reads them. Returns the number of tasks or trials.
    async fn export_evaluation(&self, context: &HostContext, request: &ExportRequest) -> HostResult<u64>;
    /// Grades work that was done elsewhere; reports each grade as it is known.
    async fn grade_predictions(
        &self,
        context: &HostContext,
        request: &PredictionsRequest,
        on_grade: &(dyn Fn(PredictionGrade) + Send + Sync),
    ) -> HostResult<Vec<PredictionGrade>>;
}

/// Request to write files of another tool.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    /// Folder of the suite.
    pub suite: PathBuf,
    /// The tasks; all if empty.
    pub tasks: Vec<String>,
    /// What to write.
    pub what: Export,
    /// The file or the folder to write.
    pub to: PathBuf,
}

/// What is written for another tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// The work of a set of trials, as predictions of SWE-bench.
    Predictions {
        /// The set: its id, or the name of a variant.
        set: String,
        /// Number of the trial, because the format has one prediction per task.
        number: u32,
    },
    /// The results of a set of trials, as a log of `inspect_ai`.
    InspectLog {
        /// The set: its id, or the name of a variant.
        set: String,
    },
    /// The tasks, as tasks of Harbor.
    HarborTasks,
}

/// Request to grade predictions.
#[derive(Clone, Debug)]
pub struct PredictionsRequest {
    /// Folder of the suite.
    pub suite: PathBuf,
    /// The file with the predictions.
    pub file: PathBuf,
    /// Number of predictions that are graded at the same time.
    pub parallel: usize,
}

/// Grade of a prediction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PredictionGrade {
    /// The task.
    pub task: String,
    /// The model, as the file names it.
    pub model: String,
    /// Whether the hidden tests pass; `None` if they could not be run.
    pub correct: Option<bool>,
    /// Why it is wrong, or could not be graded; empty if it is correct.
    pub why: String,
}

/// Request to prove the tasks of a suite.
#[derive(Clone, Debug)]
pub struct SuiteRequest {
    /// Folder of the suite.
    pub suite: PathBuf,
    /// The tasks; all if empty.
    pub tasks: Vec<String>,
    /// How often each grading is repeated, to find tests that flap.
    pub repeat: u32,
    /// Number of tasks that are proven at the same time.
    pub parallel: usize,
}

/// Request to carry out trials.
#[derive(Clone, Debug)]
pub struct TrialsRequest {
    /// Folder of the suite.
    pub suite: PathBuf,
    /// The tasks; all if empty.
    pub tasks: Vec<String>,
    /// The variants.
    pub variants: Vec<VariantSpec>,
    /// Trials per task and variant; the suite's number if absent.
    pub trials: Option<u32>,
    /// Number of trials at the same time.
    pub parallel: usize,
    /// Cost in micro-USD from which no further trial starts.
    pub limit_cost_micros: Option<u64>,
}

/// A variant as it was requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariantSpec {
    /// Name. `oracle` and `nop` are built in.
    pub name: String,
    /// Its settings; later ones override earlier ones.
    pub settings: Vec<VariantSetting>,
}

/// Settings of a variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariantSetting {
    /// A configuration file.
    File(PathBuf),
    /// One key and its value.
    Key(String, String),
}

/// A trial that has finished.
#[derive(Clone, Debug, Serialize)]
pub struct FinishedTrial {
    /// Id of its set.
    pub set: String,
    /// The trial.
    pub trial: Trial,
}

/// All trials of a suite in this data directory.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// Name of the suite.
    pub suite: String,
    /// Digest of the suite's files.
    pub digest: String,
    /// Names of the tasks.
    pub tasks: Vec<String>,
    /// Rules of the gate.
    pub gate: GateRules,
    /// The sets, the newest one first.
    pub sets: Vec<TrialSet>,
    /// Whether trials were not started because the limit of money was reached.
    pub is_cut_short: bool,
}

impl Evaluation {
    /// Returns a set by its id, or the newest one of a variant.
    ///
    /// # Errors
    /// When there is none.
    pub fn set(&self, name: &str) -> HostResult<&TrialSet> {
        let by_id = self.sets.iter().find(|set| set.id == name);
        by_id.or_else(|| self.sets.iter().find(|set| set.variant == name)).ok_or_else(|| {
            let known: Vec<&str> = self.sets.iter().map(|set| set.id.as_str()).collect();
            let fix = match known.is_empty() {
                true => "carry out trials with `skep eval run` first; a changed suite needs new trials".to_owned(),
                false => format!("name one of {}", known.join(", ")),
            };
            HostError::usage(format!("no trials of a variant {name:?} of the suite {}", self.suite), fix)
        })
    }

    /// Compares two sets.
    ///
    /// # Errors
    /// When one of them does not exist.
    pub fn compare(&self, base: &str, candidate: &str) -> HostResult<Comparison> {
        Ok(Comparison::new(self.set(base)?, self.set(candidate)?))
    }

    /// Decides whether a candidate replaces a base.
    ///
    /// # Errors
    /// When one of them does not exist.
    pub fn decide(&self, base: &str, candidate: &str) -> HostResult<(Comparison, GateDecision)> {
        let comparison = self.compare(base, candidate)?;
        let decision = gate::decide(self.set(base)?, self.set(candidate)?, &comparison, &self.gate);
        Ok((comparison, decision))
    }

    /// Returns the summaries of all sets, with their ids.
    pub fn summaries(&self) -> Vec<(&TrialSet, Summary)> {
        self.sets.iter().map(|set| (set, set.summary())).collect()
    }
}
