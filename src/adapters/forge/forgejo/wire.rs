//! The parts of the forge's answers that Skep reads. Anything else may be missing or change.

use serde::Deserialize;

/// A user. The forge's own have no positive id: deleted accounts and its Actions.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct User {
    pub id: i64,
    pub login: String,
}

/// A branch of a pull request.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PullBranch {
    /// The name of the branch.
    #[serde(default)]
    pub label: String,
    /// The same, or `refs/pull/N/head` once the branch is deleted.
    #[serde(rename = "ref")]
    pub name: String,
    pub sha: String,
    /// `None` = its fork was deleted.
    #[serde(default)]
    pub repo: Option<NamedRepo>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct NamedRepo {
    pub full_name: String,
}

/// A pull request.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pull {
    pub number: u64,
    pub html_url: String,
    pub state: String,
    #[serde(default)]
    pub merged: bool,
    #[serde(default)]
    pub merged_by: Option<User>,
    #[serde(default)]
    pub merge_commit_sha: Option<String>,
    pub title: String,
    #[serde(default)]
    pub body: Option<String>,
    pub user: Option<User>,
    pub head: PullBranch,
    pub base: PullBranch,
}

/// A comment on an issue or a pull request.
#[derive(Debug, Deserialize)]
pub(super) struct IssueComment {
    pub id: u64,
    pub user: Option<User>,
    #[serde(default)]
    pub body: Option<String>,
}

/// An issue or a pull request.
#[derive(Debug, Deserialize)]
pub(super) struct IssueAnswer {
    pub number: u64,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub body: Option<String>,
    pub html_url: String,
    pub state: String,
    #[serde(default)]
    pub labels: Option<Vec<Label>>,
    #[serde(default)]
    pub pull_request: Option<serde::de::IgnoredAny>,
    pub updated_at: String,
    #[serde(default)]
    pub user: Option<User>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Label {
    pub name: String,
}

/// A comment in the list of a repository. One of the two addresses is empty.
#[derive(Debug, Deserialize)]
pub(super) struct RepoComment {
    pub id: u64,
    pub user: Option<User>,
    #[serde(default)]
    pub body: Option<String>,
    #[serde(default)]
    pub issue_url: String,
    #[serde(default)]
    pub pull_request_url: String,
    pub created_at: String,
    pub updated_at: String,
}

/// An event in the history of an issue or a pull request.
#[derive(Debug, Deserialize)]
pub(super) struct TimelineEvent {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub user: Option<User>,
    #[serde(default)]
    pub body: Option<String>,
    #[serde(default)]
    pub label: Option<Label>,
    #[serde(default)]
    pub created_at: String,
}

/// A review of a pull request.
#[derive(Debug, Deserialize)]
pub(super) struct PullReview {
    pub id: u64,
    /// `None` = it was asked of a team.
    pub user: Option<User>,
    pub state: String,
    #[serde(default)]
    pub body: Option<String>,
    #[serde(default)]
    pub commit_id: Option<String>,
    #[serde(default)]
    pub dismissed: bool,
    #[serde(default)]
    pub comments_count: u64,
}

/// A comment of a review on a line of a file.
#[derive(Debug, Deserialize)]
pub(super) struct ReviewComment {
    pub id: u64,
    pub user: Option<User>,
    pub path: String,
    /// The line in the new file; 0 = it is one of the old file.
    #[serde(default)]
    pub position: u64,
    /// The line in the old file; 0 = it is one of the new file.
    #[serde(default)]
    pub original_position: u64,
    #[serde(default)]
    pub body: Option<String>,
}

/// A commit status.
#[derive(Debug, Deserialize)]
pub(super) struct CommitStatus {
    pub id: u64,
    #[serde(rename = "status")]
    pub state: String,
    pub context: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub target_url: Option<String>,
}

/// A branch, with the part of its protection that every reader sees.
#[derive(Debug, Deserialize)]
pub(super) struct Branch {
    pub commit: BranchCommit,
    #[serde(default)]
    pub protected: bool,
    #[serde(default)]
    pub user_can_merge: bool,
    #[serde(default)]
    pub enable_status_check: bool,
    /// Names of statuses, or patterns.
    #[serde(default)]
    pub status_check_contexts: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BranchCommit {
    pub id: String,
}

/// A repository.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Repository {
    pub full_name: String,
    pub archived: bool,
    pub has_pull_requests: Option<bool>,
    pub default_branch: Option<String>,
    pub permissions: Option<Permissions>,
    pub allow_merge_commits: Option<bool>,
    pub allow_squash_merge: Option<bool>,
    pub allow_rebase: Option<bool>,
    pub allow_rebase_explicit: Option<bool>,
    pub allow_fast_forward_only_merge: Option<bool>,
}

/// What the token's account may do in a repository.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Permissions {
    pub admin: bool,
    pub push: bool,
}

/// A person's permission in a repository.
#[derive(Debug, Deserialize)]
pub(super) struct Permission {
    pub permission: String,
}

/// A page of runs of workflows.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ActionRuns {
    pub workflow_runs: Vec<ActionRun>,
}

/// A run of a workflow. Pages show the number that counts within the repository.
#[derive(Debug, Deserialize)]
pub(super) struct ActionRun {
    pub id: u64,
    #[serde(default, alias = "run_number")]
    pub index_in_repo: u64,
}

/// The jobs of a run: a list of Forgejo, or an object of Gitea.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Jobs {
    List(Vec<Job>),
    Object { jobs: Vec<Job> },
}

#[derive(Debug, Deserialize)]
pub(super) struct Job {
    pub id: u64,
}
