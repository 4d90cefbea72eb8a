//! GitLab, the public one or a server of one's own, from version 17.0 on: changes are merge requests.
//!
//! Every writing call observes first. The answer to one that was sent may be lost: what Skep writes carries a hidden
//! marker, and GitLab itself refuses a second merge request of a branch.
//!
//! GitLab numbers merge requests apart from issues. Where one number must say which of the two is meant, it is a
//! [`Topic`]'s key.
//!
//! The API is spoken over the HTTP client that is here already. The crate `gitlab` brings a client of its own and the
//! whole of GraphQL, and would follow redirects and read answers of any size.
//!
//! Invariant: a redirect is never followed with the token, which it would carry elsewhere.

mod api;
mod change;
mod ci;
mod deployment;
mod error;
mod issues;
mod land;
mod observe;
mod quick_actions;
mod review;
mod self_test;
mod trace;
mod webhook;
mod wire;

use super::client::{Client, Dialect, http_client};
use super::once::WriteOnce as _;
use super::plain::Plain;
use super::remote::implement_ports;
use super::settings::{GitLab, RepoName};
use super::token::Credentials;
use super::unsure::UnsureWrites;
use super::webhook::Webhooks;
use crate::domain::ForgeName;
use crate::ports::{GitCredential, GitCredentials, PortError, PortResult, Repo, Vault};
use api::{Account, Api};
use async_trait::async_trait;
pub use self_test::test;
use std::fmt;
use std::sync::Arc;
use tokio::sync::OnceCell;
use webhook::GitLabPayload;

/// User name that goes with every kind of token in git over https.
const GIT_USER: &str = "oauth2";

/// A GitLab forge.
pub struct GitLabForge {
    name: ForgeName,
    settings: GitLab,
    client: Client,
    credentials: Credentials,
    /// The account that Skep acts as.
    account: OnceCell<Account>,
    unsure_writes: UnsureWrites,
    webhooks: Webhooks,
}

impl fmt::Debug for GitLabForge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitLabForge").field("name", &self.name).finish_non_exhaustive()
    }
}

impl GitLabForge {
    /// Creates the forge. It needs a Tokio runtime, and sends nothing yet.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(name: ForgeName, settings: GitLab, vault: Option<Arc<dyn Vault>>) -> PortResult<GitLabForge> {
        // Only a forge on this machine has a plain URL; no proxy can reach it.
        let http = http_client(settings.url.starts_with("http:"))?;
        let dialect = Dialect { kind: "gitlab", accept: "application/json", scheme: "Bearer" };
        let client = Client::new(Box::new(Plain(http)), dialect);
        let credentials = Credentials::new(name.clone(), &settings.url, settings.token.clone(), vault);
        let webhooks = Webhooks::new(name.clone(), webhook::FORMAT);
        let (account, unsure_writes) = (OnceCell::new(), UnsureWrites::default());
        Ok(GitLabForge { name, settings, client, credentials, account, unsure_writes, webhooks })
    }

    /// Forks are not used here.
    #[expect(clippy::unused_async, reason = "the ports of all forges are implemented alike")]
    async fn fork_url(&self, _repo: &Repo) -> PortResult<Option<String>> {
        Ok(None)
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
impl GitCredentials for GitLabForge {
    async fn credential(&self, url: &str) -> PortResult<Option<GitCredential>> {
        if self.settings.repository(url).is_none() {
            return Ok(None);
        }
        let password = self.credentials.token().await?;
        Ok(Some(GitCredential { username: GIT_USER.to_owned(), password }))
    }
}

implement_ports!(GitLabForge, GitLabPayload);

/// What can be labelled and commented on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    /// An issue, by its number in the project.
    Issue(u64),
    /// A merge request, by its number in the project.
    MergeRequest(u64),
}

impl Topic {
    /// What the key of a merge request has more than its number. GitLab's numbers have 31 bits.
    const MERGE_REQUESTS: u64 = 1 << 32;

    /// Returns the topic with a key.
    fn of(key: u64) -> Topic {
        match key.checked_sub(Topic::MERGE_REQUESTS) {
            Some(number) => Topic::MergeRequest(number),
            None => Topic::Issue(key),
        }
    }

    /// Returns its key: the number of an issue is its own.
    fn key(self) -> u64 {
        match self {
            Topic::Issue(number) => number,
            Topic::MergeRequest(number) => Topic::MERGE_REQUESTS + number,
        }
    }

    /// Returns its path below the project.
    fn path(self) -> String {
        match self {
            Topic::Issue(number) => format!("/issues/{number}"),
            Topic::MergeRequest(number) => format!("/merge_requests/{number}"),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topic::Issue(number) => write!(f, "issue {number}"),
            Topic::MergeRequest(number) => write!(f, "merge request {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Topic;

    #[test]
    fn the_key_of_a_topic_says_which_one_it_is() {
        for topic in [Topic::Issue(7), Topic::MergeRequest(7), Topic::MergeRequest(0)] {
            assert_eq!(Topic::of(topic.key()), topic);
        }
        assert_eq!(Topic::Issue(7).key(), 7);
    }
}
