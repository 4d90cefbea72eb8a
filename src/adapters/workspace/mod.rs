//! Workspaces on git: worktrees that an agent may wreck, with their index and git directory out of its reach.
//!
//! Layout under the data root: `mirrors/` objects and refs, `work/<run>/<name>/` the worktree an agent sees,
//! `sealed/<run>/<name>/` its trusted index and completion marker, `scratch/<run>/` caches and temporary folders.

mod commit;
mod diff;
mod history;
mod notices;
mod outgoing;
mod paths;
mod push;
mod rebase;
mod release;
mod scan;
mod shadows;
mod stored_form;
mod unusual;
mod wip;

pub use scan::is_dot_git;

use crate::domain::{AttemptId, DiffStat, Notice, RunId, SecretFound, Sha, TaskId};
use crate::platform::git::durable_fs::{make_dir, run_blocking};
use crate::platform::git::{self, Git, LocalRepository, Locks, Mirrors, Origin, TREE_TIMEOUT, check_branch};
use crate::ports::{ChangeVersion, Commit, Moved, PortError, PortResult, Repo, VersionDiff, Workspaces};
use async_trait::async_trait;
use paths::WorktreePaths;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Upper bound on a returned file or patch, in bytes.
const MAX_TEXT_BYTES: usize = 1024 * 1024;
/// Upper bound on returned paths.
const MAX_PATHS: usize = 20_000;

/// Upper bounds on checkouts and commits.
#[derive(Clone, Copy, Debug)]
pub struct WorkspaceLimits {
    /// Files in a checkout.
    pub files: u64,
    /// Bytes in a checkout.
    pub bytes: u64,
    /// Files changed in one commit.
    pub changed_files: usize,
    /// Bytes of the files changed in one commit.
    pub changed_bytes: u64,
}

impl Default for WorkspaceLimits {
    fn default() -> Self {
        Self { files: 200_000, bytes: 8 << 30, changed_files: 20_000, changed_bytes: 512 << 20 }
    }
}

/// Workspaces under one data root.
#[derive(Debug)]
pub struct GitWorkspaces {
    data: PathBuf,
    mirrors: Arc<Mirrors>,
    locks: Locks,
    limits: WorkspaceLimits,
    home: Option<PathBuf>,
}

impl GitWorkspaces {
    /// Workspaces under `data`, on mirrors shared with the forge.
    pub fn new(data: PathBuf, mirrors: Arc<Mirrors>) -> Self {
        Self { data, mirrors, locks: Locks::default(), limits: WorkspaceLimits::default(), home: None }
    }

    /// Notes what git would do in the hands of the person with this home.
    #[must_use]
    pub fn of_person(mut self, home: Option<PathBuf>) -> Self {
        self.home = home;
        self
    }

    /// Replaces the limits.
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
        self.locks.acquire(&paths.sealed.with_extension("lock"), TREE_TIMEOUT).await
    }

    async fn fresh_checkout(&self, repo: &Repo, run: RunId, name: &str, head: &Sha) -> PortResult<PathBuf> {
        let paths = self.paths(run, &extra_name(name)?);
        self.mirrors.ensure_commit(repo, head).await?;
        let _held = self.lock(&paths).await?;
        self.check_out(repo, &paths, head).await?;
        Ok(paths.dir)
    }
}

/// Returns the folder name of a worktree that belongs to no task. Its prefix keeps it apart from the tasks' worktrees.
fn extra_name(name: &str) -> PortResult<String> {
    let valid = (1..=100).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !name.starts_with(['.', '-']);
    if valid {
        Ok(format!("x-{name}"))
    } else {
        Err(PortError::permanent(
            format!("{name:?} is not a valid worktree name"),
            "use 1 to 100 letters, digits, '-', '_' and '.', starting with a letter, digit or '_'",
        ))
    }
}

/// Returns the folder name of a task's worktree.
fn task_name(task: TaskId) -> String {
    task.to_string()
}

#[async_trait]
impl Workspaces for GitWorkspaces {
    async fn fetch(&self, repo: &Repo, base: Option<&str>) -> PortResult<(String, Sha)> {
        self.mirrors.fetch(repo, base).await
    }

    async fn locate(&self, origin: &str) -> PortResult<String> {
        let Ok(Origin::Local(path)) = Origin::parse(origin) else { return Ok(origin.to_owned()) };
        let found = run_blocking(move || LocalRepository::find(&path)).await?;
        Ok(found.and_then(|r| r.top.to_str().map(str::to_owned)).unwrap_or_else(|| origin.to_owned()))
    }

    async fn inspect(&self, repo: &Repo, base: &Sha, branch: &str) -> PortResult<Vec<Notice>> {
        check_branch(branch)?;
        self.inspect_origin(repo, base, branch).await
    }

    async fn read_at(&self, repo: &Repo, sha: &Sha, path: &str) -> PortResult<Option<Vec<u8>>> {
        let mirror = self.mirror(repo);
        match git::read_blob(&mirror, sha, path, MAX_TEXT_BYTES as u64).await? {
            None => Ok(None),
            Some(Ok(bytes)) => Ok(Some(bytes)),
            // Only the first bytes are needed: git streams the file, so it need not fit into memory.
            Some(Err(_)) => {
                let call = self.git().call(&mirror).args(["cat-file", "blob"]).arg(format!("{sha}:{path}"));
                call.output_head("read a large file", MAX_TEXT_BYTES).await.map(Some)
            }
        }
    }

    async fn paths(&self, repo: &Repo, sha: &Sha) -> PortResult<Vec<String>> {
        git::paths(&self.mirror(repo), sha, MAX_PATHS).await
    }

    async fn contains(&self, repo: &Repo, older: &Sha, newer: &Sha) -> PortResult<bool> {
        self.mirrors.contains(repo, older, newer).await
    }

    async fn first_parents(&self, repo: &Repo, head: &Sha, max: usize) -> PortResult<Vec<Sha>> {
        git::first_parents(&self.mirror(repo), head, max).await
    }

    async fn snapshot(&self, repo: &Repo, run: RunId, head: &Sha) -> PortResult<Sha> {
        self.snapshot_of(repo, run, head).await
    }

    async fn task_dir(&self, repo: &Repo, run: RunId, task: TaskId, head: &Sha) -> PortResult<PathBuf> {
        self.mirrors.ensure_commit(repo, head).await?;
        let paths = self.paths(run, &task_name(task));
        let _held = self.lock(&paths).await?;
        let unchanged_at = self.save_wip(repo, run, &task_name(task), &paths).await;
        if unchanged_at.as_ref() == Some(head) {
            // Ignored files, such as build output, stay for the next attempt. The agent's own repository is recreated.
            self.move_head(repo, &paths, head).await?;
        } else {
            self.check_out(repo, &paths, head).await?;
        }
        Ok(paths.dir)
    }

    async fn continue_work(&self, repo: &Repo, run: RunId, task: TaskId, work: &Sha) -> PortResult<()> {
        self.mirrors.ensure_commit(repo, work).await?;
        let paths = self.paths(run, &task_name(task));
        let _held = self.lock(&paths).await?;
        self.put_content(repo, &paths, work).await
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
        // Already removed, perhaps with the complete run: do not recreate even a lock file.
        if !paths.dir.exists() && !paths.sealed.exists() {
            return Ok(());
        }
        let _held = self.lock(&paths).await?;
        paths.remove().await
    }

    fn scratch_dirs(&self, run: RunId, name: &str) -> (PathBuf, PathBuf) {
        let base = self.data.join("scratch").join(run.to_string());
        let sanitized = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        let name: String = name.chars().take(100).map(sanitized).collect();
        let dirs = (base.join("cache").join(format!("s-{name}")), base.join("tmp").join(format!("s-{name}")));
        for dir in [&dirs.0, &dirs.1] {
            if let Err(error) = make_dir(dir) {
                tracing::warn!(%error, "cannot create a scratch folder; the command that needs it will fail");
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
        check_branch(branch)?;
        self.mirrors.ensure_commit(repo, from).await?;
        let paths = self.paths(run, &task_name(task));
        let _held = self.lock(&paths).await?;
        self.commit_worktree(repo, &paths, branch, from, message).await
    }

    async fn rebase(&self, repo: &Repo, from: &Sha, head: &Sha, onto: &Sha, branch: &str) -> PortResult<Moved> {
        check_branch(branch)?;
        for sha in [from, head, onto] {
            self.mirrors.ensure_commit(repo, sha).await?;
        }
        self.rebase_commits(repo, from, head, onto, branch).await
    }

    async fn diff(&self, repo: &Repo, from: &Sha, to: &Sha) -> PortResult<(DiffStat, Vec<u8>)> {
        for sha in [from, to] {
            self.mirrors.ensure_commit(repo, sha).await?;
        }
        self.diff_of(repo, from, to).await
    }

    async fn diff_versions(&self, repo: &Repo, old: &ChangeVersion, new: &ChangeVersion) -> PortResult<VersionDiff> {
        for sha in [&old.base, &old.head, &new.base, &new.head] {
            self.mirrors.ensure_commit(repo, sha).await?;
        }
        let (from, conflicts) = match old.base == new.base {
            true => (old.head.clone(), Vec::new()),
            false => self.moved_tree(repo, old, &new.base).await?,
        };
        Ok(VersionDiff { patch: self.patch_of(repo, &from, &new.head).await?, conflicts })
    }

    async fn scan_outgoing(&self, repo: &Repo, sha: &Sha) -> PortResult<Vec<SecretFound>> {
        self.mirrors.ensure_commit(repo, sha).await?;
        self.search_outgoing(repo, sha).await
    }

    async fn push(&self, repo: &Repo, sha: &Sha, branch: &str, expected: Option<&Sha>) -> PortResult<()> {
        check_branch(branch)?;
        self.push_branch(repo, sha, branch, expected).await
    }

    async fn release(&self, repo: &Repo, run: RunId, branch: &str) -> PortResult<()> {
        check_branch(branch)?;
        self.release_run(repo, run, branch).await
    }
}

/// Points a ref of the mirror to a commit.
async fn set_ref(git: &Git, mirror: &Path, name: &str, sha: &Sha) -> PortResult<()> {
    let call = git.call(mirror).args(["update-ref", "--no-deref", "--end-of-options"]).arg(name).arg(sha.as_str());
    call.output(&format!("set {name}")).await.map(drop)
}
