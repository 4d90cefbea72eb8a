//! Tasks of a plan.

use super::{CheckResult, DiffStat};
use crate::domain::{self, status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Task of a run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Id in the run.
    #[serde(rename = "task")]
    #[schema(example = "t1")]
    pub id: String,
    /// Name in the plan.
    pub name: String,
    /// Title, one line.
    pub title: String,
    /// Work to do.
    pub text: String,
    /// Names of the tasks it needs.
    pub needs: Vec<String>,
    /// Why the task exists (`plan`, `review`, …).
    pub origin: String,
    /// Status word: `pending`, `running`, `needs_qa`, `completed`, `failed`, `cancelled` or `blocked`.
    pub status: String,
    /// Stage.
    pub stage: String,
    /// Tries used.
    pub tries: u32,
    /// Tries allowed.
    pub tries_allowed: u32,
    /// Commit of the task.
    pub head: Option<String>,
    /// Diff of the task.
    pub diff: DiffStat,
    /// Results of the last checks.
    pub results: Vec<CheckResult>,
}

impl Task {
    pub(super) fn of(run: &domain::Run, task: &domain::Task) -> Task {
        Task {
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
            diff: (&task.diff).into(),
            results: task.results.iter().map(Into::into).collect(),
        }
    }
}
