//! One goal carried to an outcome: the aggregate that is stored as the snapshot.

use super::attempt::Attempt;
use super::block::Block;
use super::budget::{Alert, Ledger, Limits};
use super::change::{ChangeRef, Concern, DiffStat, Observation};
use super::check::{CheckResult, CheckSpec};
use super::effect::EffectRef;
use super::engine_selection::{Cooldown, Wait};
use super::goal::Goal;
use super::id::{AttemptId, BlockId, EffectKey, Principal, RunId, Sha, TaskId, Timestamp};
use super::inquiry::Inquiry;
use super::order::{EngineSpec, Note, Role, Step};
use super::plan::Plan;
use super::policy::Policy;
use super::project::ProjectName;
use super::report::{Finding, Verdict};
use super::task::Task;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The form of the snapshot this program writes. A snapshot of a newer form is quarantined, not guessed at.
pub const SNAPSHOT_VERSION: u32 = 1;

/// What a run is born with and never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The policy.
    pub policy: Policy,
    /// An engine for each role that thinks.
    pub engines: BTreeMap<Role, EngineSpec>,
    /// Engines a role falls back on while its own rests, in order.
    #[serde(default)]
    pub fallbacks: BTreeMap<Role, Vec<EngineSpec>>,
    /// The checks, in order of running.
    pub checks: Vec<CheckSpec>,
    /// The repository: an absolute path or a URL.
    #[serde(default)]
    pub origin: String,
    /// The branch it lands on.
    pub base_branch: String,
    /// The run's own branch; task branches are `<branch>-task/<id>`.
    pub branch: String,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// [`SNAPSHOT_VERSION`] of the program that wrote it.
    pub version: u32,
    /// Its id.
    pub id: RunId,
    /// Its project.
    pub project: ProjectName,
    /// Its goal.
    pub goal: Goal,
    /// Its rules.
    pub settings: Settings,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The trace it belongs to.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// Events so far: the journal's last sequence number.
    pub seq: u64,
    /// Where it is.
    pub phase: Phase,
    /// Who paused it, if paused.
    #[serde(default)]
    pub paused: Option<Principal>,
    /// The wish to stop, if any.
    #[serde(default)]
    pub stopping: Option<Stopping>,
    /// What only an outsider can lift, oldest first.
    #[serde(default)]
    pub blocks: Vec<Block>,
    /// The limits in force: the policy's, raised by people.
    pub limits: Limits,
    /// Spent and set aside.
    #[serde(default)]
    pub ledger: Ledger,
    /// The plan's revision.
    #[serde(default)]
    pub plan: Plan,
    /// Its tasks and those added for rework, in plan order.
    #[serde(default)]
    pub tasks: Vec<Task>,
    /// Every attempt.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// Questions the scout looks into.
    #[serde(default)]
    pub inquiries: Vec<Inquiry>,
    /// Engines that could not be used, by their text. Kept after their rest, to know how often, until they work again.
    #[serde(default)]
    pub cooldowns: BTreeMap<String, Cooldown>,
    /// Attempts in a row, whatever engine, that could not use theirs.
    #[serde(default)]
    pub unavailable: u32,
    /// The shared budgets had nothing left that was not set aside: until when they are not asked again, and how often in a row.
    #[serde(default)]
    pub short: Option<(Wait, u32)>,
    /// What it waits for by itself: a time, and what for.
    #[serde(default)]
    pub wait: Option<Wait>,
    /// What people were told of its budgets.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// Counted tries of steps that have no task.
    #[serde(default)]
    pub tries: BTreeMap<Step, Tries>,
    /// Rounds of rework so far.
    #[serde(default)]
    pub rounds: u32,
    /// The last block number given.
    #[serde(default)]
    pub last_block: u32,
    /// What the next manager is told.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// The base commit the run's branch sits on.
    pub base: Sha,
    /// The head of the run's branch.
    pub head: Sha,
    /// From `base` to `head`.
    #[serde(default)]
    pub diff: DiffStat,
    /// The change, once it is open.
    #[serde(default)]
    pub change: Option<ChangeRef>,
    /// A change of this run that a person closed and a person said may be followed by a new one.
    #[serde(default)]
    pub closed_change: Option<super::ChangeNumber>,
    /// What is known about `head`. A new head starts with nothing.
    #[serde(default)]
    pub facts: Facts,
    /// The head last pushed to the run's branch on the forge.
    #[serde(default)]
    pub pushed: Option<Sha>,
    /// A foreign head on the run's branch that a person said may be overwritten.
    #[serde(default)]
    pub overwrite: Option<Sha>,
    /// What looked like a secret and a person let pass, by its mark.
    #[serde(default)]
    pub passes: BTreeSet<String>,
    /// What the last phase has ordered already.
    #[serde(default)]
    pub closing: Closing,
    /// `UNBLOCK` comments taken already.
    #[serde(default)]
    pub comments_seen: BTreeSet<u64>,
    /// Effects not known done: the outbox's keys.
    #[serde(default)]
    pub pending: BTreeMap<EffectKey, EffectRef>,
    /// How it ended.
    #[serde(default)]
    pub outcome: Option<Outcome>,
}

/// What the last phase has ordered already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The result was told (and the change closed, where it was not merged).
    pub told: bool,
    /// What went on was told to stop.
    #[serde(default)]
    pub stopped: bool,
    /// The workspace was asked to be given back.
    pub released: bool,
}

/// Counted tries of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Used.
    pub used: u32,
    /// Given besides the policy's, by people.
    pub extra: u32,
    /// Lost in a row to dead processes.
    pub losses: u32,
}

/// What is known about exactly the current head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The forge's branch points at it.
    #[serde(default)]
    pub pushed: bool,
    /// What the checks found at it.
    #[serde(default)]
    pub results: Option<Vec<CheckResult>>,
    /// Whether the change shows it: `Some(draft)`.
    #[serde(default)]
    pub shown: Option<bool>,
    /// What the reviewer said of it.
    #[serde(default)]
    pub review: Option<Review>,
    /// Who approved landing it on the current base.
    #[serde(default)]
    pub approved_by: Option<Principal>,
    /// The last look at the forge.
    #[serde(default)]
    pub observed: Option<Observation>,
    /// Statuses already ordered for it.
    #[serde(default)]
    pub statuses: BTreeSet<String>,
    /// Landings of it that the forge refused as stale, since a person was asked.
    #[serde(default)]
    pub stale: u32,
}

impl Facts {
    /// Stale landings of one head before a person is asked.
    pub const STALE_MAX: u32 = 5;
}

/// A verdict on the current head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// By which attempt.
    pub attempt: AttemptId,
    /// The verdict.
    pub verdict: Verdict,
    /// In a sentence or two.
    pub summary: String,
    /// The findings.
    pub findings: Vec<Finding>,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits for a slot.
    Queued,
    /// The manager plans.
    Planning,
    /// Devs work on tasks.
    Working,
    /// The head is pushed, checked and reviewed.
    Reviewing,
    /// Everything that must be true before landing is waited for.
    Gating,
    /// The head is being put on the base branch. Point of no return.
    Landing,
    /// The result is told and the workspace given back.
    Reporting,
    /// Over.
    Ended,
}

impl Phase {
    /// Its name.
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

/// The wish to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Whose.
    pub by: Principal,
    /// Why.
    pub why: String,
    /// Whether it counts as failed (a person said no) and not as cancelled.
    #[serde(default)]
    pub failed: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The change is on the base branch.
    Delivered {
        /// The commit there.
        sha: Sha,
    },
    /// A person stopped it.
    Cancelled {
        /// Who and why.
        why: String,
    },
    /// It cannot be delivered, and a person said so.
    Failed {
        /// Why.
        why: String,
    },
}

impl Run {
    /// The most notes kept for the next manager; older ones go first.
    pub const NOTES_MAX: usize = 12;

    /// Adds a note for whoever comes next.
    pub(super) fn note(&mut self, from: &str, text: &str) {
        self.keep(Note::new(from, text));
    }
    /// Adds a note for whoever does this step next.
    pub(super) fn note_for(&mut self, step: Step, from: &str, text: &str) {
        self.keep(Note { only: Some(step), ..Note::new(from, text) });
    }
    fn keep(&mut self, note: Note) {
        self.notes.push(note);
        if self.notes.len() > Self::NOTES_MAX {
            self.notes.remove(0);
        }
    }

    /// The branch of a task.
    pub fn task_branch(&self, task: TaskId) -> String {
        task_branch(&self.settings.branch, task)
    }
    /// A task by id.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.iter().find(|t| t.id == id)
    }
    /// A task by id, to change.
    pub(super) fn task_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|t| t.id == id)
    }
    /// An attempt by id.
    pub fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        self.attempts.iter().find(|a| a.id == id)
    }
    /// Attempts that count against the run's limit: those whose engine could not be used did nothing.
    pub fn counted_attempts(&self) -> usize {
        self.attempts.iter().filter(|a| a.ended.as_ref().is_none_or(|e| e.ending.counts())).count()
    }
    /// When it wants to be woken, if at all: what it waits for has come then, or a question lifts itself.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let waits = self.wait.as_ref().map(|w| w.until);
        self.blocks.iter().filter_map(|b| b.until).chain(waits).min()
    }
    /// The open question to the scout of a step, or of a task's.
    pub fn inquiry(&self, step: Step, task: Option<TaskId>) -> Option<&Inquiry> {
        self.inquiries.iter().find(|i| i.step == step && i.task == task)
    }
    /// Attempts still going.
    pub fn live_attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|a| a.live())
    }
    /// A block by id.
    pub fn block(&self, id: BlockId) -> Option<&Block> {
        self.blocks.iter().find(|b| b.id == id)
    }
    /// Whether an effect with this tag is pending.
    pub fn is_pending(&self, tag: &EffectRef) -> bool {
        self.pending.values().any(|t| t == tag)
    }
    /// Whether it is over.
    pub fn ended(&self) -> bool {
        self.phase == Phase::Ended
    }
    /// Whether nothing can happen to it but from outside: no effect is pending. A parked run needs no actor.
    pub fn parked(&self) -> bool {
        self.pending.is_empty()
    }
    /// Whether a look at the forge tells this run something it does not know.
    pub fn is_news(&self, seen: &Observation) -> bool {
        let waits_there = self.phase == Phase::Gating && self.facts.observed.as_ref() != Some(seen);
        let said = seen.unblocks.iter().any(|c| !self.comments_seen.contains(&c.comment));
        let closed = seen.state != super::change::ChangeState::Open
            && self.facts.observed.as_ref().map(|o| &o.state) != Some(&seen.state);
        !self.ended() && (waits_there || said || closed)
    }
    /// Whether it holds a slot: admitted and not over.
    pub fn holds_slot(&self) -> bool {
        !matches!(self.phase, Phase::Queued | Phase::Ended)
    }
    /// Concerns of the whole diff that a person should see at the merge.
    pub fn concerns(&self) -> Vec<Concern> {
        self.settings.policy.concerns(&self.diff)
    }
}

/// The branch of a task of the run whose branch is `run_branch`.
pub fn task_branch(run_branch: &str, task: TaskId) -> String {
    format!("{run_branch}-task/{}", task.0)
}
