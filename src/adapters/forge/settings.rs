//! Settings of the configured forges, and which repositories they hold.

use crate::ports::forge_issues::IntakeRules;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Name of the built-in forge.
pub const LOCAL: &str = "local";
/// The public GitHub.
pub const GITHUB_URL: &str = "https://github.com";

/// A configured forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForgeSettings {
    /// GitHub, or GitHub Enterprise Server.
    GitHub(GitHub),
    /// Forgejo or Gitea.
    Forgejo(Forgejo),
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
    /// How often the repositories are swept while there is a label; zero = never.
    pub poll_interval: Duration,
    /// The secrets that may sign webhooks; empty = webhooks are off.
    pub webhook_secrets: Vec<SecretSource>,
}

impl Default for Intake {
    fn default() -> Self {
        Self { label: None, poll_interval: Duration::from_secs(60), webhook_secrets: Vec::new() }
    }
}

impl Intake {
    /// Returns the rules of intake.
    pub fn rules(&self) -> IntakeRules {
        let is_polled = self.label.is_some() && !self.poll_interval.is_zero();
        IntakeRules { label: self.label.clone(), poll_interval: is_polled.then_some(self.poll_interval) }
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

/// A repository's owner and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoName {
    /// The user or organization.
    pub owner: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl RepoName {
    /// Parses `OWNER/REPO`; `None` = it is something else.
    pub fn parse(text: &str) -> Option<RepoName> {
        let (owner, name) = text.split_once('/')?;
        let is_word = |text: &str, more: &str| {
            (1..=100).contains(&text.len())
                && !text.starts_with(['-', '.'])
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.as_bytes().contains(&b))
        };
        let good = is_word(owner, "-_") && (is_word(name, "-_.") || name == ".github");
        good.then(|| RepoName { owner: owner.to_owned(), name: name.to_owned() })
    }
}

/// Returns the scheme, the host with its port, and the path of a URL, without the slash between them.
fn split(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    Some((scheme, host, path))
}

/// Returns the repository of a clone URL, over http or ssh, of the forge at a base URL; `None` = the URL is another one.
fn repository_at(base: &str, url: &str) -> Option<RepoName> {
    let (own_scheme, own_host, own_path) = split(base)?;
    let own_name = own_host.rsplit_once(':').map_or(own_host, |(name, _)| name);
    let path = match split(url) {
        Some((scheme, host, path)) if scheme == own_scheme => {
            let path = if host.eq_ignore_ascii_case(own_host) { path.strip_prefix(own_path)? } else { return None };
            if own_path.is_empty() { path } else { path.strip_prefix('/')? }
        }
        Some(("ssh", authority, path)) => {
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
            host.eq_ignore_ascii_case(own_name).then_some(path)?
        }
        Some(_) => return None,
        None => {
            let (authority, path) = url.split_once(':')?;
            let host = authority.rsplit_once('@')?.1;
            host.eq_ignore_ascii_case(own_name).then_some(path)?
        }
    };
    let path = path.trim_end_matches('/');
    RepoName::parse(path.strip_suffix(".git").unwrap_or(path))
}

impl Forgejo {
    /// Returns the repository of a clone URL of this forge, over http or ssh; `None` = the URL is another one.
    pub fn repository(&self, url: &str) -> Option<RepoName> {
        repository_at(&self.url, url)
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

impl GitHub {
    /// Returns the repository of a clone URL of this forge, over http or ssh; `None` = the URL is another one.
    pub fn repository(&self, url: &str) -> Option<RepoName> {
        repository_at(&self.url, url)
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
        }
    }

    /// Returns its address.
    pub fn url(&self) -> &str {
        match self {
            ForgeSettings::GitHub(github) => &github.url,
            ForgeSettings::Forgejo(forgejo) => &forgejo.url,
        }
    }

    /// Returns how Skep authenticates, without any secret.
    pub fn account(&self) -> String {
        match self {
            ForgeSettings::GitHub(github) => github.account.to_string(),
            ForgeSettings::Forgejo(forgejo) => Account::Token(forgejo.token.clone()).to_string(),
        }
    }

    /// Returns the name of the vault's secret that it uses.
    pub fn vault_secret(&self) -> Option<&str> {
        let source = match self {
            ForgeSettings::GitHub(github) => match &github.account {
                Account::Token(source) | Account::App { private_key: source, .. } => source,
            },
            ForgeSettings::Forgejo(forgejo) => &forgejo.token,
        };
        match source {
            SecretSource::Vault(name) => Some(name),
            _ => None,
        }
    }

    /// Returns the repository of a clone URL of this forge; `None` = the URL is another one.
    pub fn repository(&self, url: &str) -> Option<RepoName> {
        repository_at(self.url(), url)
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn github(url: &str) -> GitHub {
        let account = Account::Token(SecretSource::GitHubCli);
        GitHub {
            url: url.to_owned(),
            api_url: format!("{url}/api/v3"),
            account,
            merge_method: None,
            intake: Intake::default(),
        }
    }

    #[test]
    fn only_clone_urls_of_the_forge_itself_are_its_repositories() {
        let forge = github(GITHUB_URL);
        for own in [
            "https://github.com/my-org/calc",
            "https://github.com/my-org/calc.git",
            "https://GitHub.com/my-org/calc/",
            "ssh://git@github.com/my-org/calc.git",
            "ssh://git@github.com:22/my-org/calc.git",
            "git@github.com:my-org/calc.git",
        ] {
            assert_eq!(forge.repository(own), RepoName::parse("my-org/calc"), "{own}");
        }
        for other in [
            "https://github.com.example.org/my-org/calc",
            "https://github.com:444/my-org/calc",
            "http://github.com/my-org/calc",
            "https://github.com/my-org",
            "https://github.com/my-org/calc/issues/1",
            "https://github.com/../calc",
            "https://github.com/my-org/..",
            "https://github.com/my-org/ca%2flc",
            "git@gitlab.com:my-org/calc.git",
            "/srv/github.com/my-org/calc",
        ] {
            assert_eq!(forge.repository(other), None, "{other}");
        }
        // A server below a path of its host.
        let below = |url| repository_at("https://example.org/code", url);
        for own in ["https://example.org/code/a/b.git", "ssh://git@example.org:2222/a/b", "git@example.org:a/b.git"] {
            assert_eq!(below(own), RepoName::parse("a/b"), "{own}");
        }
        for other in ["https://example.org/a/b", "https://example.org/codes/a/b", "https://example.org/code/b"] {
            assert_eq!(below(other), None, "{other}");
        }
        let local = github("http://127.0.0.1:4000");
        assert_eq!(local.repository("http://127.0.0.1:4000/a/b.git"), RepoName::parse("a/b"));
        assert_eq!(local.repository("http://127.0.0.1:4001/a/b.git"), None);
        assert_eq!(local.graphql_url(), "http://127.0.0.1:4000/api/graphql");
    }
}
