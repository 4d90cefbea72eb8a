//! Effects and their outcomes. An effect is an action on the world: decided, journaled, carried out, and known by its
//! key.

use super::block::Block;
use super::budget::shared_budget::{Level, SharedLimits};
use super::budget::{Alert, Usage};
use super::change::{StatusState, WorkflowRun};
use super::check::{CheckResult, CheckSpec, Scope};
use super::id::{AttemptId, ChangeNumber, Principal, Sha, TaskId, Timestamp};
use super::order::{Order, Role};
use super::run::Review;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

mod outcome;

pub use self::outcome::{EffectOutcome, Failure, SecretFound};

/// An action a run orders. Each ends with exactly one event: `Start` with [`super::Event::Reported`], the others with
/// [`super::Event::EffectFinished`].
///
/// Effects carry data. Text for people is rendered from them and the run when they are carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Start an attempt. An attempt costs money, so a restart repeats it only if its session can be resumed
    /// ([`super::Resumable`]).
    Start {
        /// The order.
        order: Box<Order>,
    },
    /// Reserve an attempt's worst case in the budgets its run shares with others.
    Reserve {
        /// The attempt.
        attempt: AttemptId,
        /// The role that will do it.
        role: Role,
        /// The engine's display name.
        engine: String,
        /// The worst case; 0 = unlimited.
        caps: Usage,
        /// The shared limits.
        shared: SharedLimits,
        /// Alert thresholds in percent of the limits.
        #[serde(default)]
        alert_percent: Vec<u8>,
        /// Rounds of rework before the attempt.
        #[serde(default)]
        round: u32,
        /// When it was ordered, which decides the day that is charged.
        at: Timestamp,
    },
    /// Run the checks on a commit in a fresh checkout.
    Check {
        /// What the commit is.
        scope: Scope,
        /// The commit.
        sha: Sha,
        /// The checks.
        checks: Vec<CheckSpec>,
        /// The results, if the same checks have proven exactly this commit before: they are reported instead of being
        /// found again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        known: Vec<CheckResult>,
    },
    /// Put a task's commits on the run's branch.
    Integrate {
        /// The task.
        task: TaskId,
        /// The commit its work started from.
        from: Sha,
        /// Its commit.
        head: Sha,
        /// The run's head the commits go onto.
        onto: Sha,
        /// The run's base, which the new head is compared with.
        base: Sha,
    },
    /// Move the run's own commits (after `from`) onto a base that moved.
    Rebase {
        /// The base they sit on.
        from: Sha,
        /// The run's head.
        head: Sha,
        /// The new base.
        onto: Sha,
    },
    /// Make the run's branch on the forge point at a commit.
    Push {
        /// The commit.
        sha: Sha,
        /// The head the branch must have now: the one pushed before, or a foreign one that a person allowed to
        /// overwrite. `None` = the branch is new.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected: Option<Sha>,
        /// Findings that a person allowed, by [`SecretFound::fingerprint`].
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        allowed_secrets: BTreeSet<String>,
    },
    /// Open the change, or update its text.
    EnsureChange {
        /// The run's earlier change, which was closed; only a later one counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<ChangeNumber>,
        /// The commit it shows.
        head: Sha,
        /// Whether it is still a draft.
        draft: bool,
    },
    /// Comment on the change, once. The effect's key is the comment's hidden marker.
    Comment {
        /// The change.
        change: ChangeNumber,
        /// The review thread to answer in; `None` = a comment on the change itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<u64>,
        /// The subject.
        about: CommentSubject,
    },
    /// Set one of Skep's own statuses on a commit.
    SetStatus {
        /// The change.
        change: ChangeNumber,
        /// The commit.
        sha: Sha,
        /// The status.
        status: OwnStatus,
        /// Its state.
        state: StatusState,
    },
    /// Read the change and the base branch from the forge.
    Observe {
        /// The change.
        change: ChangeNumber,
    },
    /// Read what is known about failures of CI at a commit, and whether the base fails alike.
    InspectCi {
        /// The change.
        change: ChangeNumber,
        /// The commit.
        head: Sha,
        /// The base.
        base: Sha,
        /// The names of the failed checks, at most [`super::CiFailure::MAX`].
        checks: Vec<String>,
    },
    /// Start failed jobs of CI again.
    RerunCi {
        /// The commit they failed at.
        head: Sha,
        /// The runs of workflows whose failed jobs are started, unless they were since the attempt named here.
        runs: BTreeSet<WorkflowRun>,
    },
    /// Put exactly this commit on the base branch, if the base is still this one.
    Land {
        /// The change.
        change: ChangeNumber,
        /// The commit.
        head: Sha,
        /// The base it was proven against.
        base: Sha,
        /// Number of changes that may land together with it. 1 = it lands alone, on exactly this base.
        #[serde(default = "alone", skip_serializing_if = "is_alone")]
        batch: u32,
    },
    /// Close the change without merging.
    Close {
        /// The change.
        change: ChangeNumber,
    },
    /// Release the workspace; unlanded work is kept under WIP refs.
    Release,
    /// Stop every attempt and check at once.
    Stop,
}

fn alone() -> u32 {
    1
}

fn is_alone(batch: &u32) -> bool {
    *batch == 1
}

/// The subject of a comment on the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommentSubject {
    /// The run waits for a person. The block is part of the effect because it may be lifted before the comment is
    /// written.
    Escalation(Box<Block>),
    /// A reviewer's verdict.
    Review {
        /// The verdict.
        review: Box<Review>,
        /// The commit it is about.
        head: Sha,
        /// Rounds of rework, this one included.
        round: u32,
    },
    /// The changes that a person requested were made.
    Resolved {
        /// The person.
        by: Principal,
        /// The commit that contains them.
        commit: Sha,
    },
    /// The run's own budget reached an alert threshold.
    Alert(Alert),
    /// A shared budget reached an alert threshold.
    SharedAlert {
        /// The budget's level.
        level: Level,
        /// The threshold in percent.
        percent: u8,
    },
    /// The run's result.
    Result,
}

/// A status that Skep itself sets on a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnStatus {
    /// The result of Skep's checks.
    Checks,
    /// The reviewer's verdict.
    Review {
        /// The reviewer's summary.
        summary: String,
    },
}

impl OwnStatus {
    /// The contexts of all of them.
    pub const CONTEXTS: [&str; 2] = ["skep/checks", "skep/review"];

    /// Returns the status context on the forge.
    pub fn context(&self) -> &'static str {
        match self {
            OwnStatus::Checks => "skep/checks",
            OwnStatus::Review { .. } => "skep/review",
        }
    }
}

/// The kinds of effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// [`Effect::Start`].
    Start,
    /// [`Effect::Reserve`].
    Reserve,
    /// [`Effect::Check`].
    Check,
    /// [`Effect::Integrate`].
    Integrate,
    /// [`Effect::Rebase`].
    Rebase,
    /// [`Effect::Push`].
    Push,
    /// [`Effect::EnsureChange`].
    EnsureChange,
    /// [`Effect::Comment`].
    Comment,
    /// [`Effect::SetStatus`].
    SetStatus,
    /// [`Effect::Observe`].
    Observe,
    /// [`Effect::InspectCi`].
    InspectCi,
    /// [`Effect::RerunCi`].
    RerunCi,
    /// [`Effect::Land`].
    Land,
    /// [`Effect::Close`].
    Close,
    /// [`Effect::Release`].
    Release,
    /// [`Effect::Stop`].
    Stop,
}

impl EffectKind {
    /// Returns the name used in logs, spans and JSON.
    pub fn name(self) -> &'static str {
        match self {
            EffectKind::Start => "start",
            EffectKind::Reserve => "reserve",
            EffectKind::Check => "check",
            EffectKind::Integrate => "integrate",
            EffectKind::Rebase => "rebase",
            EffectKind::Push => "push",
            EffectKind::EnsureChange => "ensure_change",
            EffectKind::Comment => "comment",
            EffectKind::SetStatus => "set_status",
            EffectKind::Observe => "observe",
            EffectKind::InspectCi => "inspect_ci",
            EffectKind::RerunCi => "rerun_ci",
            EffectKind::Land => "land",
            EffectKind::Close => "close",
            EffectKind::Release => "release",
            EffectKind::Stop => "stop",
        }
    }
}

/// An effect without its payload: what the run remembers while the effect is pending.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectRef {
    /// `Start`: the attempt.
    Start(AttemptId),
    /// `Reserve`: the attempt.
    Reserve(AttemptId),
    /// `Check`: scope and commit.
    Check(Scope, Sha),
    /// `Integrate`: the task and the head its commits go onto.
    Integrate(TaskId, Sha),
    /// `Rebase`: the new base.
    Rebase(Sha),
    /// `Push`: the commit.
    Push(Sha),
    /// `EnsureChange`: the head, and whether it is a draft.
    EnsureChange(Sha, bool),
    /// `Comment`.
    Comment,
    /// `SetStatus`.
    SetStatus,
    /// `Observe`.
    Observe,
    /// `InspectCi`: the commit.
    InspectCi(Sha),
    /// `RerunCi`: the commit.
    RerunCi(Sha),
    /// `Land`: the head.
    Land(Sha),
    /// `Close`.
    Close,
    /// `Release`.
    Release,
    /// `Stop`.
    Stop,
}

impl Effect {
    /// Returns the effect without its payload.
    pub fn effect_ref(&self) -> EffectRef {
        match self {
            Effect::Start { order } => EffectRef::Start(order.attempt),
            Effect::Reserve { attempt, .. } => EffectRef::Reserve(*attempt),
            Effect::Check { scope, sha, .. } => EffectRef::Check(*scope, sha.clone()),
            Effect::Integrate { task, onto, .. } => EffectRef::Integrate(*task, onto.clone()),
            Effect::Rebase { onto, .. } => EffectRef::Rebase(onto.clone()),
            Effect::Push { sha, .. } => EffectRef::Push(sha.clone()),
            Effect::EnsureChange { head, draft, .. } => EffectRef::EnsureChange(head.clone(), *draft),
            Effect::Comment { .. } => EffectRef::Comment,
            Effect::SetStatus { .. } => EffectRef::SetStatus,
            Effect::Observe { .. } => EffectRef::Observe,
            Effect::InspectCi { head, .. } => EffectRef::InspectCi(head.clone()),
            Effect::RerunCi { head, .. } => EffectRef::RerunCi(head.clone()),
            Effect::Land { head, .. } => EffectRef::Land(head.clone()),
            Effect::Close { .. } => EffectRef::Close,
            Effect::Release => EffectRef::Release,
            Effect::Stop => EffectRef::Stop,
        }
    }
}

impl EffectRef {
    /// Returns the effect's kind.
    pub fn kind(&self) -> EffectKind {
        match self {
            EffectRef::Start(_) => EffectKind::Start,
            EffectRef::Reserve(_) => EffectKind::Reserve,
            EffectRef::Check(..) => EffectKind::Check,
            EffectRef::Integrate(..) => EffectKind::Integrate,
            EffectRef::Rebase(_) => EffectKind::Rebase,
            EffectRef::Push(_) => EffectKind::Push,
            EffectRef::EnsureChange(..) => EffectKind::EnsureChange,
            EffectRef::Comment => EffectKind::Comment,
            EffectRef::SetStatus => EffectKind::SetStatus,
            EffectRef::Observe => EffectKind::Observe,
            EffectRef::InspectCi(_) => EffectKind::InspectCi,
            EffectRef::RerunCi(_) => EffectKind::RerunCi,
            EffectRef::Land(_) => EffectKind::Land,
            EffectRef::Close => EffectKind::Close,
            EffectRef::Release => EffectKind::Release,
            EffectRef::Stop => EffectKind::Stop,
        }
    }

    /// Returns the name of the effect's kind.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }
}
