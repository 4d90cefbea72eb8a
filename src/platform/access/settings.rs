//! Grants of projects, as the configuration fills them in.

use crate::domain::ProjectName;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Grants of one project's commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Hosts that the commands may reach through the egress proxy: `pypi.org`, `*.crates.io`, each optionally with
    /// `:PORT`.
    pub hosts: Vec<String>,
    /// Secrets of the vault granted to its checks, as environment variables of the same name.
    pub check_secrets: Vec<String>,
    /// Secrets of the vault granted to `command:` engines and driven agents that work on the project, in the same way.
    pub engine_secrets: Vec<String>,
    /// Runner of its checks; `None` = Skep's own machine.
    pub runner: Option<String>,
    /// Additional runners that individual checks of the project may name.
    pub runners: Vec<String>,
}

/// Grants of all projects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectGrants {
    /// Grants of every project without an entry in `projects`.
    pub all: Grants,
    /// Grants of individual projects. Each is complete: what its table leaves out is filled in from `all`.
    pub projects: BTreeMap<ProjectName, Grants>,
    /// The configuration file in which they can be changed.
    pub file: Option<PathBuf>,
}

impl ProjectGrants {
    /// Returns the grants of a project.
    pub fn for_project(&self, project: &ProjectName) -> &Grants {
        self.projects.get(project).unwrap_or(&self.all)
    }
}
