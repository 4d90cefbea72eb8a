//! A worktree's content as a commit, built from the trusted index.

use super::diff::Entry;
use super::paths::{WorktreePaths, copy_index};
use super::scan::{Found, scan, sizes};
use super::{GitWorkspaces, set_ref};
use crate::domain::Sha;
use crate::platform::git::durable_fs::{remove_path, run_blocking, write_atomic};
use crate::platform::git::{TREE, check_sha, output_tail, read_commit, write_commit};
use crate::ports::{Commit, PortError, PortResult, Repo};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

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
                format!("the worktree {} is not there or half made", paths.dir.display()),
                "start the task's attempt again; it makes its worktree first",
            ));
        };
        let mirror = self.mirror(repo);
        let found = scan(&paths.dir).await?;
        self.check_committable(repo, paths, &found).await?;
        let base = read_commit(&mirror, from).await?;
        let tree = self.tree_of_worktree(repo, paths, from, &checked_out).await?;
        let (diff, entries) = self.stat_of(repo, &base.tree, &tree).await?;
        refuse_links_to_repositories(&entries)?;
        let head = if tree == base.tree {
            from.clone()
        } else {
            write_commit(self.git(), &mirror, &tree, (from, base.committed_at), None, message.as_bytes()).await?
        };
        crate::fault!("mid-task-commit");
        set_ref(self.git(), &mirror, &format!("refs/heads/{branch}"), &head).await?;
        let (last, said) = (paths.last(), format!("{head}\n"));
        run_blocking(move || write_atomic(&last, said.as_bytes())).await?;
        let patch = self.patch_of(repo, &base.tree, &tree).await?;
        Ok(Commit { head, diff, patch })
    }

    /// Refuses what must never be committed, unless the repository's own `.gitignore` keeps it out anyway.
    async fn check_committable(&self, repo: &Repo, paths: &WorktreePaths, found: &Found) -> PortResult<()> {
        if let Some(trap) = found.traps.first() {
            return Err(PortError::permanent(
                format!("{} is no ordinary small file", trap.display()),
                "remove it or make it an ordinary file",
            ));
        }
        let asked: Vec<&PathBuf> = found.nested.iter().map(|(dir, _)| dir).chain(&found.special).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let ignored = self.ignored(repo, paths, &asked).await?;
        if let Some((_, entry)) = found.nested.iter().find(|(dir, _)| !ignored.contains(dir)) {
            return Err(PortError::permanent(
                format!("{} is a repository inside the worktree", entry.display()),
                "remove that entry (or the folder that holds it): nested repositories are never committed",
            ));
        }
        if let Some(path) = found.special.iter().find(|path| !ignored.contains(*path)) {
            return Err(PortError::permanent(
                format!("{} is a pipe, a socket or a device", path.display()),
                "remove it, or have .gitignore name it: only files, folders and links are committed",
            ));
        }
        Ok(())
    }

    /// Which of these paths the repository's own rules ignore.
    async fn ignored(&self, repo: &Repo, paths: &WorktreePaths, asked: &[&PathBuf]) -> PortResult<BTreeSet<PathBuf>> {
        let mut stdin = Vec::new();
        // The root itself cannot be ignored, and git would not take the question.
        for path in asked.iter().filter(|p| !p.as_os_str().is_empty()) {
            stdin.extend_from_slice(b"./");
            stdin.extend_from_slice(path.as_os_str().as_bytes());
            stdin.push(0);
        }
        if stdin.is_empty() {
            return Ok(BTreeSet::new());
        }
        let call = self.mirrors.call(repo).on_worktree(&paths.dir, &paths.index());
        let done = call.with_pathspec_magic().args(["check-ignore", "-z", "--stdin"]).stdin(stdin);
        let done = done.run("read the ignore rules").await?;
        // 0 = some, 1 = none; whatever else it says, nothing counts as ignored.
        if !matches!(done.code, Some(0 | 1)) {
            tracing::warn!(said = %output_tail(&done.stderr), "git could not read the ignore rules");
            return Ok(BTreeSet::new());
        }
        Ok(split(&done.stdout).into_iter().filter_map(|p| p.strip_prefix("./").ok().map(PathBuf::from)).collect())
    }

    /// The tree of what the worktree holds. `checked_out` is what the trusted index stands for.
    pub(super) async fn tree_of_worktree(
        &self,
        repo: &Repo,
        paths: &WorktreePaths,
        from: &Sha,
        checked_out: &Sha,
    ) -> PortResult<Sha> {
        // Worked on in a copy, so that the index goes on standing for the checkout whenever this is cut short.
        let work = paths.sealed.join("index.work");
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
        let call = || self.mirrors.call(repo).on_worktree(&paths.dir, &work).limit(TREE);
        if !reuse {
            call().args(["read-tree", "--end-of-options", from.as_str()]).output("read the starting point").await?;
        }
        let list = ["ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard"];
        let changed: Vec<PathBuf> = split(&call().args(list).output("list what changed").await?).into_iter().collect();
        if changed.len() > self.limits.changed_files {
            return Err(PortError::permanent(
                format!("{} files changed; at most {} may in one commit", changed.len(), self.limits.changed_files),
                "remove generated files, or have .gitignore name them",
            ));
        }
        let (dir, most) = (paths.dir.clone(), self.limits.changed_bytes);
        let bytes = run_blocking(move || sizes(&dir, &changed)).await?;
        if bytes > most {
            return Err(PortError::permanent(
                format!("the changed files hold {} MiB; at most {} may be in one commit", bytes >> 20, most >> 20),
                "remove large files, or have .gitignore name them",
            ));
        }
        call().args(["add", "--all"]).output("take in what changed").await?;
        let tree = Sha(call().arg("write-tree").output_line("write the tree").await?);
        check_sha(&tree)?;
        run_blocking(move || remove_path(&work)).await?;
        Ok(tree)
    }
}

/// A tree entry that names another repository's commit is a nested repository that got past the walk.
fn refuse_links_to_repositories(entries: &[Entry]) -> PortResult<()> {
    match entries.iter().find(|e| e.new_mode == "160000" && e.old_mode != "160000") {
        Some(entry) => Err(PortError::permanent(
            format!("{} would be committed as a submodule", entry.path),
            "remove the repository inside it; submodules are added by people",
        )),
        None => Ok(()),
    }
}

fn split(bytes: &[u8]) -> BTreeSet<PathBuf> {
    bytes.split(|b| *b == 0).filter(|p| !p.is_empty()).map(|p| PathBuf::from(OsStr::from_bytes(p))).collect()
}
