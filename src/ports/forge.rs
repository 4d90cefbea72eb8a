//! Where people and code are: changes, reviews, comments, statuses, and a merge that is a compare-and-swap.
//!
//! Every writing call looks first: `ensure_*` may be repeated and gives one result.

use super::PortResult;
use super::workspace::Repo;
use crate::domain::Timestamp;
use crate::domain::{ChangeNumber, ChangeRef, ChangeState, Observation, Principal, Sha, StatusState};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A change as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its number, from 1.
    pub number: ChangeNumber,
    /// Its title.
    pub title: String,
    /// Its text, Markdown.
    pub body: String,
    /// The branch it offers.
    pub branch: String,
    /// The head of that branch when it was last pushed.
    pub head: Sha,
    /// The branch it goes to.
    pub base_branch: String,
    /// Whether it is a draft.
    pub draft: bool,
    /// Its state.
    pub state: ChangeState,
    /// Who opened it.
    pub by: Principal,
    /// When.
    pub opened_at: Timestamp,
    /// What was said, oldest first.
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
    /// Who.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
    /// The text, Markdown.
    pub text: String,
    /// The hidden marker of the effect that wrote it; a person's has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
}

/// A person's review of exactly one head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Who.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
    /// The head reviewed.
    pub head: Sha,
    /// Approved, or changes wanted.
    pub approved: bool,
    /// What was said.
    pub text: String,
}

/// A status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The state.
    pub state: StatusState,
    /// A line for people.
    pub text: String,
    /// Who set it.
    pub by: Principal,
}

/// What landing came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landing {
    /// It is on the base branch (by this call or an earlier one).
    Landed(Sha),
    /// The head or the base is not the one expected; nothing was done.
    Stale(String),
}

/// The text of a change to open or bring up to date.
#[derive(Clone, Debug)]
pub struct ChangeText<'a> {
    /// The change of this branch that is over: only a later one counts. `None` = none is.
    pub after: Option<ChangeNumber>,
    /// The branch it offers.
    pub branch: &'a str,
    /// The branch it goes to.
    pub base_branch: &'a str,
    /// The head it must show.
    pub head: &'a Sha,
    /// Whether it is a draft.
    pub draft: bool,
    /// Its title.
    pub title: &'a str,
    /// Its text.
    pub body: &'a str,
}

/// A forge, seen by a run. The run's side: everything is done as Skep.
#[async_trait]
pub trait Forge: Send + Sync {
    /// Opens the change for a branch, or brings the open one up to date. One per branch.
    async fn ensure_change(&self, repo: &Repo, text: ChangeText<'_>) -> PortResult<ChangeRef>;
    /// Says something once: a comment with this marker that is there already is left alone.
    async fn ensure_comment(&self, repo: &Repo, change: ChangeNumber, marker: &str, text: &str) -> PortResult<()>;
    /// Sets a status.
    async fn set_status(
        &self,
        repo: &Repo,
        change: ChangeNumber,
        sha: &Sha,
        context: &str,
        state: StatusState,
        text: &str,
    ) -> PortResult<()>;
    /// Looks at a change and its base branch. Statuses set by Skep are left out.
    async fn observe(&self, repo: &Repo, change: ChangeNumber) -> PortResult<Observation>;
    /// Puts exactly `head` on the base branch if the change still shows `head` and the base branch still is at `base`.
    /// Looks first: a head that is on the base branch already is `Landed`.
    async fn land(&self, repo: &Repo, change: ChangeNumber, head: &Sha, base: &Sha) -> PortResult<Landing>;
    /// Closes a change without merging; closed or merged already is fine.
    async fn close(&self, repo: &Repo, change: ChangeNumber) -> PortResult<()>;
}

/// A forge, seen by a person through Skep (the local forge only: elsewhere people use the forge's own pages).
#[async_trait]
pub trait HumanActions: Send + Sync {
    /// All changes of a project, newest first, at most 200.
    async fn changes(&self, repo: &Repo) -> PortResult<Vec<Change>>;
    /// One change.
    async fn change(&self, repo: &Repo, number: ChangeNumber) -> PortResult<Change>;
    /// Reviews it at its present head.
    async fn review(
        &self,
        repo: &Repo,
        number: ChangeNumber,
        by: &Principal,
        approved: bool,
        text: &str,
    ) -> PortResult<Change>;
    /// Says something on it.
    async fn say(&self, repo: &Repo, number: ChangeNumber, by: &Principal, text: &str) -> PortResult<Change>;
    /// Merges it as a person would: compare-and-swap on its present head, fast-forward only.
    async fn merge(&self, repo: &Repo, number: ChangeNumber, by: &Principal) -> PortResult<Change>;
    /// Closes it.
    async fn close_by(&self, repo: &Repo, number: ChangeNumber, by: &Principal) -> PortResult<Change>;
    /// Sets a status, as a CI would.
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
