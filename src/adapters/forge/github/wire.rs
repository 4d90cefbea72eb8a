//! The parts of GitHub's answers that Skep reads. Anything else may be missing or change.

use serde::Deserialize;

/// A user, an organization or an App's bot.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct User {
    pub login: String,
    #[serde(rename = "type", default)]
    pub kind: String,
}

/// A branch of a pull request.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PullBranch {
    #[serde(rename = "ref")]
    pub name: String,
    pub sha: String,
    /// `None` = its fork was deleted.
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
    #[serde(default)]
    pub node_id: String,
    pub html_url: String,
    pub state: String,
    #[serde(default)]
    pub draft: bool,
    #[serde(default)]
    pub merged_at: Option<String>,
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

/// An issue, or a pull request as one.
#[derive(Debug, Deserialize)]
pub(super) struct Issue {
    #[serde(default)]
    pub closed_by: Option<User>,
}

/// A comment on an issue or a pull request.
#[derive(Debug, Deserialize)]
pub(super) struct IssueComment {
    pub id: u64,
    pub user: Option<User>,
    #[serde(default)]
    pub body: Option<String>,
}

/// A review of a pull request.
#[derive(Debug, Deserialize)]
pub(super) struct PullReview {
    pub id: u64,
    pub user: Option<User>,
    pub state: String,
    #[serde(default)]
    pub body: Option<String>,
    #[serde(default)]
    pub commit_id: Option<String>,
}

/// A comment of a review on a line of a file.
#[derive(Debug, Deserialize)]
pub(super) struct ReviewComment {
    pub id: u64,
    pub user: Option<User>,
    pub path: String,
    /// `None` = the line is no longer part of the diff, or the comment is about the file.
    #[serde(default)]
    pub line: Option<u64>,
    #[serde(default)]
    pub original_line: Option<u64>,
    #[serde(default)]
    pub body: Option<String>,
    #[serde(default)]
    pub pull_request_review_id: Option<u64>,
    /// The first comment of its thread; `None` = it is the first one.
    #[serde(default)]
    pub in_reply_to_id: Option<u64>,
}

/// A commit status.
#[derive(Debug, Deserialize)]
pub(super) struct CommitStatus {
    pub id: u64,
    pub state: String,
    pub context: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub target_url: Option<String>,
}

/// A page of check runs.
#[derive(Debug, Deserialize)]
pub(super) struct CheckRuns {
    pub check_runs: Vec<CheckRun>,
}

/// A check run. That of a job of GitHub Actions has the id of the job.
#[derive(Debug, Deserialize)]
pub(super) struct CheckRun {
    pub id: u64,
    pub name: String,
    pub status: String,
    #[serde(default)]
    pub conclusion: Option<String>,
    #[serde(default)]
    pub app: Option<App>,
    #[serde(default)]
    pub html_url: Option<String>,
    #[serde(default)]
    pub output: CheckOutput,
}

/// What a check run shows.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CheckOutput {
    pub title: Option<String>,
    pub summary: Option<String>,
    pub annotations_count: u64,
}

/// A message of a check run about a line of a file.
#[derive(Debug, Deserialize)]
pub(super) struct Annotation {
    pub path: String,
    #[serde(default)]
    pub start_line: u64,
    #[serde(default)]
    pub annotation_level: Option<String>,
    #[serde(default)]
    pub message: Option<String>,
}

/// A job of GitHub Actions.
#[derive(Debug, Deserialize)]
pub(super) struct Job {
    pub run_id: u64,
    #[serde(default)]
    pub run_attempt: u64,
    #[serde(default)]
    pub steps: Vec<JobStep>,
}

#[derive(Debug, Deserialize)]
pub(super) struct JobStep {
    pub name: String,
    #[serde(default)]
    pub conclusion: Option<String>,
}

/// A run of a workflow of GitHub Actions.
#[derive(Debug, Deserialize)]
pub(super) struct ActionsRun {
    pub workflow_id: u64,
    pub run_attempt: u64,
    pub status: String,
}

/// A branch, with the part of its protection that every reader sees.
#[derive(Debug, Deserialize)]
pub(super) struct Branch {
    #[serde(default)]
    pub protection: Protection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Protection {
    pub required_status_checks: Option<RequiredChecks>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RequiredChecks {
    pub enforcement_level: String,
    pub contexts: Vec<String>,
}

/// A rule of a ruleset that is active for a branch.
#[derive(Debug, Deserialize)]
pub(super) struct BranchRule {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub parameters: Option<RuleParameters>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RuleParameters {
    pub required_status_checks: Vec<RequiredCheck>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RequiredCheck {
    pub context: String,
}

/// A git reference.
#[derive(Debug, Deserialize)]
pub(super) struct GitRef {
    pub object: GitObject,
}

#[derive(Debug, Deserialize)]
pub(super) struct GitObject {
    pub sha: String,
}

/// A repository.
#[derive(Debug, Deserialize)]
pub(super) struct Repository {
    pub full_name: String,
    #[serde(default)]
    pub archived: bool,
    #[serde(default)]
    pub allow_merge_commit: Option<bool>,
    #[serde(default)]
    pub allow_squash_merge: Option<bool>,
    #[serde(default)]
    pub allow_rebase_merge: Option<bool>,
    #[serde(default)]
    pub default_branch: Option<String>,
}

/// A person's permission in a repository.
#[derive(Debug, Deserialize)]
pub(super) struct Permission {
    pub permission: String,
}

/// The answer to a merge.
#[derive(Debug, Deserialize)]
pub(super) struct Merged {
    pub sha: String,
}

/// The answer of the GraphQL API, apart from its data.
#[derive(Debug, Default, Deserialize)]
pub(super) struct GraphQl {
    #[serde(default)]
    pub errors: Vec<GraphQlError>,
}

#[derive(Debug, Deserialize)]
pub(super) struct GraphQlError {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub message: String,
}

/// An installation of an App.
#[derive(Debug, Deserialize)]
pub(super) struct Installation {
    pub id: u64,
    #[serde(default)]
    pub permissions: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub suspended_at: Option<String>,
}

/// An installation token.
#[derive(Deserialize)]
pub(super) struct InstallationToken {
    pub token: String,
    pub expires_at: String,
}

/// A GitHub App.
#[derive(Debug, Deserialize)]
pub(super) struct App {
    pub slug: String,
}

/// A deployment.
#[derive(Debug, Deserialize)]
pub(super) struct Deployment {
    pub id: u64,
    /// What its author put there.
    #[serde(default)]
    pub payload: serde_json::Value,
}

/// A status of a deployment.
#[derive(Debug, Deserialize)]
pub(super) struct DeploymentStatus {
    pub state: String,
}
