//! What tools take. The descriptions of the fields become their input schemas, which a model reads.

use super::tools::CallError;
use crate::domain::{Raise, RequestedLimits, Role};
use crate::service::runs::OpenRun;
use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// Parses the arguments of a call.
pub fn parse<T: DeserializeOwned>(arguments: Value) -> Result<T, CallError> {
    serde_json::from_value(arguments).map_err(|e| CallError::Arguments(e.to_string()))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRuns {
    /// Only runs of this project.
    pub project: Option<String>,
    /// Only runs with this status: pending, planning, planned, running, paused, blocked, failed, cancelled, completed
    /// or quarantined.
    pub status: Option<String>,
    /// Only runs that have not ended.
    #[serde(default)]
    pub open: bool,
    /// Maximum number of rows, 1 to 100; 20 if absent.
    pub limit: Option<u64>,
    /// Only runs older than this one: `next_before` of the page before.
    pub before: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchMemory {
    /// Project.
    pub project: String,
    /// What you want to do, or an error message.
    pub text: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunOnly {
    /// Id of the run, whole or shortened.
    pub run: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunEvents {
    /// Id of the run, whole or shortened.
    pub run: String,
    /// Only events after this number.
    #[serde(default)]
    pub after: u64,
    /// Maximum number of events, 1 to 100; 50 if absent.
    pub limit: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunDiff {
    /// Id of the run, whole or shortened.
    pub run: String,
    /// Only the latest patch of this task, such as `t1`.
    pub task: Option<String>,
    /// First line, counted from 1; 1 if absent.
    pub first_line: Option<usize>,
    /// Maximum number of lines; 200 if absent.
    pub lines: Option<usize>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunOutput {
    /// Id of the run, whole or shortened.
    pub run: String,
    /// The attempt (`a1`), or the name of a check (`cargo-test`). The newest output that is not empty, if absent.
    pub of: Option<String>,
    /// First line, counted from 1; if absent, the last lines are returned.
    pub first_line: Option<usize>,
    /// Maximum number of lines; 200 if absent.
    pub lines: Option<usize>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuestions {
    /// Only questions of this project's runs.
    pub project: Option<String>,
    /// Maximum number of runs whose questions are listed, 1 to 50; 10 if absent.
    pub limit: Option<usize>,
    /// Only questions of runs older than this one: `next_before` of the page before.
    pub before: Option<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Project,
    Role,
    Model,
    Day,
    Run,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetDeployment {
    /// Only of this project; all targets if absent.
    pub project: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetSpending {
    /// What to sum up by.
    pub by: By,
    /// Only this project.
    pub project: Option<String>,
    /// Only this run, by its whole or shortened id.
    pub run: Option<String>,
    /// Only this UTC day: `2026-11-21`, or `today`.
    pub day: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRun {
    /// Project; give either this or `repo`.
    pub project: Option<String>,
    /// Repository, an absolute path or a URL; it becomes a project the first time.
    pub repo: Option<String>,
    /// What should be different when the run is done, and how to tell that it is.
    pub goal: String,
    /// Branch to land on; the project's if absent.
    pub base: Option<String>,
    /// Engines by role (manager, dev, reviewer, ops, scout), as `KIND` or `KIND:ARG`; the project's if absent.
    #[serde(default)]
    pub engines: BTreeMap<String, String>,
    /// Check commands; the project's if empty.
    #[serde(default)]
    pub checks: Vec<String>,
    /// Limits of this run; the configured ones where absent. A higher limit than the configured one is refused without
    /// the right to raise budgets.
    #[serde(default)]
    pub limits: RunLimits,
    /// A unique string for this request, such as a UUID. The same key with the same request returns the same run, so
    /// a call whose answer was lost can be repeated.
    pub key: Option<String>,
}

/// Limits of a run.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunLimits {
    /// Tokens.
    pub tokens: Option<u64>,
    /// Money, in millionths of a US dollar.
    pub cost_micros: Option<u64>,
    /// Model calls.
    pub turns: Option<u64>,
    /// Seconds of work of all attempts and checks.
    pub timeout_secs: Option<u64>,
    /// Rounds of rework; 0 asks a person before the first.
    pub rounds: Option<u32>,
    /// Attempts of all roles together.
    pub attempts: Option<u32>,
}

impl From<RunLimits> for RequestedLimits {
    fn from(limits: RunLimits) -> RequestedLimits {
        let RunLimits { tokens, cost_micros, turns, timeout_secs, rounds, attempts } = limits;
        RequestedLimits { tokens, cost_micros, turns, timeout_secs, rounds, attempts }
    }
}

impl StartRun {
    /// Returns the request for the run, and its key.
    pub fn into_request(self, traceparent: Option<String>) -> Result<(OpenRun, Option<String>), CallError> {
        let StartRun { project, repo, goal, base, engines, checks, limits, key } = self;
        let engines = engines.into_iter().map(|(name, engine)| Ok((role(&name)?, engine)));
        let engines = engines.collect::<Result<_, CallError>>()?;
        let limits = limits.into();
        Ok((OpenRun { project, repo, goal, base, engines, checks, limits, traceparent, ..OpenRun::default() }, key))
    }
}

fn role(name: &str) -> Result<Role, CallError> {
    serde_json::from_value(name.into())
        .map_err(|_| CallError::Arguments(format!("engines: {} is not a role", crate::service::error::shown(name))))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelRun {
    /// Id of the run, whole or shortened.
    pub run: String,
    /// Reason, for the record.
    pub why: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryRun {
    /// Id of the run, whole or shortened.
    pub run: String,
    /// Hint for the next try.
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerWord {
    /// Go on, or try again.
    Yes,
    /// End the run undelivered; for an approval: decline it. `text` says why.
    No,
    /// Answer the question, or give a hint: `text`.
    Text,
    /// Drop the task and go on without it.
    Skip,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerQuestion {
    /// Id of the run, whole or shortened.
    pub run: String,
    /// The question that is answered: its `block`, such as `b1`.
    pub block: String,
    /// Kind of the answer.
    pub answer: AnswerWord,
    /// The text, for `text` and `no`.
    pub text: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// Id of the run, whole or shortened.
    pub run: String,
    /// The question that is answered: its `block`, such as `b1`.
    pub block: String,
    /// Exactly the `subject` of the question: what was looked at before it is approved.
    pub subject: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RaiseBudget {
    /// Id of the run, whole or shortened.
    pub run: String,
    /// Tokens to add.
    #[serde(default)]
    pub tokens: u64,
    /// Money to add, in millionths of a US dollar.
    #[serde(default)]
    pub cost_micros: u64,
    /// Model calls to add.
    #[serde(default)]
    pub turns: u64,
    /// Seconds to add to the time of the run.
    #[serde(default)]
    pub time_secs: u64,
    /// Rounds of rework to add.
    #[serde(default)]
    pub rounds: u32,
    /// Attempts to add.
    #[serde(default)]
    pub attempts: u32,
    /// Seconds to add to the time of the step that ran out of its own.
    #[serde(default)]
    pub step_secs: u64,
}

impl RaiseBudget {
    /// Returns the run and the amounts.
    pub fn into_raise(self) -> (String, Raise) {
        let RaiseBudget { run, tokens, cost_micros, turns, time_secs, rounds, attempts, step_secs } = self;
        (run, Raise { tokens, cost_micros, turns, time_secs, rounds, attempts, step_secs })
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Any event after `seq`.
    #[default]
    Change,
    /// A question that was not there at `seq`, or the end.
    Decision,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitForRun {
    /// Id of the run, whole or shortened.
    pub run: String,
    /// `seq` of the run as you know it. Nothing after it is missed, whatever was lost in between.
    #[serde(default)]
    pub seq: u64,
    /// What to wait for: `change` (any event) or `decision` (a question or the end); `change` if absent.
    #[serde(default)]
    pub until: Until,
    /// Seconds to wait, at most 300; 25 if absent. Clients give up on a call after a while, often after a minute,
    /// unless they ask for progress notifications.
    pub seconds: Option<u64>,
}
