//! How git reaches an origin: over the network, or through Skep's own git directory for a local repository.

use super::durable_fs::{read_text, run_blocking};
use super::local::{LocalRepository, LocalView, Settings, WorkingCopy, read_settings};
use super::mirror::{FileState, Mirrors};
use super::origin::Origin;
use super::working_copy::WorkingCopyMove;
use crate::ports::{GitCredential, PortError, PortResult, Repo};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// Options of the other side of a local transport. Its git directory is Skep's own.
const SEALED: &str = "-c safe.directory=* -c core.hooksPath=/dev/null -c core.fsmonitor=false \
                      -c core.alternateRefsCommand=true";
/// Extensions of the repository format that Skep can work with.
const EXTENSIONS: &[&str] = &[
    "objectformat",
    "refstorage",
    "partialclone",
    "worktreeconfig",
    "relativeworktrees",
    "preciousobjects",
    "noop",
    "noop-v1",
];

/// An origin as git reaches it.
#[derive(Clone, Debug)]
pub struct Access {
    /// The origin.
    pub origin: Origin,
    /// The local repository, if it is one.
    pub view: Option<LocalView>,
    /// The credential of the forge that the origin belongs to.
    pub credential: Option<GitCredential>,
}

impl Access {
    /// Returns the repository argument for git.
    pub fn address(&self) -> std::ffi::OsString {
        match &self.view {
            Some(view) => view.dir.clone().into(),
            None => self.origin.address(),
        }
    }

    /// Returns the address for messages, quoted and without credentials.
    pub fn redacted(&self) -> String {
        self.origin.redacted()
    }

    /// Returns the option for the reading side of a local origin.
    pub fn upload_pack(&self) -> Option<String> {
        self.view.as_ref().map(|_| format!("--upload-pack=git {SEALED} upload-pack"))
    }

    /// Returns the option for the writing side of a local origin: no hooks. Working copies are moved by
    /// [`WorkingCopyMove`].
    pub fn receive_pack(&self) -> Option<String> {
        self.view.as_ref().map(|_| format!("--receive-pack=git {SEALED} receive-pack"))
    }

    /// Returns whether the origin is a partial clone, which lacks files of its history.
    pub(super) fn is_partial(&self) -> bool {
        self.view.as_ref().is_some_and(|view| {
            let promised = |(name, _): (&String, _)| name.starts_with("remote.") && name.ends_with(".promisor");
            view.settings.contains_key("extensions.partialclone") || view.settings.iter().any(promised)
        })
    }

    pub(super) fn partial_error(&self) -> PortError {
        PortError::permanent(
            format!("{} is a partial clone (made with --filter) and lacks files that a run needs", self.redacted()),
            "check out the base branch there, use the repository it was cloned from, or clone it without --filter",
        )
    }
}

impl Mirrors {
    /// Returns how to reach a project's origin. For a local one, Skep's own git directory is created or refreshed.
    ///
    /// # Errors
    /// When the origin is not allowed, or is a path without a repository, with the fix.
    pub async fn access(&self, repo: &Repo) -> PortResult<Access> {
        let origin = Origin::parse(&repo.origin)?;
        let Origin::Local(path) = &origin else {
            let credential = match (&origin, &self.credentials) {
                (Origin::Http(url), Some(credentials)) => credentials.credential(url).await?,
                _ => None,
            };
            return Ok(Access { origin, view: None, credential });
        };
        let dir = self.data.join("origins").join(format!("{}.git", repo.project));
        let (path, marker) = (path.clone(), dir.clone());
        let found = run_blocking(move || find_local(&path, &marker)).await?;
        let view = self.view(dir, &found, &found.git_dir).await?;
        if let Some(name) =
            view.settings.keys().filter_map(|k| k.strip_prefix("extensions.")).find(|k| !EXTENSIONS.contains(k))
        {
            return Err(PortError::permanent(
                format!("{} uses the repository extension {name:?}, which Skep does not know", origin.redacted()),
                "use a clone of it without that extension",
            ));
        }
        Ok(Access { origin, view: Some(view), credential: None })
    }

    /// Creates or refreshes Skep's own git directory for a working copy with this git directory.
    async fn view(&self, dir: PathBuf, repository: &LocalRepository, git_dir: &Path) -> PortResult<LocalView> {
        let settings = self.settings_of(git_dir, &repository.common_dir).await?;
        let (repository, git_dir) = (repository.clone(), git_dir.to_owned());
        let views = self.views.clone();
        run_blocking(move || {
            let _one = views.lock().unwrap_or_else(PoisonError::into_inner);
            LocalView::write(&dir, &repository, &git_dir, &settings)?;
            Ok(LocalView { repository, dir, settings })
        })
        .await
    }

    /// Reads the settings of a repository, once for each state of its files.
    async fn settings_of(&self, git_dir: &Path, common_dir: &Path) -> PortResult<Settings> {
        let state = |path: PathBuf| -> FileState {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        let files = [common_dir.join("config"), git_dir.join("config.worktree"), common_dir.join("config.worktree")];
        let states: Vec<FileState> = files.map(state).into();
        let known = self.settings.lock().unwrap_or_else(PoisonError::into_inner).get(git_dir).cloned();
        if let Some((of, settings)) = known
            && of == states
        {
            return Ok(settings);
        }
        let settings = read_settings(self.git(), git_dir, common_dir).await?;
        let mut cache = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(git_dir.to_owned(), (states, settings.clone()));
        Ok(settings)
    }

    /// Returns the working copies of a local repository that have a branch checked out.
    ///
    /// # Errors
    /// Permanent when a person has begun a rebase, merge or the like of that branch and not finished it.
    pub async fn checked_out(&self, view: &LocalView, branch: &str) -> PortResult<Vec<WorkingCopy>> {
        let mut found = Vec::new();
        for copy in view.repository.working_copies() {
            if let Some(operation) = copy.unfinished(branch) {
                let dir = copy.dir.display();
                return Err(PortError::permanent(
                    format!("a {operation} of {branch:?} is under way in {dir}; nothing was landed"),
                    format!("finish it or abort it (`git -C {dir} {operation} --abort`), then run `skep unblock`"),
                ));
            }
            let is_here = match view.settings.get("extensions.refstorage").is_some_and(|s| s == "reftable") {
                false => copy.branch().as_deref() == Some(branch),
                // The tables hold the HEAD of the main working copy.
                true if copy.git_dir == view.repository.common_dir => {
                    let head =
                        self.git().call(&view.dir).args(["symbolic-ref", "--quiet", "HEAD"]).run("read HEAD").await?;
                    head.stdout.trim_ascii() == format!("refs/heads/{branch}").as_bytes()
                }
                true => false,
            };
            let is_bare = super::is_on(&view.settings, "core.bare") && copy.git_dir == view.repository.common_dir;
            if is_here && !is_bare {
                found.push(copy);
            }
        }
        Ok(found)
    }

    /// Prepares to look at a working copy of a local origin, or to move it.
    ///
    /// # Errors
    /// When Skep's own git directory for it cannot be written.
    pub async fn working_copy_move<'a>(
        &'a self,
        repo: &Repo,
        view: &LocalView,
        copy: &'a WorkingCopy,
    ) -> PortResult<WorkingCopyMove<'a>> {
        // One for each working copy, named by the folder of its git directory.
        let name = copy.git_dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let dir = self.data.join("origins").join(format!("{}.copies", repo.project)).join(name);
        let of_copy = self.view(dir, &view.repository, &copy.git_dir).await?;
        let scratch = tempfile::Builder::new()
            .prefix("scratch-")
            .tempdir_in(&of_copy.dir)
            .map_err(|e| PortError::transient(format!("cannot create a folder in {}: {e}", of_copy.dir.display())))?;
        Ok(WorkingCopyMove {
            git: self.git(),
            copy,
            options: of_copy.options(),
            view: of_copy.dir,
            mirror: self.dir(&repo.project),
            scratch,
        })
    }
}

/// Finds the repository at a path. `view` is Skep's own git directory for it, which shows whether it was there before.
fn find_local(path: &Path, view: &Path) -> PortResult<LocalRepository> {
    let shown = path.display();
    let was_there = || {
        let known = read_text(&view.join("origin")).ok().flatten();
        known.is_some_and(|known| known == path.to_string_lossy())
    };
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(PortError::permanent(
                format!("{shown} is not a folder, so it cannot be a git repository"),
                "use the folder that contains the repository",
            ));
        }
        // An automounted or network file system comes back by itself.
        Err(e) if e.kind() == ErrorKind::NotFound && was_there() => {
            return Err(PortError::transient(format!(
                "{shown} is not there any more: it was moved, deleted or unmounted"
            )));
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(PortError::permanent(
                format!("{shown} does not exist"),
                "check the path; Skep sees only files of the machine (or container) it runs on",
            ));
        }
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            return Err(PortError::permanent(
                format!("cannot read {shown}: {e}"),
                "give the user Skep runs as read access to it",
            ));
        }
        Err(e) => return Err(PortError::transient(format!("cannot read {shown}: {e}"))),
    }
    match LocalRepository::find(path)? {
        Some(found) => Ok(found),
        // An empty mount point.
        None if was_there() => Err(PortError::transient(format!(
            "there is no repository in {shown} any more: it was moved, deleted or unmounted"
        ))),
        None => Err(PortError::permanent(
            format!("{shown} does not appear to be a git repository, nor does a folder above it"),
            "check the path or address; `git init` and a first commit turn a folder into a repository",
        )),
    }
}
