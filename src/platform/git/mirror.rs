//! The mirrors: one bare repository per project, holding what its origin has and what runs made of it.
//!
//! Layout: `refs/remotes/origin/*` the origin's branches, `refs/heads/*` the runs' branches, `refs/skep/wip/*` what was
//! kept.

use super::durable_fs::{make_dir, remove_path, run_blocking};
use super::lock::{LockGuard, Locks};
use super::object::check_branch;
use super::origin::Origin;
use super::{Call, Git, NET, is_ancestor, read};
use crate::domain::{ProjectName, Sha};
use crate::ports::{PortError, PortResult, Repo};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The branches of an origin as seen in one look.
#[derive(Clone, Debug, Default)]
pub struct RemoteHeads {
    /// What HEAD points at; `None` when it is detached or there is none.
    pub default: Option<String>,
    /// Whether there is a HEAD at all.
    pub has_head: bool,
    /// The branches asked for.
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

    /// The git program.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// A project's mirror.
    pub fn dir(&self, project: &ProjectName) -> PathBuf {
        self.data.join("mirrors").join(format!("{project}.git"))
    }

    /// A call on a project's mirror.
    pub fn call(&self, repo: &Repo) -> Call {
        self.git.call(&self.dir(&repo.project))
    }

    async fn lock(&self, project: &ProjectName) -> PortResult<LockGuard> {
        self.locks.acquire(&self.data.join("mirrors").join(format!("{project}.lock")), NET).await
    }

    /// Makes the mirror unless it is there. Made aside and put in place whole, so a kill leaves none or all of it.
    async fn ensure(&self, project: &ProjectName) -> PortResult<PathBuf> {
        let dir = self.dir(project);
        if dir.join("HEAD").is_file() {
            return Ok(dir);
        }
        let half = dir.with_extension("git.half");
        let aside = half.clone();
        run_blocking(move || {
            remove_path(&aside)?;
            make_dir(&aside)
        })
        .await?;
        // HEAD names a branch that never is, so that no tree's attributes apply to what is read here.
        let init = ["init", "--quiet", "--bare", "--template=", "--object-format=sha1", "--initial-branch=skep-none"];
        self.git.call(&half).args(init).output("make the mirror").await?;
        for (key, value) in [("core.useReplaceRefs", "false"), ("gc.auto", "0"), ("core.logAllRefUpdates", "false")] {
            self.git.call(&half).args(["config", key, value]).output("set the mirror up").await?;
        }
        let to = dir.clone();
        crate::fault!("mid-mirror");
        run_blocking(move || {
            std::fs::rename(&half, &to)
                .map_err(|e| PortError::transient(format!("cannot put the mirror in place at {}: {e}", to.display())))
        })
        .await?;
        Ok(dir)
    }

    /// Looks at an origin's HEAD and branches; `only` = just these branches.
    ///
    /// # Errors
    /// Says what is wrong with the origin and the fix.
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
        let said = call.output(&format!("reach the repository {}", origin.redacted())).await.map_err(|e| match e {
            // Looking changes nothing: a time-out here is not an unknown outcome.
            PortError::Unknown { what } => PortError::transient(what),
            other => other,
        })?;
        let mut seen = RemoteHeads::default();
        for line in String::from_utf8_lossy(&said).lines() {
            let Some((left, name)) = line.split_once('\t') else { continue };
            match (left.strip_prefix("ref: refs/heads/"), name.strip_prefix("refs/heads/")) {
                (Some(target), None) if name == "HEAD" => seen.default = Some(target.to_owned()),
                (None, Some(branch)) => {
                    if left.len() != 40 {
                        return Err(PortError::permanent(
                            format!("{} keeps its objects by SHA-256", origin.redacted()),
                            "use a repository with SHA-1 objects; others are not supported yet",
                        ));
                    }
                    seen.heads.insert(branch.to_owned(), Sha(left.to_owned()));
                }
                (None, None) if name == "HEAD" => seen.has_head = true,
                _ => {}
            }
        }
        Ok(seen)
    }

    async fn ensure_locked(&self, project: &ProjectName) -> PortResult<()> {
        if self.dir(project).join("HEAD").is_file() {
            return Ok(());
        }
        let _held = self.lock(project).await?;
        self.ensure(project).await.map(drop)
    }

    /// Brings the mirror up to date with what was seen, one process at a time, and gives the base branch and its head.
    ///
    /// # Errors
    /// Says what is wrong with the repository and the fix.
    pub async fn fetch(&self, repo: &Repo, base: Option<&str>) -> PortResult<(String, Sha)> {
        let origin = Origin::parse(&repo.origin)?;
        if let Some(base) = base {
            check_branch(base)?;
        }
        let base = choose_base(&self.remote_heads(repo, &[]).await?, base, &origin)?;
        let all = self.update(repo, &origin, "+refs/heads/*:refs/remotes/origin/*").await;
        if let Err(PortError::Permanent { what, .. }) = all {
            // Somebody's malformed branch must not make the others unusable.
            tracing::warn!(repository = %origin.redacted(), what, "not all branches can be fetched; fetching the base branch only");
            self.update(repo, &origin, &format!("+refs/heads/{base}:refs/remotes/origin/{base}")).await?;
        } else {
            all?;
        }
        let head = self.call(repo).args(["rev-parse", "--verify", "--quiet", "--end-of-options"]);
        let head = head.arg(format!("refs/remotes/origin/{base}^{{commit}}")).output_line("find the base branch").await;
        let head = head.map_err(|_| PortError::transient(format!("branch {base:?} went away while it was fetched")))?;
        Ok((base, Sha(head)))
    }

    /// Brings over what is named, one process at a time.
    async fn update(&self, repo: &Repo, origin: &Origin, what: &str) -> PortResult<()> {
        let _held = self.lock(&repo.project).await?;
        let fetch = self
            .call(repo)
            .with_origin(origin)
            .args(["fetch", "--quiet", "--prune", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance"])
            .args(["--no-write-fetch-head", "--force"])
            .args(origin.upload_pack())
            .arg("--end-of-options")
            .arg(origin.address())
            .arg(what);
        fetch.output(&format!("fetch {}", origin.redacted())).await.map_err(|e| match e {
            PortError::Unknown { what } => PortError::transient(what),
            other => other,
        })?;
        Ok(())
    }

    /// Whether `older` is contained in `newer`, fetching when a commit is missing here.
    ///
    /// # Errors
    /// When one is nowhere.
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
            format!("{} is not a folder, so it is not a git repository", path.display()),
            "give the folder that holds the repository",
        )),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(PortError::permanent(
            format!("{} does not exist", path.display()),
            "check the path; Skep sees the files of the machine (or container) it runs on",
        )),
        Err(e) => Err(PortError::permanent(
            format!("{} cannot be looked at: {e}", path.display()),
            "give the user Skep runs as the right to read it",
        )),
    }
}

fn choose_base(seen: &RemoteHeads, base: Option<&str>, origin: &Origin) -> PortResult<String> {
    let at = origin.redacted();
    if seen.heads.is_empty() {
        return Err(PortError::permanent(
            format!("{at} has no commit on any branch"),
            "make a first commit there (a README will do) and try again",
        ));
    }
    let some: Vec<&str> = seen.heads.keys().map(String::as_str).filter(|n| !n.starts_with("skep/")).take(5).collect();
    let some = some.join(", ");
    let wanted = match (base, &seen.default) {
        (Some(base), _) => base,
        (None, Some(default)) => default,
        (None, None) if seen.has_head => {
            return Err(PortError::permanent(
                format!("{at} has no default branch: its HEAD is detached"),
                format!("name the base branch with --base; there are: {some}"),
            ));
        }
        (None, None) => {
            return Err(PortError::permanent(
                format!("{at} has no default branch: its HEAD names a branch without commits"),
                format!("name the base branch with --base; there are: {some}"),
            ));
        }
    };
    if seen.heads.contains_key(wanted) {
        Ok(wanted.to_owned())
    } else {
        Err(PortError::permanent(
            format!("{at} has no branch {wanted:?}"),
            format!("name one that exists with --base; there are: {some}"),
        ))
    }
}
