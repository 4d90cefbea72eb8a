//! Wire types of goals.

use crate::domain;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Origin of a goal.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoalSource {
    /// A person asked.
    Manual,
    /// The demo.
    Demo,
    /// A retry of an earlier run.
    Retry {
        /// The earlier run.
        run: String,
    },
    /// A revert of what an earlier run has landed.
    Revert {
        /// The earlier run.
        run: String,
    },
    /// An issue on a forge.
    Issue {
        /// The forge.
        forge: String,
        /// The repository.
        #[schema(example = "my-org/calc")]
        repository: String,
        /// The number of the issue.
        number: u64,
    },
    /// A schedule.
    Schedule {
        /// Its name.
        name: String,
    },
}

/// Goal of a run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Goal {
    /// The request in the asker's words.
    #[schema(example = "Make the test suite pass on Windows")]
    pub text: String,
    /// First line, shortened.
    pub title: String,
    /// Origin.
    pub source: GoalSource,
    /// Principal that asked.
    #[schema(example = "local:ann")]
    pub asked_by: String,
    /// Name of its spec, if it was given as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "json-output")]
    pub spec: Option<String>,
}

impl From<&domain::Goal> for Goal {
    fn from(goal: &domain::Goal) -> Goal {
        let source = match &goal.source {
            domain::GoalSource::Manual => GoalSource::Manual,
            domain::GoalSource::Demo => GoalSource::Demo,
            domain::GoalSource::Retry { run } => GoalSource::Retry { run: run.to_string() },
            domain::GoalSource::Revert { run } => GoalSource::Revert { run: run.to_string() },
            domain::GoalSource::Issue { forge, repository, number } => {
                GoalSource::Issue { forge: forge.to_string(), repository: repository.clone(), number: *number }
            }
            domain::GoalSource::Schedule { name } => GoalSource::Schedule { name: name.clone() },
        };
        Goal {
            text: goal.text.clone(),
            title: goal.title(),
            source,
            asked_by: goal.asked_by.to_string(),
            spec: goal.spec.as_ref().map(|spec| spec.id.clone()),
        }
    }
}
