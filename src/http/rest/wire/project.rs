//! Projects.

use super::{Check, Engine, Role};
use crate::domain;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Project: a repository with its policy, checks and engines.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Name.
    #[schema(example = "tally")]
    pub name: String,
    /// Repository.
    #[schema(example = "/srv/git/tally.git")]
    pub repo: String,
    /// Forge that its changes are put on.
    #[schema(example = "local")]
    pub forge: String,
    /// Branch that changes land on; `null` for the repository's default branch.
    pub base: Option<String>,
    /// Prefix of run branches.
    #[schema(example = "skep")]
    pub branch_prefix: String,
    /// Checks; empty if they come from `.skep.toml` or are detected.
    pub checks: Vec<Check>,
    /// Engines by role.
    pub engines: BTreeMap<Role, Engine>,
    /// Policy, with the keys of `[policy]` in the configuration; `null` for the configured one.
    #[schema(value_type = Option<Object>)]
    pub policy: Option<serde_json::Value>,
}

impl From<&domain::Project> for Project {
    fn from(project: &domain::Project) -> Project {
        Project {
            name: project.name.to_string(),
            repo: project.repo.clone(),
            forge: project.forge.to_string(),
            base: project.base.clone(),
            branch_prefix: project.branch_prefix.clone(),
            checks: project.checks.iter().map(Into::into).collect(),
            engines: project.engines.iter().map(|(role, engine)| ((*role).into(), engine.into())).collect(),
            policy: project.policy.as_ref().and_then(|policy| serde_json::to_value(policy).ok()),
        }
    }
}

/// Project to add.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"name": "tally", "repo": "/srv/git/tally.git", "checks": ["cargo test --locked"]}))]
#[serde(deny_unknown_fields, default)]
pub struct NewProject {
    /// Name; derived from the repository if absent.
    pub name: Option<String>,
    /// Repository: an absolute path or a URL.
    pub repo: String,
    /// Branch that changes land on; the repository's default branch if absent.
    pub base: Option<String>,
    /// Check commands; detected if absent.
    pub checks: Vec<String>,
    /// Engines by role, `KIND[:ARG]`.
    pub engines: BTreeMap<Role, String>,
    /// Policy, with the keys of `[policy]` in the configuration; the configured one if absent.
    #[schema(value_type = Option<Object>)]
    pub policy: Option<serde_json::Value>,
    /// Whether an existing project of that name is replaced.
    pub replace: bool,
}
