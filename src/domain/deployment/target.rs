//! Targets of deployments, as the configuration describes them.

use crate::domain::id::Sha;
use crate::domain::policy::PathPattern;
use crate::domain::project::ProjectName;
use std::collections::BTreeMap;

/// Where versions of a project are deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// The project.
    pub project: ProjectName,
    /// How a version gets there.
    pub method: Method,
    /// The SSH runner that is the host; `None` = commands run where the checks of the project run.
    pub runner: Option<String>,
    /// The address of that host.
    pub host: Option<HostAddress>,
    /// Files that are sent to the host, as patterns; empty = all.
    pub files: Vec<String>,
    /// Environment of the commands on the host.
    pub env: BTreeMap<String, String>,
    /// Names of secrets that are added to the environment on the host.
    pub secrets: Vec<String>,
    /// Secrets that somebody sets where the target runs: their names, and where. Skep neither has nor sends them.
    pub secrets_elsewhere: BTreeMap<String, String>,
    /// Whether what lands is deployed.
    pub on_land: bool,
    /// Whether a person approves each rollout.
    pub needs_approval: bool,
    /// Time limit of a deployment in seconds.
    pub timeout_secs: u64,
    /// Number of releases that stay on the host.
    pub keep: u32,
    /// Whether a red version is replaced by the one before.
    pub rolls_back: bool,
    /// Whether the previous version can run on the data of this one.
    pub is_reversible: bool,
    /// Address of what is deployed.
    pub url: Option<String>,
    /// Seconds between two probes.
    pub probe_secs: u64,
    /// The branch whose versions are deployed; `None` = the base branch of the project.
    pub branch: Option<String>,
    /// Whether anyone may read its status.
    pub is_public: bool,
    /// Whether the forge shows its deployments.
    pub is_on_forge: bool,
    /// Whether it is suspended a week after its last sponsor stopped.
    pub suspends_unsponsored: bool,
    /// What a deployed version must fulfil, by name.
    pub criteria: Vec<Criterion>,
}

/// Address of a host, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// User and host name, `user@host`.
    pub login: String,
    /// Port.
    pub port: u16,
    /// Folder of the target on the host; relative to the user's home unless it starts with a slash.
    pub dir: String,
}

/// How a version gets to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// A command.
    Command {
        /// The command line; `{sha}`, `{sha7}` and `{target}` are filled in.
        command: String,
    },
    /// Docker Compose on a host.
    Compose {
        /// The compose file in the repository.
        file: String,
        /// The name of the compose project.
        name: String,
        /// What the compose file may do although it is refused by default.
        allow: Vec<String>,
    },
    /// A deploy hook of a platform.
    Hook {
        /// The name of the secret that is its address.
        url_secret: String,
        /// Parameters that are added to the address.
        query: BTreeMap<String, String>,
    },
}

impl Method {
    /// Returns the kind, as written in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Method::Command { .. } => "command",
            Method::Compose { .. } => "compose-ssh",
            Method::Hook { .. } => "hook",
        }
    }
}

/// What a deployed version must fulfil.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criterion {
    /// Its name.
    pub name: String,
    /// How it is tested.
    pub test: CriterionTest,
    /// Time in seconds within which it must be fulfilled.
    pub within_secs: u64,
}

/// How a criterion is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CriterionTest {
    /// A request to the target's address, repeated until it is answered as expected.
    Http {
        /// The path, starting with a slash.
        path: String,
        /// The expected status.
        status: u16,
        /// A text that the body contains, if any.
        body: Option<String>,
    },
    /// A command that ends with 0.
    Command {
        /// The command line.
        command: String,
    },
}

impl CriterionTest {
    /// Returns whether it finds out which version answers.
    pub fn names_version(&self) -> bool {
        matches!(self, CriterionTest::Http { body: Some(body), .. } if body.contains("{sha"))
    }
}

impl Target {
    /// Returns whether a file of the repository is sent to the host.
    ///
    /// # Errors
    /// Which pattern is invalid.
    pub fn file_filter(&self) -> Result<impl Fn(&str) -> bool + Send + Sync + use<>, String> {
        let patterns = self.files.iter().map(|pattern| PathPattern::new(pattern));
        let patterns = patterns.collect::<Result<Vec<_>, String>>()?;
        Ok(move |path: &str| patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(path)))
    }

    /// Returns the request by which the target is probed: that of the first criterion with one.
    pub fn probe(&self) -> Option<&Criterion> {
        self.criteria.iter().find(|c| matches!(c.test, CriterionTest::Http { .. }))
    }
}

#[cfg(test)]
impl Target {
    /// Returns a target of a command.
    pub fn sample() -> Target {
        Target {
            name: "test".into(),
            project: ProjectName::from_text("tally"),
            method: Method::Command { command: "true".into() },
            runner: None,
            host: None,
            files: Vec::new(),
            env: BTreeMap::new(),
            secrets: Vec::new(),
            secrets_elsewhere: BTreeMap::new(),
            on_land: true,
            needs_approval: false,
            timeout_secs: 60,
            keep: 3,
            rolls_back: true,
            is_reversible: true,
            url: None,
            probe_secs: 60,
            branch: None,
            is_public: false,
            is_on_forge: false,
            suspends_unsponsored: false,
            criteria: Vec::new(),
        }
    }
}

/// Fills `{sha}`, `{sha7}` and `{target}` into a text of the configuration.
pub fn fill(text: &str, target: &str, sha: &Sha) -> String {
    let short = sha.as_str().get(..7).unwrap_or(sha.as_str());
    text.replace("{sha7}", short).replace("{sha}", sha.as_str()).replace("{target}", target)
}
