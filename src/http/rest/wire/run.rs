//! Runs: as a whole, as rows of a list, and as requested.

use super::engine::written;
use super::{
    Attempt, Budget, Check, CheckResult, Criterion, DiffStat, Engine, Escalation, Gate, Goal, Inquiry, LandingWatch,
    Raise, RequestedLimits, Review, Role, Task, Timestamp,
};
use crate::domain::{self, gate, status};
use crate::ports::run_index::RunRow;
use crate::render;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Status words of runs, in the order of a run's life.
pub const STATUS_WORDS: [&str; 10] = [
    "pending",
    "planning",
    "planned",
    "running",
    "paused",
    "blocked",
    "failed",
    "cancelled",
    "completed",
    "quarantined",
];

/// Run in full.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Id, 32 hex digits.
    pub id: String,
    /// Short id, accepted wherever an id is.
    pub short_id: String,
    /// Project.
    pub project: String,
    /// Goal.
    pub goal: Goal,
    /// Status word: `pending`, `planning`, `planned`, `running`, `paused`, `blocked`, `failed`, `cancelled` or
    /// `completed`.
    pub status: String,
    /// What it is doing or waiting for, in one sentence.
    pub now: String,
    /// Phase.
    pub phase: String,
    /// Number of events; also the ETag.
    pub seq: u64,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Principal that paused it, if it is paused.
    pub paused_by: Option<String>,
    /// Revision of the plan; 0 if there is none yet.
    pub plan_revision: u32,
    /// Tasks in plan order.
    pub tasks: Vec<Task>,
    /// Attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Questions to the scout, in the order they were asked.
    pub inquiries: Vec<Inquiry>,
    /// Gates before landing.
    pub gates: Vec<Gate>,
    /// Questions for a person.
    pub escalations: Vec<Escalation>,
    /// Budget.
    pub budget: Budget,
    /// Engines in cooldown, by `KIND` or `KIND:ARG`.
    pub cooldowns: BTreeMap<String, Cooldown>,
    /// When it continues on its own, if it waits for a time.
    pub wake_at: Option<Timestamp>,
    /// What it waits for until then.
    pub waiting_for: Option<String>,
    /// Rounds of rework so far.
    pub rounds: u32,
    /// Branch it lands on.
    pub base_branch: String,
    /// Base commit of its branch.
    pub base: String,
    /// Branch of the run.
    pub branch: String,
    /// Head of that branch.
    pub head: String,
    /// Diff from `base` to `head`.
    pub diff: DiffStat,
    /// Repository.
    pub repo: String,
    /// What a person should know about the repository, a line each.
    #[serde(default)]
    pub notices: Vec<String>,
    /// Remote of a local repository, to which a person publishes what landed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Checks.
    pub checks: Vec<Check>,
    /// Results of the checks at `head`.
    pub results: Vec<CheckResult>,
    /// Acceptance criteria of its spec, each with its state at `head`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub acceptance: Vec<Criterion>,
    /// Review of `head`, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub review: Option<Review>,
    /// Number of its change (pull request), once it is open.
    pub change: Option<u64>,
    /// Address of the change.
    pub change_url: Option<String>,
    /// Engines by role.
    pub engines: BTreeMap<Role, Engine>,
    /// Fallback engines by role, in order.
    pub fallbacks: BTreeMap<Role, Vec<Engine>>,
    /// Names of the effects being carried out.
    pub pending_effects: Vec<String>,
    /// Outcome, once it has one.
    pub outcome: Option<Outcome>,
    /// What proved the change, if it landed together with others or on a base that had moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub batch: Option<Batch>,
    /// What became of CI on the base branch since it has landed. Only the route of a single run shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub after_landing: Option<LandingWatch>,
    /// W3C trace id, 32 hex digits.
    pub trace_id: Option<String>,
}

/// What proved changes that landed together: the checks of all of them at once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Batch {
    /// Commit of the base branch that they were put on.
    pub base: String,
    /// Commit that was checked: all of them.
    pub tip: String,
    /// Ids of their runs, in landing order.
    pub runs: Vec<String>,
    /// Results of the checks at `tip`.
    pub results: Vec<CheckResult>,
    /// All of this in one phrase.
    pub words: String,
}

impl From<&domain::BatchProof> for Batch {
    fn from(proof: &domain::BatchProof) -> Batch {
        Batch {
            base: proof.base.to_string(),
            tip: proof.tip.to_string(),
            runs: proof.runs.iter().map(ToString::to_string).collect(),
            results: proof.results.iter().map(Into::into).collect(),
            words: render::batch(proof),
        }
    }
}

/// Outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The change is on the base branch.
    Delivered {
        /// Commit there.
        sha: String,
    },
    /// A person cancelled it.
    Cancelled {
        /// Reason.
        why: String,
    },
    /// It cannot be delivered.
    Failed {
        /// Reason.
        why: String,
    },
    /// There was nothing to change.
    Unchanged,
}

impl From<&domain::Outcome> for Outcome {
    fn from(outcome: &domain::Outcome) -> Outcome {
        match outcome {
            domain::Outcome::Delivered { sha } => Outcome::Delivered { sha: sha.to_string() },
            domain::Outcome::Cancelled { why } => Outcome::Cancelled { why: why.clone() },
            domain::Outcome::Failed { why } => Outcome::Failed { why: why.clone() },
            domain::Outcome::Unchanged => Outcome::Unchanged,
        }
    }
}

/// Cooldown of an engine that could not be used.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Cooldown {
    /// When it is tried again; absent if a person has to answer first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What happened.
    pub why: String,
    /// What a person has to do first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Failures in a row.
    pub count: u32,
}

impl From<&domain::Cooldown> for Cooldown {
    fn from(cooldown: &domain::Cooldown) -> Cooldown {
        Cooldown {
            until: cooldown.until.map(Into::into),
            why: cooldown.why.clone(),
            fix: cooldown.fix.clone(),
            count: cooldown.count,
        }
    }
}

impl Run {
    /// Returns the number of its change if people review it through Skep, and not on the pages of its forge.
    pub fn local_change(&self) -> Option<u64> {
        let has_pages = self.change_url.as_deref().is_some_and(|url| url.contains("://"));
        self.change.filter(|_| !has_pages)
    }

    /// Returns the form of a run as it is at `at`.
    pub fn new(run: &domain::Run, at: domain::Timestamp) -> Run {
        let settings = &run.settings;
        let engines = |all: &Vec<domain::EngineSpec>| all.iter().map(Engine::from).collect();
        Run {
            id: run.id.to_string(),
            short_id: run.id.abbrev(),
            project: run.project.to_string(),
            goal: (&run.goal).into(),
            status: status::of_run(run).word().to_owned(),
            now: render::now(run, at),
            phase: run.phase.name().to_owned(),
            seq: run.seq,
            opened_at: run.opened_at.into(),
            paused_by: run.paused.as_ref().map(ToString::to_string),
            plan_revision: run.plan.revision,
            tasks: run.tasks.iter().map(|t| Task::of(run, t)).collect(),
            attempts: run.attempts.iter().map(Into::into).collect(),
            inquiries: Inquiry::all(run),
            gates: gate::all(run).into_iter().map(Into::into).collect(),
            escalations: run.blocks.iter().map(|b| render::escalation(run, b).into()).collect(),
            budget: run.into(),
            cooldowns: run.cooldowns.iter().map(|(engine, c)| (written(engine), c.into())).collect(),
            wake_at: run.wake_at().map(Into::into),
            waiting_for: run.wait.as_ref().map(|w| w.reason.to_string()),
            rounds: run.rounds,
            base_branch: settings.base_branch.clone(),
            base: run.base.to_string(),
            branch: settings.branch.clone(),
            head: run.head.to_string(),
            diff: (&run.diff).into(),
            repo: settings.origin.clone(),
            notices: render::notices(run),
            remote: render::remote(run).map(str::to_owned),
            checks: settings.checks.iter().map(Into::into).collect(),
            results: run.facts.results.iter().flatten().map(Into::into).collect(),
            acceptance: run.acceptance().into_iter().map(Into::into).collect(),
            review: run.facts.review.as_ref().map(Into::into),
            change: run.change.as_ref().map(|c| c.number.0),
            change_url: run.change.as_ref().map(|c| c.url.clone()),
            engines: settings.engines.iter().map(|(role, engine)| ((*role).into(), engine.into())).collect(),
            fallbacks: settings.fallbacks.iter().map(|(role, all)| ((*role).into(), engines(all))).collect(),
            pending_effects: run.pending.values().map(|effect| effect.name().to_owned()).collect(),
            outcome: run.outcome.as_ref().map(Into::into),
            batch: run.batch.as_ref().map(Into::into),
            after_landing: None,
            trace_id: run.traceparent.as_ref().and_then(|t| t.split('-').nth(1).map(str::to_owned)),
        }
    }
}

/// Row of the run list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunSummary {
    /// Id, 32 hex digits. The same as `id`.
    pub run: String,
    /// Id, 32 hex digits.
    pub id: String,
    /// Short id, accepted wherever an id is.
    pub short_id: String,
    /// Project.
    pub project: String,
    /// Title of the goal.
    pub title: String,
    /// Status word; `quarantined` if the run's data cannot be used.
    #[schema(example = "running")]
    pub status: String,
    /// Phase.
    pub phase: String,
    /// Number of events.
    pub seq: u64,
    /// Codes of the open blocks.
    pub blocks: Vec<String>,
    /// When it continues on its own, if it waits for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_at: Option<Timestamp>,
    /// What it waits for until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// Why it is quarantined, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

impl RunSummary {
    /// Returns the short id.
    pub fn short_id(&self) -> &str {
        self.run.get(self.run.len().saturating_sub(8)..).unwrap_or(&self.run)
    }
}

impl From<RunRow> for RunSummary {
    fn from(row: RunRow) -> RunSummary {
        RunSummary {
            run: row.run.to_string(),
            id: row.run.to_string(),
            short_id: row.run.abbrev(),
            project: row.project,
            title: row.title,
            status: row.status,
            phase: row.phase,
            seq: row.seq,
            blocks: row.blocks,
            wake_at: row.wake_at.map(Into::into),
            waiting_for: row.waits,
            opened_at: row.opened_at.into(),
            updated_at: row.updated_at.into(),
            quarantined: row.quarantined,
        }
    }
}

/// Steps of a run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Steps {
    /// Run.
    pub run: String,
    /// Status word.
    pub status: String,
    /// Tasks in plan order.
    pub steps: Vec<Task>,
}

/// Request for a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"repo": "/srv/git/tally.git", "goal": "Make `tally --json` print valid JSON",
    "engines": {"dev": "command:./fix.sh"}, "checks": ["cargo test --locked"]}))]
#[serde(deny_unknown_fields, default)]
pub struct NewRun {
    /// Project; give either this or `repo`.
    pub project: Option<String>,
    /// Repository (absolute path or URL). It becomes a project the first time.
    pub repo: Option<String>,
    /// What should be different when the run is done; empty if `spec` is given.
    pub goal: String,
    /// Text of a task spec (YAML, at most 64 KiB), in place of `goal`: a goal with acceptance criteria. The run is bound to
    /// this text, whatever happens to the file it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// Branch to land on; the project's if absent.
    pub base: Option<String>,
    /// Engines by role, `KIND[:ARG]`; they override the project's.
    pub engines: BTreeMap<Role, String>,
    /// Check commands; they replace the project's.
    pub checks: Vec<String>,
    /// Limits in place of the configured ones. A higher one needs the right `budget`.
    #[serde(skip_serializing_if = "RequestedLimits::is_empty")]
    pub limits: RequestedLimits,
    /// Whether an open run of the same project and goal is reused instead of opening another one.
    pub reuse_open_run: bool,
    /// What happens if that run has other engines, checks or limits than those named here.
    #[serde(skip_serializing_if = "OnDifference::is_default")]
    pub on_difference: OnDifference,
}

/// Handling of an open run of the same goal whose settings differ from those of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDifference {
    /// The request is refused.
    #[default]
    Refuse,
    /// The run continues with its own settings.
    Keep,
    /// The run continues with the settings of the request.
    Apply,
}

impl OnDifference {
    fn is_default(&self) -> bool {
        *self == OnDifference::default()
    }
}

impl From<OnDifference> for domain::OnDifference {
    fn from(wire: OnDifference) -> domain::OnDifference {
        match wire {
            OnDifference::Refuse => domain::OnDifference::Refuse,
            OnDifference::Keep => domain::OnDifference::Keep,
            OnDifference::Apply => domain::OnDifference::Apply,
        }
    }
}

/// Body of an action on a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"block": "b1", "text": "use the other parser"}))]
#[serde(deny_unknown_fields, default)]
pub struct Action {
    /// Block that is answered (`b1`); the oldest fitting one if absent.
    pub block: Option<String>,
    /// For `approve`: decline. For `unblock`: end the run undelivered.
    pub no: bool,
    /// For `unblock`: drop the task.
    pub skip: bool,
    /// Answer, hint or reason.
    pub text: Option<String>,
    /// For `unblock`, `retry` and `raise`: amounts to add to the run's limits.
    pub more: Option<Raise>,
    /// For `unblock` and `retry`: engines by role, `KIND[:ARG]`, in place of the run's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub engines: BTreeMap<Role, String>,
    /// For `unblock` and `retry`: check commands in place of the run's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// For `unblock` and `retry`: limits in place of the run's. A higher one needs the right `budget`.
    #[serde(skip_serializing_if = "RequestedLimits::is_empty")]
    pub limits: RequestedLimits,
}
