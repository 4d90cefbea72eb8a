//! What the commands of a project are given beyond their walls: decided by a person, in the configuration, never by a repository.

use crate::domain::ProjectName;
use std::collections::BTreeMap;

pub mod broker;

/// What one project's commands are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Hosts they may reach through the gate: `pypi.org`, `*.crates.io`, either with `:PORT`.
    pub hosts: Vec<String>,
    /// Secrets of the vault that its checks are given, as variables of the same name.
    pub check_secrets: Vec<String>,
    /// Secrets of the vault that `command:` engines and driven agents are given at work on it, in the same way.
    pub engine_secrets: Vec<String>,
    /// The place its checks run at; `None` = Skep's own machine.
    pub runner: Option<String>,
    /// More places that single checks of it may name.
    pub runners: Vec<String>,
}

/// The grants of every project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// What a project is given that has no grants of its own.
    pub all: Grants,
    /// Projects with grants of their own: whole ones, what they leave out taken over from `all`.
    pub projects: BTreeMap<ProjectName, Grants>,
}

impl Granted {
    /// What a project is given.
    pub fn of(&self, project: &ProjectName) -> &Grants {
        self.projects.get(project).unwrap_or(&self.all)
    }
}
