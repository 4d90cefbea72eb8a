//! What REST shows: the same shapes are read back by the command line. Status words are M4's.

mod asked;
mod inquiry;
mod preview;

pub use asked::{ChangeSay, NewKey, NewProject, NewRun, NewSecret, NewStatus, RaiseShared, Say};
pub use inquiry::InquiryView;
pub use preview::{PromptView, RunPreview};

use super::shapes;
use crate::domain::escalation::{self, Escalation};
use crate::domain::gate::Gate;
use crate::domain::status;
use crate::domain::{
    Alert, ArtifactKind, Attempt, CheckResult, CheckSpec, Cooldown, DiffStat, EngineSpec, Goal, Limits, Outcome, Role,
    Run, SharedLimits, Timestamp, Usage, gate,
};
use crate::ports::SecretRow;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
/// A run in full.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// Its id, 32 hex digits.
    pub id: String,
    /// Its short id, accepted everywhere.
    pub short: String,
    /// Its project.
    pub project: String,
    /// What was asked.
    #[schema(value_type = shapes::Goal)]
    pub goal: Goal,
    /// Its status word (M4).
    pub status: String,
    /// Its phase.
    pub phase: String,
    /// Events so far; also the ETag.
    pub seq: u64,
    /// When it was opened.
    #[schema(value_type = i64)]
    pub opened_at: Timestamp,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// The plan's revision; 0 = none yet.
    pub plan_revision: u32,
    /// Its tasks in plan order (M4's steps).
    pub tasks: Vec<TaskView>,
    /// Every attempt.
    #[schema(value_type = Vec<shapes::Attempt>)]
    pub attempts: Vec<Attempt>,
    /// Questions to the scout, in the order they were asked.
    pub inquiries: Vec<InquiryView>,
    /// Every gate before landing.
    pub gates: Vec<GateView>,
    /// What it waits for from people.
    #[schema(value_type = Vec<shapes::Escalation>)]
    pub escalations: Vec<Escalation>,
    /// Spent, set aside and allowed.
    pub budget: BudgetView,
    /// Engines that could not be used, by their text (`KIND` or `KIND:ARG`), until they work again.
    #[schema(value_type = BTreeMap<String, shapes::Cooldown>)]
    pub cooldowns: BTreeMap<String, Cooldown>,
    /// When it goes on by itself, if it waits for a time.
    #[schema(value_type = Option<i64>)]
    pub wake_at: Option<Timestamp>,
    /// What it waits for until then.
    pub waits: Option<String>,
    /// Rounds of rework so far.
    pub rounds: u32,
    /// The branch it lands on.
    pub base_branch: String,
    /// The base it sits on.
    pub base: String,
    /// Its own branch.
    pub branch: String,
    /// The head of its branch.
    pub head: String,
    /// From base to head.
    #[schema(value_type = shapes::DiffStat)]
    pub diff: DiffStat,
    /// The repository.
    pub repo: String,
    /// Its checks.
    #[schema(value_type = Vec<shapes::CheckSpec>)]
    pub checks: Vec<CheckSpec>,
    /// What the checks found at the head.
    #[schema(value_type = Vec<shapes::CheckResult>)]
    pub results: Vec<CheckResult>,
    /// The change's number, once it is open.
    pub change: Option<u64>,
    /// Where to look at the change.
    pub change_url: Option<String>,
    /// Engines by role.
    #[schema(value_type = BTreeMap<String, shapes::EngineSpec>)]
    pub engines: BTreeMap<Role, EngineSpec>,
    /// What a role falls back on, in order.
    #[schema(value_type = BTreeMap<String, Vec<shapes::EngineSpec>>)]
    pub fallbacks: BTreeMap<Role, Vec<EngineSpec>>,
    /// Acts under way, by name.
    pub doing: Vec<String>,
    /// How it ended.
    #[schema(value_type = Option<shapes::Object>)]
    pub outcome: Option<Outcome>,
    /// The trace it belongs to (W3C trace id, 32 hex digits).
    pub trace_id: Option<String>,
}

/// A task of a run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// `t1`.
    pub id: String,
    /// Its name in the plan.
    pub name: String,
    /// One line.
    pub title: String,
    /// What is to be done.
    pub text: String,
    /// Names of the tasks it needs.
    pub needs: Vec<String>,
    /// Why there is such a task (`plan`, `review`, …).
    pub origin: String,
    /// Its status word (M4).
    pub status: String,
    /// Its stage.
    pub stage: String,
    /// Tries used.
    pub tries: u32,
    /// Tries allowed.
    pub tries_allowed: u32,
    /// Its commit.
    pub head: Option<String>,
    /// Its diff.
    #[schema(value_type = shapes::DiffStat)]
    pub diff: DiffStat,
    /// What the checks found last.
    #[schema(value_type = Vec<shapes::CheckResult>)]
    pub results: Vec<CheckResult>,
}

/// A gate.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GateView {
    /// Its name.
    pub name: String,
    /// Whether the way is free.
    #[schema(value_type = shapes::GateWord)]
    #[serde(flatten)]
    pub gate: Gate,
}

/// Money, tokens, time.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BudgetView {
    /// Settled.
    #[schema(value_type = shapes::Usage)]
    pub spent: Usage,
    /// Set aside for live attempts.
    #[schema(value_type = shapes::Usage)]
    pub reserved: Usage,
    /// Allowed.
    #[schema(value_type = shapes::Limits)]
    pub limits: Limits,
    /// What it shares with other runs, as it was when the run was opened.
    #[schema(value_type = shapes::SharedLimits)]
    pub shared: SharedLimits,
    /// What people were told of it.
    #[schema(value_type = Vec<shapes::Alert>)]
    pub alerts: Vec<Alert>,
}

impl RunView {
    /// The view of a run.
    pub fn of(run: &Run) -> RunView {
        let reserved = run.ledger.reserved.values().fold(Usage::default(), |sum, r| sum.plus(*r));
        RunView {
            id: run.id.to_string(),
            short: run.id.abbrev(),
            project: run.project.to_string(),
            goal: run.goal.clone(),
            status: status::of_run(run).word().to_owned(),
            phase: run.phase.name().to_owned(),
            seq: run.seq,
            opened_at: run.opened_at,
            paused_by: run.paused.as_ref().map(ToString::to_string),
            plan_revision: run.plan.revision,
            tasks: run.tasks.iter().map(|t| TaskView::of(run, t)).collect(),
            attempts: run.attempts.clone(),
            inquiries: InquiryView::all(run),
            gates: gate::all(run).into_iter().map(|(name, gate)| GateView { name: name.to_owned(), gate }).collect(),
            escalations: run.blocks.iter().map(|b| escalation::of(run, b)).collect(),
            budget: BudgetView {
                spent: run.ledger.spent,
                reserved,
                limits: run.limits,
                shared: run.settings.policy.shared,
                alerts: run.alerts.clone(),
            },
            cooldowns: run.cooldowns.clone(),
            wake_at: run.wake_at(),
            waits: run.wait.as_ref().map(|w| w.why.clone()),
            rounds: run.rounds,
            base_branch: run.settings.base_branch.clone(),
            base: run.base.to_string(),
            branch: run.settings.branch.clone(),
            head: run.head.to_string(),
            diff: run.diff.clone(),
            repo: run.settings.origin.clone(),
            checks: run.settings.checks.clone(),
            results: run.facts.results.clone().unwrap_or_default(),
            change: run.change.as_ref().map(|c| c.number.0),
            change_url: run.change.as_ref().map(|c| c.url.clone()),
            engines: run.settings.engines.clone(),
            fallbacks: run.settings.fallbacks.clone(),
            doing: run.pending.values().map(|t| t.name().to_owned()).collect(),
            outcome: run.outcome.clone(),
            trace_id: run.traceparent.as_ref().and_then(|t| t.split('-').nth(1).map(str::to_owned)),
        }
    }
}

impl TaskView {
    fn of(run: &Run, task: &crate::domain::Task) -> TaskView {
        TaskView {
            id: task.id.to_string(),
            name: task.spec.name.clone(),
            title: task.spec.title.clone(),
            text: task.spec.text.clone(),
            needs: task.spec.needs.clone(),
            origin: task.origin.name().to_owned(),
            status: status::of_task(run, task).word().to_owned(),
            stage: task.stage.name().to_owned(),
            tries: task.tries,
            tries_allowed: task.tries_allowed,
            head: task.head.as_ref().map(ToString::to_string),
            diff: task.diff.clone(),
            results: task.results.clone(),
        }
    }
}

/// A secret that is kept.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeptSecret {
    /// What is shown of it.
    #[schema(value_type = shapes::SecretRow)]
    pub secret: SecretRow,
    /// What people should know about where the key is.
    pub notice: Option<String>,
}

/// Whose secret.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecretOf {
    /// The project it is for; for all when left out.
    pub project: Option<String>,
}

/// What giving more did.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Raised {
    /// The runs that had waited for it and were told to go on.
    pub resumed: Vec<String>,
}

/// An RFC 9457 problem.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"type": "urn:skep:problem:no_run", "title": "Not Found", "status": 404,
    "detail": "there is no run \"1234\"", "fix": "GET /api/v1/runs lists those there are", "code": "no_run"}))]
pub struct Problem {
    /// A URI for the kind of problem: `urn:skep:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, to what, why.
    pub detail: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// The stable code.
    pub code: String,
}

/// What the service tells about itself.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or what is wrong.
    pub status: String,
    /// The program's version.
    pub version: String,
    /// Runs alive now.
    pub live: u64,
    /// Whether the store answers.
    pub store: bool,
    /// The level of isolation of commands.
    pub sandbox: String,
    /// For how long it has been running, in seconds.
    pub uptime_secs: u64,
}

/// A run's steps, in M4's words.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StepsView {
    /// The run.
    pub run: String,
    /// Its status word.
    pub status: String,
    /// Its tasks in plan order.
    pub steps: Vec<TaskView>,
}

/// What checks found last in a project's newest run that was checked.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TestsView {
    /// The run.
    pub run: String,
    /// What was checked: `head` of the run's branch, or a task (`t1`).
    #[schema(example = "head")]
    pub scope: String,
    /// The commit.
    pub sha: String,
    /// Whether every check of the run ran and is green.
    pub green: bool,
    /// Checks that run at another place than Skep's own machine, and where.
    pub places: BTreeMap<String, String>,
    /// What each found.
    #[schema(value_type = Vec<shapes::CheckResult>)]
    pub results: Vec<CheckResult>,
}

/// A log, transcript or test report of a run; its bytes are the artifact of that digest.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    /// The digest of its bytes.
    pub digest: String,
    /// What it is.
    #[schema(value_type = String, example = "log")]
    pub kind: ArtifactKind,
    /// A name for people.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// The attempt that left it (`a1`); `null` for checks.
    pub attempt: Option<String>,
    /// The task it is about (`t1`), where it is known.
    pub task: Option<String>,
}
