//! Check plans.

use super::Check;
use crate::service::checks as service;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Request for the checks of a repository.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"repo": "/srv/git/tally.git"}))]
#[serde(deny_unknown_fields, default)]
pub struct NewCheckPlan {
    /// Project; or name `repo`.
    pub project: Option<String>,
    /// Repository: an absolute path or a URL.
    pub repo: Option<String>,
    /// Branch; that of the project, or the repository's default branch, if absent.
    pub base: Option<String>,
    /// Check commands, instead of those that the project names or that are detected.
    pub checks: Vec<String>,
    /// Text of a task spec (YAML): the commands of its criteria run instead of the checks, after the setup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// Whether the repository's working copy is checked, with its uncommitted files, instead of its last commit.
    pub working_copy: bool,
}

/// Checks of a repository at its base commit. Nothing was opened, and nothing of the repository was run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckPlan {
    /// Project; it is not stored if the repository is new.
    pub project: String,
    /// Repository.
    pub repo: String,
    /// Branch.
    pub base_branch: String,
    /// Commit.
    pub base: String,
    /// Checks; empty if none are named or detected.
    pub checks: Vec<Check>,
    /// Why no checks were detected, or which projects of the repository the detected ones do not cover.
    pub missing: Vec<String>,
    /// Commands of the repository's CI that may be chosen as checks.
    pub proposals: Vec<ProposedCheck>,
    /// What the checks need from the network and may not reach.
    pub network: Vec<NetworkNeed>,
}

/// Command of a repository's CI.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProposedCheck {
    /// Command.
    pub command: String,
    /// File that names it.
    pub file: String,
}

/// Hosts that checks need and may not reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkNeed {
    /// Package manager that needs them.
    pub manager: String,
    /// Names of the checks that start it.
    pub checks: Vec<String>,
    /// Hosts.
    pub hosts: Vec<String>,
    /// Addresses outside the public internet that its hosts lead to, which have to be allowed as well. If there are
    /// neither hosts nor addresses, what the manager needs could not be found out.
    #[serde(default)]
    pub addresses: Vec<String>,
}

impl From<service::NetworkNeed> for NetworkNeed {
    fn from(need: service::NetworkNeed) -> NetworkNeed {
        NetworkNeed { manager: need.manager, checks: need.checks, hosts: need.hosts, addresses: need.addresses }
    }
}

impl From<service::CheckPlan> for CheckPlan {
    fn from(plan: service::CheckPlan) -> CheckPlan {
        let proposal = |(command, file)| ProposedCheck { command, file };
        CheckPlan {
            project: plan.project.to_string(),
            repo: plan.repo.origin,
            base_branch: plan.base_branch,
            base: plan.base.to_string(),
            checks: plan.checks.iter().map(Into::into).collect(),
            missing: plan.missing,
            proposals: plan.proposals.into_iter().map(proposal).collect(),
            network: plan.network.into_iter().map(Into::into).collect(),
        }
    }
}
