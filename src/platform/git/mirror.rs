//! Mirrors: one bare repository per project, with the origin's commits and those of the runs.
//!
//! Layout: `refs/remotes/origin/*` the origin's branches, `refs/heads/*` the runs' branches, `refs/skep/wip/*` saved
//! work.

use super::durable_fs::{make_dir, remove_path, run_blocking};
use super::lock::{LockGuard, Locks};
use super::object::check_branch;
use super::origin::Origin;
use super::{Call, Git, NET_TIMEOUT, is_ancestor, read};
use crate::domain::{ProjectName, Sha};
use crate::ports::{PortError, PortResult, Repo};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// HEAD and branches of an origin, as listed by one `ls-remote`.
#[derive(Clone, Debug, Default)]
pub struct RemoteHeads {
    /// Branch that HEAD points to; `None` = detached or missing.
    pub default: Option<String>,
    /// Whether the origin has a HEAD.
    pub has_head: bool,
    /// The requested branches.
    pub heads: BTreeMap<String, Sha>,
}

/// All mirrors of this data root.
#[derive(Debug)]
pub struct Mirrors {
    data: PathBuf,
    git: Arc<Git>,
    locks: Locks,
}

impl Mirrors {
    /// Mirrors under `<data>/mirrors`.
    pub fn new(data: PathBuf, git: Arc<Git>) -> Self {
        Self { data, git, locks: Locks::default() }
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

    /// Lists HEAD and the branches of an origin: those in `only`, or all if it is empty.
    ///
    /// # Errors
    /// When the origin cannot be read, with the fix.
    pub async fn remote_heads(&self, repo: &Repo, only: &[&str]) -> PortResult<RemoteHeads> {
        let origin = Origin::parse(&repo.origin)?;
        if let Origin::Local(path) = &origin {
            check_local(path)?;
        }
        self.ensure_locked(&repo.project).await?;
        let mut call = self.call(repo).with_origin(&origin).args(["ls-remote", "--symref"]);
        call = call.args(origin.upload_pack()).arg("--end-of-options").arg(origin.address()).arg("HEAD");
        call = if only.is_empty() {
            call.arg("refs/heads/*")
        } else {
            call.args(only.iter().map(|name| format!("refs/heads/{name}")))
        };
        let output =
            call.output(&format!("reach the repository {}", origin.redacted())).await.map_err(|e| match e {
                // Listing changes nothing, so a timeout is not an unknown outcome.
                PortError::Unknown { what } => PortError::transient(what),
                other => other,
            })?;
        let mut remote = RemoteHeads::default();
        for line in String::from_utf8_lossy(&output).lines() {
            let Some((left, name)) = line.split_once('\t') else { continue };
            match (left.strip_prefix("ref: refs/heads/"), name.strip_prefix("refs/heads/")) {
                (Some(target), None) if name == "HEAD" => remote.default = Some(target.to_owned()),
                (None, Some(branch)) => {
                    if left.len() != 40 {
                        return Err(PortError::permanent(
                            format!("{} stores its objects by SHA-256", origin.redacted()),
                            "use a repository with SHA-1 objects; SHA-256 is not supported yet",
                        ));
                    }
                    remote.heads.insert(branch.to_owned(), Sha(left.to_owned()));
                }
                (None, None) if name == "HEAD" => remote.has_head = true,
                _ => {}
            }
        }
        Ok(remote)
    }

    async fn ensure_locked(&self, project: &ProjectName) -> PortResult<()> {
        if self.dir(project).join("HEAD").is_file() {
            return Ok(());
        }
        let _held = self.lock(project).await?;
        self.ensure(project).await.map(drop)
    }

    /// Fetches the origin into the mirror, one process at a time. Returns the base branch and its head.
    ///
    /// # Errors
    /// When the repository cannot be fetched, with the fix.
    pub async fn fetch(&self, repo: &Repo, base: Option<&str>) -> PortResult<(String, Sha)> {
        let origin = Origin::parse(&repo.origin)?;
        if let Some(base) = base {
            check_branch(base)?;
        }
        let base = choose_base(&self.remote_heads(repo, &[]).await?, base, &origin)?;
        let all = self.update(repo, &origin, "+refs/heads/*:refs/remotes/origin/*").await;
        if let Err(PortError::Permanent { what, .. }) = all {
            // One malformed branch must not make the others unusable.
            tracing::warn!(repository = %origin.redacted(), what, "cannot fetch all branches; fetching only the base branch");
            self.update(repo, &origin, &format!("+refs/heads/{base}:refs/remotes/origin/{base}")).await?;
        } else {
            all?;
        }
        let head = self.call(repo).args(["rev-parse", "--verify", "--quiet", "--end-of-options"]);
        let head = head.arg(format!("refs/remotes/origin/{base}^{{commit}}")).output_line("find the base branch").await;
        let head =
            head.map_err(|_| PortError::transient(format!("branch {base:?} disappeared while it was fetched")))?;
        Ok((base, Sha(head)))
    }

    /// Fetches a refspec, one process at a time.
    async fn update(&self, repo: &Repo, origin: &Origin, refspec: &str) -> PortResult<()> {
        let _held = self.lock(&repo.project).await?;
        let fetch = self
            .call(repo)
            .with_origin(origin)
            .args(["fetch", "--quiet", "--prune", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance"])
            .args(["--no-write-fetch-head", "--force"])
            .args(origin.upload_pack())
            .arg("--end-of-options")
            .arg(origin.address())
            .arg(refspec);
        fetch.output(&format!("fetch {}", origin.redacted())).await.map_err(|e| match e {
            PortError::Unknown { what } => PortError::transient(what),
            other => other,
        })?;
        Ok(())
    }

    /// Returns whether `older` is `newer` or one of its ancestors. Fetches commits that are missing in the mirror.
    ///
    /// # Errors
    /// When neither the mirror nor the origin has one of the commits.
    pub async fn contains(&self, repo: &Repo, older: &Sha, newer: &Sha) -> PortResult<bool> {
        if older == newer {
            return Ok(true);
        }
        let dir = self.dir(&repo.project);
        let origin = Origin::parse(&repo.origin)?;
        for sha in [newer, older] {
            if read::read_commit(&dir, sha).await.is_err() {
                self.update(repo, &origin, sha.as_str()).await?;
            }
        }
        is_ancestor(&dir, older, newer).await
    }
}

fn check_local(path: &Path) -> PortResult<()> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(PortError::permanent(
            format!("{} is not a folder, so it cannot be a git repository", path.display()),
            "use the folder that contains the repository",
        )),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(PortError::permanent(
            format!("{} does not exist", path.display()),
            "check the path; Skep sees only files of the machine (or container) it runs on",
        )),
        Err(e) => Err(PortError::permanent(
            format!("cannot read {}: {e}", path.display()),
            "give the user Skep runs as read access to it",
        )),
    }
}

fn choose_base(remote: &RemoteHeads, base: Option<&str>, origin: &Origin) -> PortResult<String> {
    let origin = origin.redacted();
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
