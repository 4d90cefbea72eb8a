//! Git, sealed: one mirror per project, one worktree per task, plumbing for the run's branch.
//!
//! Every call is idempotent: it looks whether its work is done already before it does it.

use super::PortResult;
use crate::domain::{AttemptId, DiffStat, ProjectName, RunId, SecretFound, Sha, TaskId};
use async_trait::async_trait;
use std::path::PathBuf;

/// A project's repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    /// The project.
    pub project: ProjectName,
    /// Where it comes from: an absolute path or a URL.
    pub origin: String,
}

/// What a worktree held, as a commit made by Skep.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The commit; equal to the starting point when nothing changed.
    pub head: Sha,
    /// Against the starting point.
    pub diff: DiffStat,
    /// The same as a unified diff, capped at 1 MiB.
    pub patch: Vec<u8>,
}

/// What became of moving commits onto another one.
#[derive(Clone, Debug)]
pub enum Moved {
    /// They are there; the new head.
    Clean(Sha),
    /// They do not fit; the paths in conflict.
    Conflict(Vec<String>),
}

/// Workspaces.
#[async_trait]
pub trait Workspaces: Send + Sync {
    /// Brings the mirror up to date and returns the base branch's name and head.
    /// `base` = `None` takes the origin's default branch. Errors name what is wrong with the repository and the fix.
    async fn fetch(&self, repo: &Repo, base: Option<&str>) -> PortResult<(String, Sha)>;

    /// The bytes of a file at a commit, capped at 1 MiB; `None` = there is none (or it is no regular file).
    async fn read_at(&self, repo: &Repo, sha: &Sha, path: &str) -> PortResult<Option<Vec<u8>>>;

    /// The names in the root folder at a commit, capped at 10,000.
    async fn root_names(&self, repo: &Repo, sha: &Sha) -> PortResult<Vec<String>>;

    /// The worktree of a task, clean at `head`. Work of an earlier attempt that is not in a commit is kept under a WIP ref first.
    async fn task_dir(&self, repo: &Repo, run: RunId, task: TaskId, head: &Sha) -> PortResult<PathBuf>;

    /// The worktree that `task_dir` (with a task) or `read_dir` (by its name) gave at `head`, with whatever was done in it since; `None` = it
    /// is not there, not whole, or was brought to another commit.
    async fn existing_dir(
        &self,
        run: RunId,
        task: Option<TaskId>,
        name: &str,
        head: &Sha,
    ) -> PortResult<Option<PathBuf>>;

    /// A worktree to read at `head`, for a role that must not edit (`name` tells them apart).
    async fn read_dir(&self, repo: &Repo, run: RunId, name: &str, head: &Sha) -> PortResult<PathBuf>;

    /// A fresh checkout of exactly `sha`, used once, for checks.
    async fn check_dir(&self, repo: &Repo, run: RunId, name: &str, sha: &Sha) -> PortResult<PathBuf>;

    /// Removes a worktree given by `read_dir` or `check_dir`.
    async fn remove_dir(&self, repo: &Repo, run: RunId, name: &str) -> PortResult<()>;

    /// The run's cache folder and a scratch folder for an attempt, both outside every worktree.
    fn scratch_dirs(&self, run: RunId, name: &str) -> (PathBuf, PathBuf);

    /// The file for what an attempt's engine has counted: where no sandbox leads, and removed with the run.
    fn meter_file(&self, run: RunId, attempt: AttemptId) -> PathBuf;

    /// Commits what the task's worktree holds on top of `from`, under the task's branch. Nothing changed = `from` itself.
    /// Refuses (permanent) what must never be committed: nested repositories in any spelling, device files, over-large trees.
    async fn commit(
        &self,
        repo: &Repo,
        run: RunId,
        task: TaskId,
        branch: &str,
        from: &Sha,
        message: &str,
    ) -> PortResult<Commit>;

    /// Puts the commits in `from..head` onto `onto` and points `branch` at the result. Without a worktree; deterministic: the same
    /// input gives the same commits.
    async fn rebase(&self, repo: &Repo, from: &Sha, head: &Sha, onto: &Sha, branch: &str) -> PortResult<Moved>;

    /// The diff from `from` to `to`: its size and paths, and the patch capped at 1 MiB.
    async fn diff(&self, repo: &Repo, from: &Sha, to: &Sha) -> PortResult<(DiffStat, Vec<u8>)>;

    /// Searches everything a push of `sha` would send that the origin's branches do not have: live values anywhere, forms of secrets
    /// in added lines. Commit by commit: what a later commit takes out again would still be sent.
    async fn scan_outgoing(&self, repo: &Repo, sha: &Sha) -> PortResult<Vec<SecretFound>>;

    /// Makes `branch` on the origin point at `sha`. Only a branch with the run's prefix may be given; a foreign head there is refused.
    async fn push(&self, repo: &Repo, sha: &Sha, branch: &str, expected: Option<&Sha>) -> PortResult<()>;

    /// Removes the run's worktrees, caches and local branches, keeping every commit that is not on the base branch under
    /// `refs/skep/wip/<run>/…` in the mirror.
    async fn release(&self, repo: &Repo, run: RunId, branch: &str) -> PortResult<()>;
}
