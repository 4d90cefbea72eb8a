//! A run: one goal carried to an outcome. This aggregate is what the snapshot stores.

pub mod attempt;
pub mod baseline;
pub mod block;
pub mod branches;
pub mod engine_selection;
pub mod escalation;
pub mod inquiry;
pub mod order;
pub mod overrides;
pub mod plan;
pub mod report;
pub mod rework;
pub mod slots;
pub mod status;
pub mod task;

use crate::domain::batch::BatchProof;
use crate::domain::budget::{Alert, Ledger, Limits, requested_limits::RequestedLimits};
use crate::domain::change::check::{CheckResult, CheckSpec};
use crate::domain::change::{ChangeRef, ChangeState, Concern, DiffStat, Observation};
use crate::domain::effect::EffectRef;
use crate::domain::goal::Goal;
use crate::domain::id::{AttemptId, BlockId, ChangeNumber, EffectKey, Principal, RunId, Sha, TaskId, Timestamp};
use crate::domain::notice::Notice;
use crate::domain::policy::Policy;
use crate::domain::project::{ForgeName, ProjectName};
use attempt::Attempt;
use baseline::Baseline;
use block::Block;
use engine_selection::{Cooldown, Wait};
use inquiry::Inquiry;
use order::{EngineSpec, Note, NoteSource, Role, Step};
use plan::Plan;
use report::{CriterionVerdict, Finding, Verdict};
use rework::OpenRequest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use task::Task;

/// Version of the snapshot format this program writes. A snapshot of a newer version is quarantined, not guessed at.
pub const SNAPSHOT_VERSION: u32 = 1;

/// Settings that a run is born with. Only a person changes engines, checks and limits (`Event::SettingsChanged`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The policy.
    pub policy: Policy,
    /// The engine of each role that needs one.
    pub engines: BTreeMap<Role, EngineSpec>,
    /// Fallback engines of each role, in order, used while its own is in cooldown.
    #[serde(default)]
    pub fallbacks: BTreeMap<Role, Vec<EngineSpec>>,
    /// The checks, in the order they run.
    pub checks: Vec<CheckSpec>,
    /// The repository: an absolute path or a URL.
    #[serde(default)]
    pub origin: String,
    /// The forge that holds the change.
    #[serde(default)]
    pub forge: ForgeName,
    /// The branch the change lands on.
    pub base_branch: String,
    /// The run's branch; task branches are `<branch>-task/<id>`.
    pub branch: String,
    /// Limits asked for in place of the configured ones; contained in the policy, and kept for a retry.
    #[serde(default, skip_serializing_if = "RequestedLimits::is_empty")]
    pub limits: RequestedLimits,
    /// What a person should know about the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// [`SNAPSHOT_VERSION`] of the program that wrote the snapshot.
    pub version: u32,
    /// Its id.
    pub id: RunId,
    /// Its project.
    pub project: ProjectName,
    /// Its goal.
    pub goal: Goal,
    /// Its settings. They rarely change, so the states before and after an event share them.
    pub settings: Arc<Settings>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The trace it belongs to.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// Number of events so far: the journal's last sequence number.
    pub seq: u64,
    /// Its phase.
    pub phase: Phase,
    /// The person who paused it, if it is paused.
    #[serde(default)]
    pub paused: Option<Principal>,
    /// The request to stop, if any.
    #[serde(default)]
    pub stopping: Option<Stopping>,
    /// Open blocks, oldest first.
    #[serde(default)]
    pub blocks: Vec<Block>,
    /// The limits in force: the policy's, plus raises.
    pub limits: Limits,
    /// Spending and reservations.
    #[serde(default)]
    pub ledger: Ledger,
    /// The plan.
    #[serde(default)]
    pub plan: Plan,
    /// The tasks of the plan and those added for rework, in plan order.
    #[serde(default)]
    pub tasks: Vec<Task>,
    /// Every attempt.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// Open questions to the scout.
    #[serde(default)]
    pub inquiries: Vec<Inquiry>,
    /// Cooldowns by the text of the engine. An entry remains until the engine works again, to count repeats.
    #[serde(default)]
    pub cooldowns: BTreeMap<String, Cooldown>,
    /// Attempts in a row, of any engine, that ended because the engine was unavailable.
    #[serde(default)]
    pub unavailable: u32,
    /// Wait for shared budgets whose remainder is reserved for other attempts.
    #[serde(default)]
    pub budget_wait: Option<BudgetWait>,
    /// The wait that ends by itself, if any.
    #[serde(default)]
    pub wait: Option<Wait>,
    /// Budget alerts that people were notified of.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// Tries of steps that have no task.
    #[serde(default)]
    pub tries: BTreeMap<Step, Tries>,
    /// Rounds of rework so far.
    #[serde(default)]
    pub rounds: u32,
    /// The number of the newest block.
    #[serde(default)]
    pub last_block: u32,
    /// Notes for the next attempts.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// The base commit of the run's branch.
    pub base: Sha,
    /// The head of the run's branch.
    pub head: Sha,
    /// The diff from `base` to `head`.
    #[serde(default)]
    pub diff: DiffStat,
    /// What the checks found at the base; `None` = not checked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Red results that a person accepted: the same failures are not charged to the change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted_failures: Vec<CheckResult>,
    /// Seconds that people gave each attempt at a step, beyond the policy's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub step_time: BTreeMap<Step, u64>,
    /// Times in a row that the base moved before the proven head could land.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub overtaken: u32,
    /// What proved the change, if it landed together with others or on a base that had moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchProof>,
    /// The change, once it is open.
    #[serde(default)]
    pub change: Option<ChangeRef>,
    /// When the change was opened, as far as recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_opened_at: Option<Timestamp>,
    /// An earlier change of this run that was closed, and that a person allowed the run to replace with a new one.
    #[serde(default)]
    pub closed_change: Option<ChangeNumber>,
    /// The event from which on results of checks count, because the checks changed there; 0 if they never changed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub checks_since: u64,
    /// Facts about `head`. A new head starts without any.
    #[serde(default)]
    pub facts: Facts,
    /// The base of the merge that a person was last asked to approve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_base: Option<Sha>,
    /// The head last pushed to the run's branch on the forge.
    #[serde(default)]
    pub pushed: Option<Sha>,
    /// A foreign head on the run's branch that a person allowed to overwrite.
    #[serde(default)]
    pub overwrite: Option<Sha>,
    /// Secret findings that a person allowed to push, by fingerprint.
    #[serde(default)]
    pub allowed_secrets: BTreeSet<String>,
    /// Steps of the last phase that were already ordered.
    #[serde(default)]
    pub closing: Closing,
    /// Signatures of the failures of CI that a round of rework was spent on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub reworked_failures: BTreeSet<String>,
    /// People's requests for changes that were read, by the id of the review.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub requests_read: BTreeSet<u64>,
    /// People's requests for changes that were not answered yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_requests: Vec<OpenRequest>,
    /// `UNBLOCK` comments that were read already.
    #[serde(default)]
    pub comments_read: BTreeSet<u64>,
    /// Effects that have not ended, by key: the outbox.
    #[serde(default)]
    pub pending: BTreeMap<EffectKey, EffectRef>,
    /// Its outcome, once known.
    #[serde(default)]
    pub outcome: Option<Outcome>,
}

/// Steps of the last phase that were already ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The result was reported (and the change closed, unless it was merged).
    pub reported: bool,
    /// Attempts and checks in progress were stopped.
    #[serde(default)]
    pub stopped: bool,
    /// The workspace was released.
    pub released: bool,
}

/// A wait for shared budgets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetWait {
    /// When they are asked again, and which.
    pub wait: Wait,
    /// Refusals in a row.
    pub count: u32,
}

/// Tries of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Tries used.
    pub used: u32,
    /// Tries granted by people, beyond the policy's.
    pub extra: u32,
    /// Attempts in a row lost to dead processes.
    pub losses: u32,
}

/// Facts about exactly the current head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The branch on the forge points at it.
    #[serde(default)]
    pub pushed: bool,
    /// The check results at it.
    #[serde(default)]
    pub results: Option<Vec<CheckResult>>,
    /// Digest of the environment of these results; `None` = unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Whether the change shows it, and if so whether as a draft.
    #[serde(default)]
    pub shown_as_draft: Option<bool>,
    /// The review of it.
    #[serde(default)]
    pub review: Option<Review>,
    /// The person who approved landing it on the current base.
    #[serde(default)]
    pub approved_by: Option<Principal>,
    /// The last observation of the forge.
    #[serde(default)]
    pub observed: Option<Observation>,
    /// Contexts of the statuses already ordered for it.
    #[serde(default)]
    pub statuses: BTreeSet<String>,
    /// Statuses whose failure at it a person accepted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accepted_statuses: BTreeSet<String>,
    /// Reruns of failed CI jobs at it.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub reruns: u32,
    /// The failed results that were run again, by status: they do not count any more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rerun: BTreeMap<String, u64>,
    /// Landings of it that the forge refused as stale since a person was last asked.
    #[serde(default)]
    pub stale_landings: u32,
    /// The merge queue put it back: it lands only after it was moved onto the current base.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub put_back: bool,
}

impl Facts {
    /// Stale landings of one head before a person is asked.
    pub const MAX_STALE_LANDINGS: u32 = 5;
}

/// A verdict on the current head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// The reviewer's attempt.
    pub attempt: AttemptId,
    /// The verdict.
    pub verdict: Verdict,
    /// A sentence or two.
    pub summary: String,
    /// The findings.
    pub findings: Vec<Finding>,
    /// The verdicts on acceptance criteria.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<CriterionVerdict>,
}

impl Review {
    /// Returns the review as a text for the next attempt: the summary, unmet criteria, each finding with its location.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.summary);
        for unmet in self.criteria.iter().filter(|c| !c.met) {
            text.push_str(&format!("- acceptance criterion {} is not met: {}\n", unmet.id, unmet.why));
        }
        for f in &self.findings {
            text.push_str(&format!("- {f}\n"));
        }
        text
    }
}

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The run waits for a slot.
    Queued,
    /// The manager plans.
    Planning,
    /// Devs work on the tasks.
    Working,
    /// The head is pushed, checked and reviewed.
    Reviewing,
    /// The run waits until every gate before landing is open.
    Gating,
    /// The head is being put on the base branch. Point of no return.
    Landing,
    /// The result is reported and the workspace released.
    Reporting,
    /// The run is over.
    Ended,
}

impl Phase {
    /// Returns the name used in JSON and pages.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Queued => "queued",
            Phase::Planning => "planning",
            Phase::Working => "working",
            Phase::Reviewing => "reviewing",
            Phase::Gating => "gating",
            Phase::Landing => "landing",
            Phase::Reporting => "reporting",
            Phase::Ended => "ended",
        }
    }
}

/// A request to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Who asked.
    pub by: Principal,
    /// The reason.
    pub why: String,
    /// Whether the run counts as failed (a person rejected it) rather than cancelled.
    #[serde(default)]
    pub failed: bool,
}

/// The outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The change is on the base branch.
    Delivered {
        /// The commit there.
        sha: Sha,
    },
    /// A person cancelled it.
    Cancelled {
        /// The person and the reason.
        why: String,
    },
    /// It cannot be delivered, as decided by a person.
    Failed {
        /// The person and the reason.
        why: String,
    },
    /// There was nothing to change: a command did its work and found nothing to do.
    Unchanged,
}

fn is_none_yet(times: &u32) -> bool {
    *times == 0
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Run {
    /// Upper bound on notes; the oldest are dropped first.
    pub const MAX_NOTES: usize = 12;

    /// Adds a note for the next attempt at any step.
    pub(in crate::domain) fn note(&mut self, source: NoteSource, text: &str) {
        self.push_note(Note::new(source, text));
    }
    /// Adds a note for the next attempt at one step.
    pub(in crate::domain) fn note_for(&mut self, step: Step, source: NoteSource, text: &str) {
        self.push_note(Note { only: Some(step), ..Note::new(source, text) });
    }
    fn push_note(&mut self, note: Note) {
        self.notes.push(note);
        if self.notes.len() > Self::MAX_NOTES {
            self.notes.remove(0);
        }
    }

    /// Returns a task by id.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.iter().find(|t| t.id == id)
    }
    /// Returns a task by id, mutable.
    pub(in crate::domain) fn task_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|t| t.id == id)
    }
    /// Returns an attempt by id.
    pub fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        self.attempts.iter().find(|a| a.id == id)
    }
    /// Returns the number of attempts that count against the run's limit. Attempts without a usable engine do not.
    pub fn counted_attempts(&self) -> usize {
        self.attempts.iter().filter(|a| a.ended.as_ref().is_none_or(|e| e.ending.counts())).count()
    }
    /// Returns when the run must be woken, if at all: a wait ends, or a block lifts itself.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let waits = self.wait.as_ref().map(|w| w.until);
        self.blocks.iter().filter_map(|b| b.until).chain(waits).min()
    }
    /// Returns the open question of a step, or of a task, to the scout.
    pub fn inquiry(&self, step: Step, task: Option<TaskId>) -> Option<&Inquiry> {
        self.inquiries.iter().find(|i| i.step == step && i.task == task)
    }
    /// Returns the attempts in progress.
    pub fn live_attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|a| a.live())
    }
    /// Returns an open block by id.
    pub fn block(&self, id: BlockId) -> Option<&Block> {
        self.blocks.iter().find(|b| b.id == id)
    }
    /// Returns whether this effect is pending.
    pub fn is_pending(&self, effect: &EffectRef) -> bool {
        self.pending.values().any(|pending| pending == effect)
    }
    /// Returns whether the run is over.
    pub fn ended(&self) -> bool {
        self.phase == Phase::Ended
    }
    /// Returns whether only outside events can move the run, because no effect is pending. A parked run needs no actor.
    pub fn parked(&self) -> bool {
        self.pending.is_empty()
    }
    /// Returns whether an observation of the forge contains anything new for the run.
    pub fn is_news(&self, seen: &Observation) -> bool {
        let seen = &self.unread(seen);
        let gates_may_open = self.phase == Phase::Gating && self.facts.observed.as_ref() != Some(seen);
        let commented = seen.unblocks.iter().any(|c| !self.comments_read.contains(&c.comment));
        let closed =
            seen.state != ChangeState::Open && self.facts.observed.as_ref().map(|o| &o.state) != Some(&seen.state);
        !self.ended() && (gates_may_open || commented || closed)
    }
    /// Returns the concerns about the whole diff that a person should see before the merge.
    pub fn concerns(&self) -> Vec<Concern> {
        let Settings { policy, checks, .. } = &*self.settings;
        let mut concerns = policy.concerns(&self.diff);
        concerns.extend(policy.weakened_proof(&self.diff, checks));
        concerns
    }
}
