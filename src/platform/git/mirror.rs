//! Mirrors: one bare repository per project, with the origin's commits and those of the runs.
//!
//! Layout: `refs/remotes/origin/*` the origin's branches, `refs/heads/*` the runs' branches, `refs/skep/wip/*` saved
//! work.

use super::access::Access;
use super::durable_fs::{make_dir, remove_path, run_blocking};
use super::heads::RemoteHeads;
use super::leftovers::remove_temporary_objects;
use super::local::Settings;
use super::lock::{LockGuard, Locks};
use super::object::{check_branch, check_sha};
use super::{Call, Git, NET_TIMEOUT, is_ancestor, read};
use crate::domain::{ProjectName, Sha};
use crate::ports::{GitCredentials, PortError, PortResult, Repo};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// All mirrors of this data root.
#[derive(Debug)]
pub struct Mirrors {
    pub(super) data: PathBuf,
    git: Arc<Git>,
    /// The credentials of forges, for origins over http.
    pub(super) credentials: Option<Arc<dyn GitCredentials>>,
    locks: Locks,
    /// Serializes changes of Skep's own git directories for local repositories.
    pub(super) views: Arc<Mutex<()>>,
    /// Settings of local repositories, by the state of their files.
    pub(super) settings: Mutex<HashMap<PathBuf, (Vec<FileState>, Settings)>>,
}

/// Modification time and size of a file; `None` = it does not exist.
pub(super) type FileState = Option<(SystemTime, u64)>;

impl Mirrors {
    /// Mirrors under `<data>/mirrors`.
    pub fn new(data: PathBuf, git: Arc<Git>) -> Self {
        let (locks, views, settings) = (Locks::default(), Arc::default(), Mutex::default());
        Self { data, git, credentials: None, locks, views, settings }
    }

    /// Uses the credentials of forges for origins over http.
    #[must_use]
    pub fn with_credentials(self, credentials: Arc<dyn GitCredentials>) -> Self {
        Self { credentials: Some(credentials), ..self }
    }

    /// Returns the git program.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// Returns the path of a project's mirror.
    pub fn dir(&self, project: &ProjectName) -> PathBuf {
        self.data.join("mirrors").join(format!("{project}.git"))
    }

    /// Starts a git call on a project's mirror.
    pub fn call(&self, repo: &Repo) -> Call {
        self.git.call(&self.dir(&repo.project))
    }

    async fn lock(&self, project: &ProjectName) -> PortResult<LockGuard> {
        self.locks.acquire(&self.data.join("mirrors").join(format!("{project}.lock")), NET_TIMEOUT).await
    }

    /// Creates the mirror if it does not exist. Creation is atomic: an interruption leaves a complete mirror or none.
    async fn ensure(&self, project: &ProjectName) -> PortResult<PathBuf> {
        let dir = self.dir(project);
        if dir.join("HEAD").is_file() {
            return Ok(dir);
        }
        let partial = dir.with_extension("git.half");
        let staging = partial.clone();
        run_blocking(move || {
            remove_path(&staging)?;
            make_dir(&staging)
        })
        .await?;
        // HEAD names a branch that never exists, so that no tree's attributes apply to reads here.
        let init = ["init", "--quiet", "--bare", "--template=", "--object-format=sha1", "--initial-branch=skep-none"];
        self.git.call(&partial).args(init).output("create the mirror").await?;
        for (key, value) in [("core.useReplaceRefs", "false"), ("gc.auto", "0"), ("core.logAllRefUpdates", "false")] {
            self.git.call(&partial).args(["config", key, value]).output("configure the mirror").await?;
        }
        let to = dir.clone();
        crate::fault!("mid-mirror");
        run_blocking(move || {
            std::fs::rename(&partial, &to)
                .map_err(|e| PortError::transient(format!("cannot move the mirror to {}: {e}", to.display())))
        })
        .await?;
        Ok(dir)
    }

    /// Creates an empty mirror of a project, if there is none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn create(&self, project: &ProjectName) -> PortResult<()> {
        self.ensure_locked(project).await
    }

    /// Removes the mirror of a project, with everything in it.
    ///
    /// # Errors
    /// When something remains.
    pub async fn remove(&self, project: &ProjectName) -> PortResult<()> {
        let _held = self.lock(project).await?;
        let (dir, removed) = (self.dir(project), self.dir(project).with_extension("git.removed"));
        run_blocking(move || {
            remove_path(&removed)?;
            // Renamed first, so that an interruption leaves no half of a mirror.
            std::fs::rename(&dir, &removed)
                .map_err(|e| PortError::transient(format!("cannot rename {}: {e}", dir.display())))?;
            remove_path(&removed)
        })
        .await
    }

    pub(super) async fn ensure_locked(&self, project: &ProjectName) -> PortResult<()> {
        if self.dir(project).join("HEAD").is_file() {
            return Ok(());
        }
        let _held = self.lock(project).await?;
        self.ensure(project).await.map(drop)
    }

    /// Fetches the base branch into the mirror, one process at a time. Returns its name and its head.
    ///
    /// # Errors
    /// When the repository cannot be fetched, with the fix.
    pub async fn fetch(&self, repo: &Repo, base: Option<&str>) -> PortResult<(String, Sha)> {
        if let Some(base) = base {
            check_branch(base)?;
        }
        let access = self.access(repo).await?;
        // Only what is needed: a repository may have very many branches.
        let mut remote = self.heads_at(repo, &access, Some(base.as_slice())).await?;
        if choose_base(&remote, base, &access).is_err() {
            remote = self.heads_at(repo, &access, None).await?;
        }
        let base = choose_base(&remote, base, &access)?;
        self.update(repo, &access, &[format!("+refs/heads/{base}:refs/remotes/origin/{base}")]).await?;
        let head = self.call(repo).args(["rev-parse", "--verify", "--quiet", "--end-of-options"]);
        let head = head.arg(format!("refs/remotes/origin/{base}^{{commit}}")).output_line("find the base branch").await;
        let head =
            head.map_err(|_| PortError::transient(format!("branch {base:?} disappeared while it was fetched")))?;
        let head = Sha(head);
        // Without its tags a run works as well, but for what derives a version from them.
        if let Err(error) = self.fetch_tags(repo, &access, &head).await {
            tracing::warn!(repository = %access.redacted(), %error, "cannot fetch the tags of the base branch");
        }
        Ok((base, head))
    }

    /// Fetches refspecs, one process at a time.
    pub(super) async fn update(&self, repo: &Repo, access: &Access, refspecs: &[String]) -> PortResult<()> {
        let _held = self.lock(&repo.project).await?;
        let dir = self.ensure(&repo.project).await?;
        run_blocking({
            let dir = dir.clone();
            move || {
                remove_temporary_objects(&dir);
                Ok(())
            }
        })
        .await?;
        let fetch = || {
            let call = self.call(repo).with_origin(access).args(["fetch", "--quiet", "--no-tags", "--force"]);
            let call = call.args(["--no-recurse-submodules", "--no-auto-maintenance", "--no-write-fetch-head"]);
            // The history of a shallow origin ends where its own does.
            let call = call.arg("--update-shallow").args(access.upload_pack());
            // A partial clone lacks the files of its history.
            let call = if access.is_partial() { call.arg("--depth=1") } else { call };
            call.arg("--end-of-options").arg(access.address()).args(refspecs)
        };
        let doing = format!("fetch {}", access.redacted());
        let mut finished = fetch().run(&doing).await;
        if finished.as_ref().is_ok_and(|f| !f.ok() && is_name_conflict(&f.stderr)) {
            // A branch of an earlier run of Skep was renamed in the origin, such as `a` to `a/b`.
            self.forget_branches(repo).await?;
            finished = fetch().run(&doing).await;
        }
        match finished {
            Ok(finished) if finished.ok() => Ok(()),
            Ok(_) if access.is_partial() => Err(access.partial_error()),
            Ok(finished) => Err(super::command_error(&doing, &finished)),
            Err(PortError::Unknown { what }) => Err(PortError::transient(what)),
            Err(other) => Err(other),
        }
    }

    /// Deletes the mirror's record of the origin's branches. The next fetches make it again.
    async fn forget_branches(&self, repo: &Repo) -> PortResult<()> {
        let list = self.call(repo).args(["for-each-ref", "--format=delete %(refname)", "refs/remotes/origin"]);
        let script = list.output("list the mirror's branches").await?;
        let call = self.call(repo).args(["update-ref", "--no-deref", "--stdin"]).stdin(script);
        call.output("forget the mirror's branches").await.map(drop)
    }

    /// Records that a branch of the origin is at a commit, after Skep has put it there.
    ///
    /// # Errors
    /// When the mirror cannot be written.
    pub async fn record_branch(&self, repo: &Repo, branch: &str, head: &Sha) -> PortResult<()> {
        let call = self.call(repo).args(["update-ref", "--no-deref", "--end-of-options"]);
        let call = call.arg(format!("refs/remotes/origin/{branch}")).arg(head.as_str());
        call.output(&format!("record the origin's branch {branch:?}")).await.map(drop)
    }

    /// Makes sure that the mirror has a commit. A mirror that is gone or damaged is made again from the origin.
    ///
    /// # Errors
    /// When the origin does not have the commit either, or cannot be reached.
    pub async fn ensure_commit(&self, repo: &Repo, sha: &Sha) -> PortResult<()> {
        check_sha(sha)?;
        if read::read_commit(&self.dir(&repo.project), sha).await.is_ok() {
            return Ok(());
        }
        tracing::warn!(project = %repo.project, commit = %sha, "the mirror lacks a commit; fetching it again");
        let access = self.access(repo).await?;
        match self.update(repo, &access, &[sha.to_string()]).await {
            Ok(()) => Ok(()),
            Err(PortError::Permanent { what, .. }) => Err(PortError::permanent(
                format!("neither the mirror nor {} has commit {}: {what}", access.redacted(), sha.abbrev()),
                "start the goal again with `skep retry`: the work that only the mirror had is lost",
            )),
            Err(other) => Err(other),
        }
    }

    /// Returns whether `older` is `newer` or one of its ancestors. Fetches commits that are missing in the mirror.
    ///
    /// # Errors
    /// When neither the mirror nor the origin has one of the commits.
    pub async fn contains(&self, repo: &Repo, older: &Sha, newer: &Sha) -> PortResult<bool> {
        if older == newer {
            return Ok(true);
        }
        for sha in [newer, older] {
            self.ensure_commit(repo, sha).await?;
        }
        is_ancestor(&self.dir(&repo.project), older, newer).await
    }
}

/// Returns whether a fetch failed because two branches cannot be stored beside each other.
fn is_name_conflict(stderr: &[u8]) -> bool {
    let message = String::from_utf8_lossy(stderr);
    message.contains("exists; cannot create") || message.contains("some local refs could not be updated")
}

fn choose_base(remote: &RemoteHeads, base: Option<&str>, access: &Access) -> PortResult<String> {
    let origin = access.redacted();
    if remote.heads.is_empty() && remote.has_head {
        return Err(PortError::permanent(
            format!("{origin} has commits, but no branch: its HEAD is detached"),
            "give them a branch, such as with `git switch -c main`, and try again",
        ));
    }
    if remote.heads.is_empty() {
        return Err(PortError::permanent(
            format!("{origin} has no commit on any branch"),
            "make a first commit there, such as a README, and try again",
        ));
    }
    let examples: Vec<&str> =
        remote.heads.keys().map(String::as_str).filter(|n| !n.starts_with("skep/")).take(5).collect();
    let examples = examples.join(", ");
    let chosen = match (base, &remote.default) {
        (Some(base), _) => base,
        (None, Some(default)) => default,
        (None, None) if remote.has_head => {
            return Err(PortError::permanent(
                format!("{origin} has no default branch: its HEAD is detached"),
                format!("specify the base branch with --base, for example: {examples}"),
            ));
        }
        (None, None) => {
            return Err(PortError::permanent(
                format!("{origin} has no default branch: its HEAD points to a branch without commits"),
                format!("specify the base branch with --base, for example: {examples}"),
            ));
        }
    };
    if remote.heads.contains_key(chosen) {
        Ok(chosen.to_owned())
    } else {
        Err(PortError::permanent(
            format!("{origin} has no branch {chosen:?}"),
            format!("specify an existing branch with --base, for example: {examples}"),
        ))
    }
}
