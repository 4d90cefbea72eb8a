//! Saves uncommitted work before its worktree is reset.

use super::paths::WorktreePaths;
use super::scan::scan;
use super::{GitWorkspaces, set_ref};
use crate::domain::{RunId, Sha};
use crate::platform::git::durable_fs::{remove_path, run_blocking};
use crate::platform::git::{commit_tree, read_commit, write_commit};
use crate::ports::{PortResult, Repo};

impl GitWorkspaces {
    /// Saves content that is neither in the checkout nor in the last commit under `refs/skep/wip/<run>/<name>-<n>`.
    /// Returns the commit whose content the worktree has, if there is one: its checkout or its last commit.
    ///
    /// A failure is only logged: a wrecked worktree must not stop the next attempt.
    pub(super) async fn save_wip(&self, repo: &Repo, run: RunId, name: &str, paths: &WorktreePaths) -> Option<Sha> {
        match self.try_save_wip(repo, run, name, paths).await {
            Ok(equal_to) => equal_to,
            Err(error) => {
                tracing::warn!(%run, task = name, %error, "cannot save uncommitted work");
                None
            }
        }
    }

    async fn try_save_wip(
        &self,
        repo: &Repo,
        run: RunId,
        name: &str,
        paths: &WorktreePaths,
    ) -> PortResult<Option<Sha>> {
        let Some(head) = paths.head().await? else { return Ok(None) };
        let findings = scan(&paths.dir).await?;
        let dir = paths.dir.clone();
        // The attempt is over and the worktree is about to be reset, so entries that git must not read are removed.
        let unsafe_paths =
            findings.nested.into_iter().map(|(_, entry)| entry).chain(findings.special).chain(findings.traps);
        let unsafe_paths: Vec<_> = unsafe_paths.collect();
        let stripped = !unsafe_paths.is_empty();
        run_blocking(move || unsafe_paths.iter().try_for_each(|path| remove_path(&dir.join(path)))).await?;
        let mirror = self.mirror(repo);
        let base = read_commit(&mirror, &head).await?;
        let tree = self.tree_of_worktree(repo, paths, &head, &head).await?;
        if tree == base.tree {
            return Ok(Some(head).filter(|_| !stripped));
        }
        if let Some(last) = paths.last_commit().await?
            && commit_tree(&mirror, &last).await? == tree
        {
            return Ok(Some(last).filter(|_| !stripped));
        }
        let message = format!("Save uncommitted work of {name} in run {run}\n");
        let saved =
            write_commit(self.git(), &mirror, &tree, (&head, base.committed_at), None, message.as_bytes()).await?;
        let prefix = format!("refs/skep/wip/{run}/{name}-");
        let list = self.mirrors.call(repo).args(["for-each-ref", "--format=%(objectname) %(refname)"]);
        let list = list.arg(format!("refs/skep/wip/{run}/")).output_line("list the saved work").await?;
        let mut last = 0_u64;
        for (sha, number) in
            list.lines().filter_map(|l| l.split_once(' ')).filter_map(|(s, r)| Some((s, r.strip_prefix(&prefix)?)))
        {
            if sha == saved.as_str() {
                return Ok(None);
            }
            last = last.max(number.parse().unwrap_or(0));
        }
        set_ref(self.git(), &mirror, &format!("{prefix}{}", last + 1), &saved).await?;
        tracing::info!(%run, task = name, commit = %saved, "saved uncommitted work");
        Ok(None)
    }
}
