//! Something only an outsider can lift. Not an error: the run keeps what it holds and waits.

use super::budget::Raise;
use super::change::Concern;
use super::id::{BlockId, Sha, TaskId, Timestamp};
use super::order::{Role, Step};
use super::shared_budget::SharedBudget;
use serde::{Deserialize, Serialize};

/// An open block of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its number; `UNBLOCK #b1` names it.
    pub id: BlockId,
    /// What it is.
    pub kind: BlockKind,
    /// What happened, in words, capped at 8 KiB.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// When it lifts by itself, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// The kinds of block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// A person's yes or no.
    Approval(Subject),
    /// A step's tries (or losses) are used up.
    Tries {
        /// The step.
        step: Step,
        /// The task, for `Develop`.
        task: Option<TaskId>,
    },
    /// The run's rounds of rework are used up.
    Rounds,
    /// Money, tokens, time or attempts ran out.
    Budget {
        /// Which.
        what: String,
    },
    /// Budgets that runs share have nothing left.
    Shared {
        /// Which.
        of: Vec<SharedBudget>,
    },
    /// No engine of a role can be used.
    Engine {
        /// The role.
        role: Role,
        /// The engine a person should see to, `KIND` or `KIND:ARG`.
        engine: String,
    },
    /// An attempt asked.
    Question {
        /// The step that asked.
        step: Step,
        /// Its task.
        task: Option<TaskId>,
    },
    /// All tasks are done and nothing changed.
    NothingChanged,
    /// An act on the world does not succeed (forge, workspace, checks).
    Act {
        /// Which act.
        act: String,
    },
    /// Somebody closed the change.
    ChangeClosed,
    /// Somebody else pushed to the run's branch.
    ForeignPush {
        /// The head found there.
        head: Sha,
    },
    /// What would be pushed holds a secret, or what looks like one.
    SecretFound {
        /// Which ones (see [`super::SecretFound`]).
        marks: Vec<String>,
    },
}

/// What is to be approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The plan.
    Plan {
        /// Its revision.
        revision: u32,
    },
    /// A task's diff, for the concerns named.
    Diff {
        /// The task.
        task: TaskId,
        /// Its commit.
        head: Sha,
        /// The concerns.
        concerns: Vec<Concern>,
    },
    /// The merge of exactly this head onto exactly this base.
    Merge {
        /// The head.
        head: Sha,
        /// The base.
        base: Sha,
    },
}

/// A person's answer to a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Yes, go on. For tries and rounds: a fresh set. For an act: try again.
    Yes,
    /// No, with what should be different (becomes a note for the next attempt).
    No {
        /// What should be different.
        why: String,
    },
    /// The answer to a question; for tries: a hint, and a fresh set.
    Text {
        /// The answer.
        text: String,
    },
    /// More budget.
    More {
        /// How much.
        raise: Raise,
    },
    /// Give this task up and go on without it.
    Skip,
}

impl BlockKind {
    /// A stable code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            BlockKind::Approval(Subject::Plan { .. }) => "approve_plan",
            BlockKind::Approval(Subject::Diff { .. }) => "approve_diff",
            BlockKind::Approval(Subject::Merge { .. }) => "approve_merge",
            BlockKind::Tries { .. } => "tries",
            BlockKind::Rounds => "rounds",
            BlockKind::Budget { .. } | BlockKind::Shared { .. } => "budget",
            BlockKind::Engine { .. } => "engine",
            BlockKind::Question { .. } => "question",
            BlockKind::NothingChanged => "nothing_changed",
            BlockKind::Act { .. } => "act",
            BlockKind::ChangeClosed => "change_closed",
            BlockKind::ForeignPush { .. } => "foreign_push",
            BlockKind::SecretFound { .. } => "secret_found",
        }
    }
    /// The task it is about, if it is about one.
    pub fn task(&self) -> Option<TaskId> {
        match self {
            BlockKind::Tries { task, .. } | BlockKind::Question { task, .. } => *task,
            BlockKind::Approval(Subject::Diff { task, .. }) => Some(*task),
            _ => None,
        }
    }
    /// Whether a yes or no lifts it.
    pub fn is_approval(&self) -> bool {
        matches!(self, BlockKind::Approval(_))
    }
}
