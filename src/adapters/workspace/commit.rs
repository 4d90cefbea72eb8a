//! Commits the content of a worktree, starting from the trusted index.

use super::diff::Entry;
use super::paths::WorktreePaths;
use super::scan::{Findings, scan, sizes};
use super::{GitWorkspaces, set_ref};
use crate::domain::{RunId, Sha};
use crate::platform::git::durable_fs::{copy_index, make_dir, remove_path, run_blocking, write_atomic};
use crate::platform::git::{TREE_TIMEOUT, check_sha, output_tail, read_blob, read_commit, write_commit};
use crate::ports::{Commit, PortError, PortResult, Repo};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Upper bound on the list of submodules; only whether there is one counts.
const MAX_GITMODULES_BYTES: u64 = 1 << 20;

impl GitWorkspaces {
    pub(super) async fn commit_worktree(
        &self,
        repo: &Repo,
        paths: &WorktreePaths,
        branch: &str,
        from: &Sha,
        message: &str,
    ) -> PortResult<Commit> {
        let Some(checked_out) = paths.head().await? else {
            return Err(PortError::permanent(
                format!("the worktree {} is missing or incomplete", paths.dir.display()),
                "start the task's attempt again, which creates its worktree first",
            ));
        };
        let mirror = self.mirror(repo);
        let findings = scan(&paths.dir).await?;
        self.check_committable(repo, paths, &findings).await?;
        let base = read_commit(&mirror, from).await?;
        self.refuse_files_in_submodules(repo, paths, from).await?;
        let mut tree = self.tree_of_worktree(repo, paths, from, &checked_out).await?;
        let (mut diff, mut entries) = self.stat_of(repo, &base.tree, &tree).await?;
        refuse_new_submodules(&entries)?;
        let index = paths.staged_index();
        if let Some(kept) = self.keep_line_endings(repo, paths, &index, &entries).await? {
            tree = kept;
            (diff, entries) = self.stat_of(repo, &base.tree, &tree).await?;
        }
        self.refuse_bare_content(repo, paths, &index, &entries).await?;
        let head = if tree == base.tree {
            from.clone()
        } else {
            write_commit(self.git(), &mirror, &tree, (from, base.committed_at), None, message.as_bytes()).await?
        };
        crate::fault!("mid-task-commit");
        set_ref(self.git(), &mirror, &format!("refs/heads/{branch}"), &head).await?;
        let (last, text) = (paths.last(), format!("{head}\n"));
        run_blocking(move || write_atomic(&last, text.as_bytes())).await?;
        let patch = self.patch_of(repo, &base.tree, &tree).await?;
        Ok(Commit { head, diff, patch })
    }

    /// Stores the content of the origin's working copy as a commit that no branch names.
    pub(super) async fn snapshot_of(&self, repo: &Repo, run: RunId, head: &Sha) -> PortResult<Sha> {
        check_sha(head)?;
        let dir = PathBuf::from(&repo.origin);
        if !dir.is_absolute() || !dir.join(".git").exists() {
            return Err(PortError::permanent(
                format!("{} is not a working copy on this machine", repo.origin),
                "name the folder of a working copy, or check its last commit",
            ));
        }
        let paths = WorktreePaths { dir, sealed: self.paths(run, "x-snapshot").sealed };
        make_dir(&paths.sealed)?;
        // No commit is checked out by Skep there: the index is built from `head`, and every file is compared.
        let nothing = Sha(String::new());
        let tree = self.tree_of_worktree(repo, &paths, head, &nothing).await?;
        let mirror = self.mirror(repo);
        let base = read_commit(&mirror, head).await?;
        if tree == base.tree {
            return Ok(head.clone());
        }
        write_commit(self.git(), &mirror, &tree, (head, base.committed_at), None, b"Uncommitted changes\n").await
    }

    /// Refuses entries that must never be committed, unless the repository's own `.gitignore` excludes them anyway.
    async fn check_committable(&self, repo: &Repo, paths: &WorktreePaths, findings: &Findings) -> PortResult<()> {
        if let Some(trap) = findings.traps.first() {
            return Err(PortError::permanent(
                format!("{} is not a small regular file", trap.display()),
                "remove it or replace it with a regular file",
            ));
        }
        let suspects: Vec<&PathBuf> = findings.nested.iter().map(|(dir, _)| dir).chain(&findings.special).collect();
        if suspects.is_empty() {
            return Ok(());
        }
        let ignored = self.ignored(repo, paths, &suspects).await?;
        if let Some((_, entry)) = findings.nested.iter().find(|(dir, _)| !ignored.contains(dir)) {
            return Err(PortError::permanent(
                format!("{} is a repository inside the worktree", entry.display()),
                "remove that entry or the folder that contains it; nested repositories are never committed",
            ));
        }
        if let Some(path) = findings.special.iter().find(|path| !ignored.contains(*path)) {
            return Err(PortError::permanent(
                format!("{} is a pipe, a socket or a device", path.display()),
                "remove it or add it to .gitignore; only files, folders and links are committed",
            ));
        }
        Ok(())
    }

    /// Refuses files in the folder of a submodule, which is empty in worktrees: git would leave them out without a word.
    async fn refuse_files_in_submodules(&self, repo: &Repo, paths: &WorktreePaths, from: &Sha) -> PortResult<()> {
        if read_blob(&self.mirror(repo), from, ".gitmodules", MAX_GITMODULES_BYTES).await?.is_none() {
            return Ok(());
        }
        let list = self.mirrors.call(repo).timeout(TREE_TIMEOUT).args(["ls-tree", "-r", "-z", "--end-of-options"]);
        let output = list.arg(from.as_str()).output("list the submodules").await?;
        let links = output.split(|b| *b == 0).filter(|entry| entry.starts_with(b"160000 "));
        let folders = links.filter_map(|entry| entry.splitn(2, |b| *b == b'\t').nth(1));
        let is_filled = |folder: &&[u8]| {
            let folder = paths.dir.join(OsStr::from_bytes(folder));
            std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
        };
        match folders.into_iter().find(is_filled) {
            None => Ok(()),
            Some(folder) => Err(PortError::permanent(
                format!("files were written into {}, which is a submodule", String::from_utf8_lossy(folder)),
                "leave the submodule as it is; it changes in its own repository",
            )),
        }
    }

    /// Returns those of `candidates` that the repository's own rules ignore.
    async fn ignored(
        &self,
        repo: &Repo,
        paths: &WorktreePaths,
        candidates: &[&PathBuf],
    ) -> PortResult<BTreeSet<PathBuf>> {
        let mut stdin = Vec::new();
        // The root itself cannot be ignored, and git rejects an empty path.
        for path in candidates.iter().filter(|p| !p.as_os_str().is_empty()) {
            stdin.extend_from_slice(b"./");
            stdin.extend_from_slice(path.as_os_str().as_bytes());
            stdin.push(0);
        }
        if stdin.is_empty() {
            return Ok(BTreeSet::new());
        }
        let call = self.mirrors.call(repo).on_worktree(&paths.dir, &paths.index());
        let call = call.with_pathspec_magic().args(["check-ignore", "-z", "--stdin"]).stdin(stdin);
        let finished = call.run("read the ignore rules").await?;
        // 0 = some are ignored, 1 = none. After any other code, nothing counts as ignored.
        if !matches!(finished.code, Some(0 | 1)) {
            tracing::warn!(stderr = %output_tail(&finished.stderr), "git cannot read the ignore rules");
            return Ok(BTreeSet::new());
        }
        Ok(split(&finished.stdout).into_iter().filter_map(|p| p.strip_prefix("./").ok().map(PathBuf::from)).collect())
    }

    /// Writes the worktree's content as a tree, which [`WorktreePaths::staged_index`] also has. `checked_out` is the commit the trusted index describes.
    pub(super) async fn tree_of_worktree(
        &self,
        repo: &Repo,
        paths: &WorktreePaths,
        from: &Sha,
        checked_out: &Sha,
    ) -> PortResult<Sha> {
        // Works on a copy of the index, so that an interruption leaves the original describing the checkout.
        let work = paths.staged_index();
        let (index, copy, reuse) = (paths.index(), work.clone(), from == checked_out);
        run_blocking(move || {
            remove_path(&copy)?;
            remove_path(&copy.with_extension("work.lock"))?;
            if reuse {
                copy_index(&index, &copy)
                    .map_err(|e| PortError::transient(format!("cannot copy {}: {e}", index.display())))?;
            }
            Ok(())
        })
        .await?;
        let call = || self.mirrors.call(repo).on_worktree(&paths.dir, &work).timeout(TREE_TIMEOUT);
        if !reuse {
            call().args(["read-tree", "--end-of-options", from.as_str()]).output("read the base commit").await?;
        }
        let list = ["ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard"];
        let changed: Vec<PathBuf> =
            split(&call().args(list).output("list the changed files").await?).into_iter().collect();
        if changed.len() > self.limits.changed_files {
            return Err(PortError::permanent(
                format!("{} files changed; a commit may change at most {}", changed.len(), self.limits.changed_files),
                "remove generated files or add them to .gitignore",
            ));
        }
        let (dir, max_bytes) = (paths.dir.clone(), self.limits.changed_bytes);
        let bytes = run_blocking(move || sizes(&dir, &changed)).await?;
        if bytes > max_bytes {
            return Err(PortError::permanent(
                format!("the changed files have {} MiB; a commit may have at most {}", bytes >> 20, max_bytes >> 20),
                "remove large files or add them to .gitignore",
            ));
        }
        call().args(["add", "--all"]).output("stage the changes").await?;
        let tree = Sha(call().arg("write-tree").output_line("write the tree").await?);
        check_sha(&tree)?;
        Ok(tree)
    }
}

/// Refuses new submodule entries: a nested repository that the scan missed.
fn refuse_new_submodules(entries: &[Entry]) -> PortResult<()> {
    match entries.iter().find(|e| e.new_mode == "160000" && e.old_mode != "160000") {
        Some(entry) => Err(PortError::permanent(
            format!("{} would be committed as a submodule", entry.path),
            "remove the repository inside it; only people add submodules",
        )),
        None => Ok(()),
    }
}

fn split(bytes: &[u8]) -> BTreeSet<PathBuf> {
    bytes.split(|b| *b == 0).filter(|p| !p.is_empty()).map(|p| PathBuf::from(OsStr::from_bytes(p))).collect()
}
