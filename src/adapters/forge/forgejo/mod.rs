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
mod credentials;
mod error;
mod issues;
mod land;
mod observe;
mod review;
mod self_test;
mod transport;
mod webhook;
mod wire;

use super::client::{Client, Dialect, http_client};
use super::once::WriteOnce;
use super::settings::{Forgejo, RepoName};
use super::unsure::UnsureWrites;
use super::webhook::Webhooks;
use crate::domain::{
    ChangeNumber, ChangeRef, CiFailure, ForgeName, Observation, Sha, StatusState, Timestamp, WorkflowRun,
};
use crate::platform::git::{check_branch, check_sha};
use crate::ports::forge::{ChangeText, Landing};
use crate::ports::forge_issues::{
    Actor, ForgeIssues, IntakeRules, Issue, IssueAct, IssueComment, LabelledIssue, OwnIssue, WebhookEvent,
    WebhookRefusal,
};
use crate::ports::{Forge, GitCredential, GitCredentials, PortError, PortResult, Repo, Vault};
use api::{Account, Api};
use async_trait::async_trait;
use credentials::Credentials;
pub use self_test::test;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::OnceCell;
use transport::Plain;
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
        let credentials = Credentials::new(name.clone(), &settings, vault);
        let webhooks = Webhooks::new(name.clone(), webhook::FORMAT);
        let (account, unsure_writes) = (OnceCell::new(), UnsureWrites::default());
        Ok(ForgejoForge { name, settings, client, credentials, account, unsure_writes, webhooks })
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

#[async_trait]
impl Forge for ForgejoForge {
    async fn ensure_change(&self, repo: &Repo, text: ChangeText<'_>) -> PortResult<ChangeRef> {
        check_branch(text.branch)?;
        check_branch(text.base_branch)?;
        check_sha(text.head)?;
        self.api(repo)?.ensure_change(&text).await
    }

    async fn ensure_comment(&self, repo: &Repo, change: ChangeNumber, marker: &str, text: &str) -> PortResult<()> {
        self.api(repo)?.ensure_comment(change, marker, text).await
    }

    async fn ensure_reply(
        &self,
        repo: &Repo,
        change: ChangeNumber,
        thread: u64,
        marker: &str,
        text: &str,
    ) -> PortResult<()> {
        self.api(repo)?.ensure_reply(change, thread, marker, text).await
    }

    async fn set_status(
        &self,
        repo: &Repo,
        _change: ChangeNumber,
        sha: &Sha,
        context: &str,
        state: StatusState,
        text: &str,
    ) -> PortResult<()> {
        check_sha(sha)?;
        self.api(repo)?.set_status(sha, context, state, text).await
    }

    async fn inspect_ci(
        &self,
        repo: &Repo,
        _change: ChangeNumber,
        head: &Sha,
        base: &Sha,
        checks: &[String],
    ) -> PortResult<Vec<CiFailure>> {
        check_sha(head)?;
        check_sha(base)?;
        self.api(repo)?.inspect_ci(head, base, checks).await
    }

    async fn rerun_ci(&self, repo: &Repo, runs: &BTreeSet<WorkflowRun>) -> PortResult<()> {
        match runs.is_empty() {
            true => Ok(()),
            false => Err(PortError::permanent(
                format!("cannot run jobs again in {}: {} has no API for it", repo.origin, self.settings.software),
                "run the failed jobs again on the forge's page",
            )),
        }
    }

    async fn observe(&self, repo: &Repo, change: ChangeNumber) -> PortResult<Observation> {
        self.api(repo)?.observe(change).await
    }

    async fn land(&self, repo: &Repo, change: ChangeNumber, head: &Sha, base: &Sha) -> PortResult<Landing> {
        check_sha(head)?;
        check_sha(base)?;
        self.api(repo)?.land(change, head, base).await
    }

    async fn close(&self, repo: &Repo, change: ChangeNumber) -> PortResult<()> {
        self.api(repo)?.close(change).await
    }
}

#[async_trait]
impl ForgeIssues for ForgejoForge {
    fn rules(&self) -> IntakeRules {
        self.settings.intake.rules()
    }

    fn repository_name(&self, repo: &Repo) -> Option<String> {
        self.settings.repository(&repo.origin).map(|name| name.to_string().to_ascii_lowercase())
    }

    async fn read_webhook(
        &self,
        header: &(dyn for<'a> Fn(&'a str) -> Option<String> + Send + Sync),
        body: &[u8],
    ) -> Result<WebhookEvent, WebhookRefusal> {
        let (intake, secrets) = (&self.settings.intake, &self.credentials.secrets);
        self.webhooks.read::<ForgejoPayload>(intake, secrets, header, body).await
    }

    async fn may_write(&self, repo: &Repo, actor: &Actor) -> PortResult<bool> {
        self.api(repo)?.actor_may_write(actor).await
    }

    async fn issue(&self, repo: &Repo, number: u64) -> PortResult<Option<Issue>> {
        self.api(repo)?.issue(number).await
    }

    async fn labelled(&self, repo: &Repo, issue: &Issue, label: &str) -> PortResult<Option<IssueAct>> {
        self.api(repo)?.labelled(issue, label).await
    }

    async fn edited(&self, repo: &Repo, issue: &Issue, since: Timestamp) -> PortResult<Vec<IssueAct>> {
        self.api(repo)?.edited(issue, since).await
    }

    async fn comment(&self, repo: &Repo, id: u64) -> PortResult<Option<IssueComment>> {
        self.api(repo)?.comment_by_id(id).await
    }

    async fn list_labelled(&self, repo: &Repo, label: &str) -> PortResult<Vec<LabelledIssue>> {
        self.api(repo)?.list_labelled(label).await
    }

    async fn comments_since(&self, repo: &Repo, since: Timestamp) -> PortResult<Vec<IssueComment>> {
        self.api(repo)?.comments_since(since).await
    }

    async fn put_comment(&self, repo: &Repo, number: ChangeNumber, marker: &str, text: &str) -> PortResult<()> {
        self.api(repo)?.put_comment(number, marker, text).await
    }

    async fn put_issue(&self, repo: &Repo, marker: &str, title: &str, text: &str) -> PortResult<OwnIssue> {
        self.api(repo)?.put_issue(marker, title, text).await
    }

    async fn close_issue(&self, repo: &Repo, number: u64) -> PortResult<()> {
        self.api(repo)?.close_issue(number).await
    }
}
