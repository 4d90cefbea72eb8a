//! Forges: changes, reviews, comments, statuses, and a merge that is a compare-and-swap.
//!
//! Every writing call observes first: `ensure_*` may be repeated and has one result.

use super::forge_issues::ForgeIssues;
use super::workspace::Repo;
use super::{PortError, PortResult};
use crate::domain::{
    BatchProof, ChangeNumber, ChangeRef, ChangeState, CiFailure, CommitCi, ForgeName, Observation, Principal, Sha,
    StatusState, Timestamp, WorkflowRun,
};
use crate::secrets::Secret;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A change as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its number, from 1.
    pub number: ChangeNumber,
    /// Its title.
    pub title: String,
    /// Its description, Markdown.
    pub body: String,
    /// The source branch.
    pub branch: String,
    /// The head of the source branch when it was last pushed.
    pub head: Sha,
    /// The target branch.
    pub base_branch: String,
    /// Whether it is a draft.
    pub draft: bool,
    /// Its state.
    pub state: ChangeState,
    /// Who opened it.
    pub by: Principal,
    /// When.
    pub opened_at: Timestamp,
    /// Comments, oldest first.
    #[serde(default)]
    pub comments: Vec<Comment>,
    /// Reviews by people, oldest first.
    #[serde(default)]
    pub reviews: Vec<Review>,
    /// Statuses by commit and context.
    #[serde(default)]
    pub statuses: BTreeMap<Sha, BTreeMap<String, Status>>,
}

/// A comment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// Its id on the forge.
    pub id: u64,
    /// The author.
    pub by: Principal,
    /// When it was written.
    pub at: Timestamp,
    /// The text, Markdown.
    pub text: String,
    /// The hidden marker of the effect that wrote it; a person's comment has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
}

/// A person's review of exactly one head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// The reviewer.
    pub by: Principal,
    /// When it was submitted.
    pub at: Timestamp,
    /// The reviewed head.
    pub head: Sha,
    /// `true` = approved, `false` = changes requested.
    pub approved: bool,
    /// The reviewer's text.
    pub text: String,
}

/// A commit status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The state.
    pub state: StatusState,
    /// A line for people.
    pub text: String,
    /// Who set it.
    pub by: Principal,
}

/// Outcome of landing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landing {
    /// The commit is on the base branch (by this call or an earlier one).
    Landed(Sha),
    /// The change landed in a batch before, as this commit.
    LandedInBatch(Sha, Box<BatchProof>),
    /// Head or base is not the expected one; nothing was done.
    Stale(String),
}

/// A change of a batch.
#[derive(Clone, Debug)]
pub struct BatchMember {
    /// The change.
    pub change: ChangeNumber,
    /// The head that its run proved: its branch has to be there.
    pub head: Sha,
    /// The same patch on top of the changes before it: the commit that lands.
    pub commit: Sha,
}

/// A change to open or update.
#[derive(Clone, Debug)]
pub struct ChangeText<'a> {
    /// The branch's previous, closed change: only a later one counts. `None` = there is none.
    pub after: Option<ChangeNumber>,
    /// The source branch.
    pub branch: &'a str,
    /// The target branch.
    pub base_branch: &'a str,
    /// The expected head.
    pub head: &'a Sha,
    /// Whether it is a draft.
    pub draft: bool,
    /// Its title.
    pub title: &'a str,
    /// Its description.
    pub body: &'a str,
}

/// How far a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentStage {
    /// It has started.
    Started,
    /// The version is there, and fulfils every criterion.
    Succeeded,
    /// It is not.
    Failed,
}

/// What a forge shows of a deployment.
#[derive(Clone, Debug)]
pub struct DeploymentReport<'a> {
    /// Identifies the deployment: reports with the same key are about the same one.
    pub key: &'a str,
    /// The environment, which is the name of the target.
    pub environment: &'a str,
    /// The version.
    pub sha: &'a Sha,
    /// The branch that it is on.
    pub branch: &'a str,
    /// How far it is.
    pub stage: DeploymentStage,
    /// The address of what is deployed.
    pub url: Option<&'a str>,
    /// How far it is, in words.
    pub text: &'a str,
}

/// A forge as runs use it: Skep is the author of everything done here.
#[async_trait]
pub trait Forge: Send + Sync {
    /// Returns where the branches of runs are pushed to: the repository itself, or a fork, which exists then.
    async fn push_target(&self, repo: &Repo) -> PortResult<Repo> {
        Ok(repo.clone())
    }
    /// Opens the change of a branch, or updates the open one. One per branch.
    async fn ensure_change(&self, repo: &Repo, text: ChangeText<'_>) -> PortResult<ChangeRef>;
    /// Comments once: an existing comment with this marker is left unchanged.
    async fn ensure_comment(&self, repo: &Repo, change: ChangeNumber, marker: &str, text: &str) -> PortResult<()>;
    /// Answers once in a thread of a review: an answer with this marker is left unchanged, and a thread that is gone
    /// needs none. A forge without threads comments on the change.
    async fn ensure_reply(
        &self,
        repo: &Repo,
        change: ChangeNumber,
        _thread: u64,
        marker: &str,
        text: &str,
    ) -> PortResult<()> {
        self.ensure_comment(repo, change, marker, text).await
    }
    /// Sets a status of a commit.
    async fn set_status(
        &self,
        repo: &Repo,
        change: ChangeNumber,
        sha: &Sha,
        context: &str,
        state: StatusState,
        text: &str,
    ) -> PortResult<()>;
    /// Shows a deployment of a commit; one that is shown already is left unchanged. A forge that shows no deployments
    /// does nothing.
    async fn report_deployment(&self, _repo: &Repo, _report: &DeploymentReport<'_>) -> PortResult<()> {
        Ok(())
    }
    /// Returns what is known about failed checks of CI at a commit, each with its log if the forge has it, and whether
    /// they fail at the base as well.
    async fn inspect_ci(
        &self,
        repo: &Repo,
        change: ChangeNumber,
        head: &Sha,
        base: &Sha,
        checks: &[String],
    ) -> PortResult<Vec<CiFailure>>;
    /// Returns the results of CI at a commit of a branch; nothing on a forge without CI.
    async fn commit_ci(&self, _repo: &Repo, _sha: &Sha) -> PortResult<CommitCi> {
        Ok(CommitCi::default())
    }
    /// Starts the failed and cancelled jobs of these runs of workflows again. A run that was started again since the
    /// attempt named there is left unchanged.
    async fn rerun_ci(&self, repo: &Repo, runs: &BTreeSet<WorkflowRun>) -> PortResult<()>;
    /// Observes a change and its base branch, without the statuses set by Skep.
    async fn observe(&self, repo: &Repo, change: ChangeNumber) -> PortResult<Observation>;
    /// Lands exactly `head` on the base branch if the change is still at `head` and the base branch still at `base`.
    /// A head that is on the base branch already is `Landed`.
    async fn land(&self, repo: &Repo, change: ChangeNumber, head: &Sha, base: &Sha) -> PortResult<Landing>;
    /// Lands the changes of a batch, each on top of the one before it, in one step: all of them if every change is still
    /// at its head and the base branch still at the base of `proof`, else none. `Landed` = the base branch is at their
    /// last commit. Only the local forge can do this.
    async fn land_batch(&self, _repo: &Repo, _members: &[BatchMember], _proof: &BatchProof) -> PortResult<Landing> {
        Err(PortError::permanent("this forge lands one change at a time", "set `policy.landing_batch = 1`"))
    }
    /// Closes a change without merging it; a change that is closed or merged already is left unchanged.
    async fn close(&self, repo: &Repo, change: ChangeNumber) -> PortResult<()>;
}

/// Actions of people on a forge, through Skep. Only the local forge has them; on other forges people use the forge's
/// own pages.
#[async_trait]
pub trait HumanActions: Send + Sync {
    /// Returns the changes of a project, newest first, at most 200.
    async fn changes(&self, repo: &Repo) -> PortResult<Vec<Change>>;
    /// Returns one change.
    async fn change(&self, repo: &Repo, number: ChangeNumber) -> PortResult<Change>;
    /// Reviews a change at its current head.
    async fn review(
        &self,
        repo: &Repo,
        number: ChangeNumber,
        by: &Principal,
        approved: bool,
        text: &str,
    ) -> PortResult<Change>;
    /// Comments on a change.
    async fn comment(&self, repo: &Repo, number: ChangeNumber, by: &Principal, text: &str) -> PortResult<Change>;
    /// Merges a change as a person would: compare-and-swap on its current head, fast-forward only.
    async fn merge(&self, repo: &Repo, number: ChangeNumber, by: &Principal) -> PortResult<Change>;
    /// Closes a change.
    async fn close_by(&self, repo: &Repo, number: ChangeNumber, by: &Principal) -> PortResult<Change>;
    /// Sets a status of a commit, as a CI would.
    async fn report_status(
        &self,
        repo: &Repo,
        number: ChangeNumber,
        by: &Principal,
        sha: &Sha,
        context: &str,
        state: StatusState,
        text: &str,
    ) -> PortResult<Change>;
}

/// A repository with the forge that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedRepo {
    /// The forge.
    pub forge: ForgeName,
    /// The repository's address for git: a path or a URL.
    pub origin: String,
}

/// The forges by name. A project names its forge, and so does a run from its start on.
pub trait Forges: Send + Sync {
    /// Returns the forge that holds a repository, given as `OWNER/REPO` or as its clone URL. Paths, and URLs of hosts
    /// that belong to no configured forge, are held by the local forge.
    fn locate(&self, repo: &str) -> PortResult<LocatedRepo>;
    /// Returns a forge; an unknown name is a permanent error.
    fn get(&self, name: &ForgeName) -> PortResult<Arc<dyn Forge>>;
    /// Returns what people can do on a forge through Skep; a forge with pages of its own is a permanent error.
    fn human_actions(&self, name: &ForgeName) -> PortResult<Arc<dyn HumanActions>>;
    /// Returns the issues of a forge; a forge without issues is a permanent error.
    fn issues(&self, name: &ForgeName) -> PortResult<Arc<dyn ForgeIssues>>;
    /// Returns the names of the forges that have issues.
    fn with_issues(&self) -> Vec<ForgeName>;
}

/// A credential for git over http.
#[derive(Clone, Debug)]
pub struct GitCredential {
    /// The user name.
    pub username: String,
    /// The password or token.
    pub password: Secret,
}

/// The credentials of the configured forges, for git.
#[async_trait]
pub trait GitCredentials: Send + Sync + std::fmt::Debug {
    /// Returns the credential for a repository's URL; `None` = its host belongs to no configured forge.
    async fn credential(&self, url: &str) -> PortResult<Option<GitCredential>>;
}
