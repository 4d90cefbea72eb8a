//! GitHub and GitHub Enterprise Server: changes are pull requests.
//!
//! Every writing call observes first. The answer to one that was sent may be lost, or GitHub's lists may be some seconds
//! old: what Skep writes carries a hidden marker, and GitHub itself refuses a second pull request of a branch.
//!
//! Invariant: a redirect is never followed with the token, which it would carry elsewhere.

mod api;
mod change;
mod ci;
mod credentials;
mod deployment;
mod error;
mod issues;
mod jwt;
mod land;
mod observe;
mod review;
mod self_test;
mod status;
mod transport;
mod webhook;
mod wire;

use super::client::{Client, Dialect, http_client, unusable};
use super::fork::Forks as _;
use super::once::WriteOnce as _;
use super::remote::implement_ports;
use super::settings::{GitHub, RepoName};
use super::unsure::UnsureWrites;
use super::webhook::Webhooks;
use crate::domain::ForgeName;
use crate::ports::{GitCredential, GitCredentials, PortError, PortResult, Repo, Vault};
use api::{Account, Api};
use async_trait::async_trait;
use credentials::Credentials;
pub use self_test::test;
use std::sync::Arc;
use tokio::sync::OnceCell;
use transport::Crab;
use webhook::GitHubPayload;

/// User name that goes with every kind of token in git over https.
const GIT_USER: &str = "x-access-token";

/// A GitHub forge.
pub struct GitHubForge {
    name: ForgeName,
    settings: GitHub,
    client: Client,
    credentials: Credentials,
    /// The account that Skep acts as.
    account: OnceCell<Account>,
    unsure_writes: UnsureWrites,
    webhooks: Webhooks,
}

impl std::fmt::Debug for GitHubForge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitHubForge").field("name", &self.name).finish_non_exhaustive()
    }
}

impl GitHubForge {
    /// Creates the forge. It needs a Tokio runtime, and sends nothing yet.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(name: ForgeName, settings: GitHub, vault: Option<Arc<dyn Vault>>) -> PortResult<GitHubForge> {
        // Only a forge on this machine has a plain URL; no proxy can reach it.
        let http = http_client(settings.api_url.starts_with("http:"))?;
        let crab = octocrab::Octocrab::builder().build_with_reqwest(http).map_err(|e| unusable(&e))?;
        let dialect = Dialect { kind: "github", accept: "application/vnd.github+json", scheme: "Bearer" };
        let client = Client::new(Box::new(Crab(crab)), dialect);
        let credentials = Credentials::new(name.clone(), settings.clone(), vault);
        let webhooks = Webhooks::new(name.clone(), webhook::FORMAT);
        Ok(GitHubForge {
            name,
            settings,
            client,
            credentials,
            account: OnceCell::new(),
            unsure_writes: UnsureWrites::default(),
            webhooks,
        })
    }

    /// Returns the clone URL of the fork that a repository's runs push to, if they do.
    async fn fork_url(&self, repo: &Repo) -> PortResult<Option<String>> {
        let fork = self.api(repo)?.ensure_fork().await?;
        Ok(fork.map(|fork| format!("{}/{fork}.git", self.settings.url)))
    }

    fn api(&self, repo: &Repo) -> PortResult<Api<'_>> {
        let name = self.settings.repository(&repo.origin).ok_or_else(|| {
            PortError::permanent(
                format!("{:?} is not a repository of the forge {}, {}", repo.origin, self.name, self.settings.url),
                "give the project its clone URL on that forge",
            )
        })?;
        Ok(self.api_of(name))
    }

    fn api_of(&self, repo: RepoName) -> Api<'_> {
        Api { forge: self, repo }
    }
}

#[async_trait]
impl GitCredentials for GitHubForge {
    async fn credential(&self, url: &str) -> PortResult<Option<GitCredential>> {
        let Some(repo) = self.settings.repository(url) else { return Ok(None) };
        let password = self.credentials.token(&self.client, &repo).await?;
        Ok(Some(GitCredential { username: GIT_USER.to_owned(), password }))
    }
}

implement_ports!(GitHubForge, GitHubPayload);
