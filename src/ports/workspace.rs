//! Workspaces: one mirror per project, one worktree per task, and the operations on the run's branch.
//!
//! Every call is idempotent: it checks first whether its work is already done.

use super::PortResult;
use crate::domain::{AttemptId, DiffStat, Notice, ProjectName, RunId, SecretFound, Sha, TaskId};
use async_trait::async_trait;
use std::path::{Path, PathBuf};

/// A project's repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    /// The project.
    pub project: ProjectName,
    /// Its origin: an absolute path or a URL.
    pub origin: String,
}

impl Repo {
    /// Returns the folder of the origin, if it is one of this machine.
    pub fn local_origin(&self) -> Option<&Path> {
        Some(Path::new(&self.origin)).filter(|path| path.is_absolute())
    }
}

/// The content of a worktree, as a commit made by Skep.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The commit; equal to the starting point when nothing changed.
    pub head: Sha,
    /// The diff to the starting point.
    pub diff: DiffStat,
    /// The unified diff, capped at 1 MiB.
    pub patch: Vec<u8>,
}

/// Outcome of moving commits onto another one.
#[derive(Clone, Debug)]
pub enum Moved {
    /// They were moved; the new head.
    Clean(Sha),
    /// They conflict in these paths.
    Conflict(Vec<String>),
}

/// Version of a change: its newest commit, and the commit that it is based on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeVersion {
    /// Commit that it is based on.
    pub base: Sha,
    /// Newest commit.
    pub head: Sha,
}

/// How two versions of a change differ.
#[derive(Clone, Debug)]
pub struct VersionDiff {
    /// The unified diff, capped at 1 MiB.
    pub patch: Vec<u8>,
    /// Paths in which the older version conflicts with the newer base: there, it contains conflict markers.
    pub conflicts: Vec<String>,
}

/// Mirrors and worktrees.
#[async_trait]
pub trait Workspaces: Send + Sync {
    /// Updates the mirror and returns the name and head of the base branch; `base` = `None` takes the origin's default
    /// branch. Errors name what is wrong with the repository and the fix.
    async fn fetch(&self, repo: &Repo, base: Option<&str>) -> PortResult<(String, Sha)>;

    /// Returns the repository's own name for an origin: the top folder of the repository that a local path lies in. Any
    /// other text is returned as it is.
    async fn locate(&self, origin: &str) -> PortResult<String>;

    /// Refuses a run's branch that the origin cannot have, and returns what a person should know about the repository.
    async fn inspect(&self, repo: &Repo, base: &Sha, branch: &str) -> PortResult<Vec<Notice>>;

    /// Returns the bytes of a file at a commit, capped at 1 MiB; `None` = it does not exist or is not a regular file.
    async fn read_at(&self, repo: &Repo, sha: &Sha, path: &str) -> PortResult<Option<Vec<u8>>>;

    /// Returns the paths of the files at a commit, folder by folder from the root down, at most 20,000. Of a
    /// folder of foreign code, such as `vendor/`, only the folder is listed.
    async fn paths(&self, repo: &Repo, sha: &Sha) -> PortResult<Vec<String>>;

    /// Returns whether `older` is `newer` or one of its ancestors.
    async fn contains(&self, repo: &Repo, older: &Sha, newer: &Sha) -> PortResult<bool>;

    /// Returns the newest commits of the history of `head`, newest first, at most `max`; of a merge commit only the branch
    /// that it was merged into.
    async fn first_parents(&self, repo: &Repo, head: &Sha, max: usize) -> PortResult<Vec<Sha>>;

    /// Stores the content of the origin's working copy, which must be a folder on this machine, as a commit on `head` in
    /// the mirror only. Without changes it returns `head` itself.
    async fn snapshot(&self, repo: &Repo, run: RunId, head: &Sha) -> PortResult<Sha>;

    /// Prepares the worktree of a task, clean at `head`. Uncommitted work of an earlier attempt is first saved under a
    /// WIP ref.
    async fn task_dir(&self, repo: &Repo, run: RunId, task: TaskId, head: &Sha) -> PortResult<PathBuf>;

    /// Brings the content of `work`, a commit on the task's head, into the worktree that `task_dir` prepared. The
    /// worktree stays at its head, so that the content shows as uncommitted changes.
    async fn continue_work(&self, repo: &Repo, run: RunId, task: TaskId, work: &Sha) -> PortResult<()>;

    /// Returns the worktree that `task_dir` (with a task) or `read_dir` (by its name) prepared at `head`, with the
    /// edits made in it since; `None` = it is gone, incomplete, or at another commit.
    async fn existing_dir(
        &self,
        run: RunId,
        task: Option<TaskId>,
        name: &str,
        head: &Sha,
    ) -> PortResult<Option<PathBuf>>;

    /// Prepares a worktree to read at `head`, for a role that must not edit; `name` distinguishes them.
    async fn read_dir(&self, repo: &Repo, run: RunId, name: &str, head: &Sha) -> PortResult<PathBuf>;

    /// Prepares a fresh checkout of exactly `sha`, used once, for checks.
    async fn check_dir(&self, repo: &Repo, run: RunId, name: &str, sha: &Sha) -> PortResult<PathBuf>;

    /// Removes a worktree of `read_dir` or `check_dir`.
    async fn remove_dir(&self, repo: &Repo, run: RunId, name: &str) -> PortResult<()>;

    /// Returns the cache folder and the scratch folder of an attempt or of a run of checks, both outside every worktree
    /// and shared with no other.
    fn scratch_dirs(&self, run: RunId, name: &str) -> (PathBuf, PathBuf);

    /// Returns the meter file of an attempt: outside every sandbox, removed with the run.
    fn meter_file(&self, run: RunId, attempt: AttemptId) -> PathBuf;

    /// Commits the content of the task's worktree on top of `from` on the task's branch; without changes it returns
    /// `from` itself. Refuses (permanently) what must never be committed: nested repositories in any spelling, device
    /// files, oversized trees.
    async fn commit(
        &self,
        repo: &Repo,
        run: RunId,
        task: TaskId,
        branch: &str,
        from: &Sha,
        message: &str,
    ) -> PortResult<Commit>;

    /// Moves the commits in `from..head` onto `onto` and points `branch` at the result. Needs no worktree and is
    /// deterministic: the same input gives the same commits.
    async fn rebase(&self, repo: &Repo, from: &Sha, head: &Sha, onto: &Sha, branch: &str) -> PortResult<Moved>;

    /// Returns the diff from `from` to `to`: its size and paths, and the patch capped at 1 MiB.
    async fn diff(&self, repo: &Repo, from: &Sha, to: &Sha) -> PortResult<(DiffStat, Vec<u8>)>;

    /// Returns how two versions of a change differ. If their bases do, the older version is first moved onto the newer
    /// base, so that what happened between the bases is left out.
    async fn diff_versions(&self, repo: &Repo, old: &ChangeVersion, new: &ChangeVersion) -> PortResult<VersionDiff>;

    /// Searches everything that a push of `sha` would add to the origin for secrets: live values anywhere, patterns of
    /// secrets in added lines. It searches commit by commit, because what a later commit removes would still be sent.
    async fn scan_outgoing(&self, repo: &Repo, sha: &Sha) -> PortResult<Vec<SecretFound>>;

    /// Points `branch` on the origin at `sha`. The branch must have the run's prefix; a foreign head there is refused.
    async fn push(&self, repo: &Repo, sha: &Sha, branch: &str, expected: Option<&Sha>) -> PortResult<()>;

    /// Removes the run's worktrees, caches and local branches. Commits that are not on the base branch stay under
    /// `refs/skep/wip/<run>/…` in the mirror.
    async fn release(&self, repo: &Repo, run: RunId, branch: &str) -> PortResult<()>;
}
