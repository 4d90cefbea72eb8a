//! Pushes a run's branch to its origin, only if the branch there is where Skep left it.

use super::GitWorkspaces;
use crate::domain::Sha;
use crate::platform::git::Origin;
use crate::ports::{PortError, PortResult, Repo};

impl GitWorkspaces {
    pub(super) async fn push_branch(
        &self,
        repo: &Repo,
        sha: &Sha,
        branch: &str,
        expected: Option<&Sha>,
    ) -> PortResult<()> {
        let origin = Origin::parse(&repo.origin)?;
        if !branch.contains('/') {
            return Err(PortError::permanent(
                format!("{branch:?} is not a branch of a run: it has no prefix"),
                "set a branch prefix for the project; runs only push below it",
            ));
        }
        let remote = self.mirrors.remote_heads(repo, &[branch]).await?;
        if remote.default.as_deref() == Some(branch) {
            return Err(PortError::permanent(
                format!("{branch:?} is the default branch of {}", origin.redacted()),
                "set another branch prefix for the project; runs never push to the default branch",
            ));
        }
        let current = remote.heads.get(branch);
        match current {
            Some(current) if current == sha => return Ok(()),
            Some(current) if Some(current) != expected => return Err(moved_by_others(branch, current, &origin)),
            _ => {}
        }
        let lease = format!("--force-with-lease=refs/heads/{branch}:{}", current.map_or("", Sha::as_str));
        let call = self.mirrors.call(repo).with_origin(&origin).args([
            "push",
            "--porcelain",
            "--no-verify",
            "--no-follow-tags",
        ]);
        let call = call.args(origin.receive_pack()).arg(lease).arg("--end-of-options").arg(origin.address());
        crate::fault!("before-push");
        let pushed = call.arg(format!("{sha}:refs/heads/{branch}")).output(&format!("push {branch:?}")).await;
        crate::fault!("after-push");
        let Err(error) = pushed else { return Ok(()) };
        // The current head of the branch decides the outcome, not git's message.
        let now = self
            .mirrors
            .remote_heads(repo, &[branch])
            .await
            .map_err(|_| PortError::Unknown { what: error.to_string() })?;
        match now.heads.get(branch) {
            Some(now) if now == sha => Ok(()),
            now if now == current => Err(error),
            Some(now) => Err(moved_by_others(branch, now, &origin)),
            None => Err(error),
        }
    }
}

fn moved_by_others(branch: &str, current: &Sha, origin: &Origin) -> PortError {
    PortError::permanent(
        format!("branch {branch:?} of {} is at {current}, which is not where Skep left it", origin.redacted()),
        "someone else pushed to that branch: move or delete it, then run `skep unblock`",
    )
}
