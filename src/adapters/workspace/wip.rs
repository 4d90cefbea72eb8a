//! Work that is in no commit is kept before its worktree is cleaned.

use super::paths::WorktreePaths;
use super::scan::scan;
use super::{GitWorkspaces, set_ref};
use crate::domain::{RunId, Sha};
use crate::platform::git::durable_fs::{remove_path, run_blocking};
use crate::platform::git::{commit_tree, read_commit, write_commit};
use crate::ports::{PortResult, Repo};

impl GitWorkspaces {
    /// Keeps what the worktree holds beyond its checkout and its last commit under `refs/skep/wip/<run>/<name>-<n>`.
    /// Gives the commit that the worktree equals, if there is one: its checkout or its last commit.
    ///
    /// What cannot be kept is told and let go: a wrecked worktree must not stop the next attempt.
    pub(super) async fn save_wip(&self, repo: &Repo, run: RunId, name: &str, paths: &WorktreePaths) -> Option<Sha> {
        match self.try_save_wip(repo, run, name, paths).await {
            Ok(equals) => equals,
            Err(error) => {
                tracing::warn!(%run, task = name, %error, "work in no commit could not be kept");
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
        let found = scan(&paths.dir).await?;
        let dir = paths.dir.clone();
        // The attempt is over and the worktree is about to be cleaned: what git must not see goes first.
        let unsafe_paths = found.nested.into_iter().map(|(_, entry)| entry).chain(found.special).chain(found.traps);
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
        let message = format!("Kept: {name} of run {run}, not committed\n");
        let kept =
            write_commit(self.git(), &mirror, &tree, (&head, base.committed_at), None, message.as_bytes()).await?;
        let prefix = format!("refs/skep/wip/{run}/{name}-");
        let list = self.mirrors.call(repo).args(["for-each-ref", "--format=%(objectname) %(refname)"]);
        let list = list.arg(format!("refs/skep/wip/{run}/")).output_line("list what was kept").await?;
        let mut most = 0_u64;
        for (sha, number) in
            list.lines().filter_map(|l| l.split_once(' ')).filter_map(|(s, r)| Some((s, r.strip_prefix(&prefix)?)))
        {
            if sha == kept.as_str() {
                return Ok(None);
            }
            most = most.max(number.parse().unwrap_or(0));
        }
        set_ref(self.git(), &mirror, &format!("{prefix}{}", most + 1), &kept).await?;
        tracing::info!(%run, task = name, kept = %kept, "kept work that was in no commit");
        Ok(None)
    }
}
