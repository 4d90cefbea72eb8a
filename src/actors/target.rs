//! Where a run's effects go: its forge, its repository and its branches.

use crate::domain::{ForgeName, MemoryKind, Run, RunId};
use crate::ports::Repo;
use std::time::Duration;

/// Forge, repository, branches and retry deadline of one run.
#[derive(Clone, Debug)]
pub struct RunTarget {
    pub run: RunId,
    pub repo: Repo,
    pub forge: ForgeName,
    pub branch: String,
    pub base_branch: String,
    /// How long an effect is retried before a person is asked.
    pub patience: Duration,
    /// The kinds of memory that its attempts are given; none in the holdout.
    pub memory: Vec<MemoryKind>,
    pub traceparent: Option<String>,
}

impl RunTarget {
    pub fn of(run: &Run) -> RunTarget {
        RunTarget {
            run: run.id,
            repo: Repo { project: run.project.clone(), origin: run.settings.origin.clone() },
            forge: run.settings.forge.clone(),
            branch: run.settings.branch.clone(),
            base_branch: run.settings.base_branch.clone(),
            patience: Duration::from_secs(run.settings.policy.steps.ops.timeout_secs),
            memory: run.settings.policy.memory_kinds(run.id).to_vec(),
            traceparent: run.traceparent.clone(),
        }
    }
}
