//! A run's branch on its origin: moved only from where Skep left it.

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
                format!("{branch:?} is not a run's branch: it has no prefix"),
                "give the project a branch prefix; runs never push to other branches",
            ));
        }
        let seen = self.mirrors.remote_heads(repo, &[branch]).await?;
        if seen.default.as_deref() == Some(branch) {
            return Err(PortError::permanent(
                format!("{branch:?} is the default branch of {}", origin.redacted()),
                "give the project another branch prefix; runs never push there",
            ));
        }
        let there = seen.heads.get(branch);
        match there {
            Some(there) if there == sha => return Ok(()),
            Some(there) if Some(there) != expected => return Err(foreign(branch, there, &origin)),
            _ => {}
        }
        let lease = format!("--force-with-lease=refs/heads/{branch}:{}", there.map_or("", Sha::as_str));
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
        // Whatever git says, what is there now decides.
        let now = self
            .mirrors
            .remote_heads(repo, &[branch])
            .await
            .map_err(|_| PortError::Unknown { what: error.to_string() })?;
        match now.heads.get(branch) {
            Some(now) if now == sha => Ok(()),
            now if now == there => Err(error),
            Some(now) => Err(foreign(branch, now, &origin)),
            None => Err(error),
        }
    }
}

fn foreign(branch: &str, there: &Sha, origin: &Origin) -> PortError {
    PortError::permanent(
        format!("branch {branch:?} of {} is at {there}, which is not where Skep left it", origin.redacted()),
        "move or delete that branch (somebody else pushed to it), then `skep unblock`",
    )
}
