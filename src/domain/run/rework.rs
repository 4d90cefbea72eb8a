//! What CI and people want changed in the head, and what became of it.

use super::Run;
use crate::domain::change::{ChangeRequest, Observation, StatusState};
use crate::domain::id::{Principal, TaskId};
use serde::{Deserialize, Serialize};

/// A person's request for changes that a task works on. It is answered once the task's work is proven and pushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRequest {
    /// The person.
    pub by: Principal,
    /// The task.
    pub task: TaskId,
    /// The threads to answer in; empty = the request has none, and is answered on the change itself.
    #[serde(default)]
    pub threads: Vec<u64>,
}

/// The state of CI at the head, as far as the gate depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiState<'a> {
    /// Failed checks.
    pub failed: Vec<&'a str>,
    /// Checks that have no result yet.
    pub running: Vec<&'a str>,
    /// Required checks that were not reported.
    pub missing: Vec<&'a str>,
}

impl Run {
    /// Returns the state of CI in the last observation. What is required by the policy or the forge counts; if nothing
    /// is, everything that CI reported.
    pub fn ci(&self) -> CiState<'_> {
        let mut ci = CiState::default();
        let Some(seen) = &self.facts.observed else { return ci };
        let required: Vec<&String> = self.settings.policy.required_statuses.iter().chain(&seen.required).collect();
        let mut counted: Vec<&String> = if required.is_empty() { seen.statuses.keys().collect() } else { required };
        counted.sort();
        counted.dedup();
        for name in counted {
            // What was run again fails until the forge shows its new result.
            let is_rerun = || self.facts.rerun.get(name).is_some_and(|id| seen.failed.get(name) == Some(id));
            match seen.statuses.get(name) {
                Some(StatusState::Success) => {}
                Some(StatusState::Failure) if self.facts.accepted_statuses.contains(name) => {}
                Some(StatusState::Failure) if !is_rerun() => ci.failed.push(name),
                Some(StatusState::Failure | StatusState::Pending) => ci.running.push(name),
                None => ci.missing.push(name),
            }
        }
        ci
    }

    /// Returns the observation without the requests for changes that were read, and those that say nothing.
    pub fn unread(&self, seen: &Observation) -> Observation {
        let is_unread = |r: &ChangeRequest| !self.requests_read.contains(&r.review) && r.says_something();
        let mut unread = seen.clone();
        unread.change_requests.retain(is_unread);
        unread
    }
}
