//! Rebases commits onto another one by cherry-picking each, without a worktree and without a clock.

use super::{GitWorkspaces, set_ref};
use crate::domain::Sha;
use crate::platform::git::{CommitParts, TREE_TIMEOUT, check_sha, output_tail, read_commit, write_commit};
use crate::ports::{ChangeVersion, Moved, PortError, PortResult, Repo};
use std::path::Path;

/// Upper bound on rebased commits.
const MAX_COMMITS: usize = 1_000;
/// Upper bound on reported conflicting paths.
const MAX_PATHS: usize = 200;

/// Result of cherry-picking one commit: its tree, and the paths that conflict, which contain conflict markers there.
struct Picked {
    tree: Sha,
    conflicts: Vec<String>,
}

impl GitWorkspaces {
    pub(super) async fn rebase_commits(
        &self,
        repo: &Repo,
        from: &Sha,
        head: &Sha,
        onto: &Sha,
        branch: &str,
    ) -> PortResult<Moved> {
        let mirror = self.mirror(repo);
        let mut at = onto.clone();
        if from == onto {
            at = head.clone();
        } else {
            for sha in self.commits_between(repo, from, head).await? {
                let commit = read_commit(&mirror, &sha).await?;
                // Already based on the target: its id stays the same.
                if commit.parents == [at.clone()] {
                    at = sha;
                    continue;
                }
                let target = read_commit(&mirror, &at).await?;
                let parent = commit.parents.first().ok_or_else(|| {
                    PortError::permanent(
                        format!("commit {} has no parent, so it cannot be rebased", sha.abbrev()),
                        "start the branch from the base branch",
                    )
                })?;
                let picked = self.cherry_pick(&mirror, parent, &sha, &target).await?;
                if !picked.conflicts.is_empty() {
                    return Ok(Moved::Conflict(picked.conflicts));
                }
                // Otherwise the target already contains this change.
                if picked.tree != target.tree {
                    let author = (commit.author.as_slice(), commit.encoding.as_deref());
                    let parent = (&at, target.committed_at);
                    at = write_commit(self.git(), &mirror, &picked.tree, parent, Some(author), &commit.message).await?;
                }
            }
        }
        crate::fault!("mid-rebase");
        set_ref(self.git(), &mirror, &format!("refs/heads/{branch}"), &at).await?;
        Ok(Moved::Clean(at))
    }

    async fn commits_between(&self, repo: &Repo, from: &Sha, head: &Sha) -> PortResult<Vec<Sha>> {
        let max_count = format!("--max-count={}", MAX_COMMITS + 1);
        let call =
            self.mirrors.call(repo).args(["rev-list", "--reverse", "--topo-order", "--no-merges", max_count.as_str()]);
        let call = call.args(["--end-of-options", head.as_str()]).arg(format!("^{from}"));
        let output = call.output("list the commits to rebase").await?;
        let output = String::from_utf8_lossy(&output);
        let shas: Vec<Sha> = output.lines().map(Sha::from).collect();
        if shas.len() > MAX_COMMITS {
            return Err(PortError::permanent(
                format!("more than {MAX_COMMITS} commits would have to be rebased"),
                "rebase the branch by hand",
            ));
        }
        Ok(shas)
    }

    /// Returns the tree of a version of a change, moved onto another base, and the paths that conflict there.
    pub(super) async fn moved_tree(
        &self,
        repo: &Repo,
        version: &ChangeVersion,
        onto: &Sha,
    ) -> PortResult<(Sha, Vec<String>)> {
        let mirror = self.mirror(repo);
        let target = read_commit(&mirror, onto).await?;
        let picked = self.cherry_pick(&mirror, &version.base, &version.head, &target).await?;
        Ok((picked.tree, picked.conflicts))
    }

    /// Applies what changed from `from` to its descendant `sha` to `target`.
    async fn cherry_pick(&self, mirror: &Path, from: &Sha, sha: &Sha, target: &CommitParts) -> PortResult<Picked> {
        // A commit with the target's tree, on the commit that the changes start at: the merge base of the two is that
        // commit, which makes the merge a cherry-pick. (The option `--merge-base` exists only since git 2.40.)
        let stand_in = write_commit(self.git(), mirror, &target.tree, (from, 0), None, b"stand-in\n").await?;
        let call =
            self.git().call(mirror).timeout(TREE_TIMEOUT).args(["merge-tree", "--write-tree", "-z", "--name-only"]);
        let call = call.args(["--no-messages", "--end-of-options", stand_in.as_str(), sha.as_str()]);
        let finished = call.run("merge two trees").await?;
        let mut fields = finished.stdout.split(|b| *b == 0).map(String::from_utf8_lossy);
        let tree = Sha(fields.next().unwrap_or_default().trim().to_owned());
        match finished.code {
            Some(0) => check_sha(&tree).map(|()| Picked { tree, conflicts: Vec::new() }),
            Some(1) if check_sha(&tree).is_ok() => {
                let mut conflicts: Vec<String> = fields.filter(|p| !p.is_empty()).map(|p| p.into_owned()).collect();
                conflicts.dedup();
                conflicts.truncate(MAX_PATHS);
                Ok(Picked { tree, conflicts })
            }
            _ => Err(PortError::permanent(
                format!("cannot merge {}: {}", sha.abbrev(), output_tail(&finished.stderr)),
                "see the message of git, and rebase the branch by hand",
            )),
        }
    }
}
