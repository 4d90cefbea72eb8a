//! Rebases commits onto another one by cherry-picking each, without a worktree and without a clock.

use super::{GitWorkspaces, set_ref};
use crate::domain::Sha;
use crate::platform::git::{CommitParts, TREE_TIMEOUT, check_sha, output_tail, read_commit, write_commit};
use crate::ports::{Moved, PortError, PortResult, Repo};
use std::path::Path;

/// Upper bound on rebased commits.
const MAX_COMMITS: usize = 1_000;
/// Upper bound on reported conflicting paths.
const MAX_PATHS: usize = 200;

/// Result of cherry-picking one commit.
enum PickResult {
    Tree(Sha),
    Conflict(Vec<String>),
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
                match self.cherry_pick(&mirror, &sha, &commit, &target).await? {
                    PickResult::Conflict(paths) => return Ok(Moved::Conflict(paths)),
                    // The target already contains this change.
                    PickResult::Tree(tree) if tree == target.tree => {}
                    PickResult::Tree(tree) => {
                        let author = (commit.author.as_slice(), commit.encoding.as_deref());
                        let parent = (&at, target.committed_at);
                        at = write_commit(self.git(), &mirror, &tree, parent, Some(author), &commit.message).await?;
                    }
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

    /// Applies the change of `commit` to `target`.
    async fn cherry_pick(
        &self,
        mirror: &Path,
        sha: &Sha,
        commit: &CommitParts,
        target: &CommitParts,
    ) -> PortResult<PickResult> {
        let Some(parent) = commit.parents.first() else {
            return Err(PortError::permanent(
                format!("commit {} has no parent, so it cannot be rebased", sha.abbrev()),
                "start the branch from the base branch",
            ));
        };
        // A commit with the target's tree, on the parent of the picked commit: the merge base of the two is that
        // parent, which makes the merge a cherry-pick. (The option `--merge-base` exists only since git 2.40.)
        let stand_in = write_commit(self.git(), mirror, &target.tree, (parent, 0), None, b"stand-in\n").await?;
        let call =
            self.git().call(mirror).timeout(TREE_TIMEOUT).args(["merge-tree", "--write-tree", "-z", "--name-only"]);
        let call = call.args(["--no-messages", "--end-of-options", stand_in.as_str(), sha.as_str()]);
        let finished = call.run("merge two trees").await?;
        let mut fields = finished.stdout.split(|b| *b == 0).map(String::from_utf8_lossy);
        let tree = Sha(fields.next().unwrap_or_default().trim().to_owned());
        match finished.code {
            Some(0) => check_sha(&tree).map(|()| PickResult::Tree(tree)),
            Some(1) if check_sha(&tree).is_ok() => {
                let mut paths: Vec<String> = fields.filter(|p| !p.is_empty()).map(|p| p.into_owned()).collect();
                paths.dedup();
                paths.truncate(MAX_PATHS);
                Ok(PickResult::Conflict(paths))
            }
            _ => Err(PortError::permanent(
                format!("cannot merge {}: {}", sha.abbrev(), output_tail(&finished.stderr)),
                "see the message of git, and rebase the branch by hand",
            )),
        }
    }
}
