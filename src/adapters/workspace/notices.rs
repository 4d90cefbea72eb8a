//! Finds what a person should know about a repository before a run.

use super::GitWorkspaces;
use super::stored_form::product;
use crate::domain::{Notice, Sha};
use crate::platform::git::{LocalView, Settings, from_home, is_on, personal_settings, read_blob};
use crate::ports::{PortError, PortResult, Repo};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Upper bound on paths kept of a list.
const MAX_PATHS: usize = 20;
/// Upper bound on a file of rules at the base commit.
const MAX_RULES_BYTES: u64 = 1 << 20;
/// Maximum time to look at a working copy. A run does not depend on it.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Hooks of git that a commit, push or landing in a person's hands would run.
const HOOKS: &[&str] = &[
    "pre-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
    "pre-merge-commit",
    "post-merge",
    "pre-push",
    "pre-receive",
    "update",
    "reference-transaction",
    "post-receive",
    "post-update",
];

/// Refuses a repository to which the branch of a run cannot be pushed, before anything is worked on.
fn require_writable(git_dir: &Path) -> PortResult<()> {
    for part in ["objects", "refs"] {
        let dir = git_dir.join(part);
        if let Err(error) = rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK) {
            return Err(PortError::permanent(
                format!("cannot write to {}: {error}; a run pushes its branch there", dir.display()),
                "give the user Skep runs as write access to the repository, or start from a clone of it",
            ));
        }
    }
    Ok(())
}

impl GitWorkspaces {
    /// Refuses a branch name that the origin cannot have, and returns what a person should know.
    pub(super) async fn inspect_origin(&self, repo: &Repo, base: &Sha, branch: &str) -> PortResult<Vec<Notice>> {
        self.refuse_taken_prefix(repo, branch).await?;
        let mut notices = Vec::new();
        let access = self.mirrors.access(repo).await?;
        if let Some(view) = &access.view {
            require_writable(&view.repository.common_dir)?;
            notices.extend(self.of_working_copy(repo, view).await);
            let settings = match &self.home {
                Some(home) => personal_settings(self.git(), view, home).await,
                None => view.settings.clone(),
            };
            let names = hooks(view, &settings, self.home.as_deref());
            if !names.is_empty() {
                notices.push(Notice::Hooks { names });
            }
            if is_on(&settings, "commit.gpgsign") {
                notices.push(Notice::Unsigned);
            }
            if std::fs::metadata(view.repository.common_dir.join("shallow")).is_ok_and(|m| m.len() > 0) {
                notices.push(Notice::Shallow);
            }
        }
        notices.extend(self.of_base(repo, base).await?);
        if let Some(view) = &access.view {
            let name = |key: &String| key.strip_prefix("remote.")?.strip_suffix(".url").map(str::to_owned);
            notices.extend(view.settings.keys().find_map(name).map(|name| Notice::Remote { name }));
        }
        Ok(notices)
    }

    /// Refuses a branch below the name of an existing one: git cannot store both.
    async fn refuse_taken_prefix(&self, repo: &Repo, branch: &str) -> PortResult<()> {
        let above: Vec<&str> = branch.match_indices('/').map(|(at, _)| &branch[..at]).collect();
        if above.is_empty() {
            return Ok(());
        }
        let remote = self.mirrors.remote_heads(repo, &above).await?;
        match above.into_iter().find(|name| remote.heads.contains_key(*name)) {
            None => Ok(()),
            Some(taken) => Err(PortError::permanent(
                format!("the repository has a branch {taken:?}, so the run cannot have a branch {branch:?} below it"),
                "rename that branch, or set another `git.branch_prefix`",
            )),
        }
    }

    /// Returns the notices about files that are in no commit.
    async fn of_working_copy(&self, repo: &Repo, view: &LocalView) -> Vec<Notice> {
        let git_dir = &view.repository.git_dir;
        let Some(copy) = view.repository.working_copies().into_iter().find(|c| c.git_dir == *git_dir) else {
            return Vec::new();
        };
        if is_on(&view.settings, "core.bare") {
            return Vec::new();
        }
        let mut notices = Vec::new();
        if let Some((operation, branch)) = copy.operation() {
            notices.push(Notice::Unfinished { branch, operation: operation.to_owned() });
        }
        let look = async {
            let looked = self.mirrors.working_copy_move(repo, view, &copy).await?;
            PortResult::Ok((looked.uncommitted().await?, looked.ignored().await?))
        };
        let (uncommitted, mut ignored) = match tokio::time::timeout(LOOK_TIMEOUT, look).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot list the uncommitted files");
                return notices;
            }
            Err(_) => return notices,
        };
        if !uncommitted.is_empty() {
            let files = uncommitted.len() as u64;
            notices.push(Notice::Uncommitted { files, paths: uncommitted.into_iter().take(MAX_PATHS).collect() });
        }
        // Folders are build output and dependencies; a single file may be configuration that something needs.
        ignored.retain(|path| !path.ends_with('/'));
        if !ignored.is_empty() {
            notices.push(Notice::Ignored { paths: ignored.into_iter().take(MAX_PATHS).collect() });
        }
        notices
    }

    /// Returns the notices about the base commit.
    async fn of_base(&self, repo: &Repo, base: &Sha) -> PortResult<Vec<Notice>> {
        let mirror = self.mirror(repo);
        let mut notices = Vec::new();
        if let Some(Ok(_)) = read_blob(&mirror, base, ".gitmodules", MAX_RULES_BYTES).await? {
            let call = self.mirrors.call(repo).args(["config", "--no-includes", "-z"]);
            let call = call.arg(format!("--blob={base}:.gitmodules")).args(["--get-regexp", r"^submodule\..*\.path$"]);
            // A file that cannot be parsed names no submodule.
            let listed = call.run("read .gitmodules").await?.stdout;
            let path = |entry: &[u8]| {
                let text = String::from_utf8_lossy(entry).into_owned();
                text.split_once('\n').map(|(_, path)| path.to_owned())
            };
            let paths: Vec<String> = listed.split(|b| *b == 0).filter_map(path).take(MAX_PATHS).collect();
            if !paths.is_empty() {
                notices.push(Notice::Submodules { paths });
            }
        }
        if let Some(Ok(rules)) = read_blob(&mirror, base, ".gitattributes", MAX_RULES_BYTES).await? {
            let text = String::from_utf8_lossy(&rules);
            let filters = text.lines().filter(|l| !l.trim_start().starts_with('#')).flat_map(str::split_whitespace);
            let filters = filters.filter_map(|word| product(word.strip_prefix("filter=")?));
            let mut names: Vec<String> = filters.collect();
            names.sort();
            names.dedup();
            if !names.is_empty() {
                notices.push(Notice::Filters { names });
            }
        }
        Ok(notices)
    }
}

/// Returns the names of the hooks that git would run in a person's hands.
fn hooks(view: &LocalView, settings: &Settings, home: Option<&Path>) -> Vec<String> {
    let common = &view.repository.common_dir;
    let dir = match settings.get("core.hookspath") {
        Some(path) => home
            .and_then(|home| from_home(path, home))
            // Relative to the working copy.
            .unwrap_or_else(|| view.repository.top.join(path)),
        None => common.join("hooks"),
    };
    let runs =
        |path: PathBuf| std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    HOOKS.iter().filter(|name| runs(dir.join(name))).map(|name| (*name).to_owned()).collect()
}
