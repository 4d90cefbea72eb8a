//! Check plans: what would prove a change of a repository, and what that needs, without opening a run.

use super::deps::Deps;
use super::error::RuntimeError;
use super::intake::{self, Inspected};
use super::request::{PlanFor, RunRequest};
use crate::domain::{CheckSpec, ProjectName, Sha};
use crate::ports::Repo;
use crate::ports::checks::{NetworkNeed, Trust};

/// Checks of a repository at its base commit.
#[derive(Clone, Debug)]
pub struct CheckPlan {
    /// The project; it is not stored if the repository is new.
    pub project: ProjectName,
    /// The repository.
    pub repo: Repo,
    /// The branch to land on.
    pub base_branch: String,
    /// The commit to check.
    pub base: Sha,
    /// Whether that is a commit of the base branch, or the working copy.
    pub trust: Trust,
    /// The checks; empty = a person has to name them.
    pub checks: Vec<CheckSpec>,
    /// Why there are none, or which projects of the repository the detected ones do not cover.
    pub missing: Vec<String>,
    /// Commands of the repository's CI, each with its file.
    pub proposals: Vec<(String, String)>,
    /// What the checks need from the network and may not reach.
    pub network: Vec<NetworkNeed>,
}

/// Computes a plan. It only fetches the mirror, and runs nothing of the repository.
pub(super) async fn plan(deps: &Deps, mut request: RunRequest, of: PlanFor) -> Result<CheckPlan, RuntimeError> {
    let parts = deps.parts();
    intake::locate(deps, &mut request).await?;
    let (project, _) = intake::project(deps, &request, &parts.defaults).await?;
    let trust = if matches!(of, PlanFor::WorkingCopy(_)) { Trust::Unproven } else { Trust::Base };
    let inspected = intake::inspect_checks(deps, &request, &project, &parts, of).await?;
    let network = network(deps, &project.name, &inspected).await?;
    let Inspected { repo, base_branch, base, rules, checks, .. } = inspected;
    // What detection left out says nothing about checks that somebody named.
    let missing = if checks.iter().all(|check| check.detected) { rules.missing } else { Vec::new() };
    let proposals = rules.proposals;
    Ok(CheckPlan { project: project.name, repo, base_branch, base, trust, checks, missing, proposals, network })
}

/// Returns what the checks need from the network and may not reach.
pub(super) async fn network(
    deps: &Deps,
    project: &ProjectName,
    inspected: &Inspected,
) -> Result<Vec<NetworkNeed>, RuntimeError> {
    let checks = deps.parts().checks.clone();
    let Inspected { repo, base, paths, checks: specs, .. } = inspected;
    let files = intake::read_all(deps, repo, base, checks.network_files(paths)).await?;
    Ok(checks.network_needs(project, specs, paths, &files).await)
}
