//! Settings of the configured forges, and which repositories they hold.

pub use super::repo_name::RepoName;
use super::repo_name::repository_at;
use crate::ports::forge_issues::IntakeRules;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Name of the built-in forge.
pub const LOCAL: &str = "local";
/// The public GitHub.
pub const GITHUB_URL: &str = "https://github.com";
/// The public GitLab.
pub const GITLAB_URL: &str = "https://gitlab.com";

/// A configured forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForgeSettings {
    /// GitHub, or GitHub Enterprise Server.
    GitHub(GitHub),
    /// Forgejo or Gitea.
    Forgejo(Forgejo),
    /// GitLab.
    GitLab(GitLab),
}

/// GitHub, or GitHub Enterprise Server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitHub {
    /// Base URL of its pages and of git, without a trailing slash.
    pub url: String,
    /// Base URL of its REST API, without a trailing slash.
    pub api_url: String,
    /// How Skep authenticates.
    pub account: Account,
    /// How pull requests are merged; `None` = the first method that the repository allows.
    pub merge_method: Option<MergeMethod>,
    /// Whose forks runs push to where Skep may not write; `None` = it uses no forks.
    pub fork_owner: Option<String>,
    /// How issues and comments are taken in.
    pub intake: Intake,
}

/// Forgejo or Gitea.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgejo {
    /// Which of the two.
    pub software: Software,
    /// Base URL of its pages and of git, without a trailing slash. The API is below it.
    pub url: String,
    /// The token by which Skep authenticates.
    pub token: SecretSource,
    /// How pull requests are merged; `None` = the first method that the repository allows.
    pub merge_method: Option<MergeMethod>,
    /// Whose forks runs push to where Skep may not write; `None` = it uses no forks.
    pub fork_owner: Option<String>,
    /// How issues and comments are taken in.
    pub intake: Intake,
}

/// GitLab: the public one, or a server of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitLab {
    /// Base URL of its pages and of git, without a trailing slash. The API is below it.
    pub url: String,
    /// The token by which Skep authenticates.
    pub token: SecretSource,
    /// Whether merge requests are squashed; `None` = as the project's settings propose.
    pub merge_method: Option<MergeMethod>,
    /// How issues and comments are taken in.
    pub intake: Intake,
}

/// Software with the API of Gitea.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Software {
    /// Forgejo.
    Forgejo,
    /// Gitea.
    Gitea,
}

impl Software {
    /// Returns its name in the configuration.
    pub fn kind(self) -> &'static str {
        match self {
            Software::Forgejo => "forgejo",
            Software::Gitea => "gitea",
        }
    }
}

impl fmt::Display for Software {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Software::Forgejo => "Forgejo",
            Software::Gitea => "Gitea",
        })
    }
}

/// How a forge's issues and comments are taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intake {
    /// The label that starts a run; `None` = no label does.
    pub label: Option<String>,
    /// The login by whose mention people give commands; `None` = no mention is a command.
    pub mention: Option<String>,
    /// How often the repositories are swept while there is a label; zero = never.
    pub poll_interval: Duration,
    /// The secrets that may sign webhooks; empty = webhooks are off.
    pub webhook_secrets: Vec<SecretSource>,
}

impl Default for Intake {
    fn default() -> Self {
        Self { label: None, mention: None, poll_interval: Duration::from_secs(60), webhook_secrets: Vec::new() }
    }
}

impl Intake {
    /// Returns the rules of intake.
    pub fn rules(&self) -> IntakeRules {
        let is_polled = self.label.is_some() && !self.poll_interval.is_zero();
        IntakeRules {
            label: self.label.clone(),
            mention: self.mention.clone(),
            poll_interval: is_polled.then_some(self.poll_interval),
        }
    }
}

/// How Skep authenticates at GitHub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// As the owner of a token.
    Token(SecretSource),
    /// As a GitHub App, with an installation token for each repository.
    App {
        /// The App's id.
        id: u64,
        /// Its private key, in PEM.
        private_key: SecretSource,
    },
}

/// Where a secret is read from, each time it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file that only its owner can read.
    File(PathBuf),
    /// The vault.
    Vault(String),
    /// GitHub's command line, `gh auth token`.
    GitHubCli,
    /// GitLab's command line, `glab config get token`.
    GitLabCli,
}

/// A way to merge a pull request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeMethod {
    /// A merge commit.
    Merge,
    /// One new commit.
    Squash,
    /// The same commits with new ids.
    Rebase,
    /// The same commits with new ids, and a merge commit. Only Forgejo and Gitea have it.
    RebaseMerge,
    /// The same commits. Only Forgejo and Gitea have it.
    FastForwardOnly,
}

impl MergeMethod {
    /// Those of GitHub, in the order in which they are tried.
    pub const OF_GITHUB: &[MergeMethod] = &[MergeMethod::Merge, MergeMethod::Squash, MergeMethod::Rebase];
    /// Those of Forgejo and Gitea, in the order in which they are tried.
    pub const OF_FORGEJO: &[MergeMethod] = &[
        MergeMethod::Merge,
        MergeMethod::Squash,
        MergeMethod::Rebase,
        MergeMethod::RebaseMerge,
        MergeMethod::FastForwardOnly,
    ];
    /// Those of GitLab. Whether it adds a merge commit is a setting of the project.
    pub const OF_GITLAB: &[MergeMethod] = &[MergeMethod::Merge, MergeMethod::Squash];

    /// Returns its name in the configuration and in the forge's API.
    pub fn name(self) -> &'static str {
        match self {
            MergeMethod::Merge => "merge",
            MergeMethod::Squash => "squash",
            MergeMethod::Rebase => "rebase",
            MergeMethod::RebaseMerge => "rebase-merge",
            MergeMethod::FastForwardOnly => "fast-forward-only",
        }
    }
}

impl Forgejo {
    /// Returns the repository of a clone URL of this forge, over http or ssh; `None` = the URL is another one.
    pub fn repository(&self, url: &str) -> Option<RepoName> {
        repository_at(&self.url, url, RepoName::parse)
    }

    /// Returns the base URL of its REST API.
    pub fn api_url(&self) -> String {
        format!("{}/api/v1", self.url)
    }

    /// Returns the page where its tokens are created.
    pub fn token_url(&self) -> String {
        format!("{}/user/settings/applications", self.url)
    }
}

impl GitLab {
    /// Returns the project of a clone URL of this forge, over http or ssh; `None` = the URL is another one.
    pub fn repository(&self, url: &str) -> Option<RepoName> {
        repository_at(&self.url, url, RepoName::parse_nested)
    }

    /// Returns the base URL of its REST API.
    pub fn api_url(&self) -> String {
        format!("{}/api/v4", self.url)
    }

    /// Returns the page where personal access tokens are created.
    pub fn token_url(&self) -> String {
        format!("{}/-/user_settings/personal_access_tokens", self.url)
    }
}

impl GitHub {
    /// Returns the repository of a clone URL of this forge, over http or ssh; `None` = the URL is another one.
    pub fn repository(&self, url: &str) -> Option<RepoName> {
        repository_at(&self.url, url, RepoName::parse)
    }

    /// Returns the URL of the GraphQL API.
    pub fn graphql_url(&self) -> String {
        match self.api_url.strip_suffix("/api/v3") {
            Some(server) => format!("{server}/api/graphql"),
            None => format!("{}/graphql", self.api_url),
        }
    }
}

impl ForgeSettings {
    /// Returns the kind, as written in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            ForgeSettings::GitHub(_) => "github",
            ForgeSettings::Forgejo(forgejo) => forgejo.software.kind(),
            ForgeSettings::GitLab(_) => "gitlab",
        }
    }

    /// Returns its address.
    pub fn url(&self) -> &str {
        match self {
            ForgeSettings::GitHub(github) => &github.url,
            ForgeSettings::Forgejo(forgejo) => &forgejo.url,
            ForgeSettings::GitLab(gitlab) => &gitlab.url,
        }
    }

    /// Returns how Skep authenticates, without any secret.
    pub fn account(&self) -> String {
        match self {
            ForgeSettings::GitHub(github) => github.account.to_string(),
            ForgeSettings::Forgejo(Forgejo { token, .. }) | ForgeSettings::GitLab(GitLab { token, .. }) => {
                Account::Token(token.clone()).to_string()
            }
        }
    }

    /// Returns the name of the vault's secret that it uses.
    pub fn vault_secret(&self) -> Option<&str> {
        let source = match self {
            ForgeSettings::GitHub(github) => match &github.account {
                Account::Token(source) | Account::App { private_key: source, .. } => source,
            },
            ForgeSettings::Forgejo(Forgejo { token, .. }) | ForgeSettings::GitLab(GitLab { token, .. }) => token,
        };
        match source {
            SecretSource::Vault(name) => Some(name),
            _ => None,
        }
    }

    /// Returns the repository of a clone URL of this forge; `None` = the URL is another one.
    pub fn repository(&self, url: &str) -> Option<RepoName> {
        match self {
            ForgeSettings::GitHub(github) => github.repository(url),
            ForgeSettings::Forgejo(forgejo) => forgejo.repository(url),
            ForgeSettings::GitLab(gitlab) => gitlab.repository(url),
        }
    }

    /// Parses the name of a repository on this kind of forge; `None` = it is something else.
    pub fn parse_name(&self, text: &str) -> Option<RepoName> {
        match self {
            ForgeSettings::GitHub(_) | ForgeSettings::Forgejo(_) => RepoName::parse(text),
            ForgeSettings::GitLab(_) => RepoName::parse_nested(text),
        }
    }

    /// Returns the clone URL of a repository.
    pub fn clone_url(&self, repo: &RepoName) -> String {
        format!("{}/{repo}.git", self.url())
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Token(source) => write!(f, "token from {source}"),
            Account::App { id, private_key } => write!(f, "GitHub App {id}, key from {private_key}"),
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::Env(name) => write!(f, "the variable {name}"),
            SecretSource::File(path) => write!(f, "the file {}", path.display()),
            SecretSource::Vault(name) => write!(f, "the secret {name} of the vault"),
            SecretSource::GitHubCli => f.write_str("`gh auth token`"),
            SecretSource::GitLabCli => f.write_str("`glab config get token`"),
        }
    }
}
