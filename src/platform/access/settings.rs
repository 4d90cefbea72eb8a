//! Grants of projects, as the configuration fills them in.

use crate::domain::ProjectName;
use std::collections::BTreeMap;

/// Grants of one project's commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Hosts they may reach through the egress proxy: `pypi.org`, `*.crates.io`, each optionally with `:PORT`.
    pub hosts: Vec<String>,
    /// Secrets of the vault granted to its checks, as environment variables of the same name.
    pub check_secrets: Vec<String>,
    /// Secrets of the vault granted to `command:` engines and driven agents that work on it, in the same way.
    pub engine_secrets: Vec<String>,
    /// Runner of its checks; `None` = Skep's own machine.
    pub runner: Option<String>,
    /// Additional runners that individual checks of it may name.
    pub runners: Vec<String>,
}

/// Grants of all projects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectGrants {
    /// Grants of a project that has none of its own.
    pub all: Grants,
    /// Grants of individual projects: complete ones, with everything they leave out already filled in from `all`.
    pub projects: BTreeMap<ProjectName, Grants>,
}

impl ProjectGrants {
    /// Returns the grants of a project.
    pub fn for_project(&self, project: &ProjectName) -> &Grants {
        self.projects.get(project).unwrap_or(&self.all)
    }
}
