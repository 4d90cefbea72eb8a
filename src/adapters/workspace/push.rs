//! Pushes a run's branch to its origin, only if the branch there is where Skep left it.

use super::GitWorkspaces;
use crate::domain::Sha;
use crate::platform::git::{Access, BranchUpdate, command_error};
use crate::ports::{PortError, PortResult, Repo};
use std::time::SystemTime;

impl GitWorkspaces {
    pub(super) async fn push_branch(
        &self,
        repo: &Repo,
        sha: &Sha,
        branch: &str,
        expected: Option<&Sha>,
    ) -> PortResult<()> {
        if !branch.contains('/') {
            return Err(PortError::permanent(
                format!("{branch:?} is not a branch of a run: it has no prefix"),
                "set a branch prefix for the project; runs only push below it",
            ));
        }
        self.mirrors.ensure_commit(repo, sha).await?;
        let access = self.mirrors.access(repo).await?;
        let remote = self.mirrors.remote_heads(repo, &[branch]).await?;
        if remote.default.as_deref() == Some(branch) {
            return Err(PortError::permanent(
                format!("{branch:?} is the default branch of {}", access.redacted()),
                "set another branch prefix for the project; runs never push to the default branch",
            ));
        }
        let current = remote.heads.get(branch);
        match current {
            Some(current) if current == sha => return Ok(()),
            Some(current) if Some(current) != expected => return Err(moved_by_others(branch, current, &access)),
            _ => {}
        }
        crate::fault!("before-push");
        let doing = format!("push {branch:?}");
        // Only Skep writes to the branches of runs.
        let own_locks_since = Some(SystemTime::UNIX_EPOCH);
        let update = BranchUpdate { branch, head: Some(sha), expected: current, own_locks_since };
        let (pushed, _) = self.mirrors.push(repo, &access, update, &doing, None).await;
        crate::fault!("after-push");
        let error = match pushed {
            Ok(finished) if finished.ok() => return Ok(()),
            Ok(finished) => command_error(&doing, &finished),
            Err(error) => error,
        };
        // The current head of the branch decides the outcome, not git's message.
        let now = self
            .mirrors
            .remote_heads(repo, &[branch])
            .await
            .map_err(|_| PortError::Unknown { what: error.to_string() })?;
        match now.heads.get(branch) {
            Some(now) if now == sha => Ok(()),
            now if now == current => Err(error),
            Some(now) => Err(moved_by_others(branch, now, &access)),
            None => Err(error),
        }
    }
}

fn moved_by_others(branch: &str, current: &Sha, access: &Access) -> PortError {
    PortError::permanent(
        format!("branch {branch:?} of {} is at {current}, which is not where Skep left it", access.redacted()),
        "someone else pushed to that branch: move or delete it, then run `skep unblock`",
    )
}
