//! The names of a run's branches besides its own.

use super::Run;
use crate::domain::id::TaskId;

impl Run {
    /// Returns the branch of a task.
    pub fn task_branch(&self, task: TaskId) -> String {
        task_branch(&self.settings.branch, task)
    }
}

/// Returns the branch of a task of the run whose branch is `run_branch`.
pub fn task_branch(run_branch: &str, task: TaskId) -> String {
    format!("{run_branch}-task/{}", task.0)
}

/// Returns the branch that holds the change of the run whose branch is `run_branch` while it is part of a landing batch.
pub fn landing_branch(run_branch: &str) -> String {
    format!("{run_branch}-task/landing")
}
