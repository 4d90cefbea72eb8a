//! The acts on the world: decided, journaled, then done, known by their keys. And how each ends.

use super::budget::Usage;
use super::change::{ChangeRef, Observation, StatusState};
use super::check::{CheckResult, CheckSpec, Scope};
use super::id::{AttemptId, ChangeNumber, Sha, TaskId, Timestamp};
use super::order::{Order, Role};
use super::shared_budget::{Level, SharedBudget, SharedLimits};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Everything a run may ask of the world. Each ends with exactly one event: `Start` with [`super::Event::Reported`], the
/// others with [`super::Event::EffectFinished`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Start an attempt. It costs money, so it is carried out again only where its conversation can be taken up ([`super::Resumable`]).
    Start {
        /// The order.
        order: Box<Order>,
    },
    /// Set an attempt's worst case aside in the budgets its run shares with others.
    Reserve {
        /// The attempt.
        attempt: AttemptId,
        /// Who is to do it.
        role: Role,
        /// The engine, as people call it.
        engine: String,
        /// The worst case; 0 = not limited.
        caps: Usage,
        /// The limits shared.
        shared: SharedLimits,
        /// The shares of them, in percent, that people are told of.
        #[serde(default)]
        alerts: Vec<u8>,
        /// Rounds of rework before it.
        #[serde(default)]
        round: u32,
        /// When it was ordered: the day it is charged to.
        at: Timestamp,
    },
    /// Run the checks on a commit in a fresh checkout.
    Check {
        /// Which commit, and why.
        scope: Scope,
        /// The commit.
        sha: Sha,
        /// The checks.
        checks: Vec<CheckSpec>,
    },
    /// Put a task's commits on the run's branch.
    Integrate {
        /// The task.
        task: TaskId,
        /// The commit its work started from.
        from: Sha,
        /// Its commit.
        head: Sha,
        /// The run's head it goes on.
        onto: Sha,
        /// The run's base, which the new head's diff is told against.
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
    /// Make the run's branch on the forge point at this commit.
    Push {
        /// The commit.
        sha: Sha,
        /// The head the branch must have now: the one pushed before, or a foreign one a person said may be overwritten. `None` = the
        /// branch is new.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected: Option<Sha>,
        /// What looked like a secret and a person let pass, by [`SecretFound::mark`].
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        passes: BTreeSet<String>,
    },
    /// Open the change, or bring its text up to date.
    EnsureChange {
        /// The change of this branch that is over: only a later one counts as this run's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<ChangeNumber>,
        /// The commit it shows.
        head: Sha,
        /// Whether it is a draft still.
        draft: bool,
        /// Its title.
        title: String,
        /// Its text, Markdown.
        body: String,
    },
    /// Say something on the change, once.
    Comment {
        /// The change.
        change: ChangeNumber,
        /// The text, Markdown; the effect's key is its hidden marker.
        text: String,
    },
    /// Set Skep's own status on a commit.
    SetStatus {
        /// The change.
        change: ChangeNumber,
        /// The commit.
        sha: Sha,
        /// The context (`skep/checks`, `skep/review`).
        context: String,
        /// The state.
        state: StatusState,
        /// A line for people.
        text: String,
    },
    /// Look at the change and the base branch.
    Observe {
        /// The change.
        change: ChangeNumber,
    },
    /// Put exactly this commit on the base branch, if the base is still this.
    Land {
        /// The change.
        change: ChangeNumber,
        /// The commit.
        head: Sha,
        /// The base it was proven against.
        base: Sha,
    },
    /// Close the change without merging.
    Close {
        /// The change.
        change: ChangeNumber,
    },
    /// Give the workspace back, keeping unlanded work under WIP refs.
    Release,
    /// Stop every attempt and check at once.
    Stop,
}

/// An effect without its payload: what the run remembers while it is pending.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectRef {
    /// `Start`.
    Start(AttemptId),
    /// `Reserve`.
    Reserve(AttemptId),
    /// `Check`.
    Check(Scope, Sha),
    /// `Integrate`.
    Integrate(TaskId, Sha),
    /// `Rebase`.
    Rebase(Sha),
    /// `Push`.
    Push(Sha),
    /// `EnsureChange`: head, draft.
    EnsureChange(Sha, bool),
    /// `Comment`.
    Comment,
    /// `SetStatus`.
    SetStatus,
    /// `Observe`.
    Observe,
    /// `Land`.
    Land(Sha),
    /// `Close`.
    Close,
    /// `Release`.
    Release,
    /// `Stop`.
    Stop,
}

impl Effect {
    /// Its tag.
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
            Effect::Land { head, .. } => EffectRef::Land(head.clone()),
            Effect::Close { .. } => EffectRef::Close,
            Effect::Release => EffectRef::Release,
            Effect::Stop => EffectRef::Stop,
        }
    }
}

impl EffectRef {
    /// Its name for people, logs and spans.
    pub fn name(&self) -> &'static str {
        match self {
            EffectRef::Start(_) => "start",
            EffectRef::Reserve(_) => "reserve",
            EffectRef::Check(..) => "check",
            EffectRef::Integrate(..) => "integrate",
            EffectRef::Rebase(_) => "rebase",
            EffectRef::Push(_) => "push",
            EffectRef::EnsureChange(..) => "ensure_change",
            EffectRef::Comment => "comment",
            EffectRef::SetStatus => "set_status",
            EffectRef::Observe => "observe",
            EffectRef::Land(_) => "land",
            EffectRef::Close => "close",
            EffectRef::Release => "release",
            EffectRef::Stop => "stop",
        }
    }
}

/// How an effect ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectOutcome {
    /// The checks ran (green or red).
    Checked {
        /// One result each.
        results: Vec<CheckResult>,
        /// How long they took together, in milliseconds.
        wall_ms: u64,
    },
    /// It is set aside.
    Reserved {
        /// The caps, cut to what the shared budgets have left.
        caps: Usage,
        /// How full those budgets are now.
        #[serde(default)]
        levels: Vec<Level>,
    },
    /// Shared budgets have nothing left; nothing was set aside.
    Short {
        /// Which; all of them.
        of: Vec<SharedBudget>,
        /// What it was spent on, in words.
        why: String,
        /// How full all those asked are.
        #[serde(default)]
        levels: Vec<Level>,
        /// Whether some of each is only set aside for attempts at work: what they leave over comes back.
        #[serde(default)]
        set_aside: bool,
    },
    /// The work is on the branch; this is its new head.
    Moved {
        /// The new head.
        head: Sha,
        /// The diff from the run's base to it.
        diff: super::change::DiffStat,
    },
    /// It does not fit.
    Conflict {
        /// The paths in conflict.
        paths: Vec<String>,
    },
    /// The change is there.
    Ensured {
        /// Which.
        change: ChangeRef,
    },
    /// What was seen.
    Observed {
        /// All of it.
        observation: Observation,
    },
    /// It is on the base branch.
    Landed {
        /// The commit there.
        sha: Sha,
    },
    /// The base or the head is not what it was; nothing was done.
    Stale {
        /// What was found, in words.
        why: String,
    },
    /// A push was held back: what would go out holds a secret, or what looks like one.
    Held {
        /// Where, and of which kind.
        found: Vec<SecretFound>,
    },
    /// It is done; there is nothing to tell.
    Ok,
    /// It could not be done.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// Why an effect could not be done, after the retries its kind allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What happened, to what, and why.
    pub what: String,
    /// What a person can do about it.
    pub fix: String,
}

/// A secret in what would go out. Never the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFound {
    /// Where: file, line and commit.
    pub place: String,
    /// Which secret, or what it looks like.
    pub what: String,
    /// Names exactly this one, for a person to let it pass.
    pub mark: String,
}
