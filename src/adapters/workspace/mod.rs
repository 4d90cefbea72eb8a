//! Workspaces on git: worktrees an agent may wreck, beside an index and a git dir it cannot reach.
//!
//! Layout under the data root: `mirrors/` objects and refs, `work/<run>/<name>/` what an agent sees, `sealed/<run>/<name>/`
//! that worktree's trusted index and its completion marker, `side/<run>/` caches and scratch folders.

mod commit;
mod diff;
mod outgoing;
mod paths;
mod push;
mod rebase;
mod release;
mod scan;
mod wip;

pub use scan::is_dot_git;

use crate::domain::{AttemptId, DiffStat, RunId, SecretFound, Sha, TaskId};
use crate::platform::git::durable_fs::make_dir;
use crate::platform::git::{self, Git, Locks, Mirrors, TREE, check_branch, check_sha};
use crate::ports::{Commit, Moved, PortError, PortResult, Repo, Workspaces};
use async_trait::async_trait;
use paths::WorktreePaths;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of a file or a patch is given.
const TEXT_MAX: usize = 1024 * 1024;
/// How many names of the root folder are given.
const ROOT_MAX: usize = 10_000;

/// What is too much.
#[derive(Clone, Copy, Debug)]
pub struct WorkspaceLimits {
    /// Files checked out.
    pub files: u64,
    /// Bytes checked out.
    pub bytes: u64,
    /// Files changed in one commit.
    pub changed_files: usize,
    /// Bytes new in one commit.
    pub changed_bytes: u64,
}

impl Default for WorkspaceLimits {
    fn default() -> Self {
        Self { files: 200_000, bytes: 8 << 30, changed_files: 20_000, changed_bytes: 512 << 20 }
    }
}

/// Workspaces kept under one data root.
#[derive(Debug)]
pub struct GitWorkspaces {
    data: PathBuf,
    mirrors: Arc<Mirrors>,
    locks: Locks,
    limits: WorkspaceLimits,
}

impl GitWorkspaces {
    /// Workspaces under `data`, on mirrors shared with the forge.
    pub fn new(data: PathBuf, mirrors: Arc<Mirrors>) -> Self {
        Self { data, mirrors, locks: Locks::default(), limits: WorkspaceLimits::default() }
    }

    /// With other caps.
    #[must_use]
    pub fn with_limits(mut self, limits: WorkspaceLimits) -> Self {
        self.limits = limits;
        self
    }

    fn git(&self) -> &Git {
        self.mirrors.git()
    }

    fn mirror(&self, repo: &Repo) -> PathBuf {
        self.mirrors.dir(&repo.project)
    }

    fn paths(&self, run: RunId, name: &str) -> WorktreePaths {
        WorktreePaths {
            dir: self.data.join("work").join(run.to_string()).join(name),
            sealed: self.data.join("sealed").join(run.to_string()).join(name),
        }
    }

    async fn lock(&self, paths: &WorktreePaths) -> PortResult<git::LockGuard> {
        self.locks.acquire(&paths.sealed.with_extension("lock"), TREE).await
    }

    async fn fresh_checkout(&self, repo: &Repo, run: RunId, name: &str, head: &Sha) -> PortResult<PathBuf> {
        check_sha(head)?;
        let paths = self.paths(run, &extra_name(name)?);
        let _held = self.lock(&paths).await?;
        self.check_out(repo, &paths, head).await?;
        Ok(paths.dir)
    }
}

/// The folder of a reading or checking worktree: apart from the tasks'.
fn extra_name(name: &str) -> PortResult<String> {
    let good = (1..=100).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !name.starts_with(['.', '-']);
    if good {
        Ok(format!("x-{name}"))
    } else {
        Err(PortError::permanent(
            format!("{name:?} is no usable name for a worktree"),
            "use 1 to 100 of letters, digits, '-', '_' and '.'",
        ))
    }
}

/// The folder of a task's worktree.
fn task_name(task: TaskId) -> String {
    task.to_string()
}

#[async_trait]
impl Workspaces for GitWorkspaces {
    async fn fetch(&self, repo: &Repo, base: Option<&str>) -> PortResult<(String, Sha)> {
        self.mirrors.fetch(repo, base).await
    }

    async fn read_at(&self, repo: &Repo, sha: &Sha, path: &str) -> PortResult<Option<Vec<u8>>> {
        let mirror = self.mirror(repo);
        match git::read_blob(&mirror, sha, path, TEXT_MAX as u64).await? {
            None => Ok(None),
            Some(Ok(bytes)) => Ok(Some(bytes)),
            // Only its head is wanted: git streams it, so that it need not fit into memory.
            Some(Err(_)) => {
                let call = self.git().call(&mirror).args(["cat-file", "blob"]).arg(format!("{sha}:{path}"));
                call.output_head("read a large file", TEXT_MAX).await.map(Some)
            }
        }
    }

    async fn root_names(&self, repo: &Repo, sha: &Sha) -> PortResult<Vec<String>> {
        git::root_names(&self.mirror(repo), sha, ROOT_MAX).await
    }

    async fn task_dir(&self, repo: &Repo, run: RunId, task: TaskId, head: &Sha) -> PortResult<PathBuf> {
        check_sha(head)?;
        let paths = self.paths(run, &task_name(task));
        let _held = self.lock(&paths).await?;
        let holds = self.save_wip(repo, run, &task_name(task), &paths).await;
        if holds.as_ref() == Some(head) {
            // What is ignored (a build's output, say) stays for the next attempt; the agent's own git starts afresh.
            self.move_head(repo, &paths, head).await?;
        } else {
            self.check_out(repo, &paths, head).await?;
        }
        Ok(paths.dir)
    }

    async fn existing_dir(
        &self,
        run: RunId,
        task: Option<TaskId>,
        name: &str,
        head: &Sha,
    ) -> PortResult<Option<PathBuf>> {
        let paths = match task {
            Some(task) => self.paths(run, &task_name(task)),
            None => self.paths(run, &extra_name(name)?),
        };
        let _held = self.lock(&paths).await?;
        Ok((paths.head().await?.as_ref() == Some(head)).then_some(paths.dir))
    }

    async fn read_dir(&self, repo: &Repo, run: RunId, name: &str, head: &Sha) -> PortResult<PathBuf> {
        self.fresh_checkout(repo, run, name, head).await
    }

    async fn check_dir(&self, repo: &Repo, run: RunId, name: &str, sha: &Sha) -> PortResult<PathBuf> {
        self.fresh_checkout(repo, run, name, sha).await
    }

    async fn remove_dir(&self, _repo: &Repo, run: RunId, name: &str) -> PortResult<()> {
        let paths = self.paths(run, &extra_name(name)?);
        // Gone already, with the whole run perhaps: not even a lock file comes back.
        if !paths.dir.exists() && !paths.sealed.exists() {
            return Ok(());
        }
        let _held = self.lock(&paths).await?;
        paths.remove().await
    }

    fn scratch_dirs(&self, run: RunId, name: &str) -> (PathBuf, PathBuf) {
        let side = self.data.join("scratch").join(run.to_string());
        let usual = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        let name: String = name.chars().take(100).map(usual).collect();
        let dirs = (side.join("cache"), side.join("scratch").join(format!("s-{name}")));
        for dir in [&dirs.0, &dirs.1] {
            if let Err(error) = make_dir(dir) {
                tracing::warn!(%error, "a side folder cannot be made; its user will fail and say so");
            }
        }
        dirs
    }

    fn meter_file(&self, run: RunId, attempt: AttemptId) -> PathBuf {
        self.data.join("sealed").join(run.to_string()).join(format!("{attempt}.meter"))
    }

    async fn commit(
        &self,
        repo: &Repo,
        run: RunId,
        task: TaskId,
        branch: &str,
        from: &Sha,
        message: &str,
    ) -> PortResult<Commit> {
        check_sha(from)?;
        check_branch(branch)?;
        let paths = self.paths(run, &task_name(task));
        let _held = self.lock(&paths).await?;
        self.commit_worktree(repo, &paths, branch, from, message).await
    }

    async fn rebase(&self, repo: &Repo, from: &Sha, head: &Sha, onto: &Sha, branch: &str) -> PortResult<Moved> {
        for sha in [from, head, onto] {
            check_sha(sha)?;
        }
        check_branch(branch)?;
        self.rebase_commits(repo, from, head, onto, branch).await
    }

    async fn diff(&self, repo: &Repo, from: &Sha, to: &Sha) -> PortResult<(DiffStat, Vec<u8>)> {
        check_sha(from)?;
        check_sha(to)?;
        self.diff_of(repo, from, to).await
    }

    async fn scan_outgoing(&self, repo: &Repo, sha: &Sha) -> PortResult<Vec<SecretFound>> {
        check_sha(sha)?;
        self.search_outgoing(repo, sha).await
    }

    async fn push(&self, repo: &Repo, sha: &Sha, branch: &str, expected: Option<&Sha>) -> PortResult<()> {
        check_sha(sha)?;
        check_branch(branch)?;
        self.push_branch(repo, sha, branch, expected).await
    }

    async fn release(&self, repo: &Repo, run: RunId, branch: &str) -> PortResult<()> {
        check_branch(branch)?;
        self.release_run(repo, run, branch).await
    }
}

/// Points a ref of the mirror at a commit.
async fn set_ref(git: &Git, mirror: &Path, name: &str, sha: &Sha) -> PortResult<()> {
    let call = git.call(mirror).args(["update-ref", "--no-deref", "--end-of-options"]).arg(name).arg(sha.as_str());
    call.output(&format!("set {name}")).await.map(drop)
}
