//! A request for a run, and the defaults for what the request leaves open.

use crate::domain::{
    CheckSpec, Difference, EngineSpec, Goal, OnDifference, Overrides, Policy, ProjectName, RequestedLimits, Role, Run,
    RunId, Sha,
};
use std::collections::BTreeMap;

/// A request for a run.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The id of the new run; `None` = a new one is drawn.
    pub id: Option<RunId>,
    /// A project by name; else `repo` must be given.
    pub project: Option<ProjectName>,
    /// A repository; it becomes a project on first use.
    pub repo: Option<String>,
    /// The goal.
    pub goal: Goal,
    /// The branch to land on; overrides the project's.
    pub base: Option<String>,
    /// Engines by role; each overrides the project's.
    pub engines: BTreeMap<Role, EngineSpec>,
    /// Checks; replace the project's unless empty.
    pub checks: Vec<CheckSpec>,
    /// Limits in place of the configured ones.
    pub limits: RequestedLimits,
    /// Whether these limits may exceed the configured ones.
    pub may_raise: bool,
    /// Whether a person has to approve the merge, whatever the policy says.
    pub must_approve: bool,
    /// Resume an open run of the same project and goal instead of opening a second one.
    pub carry_on: bool,
    /// What to do if that run has other settings than those named here.
    pub on_difference: OnDifference,
    /// The W3C trace context of the request.
    pub traceparent: Option<String>,
}

impl RunRequest {
    /// Returns which of the settings named here a run does not have.
    pub fn differences(&self, run: &Run) -> Vec<Difference> {
        let overrides = Overrides { engines: self.engines.clone(), checks: self.checks.clone(), limits: self.limits };
        overrides.differences(run, self.base.as_deref())
    }
}

/// The configured defaults for new projects and runs.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The policy.
    pub policy: Policy,
    /// An engine for each role.
    pub engines: BTreeMap<Role, EngineSpec>,
    /// Fallback engines of a role, in order of preference.
    pub fallbacks: BTreeMap<Role, Vec<EngineSpec>>,
    /// Prefix of the names of run branches.
    pub branch_prefix: String,
}

/// The commit that a plan is made for.
#[derive(Clone, Debug)]
pub enum PlanFor {
    /// The newest one of the base branch.
    Base,
    /// An earlier one of the base branch.
    Commit(Sha),
    /// The working copy, which is stored for this run.
    WorkingCopy(RunId),
}
