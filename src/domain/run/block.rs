//! A block: something that only an outsider can lift. A block is not an error: the run keeps its resources and waits.

use crate::domain::budget::shared_budget::{Level, SharedBudget, SharedSpending};
use crate::domain::budget::{BudgetKind, Raise};
use crate::domain::change::Concern;
use crate::domain::check::Scope;
use crate::domain::effect::{EffectKind, SecretFound};
use crate::domain::id::{BlockId, Sha, TaskId, Timestamp};
use crate::domain::order::{Role, Step};
use serde::{Deserialize, Serialize};

/// An open block of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its id; a comment `UNBLOCK #b1` names it.
    pub id: BlockId,
    /// Its kind.
    pub kind: BlockKind,
    /// Cause in words, possibly text from outside, capped at [`Block::MAX_WHY_BYTES`]. Empty if the kind and the run
    /// explain it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What a person can do about the cause, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Fill levels of the shared budgets, for [`BlockKind::SharedBudget`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<Level>,
    /// Spending from the exhausted shared budgets, for [`BlockKind::SharedBudget`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spending: Vec<SharedSpending>,
    /// When it was raised.
    pub since: Timestamp,
    /// When it lifts by itself, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Block {
    /// Upper bound on the bytes of `why`.
    pub const MAX_WHY_BYTES: usize = 8 * 1024;
}

/// The kinds of block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// A person's approval is required.
    Approval(Subject),
    /// A step has used up its tries, or lost too many attempts in a row.
    Tries {
        /// The step.
        step: Step,
        /// The task, for `Develop`.
        task: Option<TaskId>,
    },
    /// A step ran out of its own time, and the same time would not suffice again.
    StepTime {
        /// The step.
        step: Step,
        /// The task, for `Develop`.
        task: Option<TaskId>,
    },
    /// The checks are red for a reason that no engine can remove, or as red as at the base.
    Environment {
        /// What was checked.
        scope: Scope,
    },
    /// The run has used up its rounds of rework.
    Rounds,
    /// A budget of the run is exhausted.
    Budget(BudgetKind),
    /// Budgets shared with other runs are exhausted.
    SharedBudget {
        /// All exhausted budgets.
        budgets: Vec<SharedBudget>,
    },
    /// A role has no usable engine.
    Engine {
        /// The role.
        role: Role,
        /// The engine a person should repair, `KIND` or `KIND:ARG`.
        engine: String,
    },
    /// An attempt asked a question.
    Question {
        /// The step that asked.
        step: Step,
        /// The task, for `Develop`.
        task: Option<TaskId>,
    },
    /// All tasks ended and nothing changed.
    NothingChanged,
    /// An effect failed (forge, workspace, checks).
    Effect(EffectKind),
    /// CI is red, and another round of rework is not what helps.
    Ci {
        /// Why not.
        doubt: CiDoubt,
        /// The names of the failed checks.
        checks: Vec<String>,
    },
    /// The change was closed.
    ChangeClosed,
    /// A foreign commit was pushed to the run's branch.
    ForeignPush {
        /// The foreign head.
        head: Sha,
    },
    /// The commits to push contain a secret, or something that looks like one.
    SecretFound {
        /// The findings.
        found: Vec<SecretFound>,
    },
}

/// Reason why red CI is put to a person and not to an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CiDoubt {
    /// The base fails in the same checks.
    RedBase,
    /// The same failure returned after a round of rework for it.
    Returned,
}

/// The subject of an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The plan.
    Plan {
        /// Its revision.
        revision: u32,
    },
    /// A task's diff, which raises concerns.
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
    /// Yes, continue. For tries and rounds: a fresh set. For a failed effect or a broken environment: try again.
    Yes,
    /// No, with what should be different (a note for the next attempt).
    No {
        /// What should be different.
        why: String,
    },
    /// The answer to a question. For tries: a hint, and a fresh set.
    Text {
        /// The answer.
        text: String,
    },
    /// More budget.
    More {
        /// The additional amounts.
        raise: Raise,
    },
    /// Drop this task and continue without it. For a broken environment or red CI: continue and accept these failures.
    Skip,
}

impl BlockKind {
    /// Returns the stable code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            BlockKind::Approval(Subject::Plan { .. }) => "approve_plan",
            BlockKind::Approval(Subject::Diff { .. }) => "approve_diff",
            BlockKind::Approval(Subject::Merge { .. }) => "approve_merge",
            BlockKind::Tries { .. } => "tries",
            BlockKind::StepTime { .. } => "step_time",
            BlockKind::Environment { .. } => "environment",
            BlockKind::Rounds => "rounds",
            BlockKind::Budget(_) | BlockKind::SharedBudget { .. } => "budget",
            BlockKind::Engine { .. } => "engine",
            BlockKind::Question { .. } => "question",
            BlockKind::NothingChanged => "nothing_changed",
            BlockKind::Effect(_) => "effect",
            BlockKind::Ci { .. } => "ci",
            BlockKind::ChangeClosed => "change_closed",
            BlockKind::ForeignPush { .. } => "foreign_push",
            BlockKind::SecretFound { .. } => "secret_found",
        }
    }
    /// Returns the task the block is about, if any.
    pub fn task(&self) -> Option<TaskId> {
        match self {
            BlockKind::Tries { task, .. } | BlockKind::StepTime { task, .. } | BlockKind::Question { task, .. } => {
                *task
            }
            BlockKind::Environment { scope: Scope::Task(task) } => Some(*task),
            BlockKind::Approval(Subject::Diff { task, .. }) => Some(*task),
            _ => None,
        }
    }
    /// Returns whether another try lifts it.
    pub fn is_used_up(&self) -> bool {
        use BlockKind::{Environment, Rounds, StepTime, Tries};
        matches!(self, Tries { .. } | StepTime { .. } | Environment { .. } | Rounds)
    }
    /// Returns whether a yes or no lifts it.
    pub fn is_approval(&self) -> bool {
        matches!(self, BlockKind::Approval(_))
    }
}
