//! The status words of the interfaces, derived from phase and stage, never stored as truth.

use crate::domain::run::{Outcome, Phase, Run};
use crate::domain::task::{Stage, Task};
use serde::{Deserialize, Serialize};

/// Status of a run at the interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waits for a slot.
    Pending,
    /// Being planned.
    Planning,
    /// Planned; the plan waits for approval.
    Planned,
    /// In progress.
    Running,
    /// Paused by a person.
    Paused,
    /// Waits for a person.
    Blocked,
    /// Ended undelivered.
    Failed,
    /// Ended by a person.
    Cancelled,
    /// Delivered.
    Completed,
}

/// Status of a task at the interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Not started.
    Pending,
    /// A dev is working on it.
    Running,
    /// Its commit is being checked or waits for integration.
    NeedsQa,
    /// Integrated.
    Completed,
    /// Ended undelivered with its run.
    Failed,
    /// Dropped, or its run was cancelled.
    Cancelled,
    /// Waits for a person.
    Blocked,
}

macro_rules! words {
    ($ty:ident { $($variant:ident => $word:literal),* $(,)? }) => {
        impl $ty {
            /// Returns its word.
            pub fn word(self) -> &'static str { match self { $($ty::$variant => $word),* } }
        }
    };
}

words!(RunStatus {
    Pending => "pending", Planning => "planning", Planned => "planned", Running => "running", Paused => "paused",
    Blocked => "blocked", Failed => "failed", Cancelled => "cancelled", Completed => "completed",
});
words!(StepStatus {
    Pending => "pending", Running => "running", NeedsQa => "needs_qa", Completed => "completed", Failed => "failed",
    Cancelled => "cancelled", Blocked => "blocked",
});

/// Returns the run's status.
pub fn of_run(run: &Run) -> RunStatus {
    match &run.outcome {
        Some(Outcome::Delivered { .. } | Outcome::Unchanged) => return RunStatus::Completed,
        Some(Outcome::Cancelled { .. }) => return RunStatus::Cancelled,
        Some(Outcome::Failed { .. }) => return RunStatus::Failed,
        None => {}
    }
    if run.paused.is_some() {
        return RunStatus::Paused;
    }
    match run.phase {
        Phase::Queued => RunStatus::Pending,
        Phase::Planning if run.plan.revision > 0 && !run.blocks.is_empty() => RunStatus::Planned,
        _ if !run.blocks.is_empty() => RunStatus::Blocked,
        Phase::Planning => RunStatus::Planning,
        _ => RunStatus::Running,
    }
}

/// Returns a task's status within its run.
pub fn of_task(run: &Run, task: &Task) -> StepStatus {
    match task.stage {
        Stage::Integrated => return StepStatus::Completed,
        Stage::Dropped => return StepStatus::Cancelled,
        _ => {}
    }
    match &run.outcome {
        Some(Outcome::Cancelled { .. }) => return StepStatus::Cancelled,
        Some(_) => return StepStatus::Failed,
        None => {}
    }
    if run.blocks.iter().any(|b| b.kind.task() == Some(task.id)) {
        return StepStatus::Blocked;
    }
    match task.stage {
        Stage::Developing => StepStatus::Running,
        Stage::Checking | Stage::Integrating => StepStatus::NeedsQa,
        _ => StepStatus::Pending,
    }
}
