//! Forgejo and Gitea, from version 1.20 on: changes are pull requests.
//!
//! Every writing call observes first. The answer to one that was sent may be lost: what Skep writes carries a hidden
//! marker, and the forge itself refuses a second pull request of a branch.
//!
//! The API is spoken over the HTTP client that is here already. The crate `forgejo-api` would follow redirects, read
//! answers of any size, and lose the header that says when to retry; Skep also needs only a few of its fields.
//!
//! Invariant: a redirect is never followed with the token, which it would carry elsewhere.

mod api;
mod change;
mod ci;
mod error;
mod issues;
mod land;
mod observe;
mod review;
mod self_test;
mod webhook;
mod wire;

use super::client::{Client, Dialect, http_client};
use super::fork::Forks as _;
use super::once::WriteOnce as _;
use super::plain::Plain;
use super::remote::implement_ports;
use super::settings::{Forgejo, RepoName};
use super::token::Credentials;
use super::unsure::UnsureWrites;
use super::webhook::Webhooks;
use crate::domain::ForgeName;
use crate::ports::{GitCredential, GitCredentials, PortError, PortResult, Repo, Vault};
use api::{Account, Api};
use async_trait::async_trait;
pub use self_test::test;
use std::sync::Arc;
use tokio::sync::OnceCell;
use webhook::ForgejoPayload;

/// A Forgejo or Gitea forge.
pub struct ForgejoForge {
    name: ForgeName,
    settings: Forgejo,
    client: Client,
    credentials: Credentials,
    /// The account that Skep acts as.
    account: OnceCell<Account>,
    unsure_writes: UnsureWrites,
    webhooks: Webhooks,
}

impl std::fmt::Debug for ForgejoForge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForgejoForge").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ForgejoForge {
    /// Creates the forge. It needs a Tokio runtime, and sends nothing yet.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(name: ForgeName, settings: Forgejo, vault: Option<Arc<dyn Vault>>) -> PortResult<ForgejoForge> {
        // Only a forge on this machine has a plain URL; no proxy can reach it.
        let http = http_client(settings.url.starts_with("http:"))?;
        let client = Client::new(
            Box::new(Plain(http)),
            Dialect { kind: "forgejo", accept: "application/json", scheme: "token" },
        );
        let credentials = Credentials::new(name.clone(), &settings.url, settings.token.clone(), vault);
        let webhooks = Webhooks::new(name.clone(), webhook::FORMAT);
        let (account, unsure_writes) = (OnceCell::new(), UnsureWrites::default());
        Ok(ForgejoForge { name, settings, client, credentials, account, unsure_writes, webhooks })
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
impl GitCredentials for ForgejoForge {
    async fn credential(&self, url: &str) -> PortResult<Option<GitCredential>> {
        let Some(repo) = self.settings.repository(url) else { return Ok(None) };
        let username = self.api_of(repo).account().await?.login.clone();
        let password = self.credentials.token().await?;
        Ok(Some(GitCredential { username, password }))
    }
}

implement_ports!(ForgejoForge, ForgejoPayload);
