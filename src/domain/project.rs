//! A project: a repository on a forge with its policy, checks and engines. A run copies its settings from it.

use super::check::CheckSpec;
use super::order::{EngineSpec, Role};
use super::policy::Policy;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A project's name: 1 to 64 of `a-z 0-9 - _ .`, not starting with a dash or a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProjectName(String);

impl ProjectName {
    /// Validates a name.
    ///
    /// # Errors
    ///
    /// Returns what a valid name looks like.
    pub fn new(name: &str) -> Result<Self, String> {
        let good = (1..=64).contains(&name.len())
            && !name.starts_with(['-', '.'])
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
        if good {
            Ok(Self(name.to_owned()))
        } else {
            Err(format!(
                "invalid project name {name:?}: use 1 to 64 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"
            ))
        }
    }
    /// Returns a valid name made from any text, such as the last part of a path or URL.
    pub fn from_text(text: &str) -> Self {
        let mut name: String = text
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '-' })
            .collect();
        while name.starts_with(['-', '.']) {
            name.remove(0);
        }
        name.truncate(48);
        while name.ends_with(['-', '.']) {
            name.pop();
        }
        if name.is_empty() {
            name.push_str("project");
        }
        Self(name)
    }
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Returns the name as a part of a dotted key of the configuration: in quotes if it contains dots.
    pub fn as_key(&self) -> String {
        if self.0.contains('.') { format!("\"{}\"", self.0) } else { self.0.clone() }
    }
}

impl fmt::Display for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ProjectName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        Self::new(&name)
    }
}

impl From<ProjectName> for String {
    fn from(name: ProjectName) -> String {
        name.0
    }
}

/// A forge's name: `local`, or the name of a configured forge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ForgeName(pub String);

impl ForgeName {
    /// Name of the forge whose changes Skep itself stores.
    const LOCAL: &str = "local";

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether it is the local forge.
    pub fn is_local(&self) -> bool {
        self.0 == Self::LOCAL
    }
}

impl Default for ForgeName {
    /// Returns the local forge.
    fn default() -> Self {
        Self(Self::LOCAL.to_owned())
    }
}

impl fmt::Display for ForgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stored project. A run copies what it needs when it is opened and never reads it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its name, unique.
    pub name: ProjectName,
    /// The repository: an absolute path, or a URL (`file`, `https`, `ssh`).
    pub repo: String,
    /// The forge that holds its changes.
    #[serde(default)]
    pub forge: ForgeName,
    /// The branch changes land on; `None` = the repository's default branch.
    pub base: Option<String>,
    /// The prefix of run branches, `skep` by default.
    pub branch_prefix: String,
    /// Its checks; empty = those of `.skep.toml` at the base commit, else detected ones.
    pub checks: Vec<CheckSpec>,
    /// Engines by role, which override the configured defaults.
    pub engines: BTreeMap<Role, EngineSpec>,
    /// Its own policy; `None` = the configured one when a run is opened.
    #[serde(default)]
    pub policy: Option<Policy>,
}

/// Projects that a list or a right covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProjectSet {
    /// All of them, also those still to come.
    #[default]
    All,
    /// Only these.
    Only(BTreeSet<ProjectName>),
}

impl From<ProjectName> for ProjectSet {
    fn from(name: ProjectName) -> ProjectSet {
        ProjectSet::Only([name].into())
    }
}

impl From<Option<ProjectName>> for ProjectSet {
    /// The set of this project, or of all.
    fn from(name: Option<ProjectName>) -> ProjectSet {
        name.map_or(ProjectSet::All, ProjectSet::from)
    }
}
