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
use super::once::WriteOnce;
use super::settings::{GitHub, RepoName};
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

#[async_trait]
impl Forge for GitHubForge {
    async fn ensure_change(&self, repo: &Repo, text: ChangeText<'_>) -> PortResult<ChangeRef> {
        check_branch(text.branch)?;
        check_branch(text.base_branch)?;
        check_sha(text.head)?;
        self.api(repo)?.ensure_change(&text).await
    }

    async fn ensure_comment(&self, repo: &Repo, change: ChangeNumber, marker: &str, text: &str) -> PortResult<()> {
        self.api(repo)?.ensure_comment(change, marker, text).await
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
        self.api(repo)?.rerun_ci(runs).await
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
impl ForgeIssues for GitHubForge {
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
        self.webhooks.read::<GitHubPayload>(intake, secrets, header, body).await
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
