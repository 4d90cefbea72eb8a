//! A run as tools return it.

use super::form::{MAX_TITLE, Question, questions};
use super::results::Quote;
use crate::domain::gate::{self, Gate};
use crate::domain::{self, Ending, EngineSpec, Outcome, Run, Timestamp, status};
use crate::render;
use crate::service::Caller;
use rmcp::schemars::{self, JsonSchema};
use serde::Serialize;

/// Run in brief: what an agent needs to go on.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RunBrief {
    /// Id.
    pub run: String,
    /// First line of the goal.
    pub title: String,
    /// Status word.
    pub status: String,
    /// What it is doing or waiting for, in one sentence.
    pub now: String,
    /// Number of events so far; pass it to `wait_for_run`.
    pub seq: u64,
    /// Questions that wait for an answer.
    pub questions: Vec<Question>,
    /// Outcome, once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RunOutcome>,
}

impl RunBrief {
    /// Returns a run in brief, as it is at `at`.
    pub fn of(run: &Run, caller: &Caller, at: Timestamp) -> RunBrief {
        RunBrief {
            run: run.id.to_string(),
            title: render::brief(&run.goal.title(), MAX_TITLE),
            status: status::of_run(run).word().to_owned(),
            now: render::brief(&render::now(run, at), MAX_TITLE),
            seq: run.seq,
            questions: questions(run, caller),
            outcome: run.outcome.as_ref().map(RunOutcome::of),
        }
    }
}

/// Task of a run's plan.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Task {
    /// Id, such as `t1`.
    pub task: String,
    /// Title.
    pub title: String,
    /// Status word.
    pub status: String,
}

/// Attempt at a step.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Attempt {
    /// Id, such as `a1`.
    pub attempt: String,
    /// Step, such as `develop`.
    pub step: String,
    /// Task it works on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Engine.
    pub engine: String,
    /// How it ended; absent while it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<String>,
    /// What it used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// Its own account of the ending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Quote>,
}

/// Gate before landing.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GateState {
    /// Name, such as `review`.
    pub gate: String,
    /// Whether it is passed.
    pub passed: bool,
    /// Reason it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Result of a check at the head of the run's branch.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Check {
    /// Name.
    pub check: String,
    /// Whether it passed.
    pub green: bool,
    /// Why it failed, and the end of its output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Quote>,
}

/// Run.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RunView {
    /// Id.
    pub run: String,
    /// Project.
    pub project: String,
    /// First line of the goal.
    pub title: String,
    /// Status word.
    pub status: String,
    /// What it is doing or waiting for, in one sentence.
    pub now: String,
    /// Number of events so far; pass it to `wait_for_run`.
    pub seq: u64,
    /// Questions that wait for an answer.
    pub questions: Vec<Question>,
    /// Tasks in plan order.
    pub tasks: Vec<Task>,
    /// The latest attempts, newest first.
    pub attempts: Vec<Attempt>,
    /// Gates before landing.
    pub gates: Vec<GateState>,
    /// Checks at the head of its branch.
    pub checks: Vec<Check>,
    /// What it spent, of its limits.
    pub spent: String,
    /// Branch it lands on.
    pub base_branch: String,
    /// Head of its own branch.
    pub head: String,
    /// Size of the diff.
    pub diff: String,
    /// Address of its change (pull request).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// Outcome, once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RunOutcome>,
}

/// Outcome of a run.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RunOutcome {
    /// Whether the change is on the base branch.
    pub delivered: bool,
    /// The commit there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// In one sentence.
    pub summary: String,
}

impl RunOutcome {
    /// Returns the form of an outcome.
    pub fn of(outcome: &Outcome) -> RunOutcome {
        let sha = match outcome {
            Outcome::Delivered { sha } => Some(sha.to_string()),
            Outcome::Cancelled { .. } | Outcome::Failed { .. } | Outcome::Unchanged => None,
        };
        RunOutcome { delivered: sha.is_some(), sha, summary: render::brief(&render::outcome(outcome), MAX_TITLE) }
    }
}

/// Maximum number of attempts in a view.
const MAX_ATTEMPTS: usize = 12;

impl RunView {
    /// Returns the view of a run as it is at `at`.
    pub fn of(run: &Run, caller: &Caller, at: Timestamp) -> RunView {
        let check = |r: &domain::CheckResult| Check {
            check: r.name.clone(),
            green: r.green,
            output: (!r.green)
                .then(|| Quote::of(format!("check {}", r.name), &format!("{}\n{}", r.why, r.tail)))
                .flatten(),
        };
        RunView {
            run: run.id.to_string(),
            project: run.project.to_string(),
            title: render::brief(&run.goal.title(), MAX_TITLE),
            status: status::of_run(run).word().to_owned(),
            now: render::brief(&render::now(run, at), MAX_TITLE),
            seq: run.seq,
            questions: questions(run, caller),
            tasks: run.tasks.iter().map(|t| task(run, t)).collect(),
            attempts: run.attempts.iter().rev().take(MAX_ATTEMPTS).map(attempt).collect(),
            gates: gate::all(run).into_iter().map(gate_state).collect(),
            checks: run.facts.results.iter().flatten().map(check).collect(),
            spent: spent(run),
            base_branch: run.settings.base_branch.clone(),
            head: run.head.to_string(),
            diff: render::files_changed(&run.diff),
            change: run.change.as_ref().map(|c| c.url.clone()),
            outcome: run.outcome.as_ref().map(RunOutcome::of),
        }
    }
}

/// Returns the first line of the account of a run's spending.
fn spent(run: &Run) -> String {
    render::spending(run, None).lines().next().unwrap_or_default().to_owned()
}

fn task(run: &Run, task: &domain::Task) -> Task {
    Task {
        task: task.id.to_string(),
        title: render::brief(&task.spec.title, MAX_TITLE),
        status: status::of_task(run, task).word().to_owned(),
    }
}

fn attempt(attempt: &domain::Attempt) -> Attempt {
    let ended = attempt.ended.as_ref();
    Attempt {
        attempt: attempt.id.to_string(),
        step: attempt.step.name().to_owned(),
        task: attempt.task.map(|t| t.to_string()),
        engine: EngineSpec::parse(&attempt.engine).named(),
        ending: ended.map(|e| ending(e.ending).to_owned()),
        used: ended.map(|e| render::usage(e.charged)),
        account: ended.and_then(|e| Quote::of(format!("attempt {}", attempt.id), &e.why)),
    }
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Succeeded => "succeeded",
        Ending::Failed => "failed",
        Ending::Asked => "asked",
        Ending::Lost => "lost",
        Ending::Stopped => "stopped",
        Ending::Unavailable => "unavailable",
        Ending::NotStarted => "not started",
    }
}

fn gate_state((name, gate): (&str, Gate)) -> GateState {
    let (passed, reason) = match gate {
        Gate::Open => (true, None),
        Gate::Shut(why) | Gate::Wait(why) => (false, Some(why)),
    };
    GateState { gate: name.to_owned(), passed, reason }
}
