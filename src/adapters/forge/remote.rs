//! The ports of the forges on other machines, which differ only in the API below them.

/// Implements the ports `Forge` and `ForgeIssues` for a forge whose `api` returns the API of a repository, and whose
/// webhooks have this payload.
macro_rules! implement_ports {
    ($forge:ty, $payload:ty) => {
        const _: () = {
            use crate::domain::{
                ChangeNumber, ChangeRef, CiFailure, CommitCi, Observation, Sha, StatusState, Timestamp, WorkflowRun,
            };
            use crate::platform::git::{check_branch, check_sha};
            use crate::ports::forge::{ChangeText, DeploymentReport, Landing};
            use crate::ports::forge_issues::{
                Actor, IntakeRules, Issue, IssueAct, IssueComment, LabelledIssue, OwnIssue, WebhookEvent,
                WebhookRefusal,
            };
            use crate::ports::{Forge, ForgeIssues, PortResult, Repo};
            use async_trait::async_trait;
            use std::collections::BTreeSet;

            #[async_trait]
            impl Forge for $forge {
                async fn ensure_change(&self, repo: &Repo, text: ChangeText<'_>) -> PortResult<ChangeRef> {
                    check_branch(text.branch)?;
                    check_branch(text.base_branch)?;
                    check_sha(text.head)?;
                    self.api(repo)?.ensure_change(&text).await
                }

                async fn push_target(&self, repo: &Repo) -> PortResult<Repo> {
                    Ok(match self.fork_url(repo).await? {
                        Some(origin) => Repo { origin, ..repo.clone() },
                        None => repo.clone(),
                    })
                }

                async fn ensure_comment(
                    &self,
                    repo: &Repo,
                    change: ChangeNumber,
                    marker: &str,
                    text: &str,
                ) -> PortResult<()> {
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
                    change: ChangeNumber,
                    sha: &Sha,
                    context: &str,
                    state: StatusState,
                    text: &str,
                ) -> PortResult<()> {
                    check_sha(sha)?;
                    self.api(repo)?.set_status(change, sha, context, state, text).await
                }

                async fn report_deployment(&self, repo: &Repo, report: &DeploymentReport<'_>) -> PortResult<()> {
                    check_sha(report.sha)?;
                    self.api(repo)?.report_deployment(report).await
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

                async fn commit_ci(&self, repo: &Repo, sha: &Sha) -> PortResult<CommitCi> {
                    check_sha(sha)?;
                    self.api(repo)?.commit_ci(sha).await
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
            impl ForgeIssues for $forge {
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
                    self.webhooks.read::<$payload>(intake, secrets, header, body).await
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

                async fn comment(&self, repo: &Repo, number: u64, id: u64) -> PortResult<Option<IssueComment>> {
                    self.api(repo)?.comment_by_id(number, id).await
                }

                async fn list_labelled(&self, repo: &Repo, label: &str) -> PortResult<Vec<LabelledIssue>> {
                    self.api(repo)?.list_labelled(label).await
                }

                async fn comments_since(&self, repo: &Repo, since: Timestamp) -> PortResult<Vec<IssueComment>> {
                    self.api(repo)?.comments_since(since).await
                }

                async fn put_comment(
                    &self,
                    repo: &Repo,
                    number: ChangeNumber,
                    marker: &str,
                    text: &str,
                ) -> PortResult<()> {
                    self.api(repo)?.put_comment(number, marker, text).await
                }

                async fn put_issue(&self, repo: &Repo, marker: &str, title: &str, text: &str) -> PortResult<OwnIssue> {
                    self.api(repo)?.put_issue(marker, title, text).await
                }

                async fn close_issue(&self, repo: &Repo, number: u64) -> PortResult<()> {
                    self.api(repo)?.close_issue(number).await
                }
            }
        };
    };
}

pub(super) use implement_ports;
