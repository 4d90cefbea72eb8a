//! Lands exactly one commit on the base branch, if everything is still as it was when it was checked.

use super::LocalForge;
use super::state::LandingIntent;
use crate::domain::{ChangeNumber, ChangeState, Principal, Sha};
use crate::platform::git::{Origin, command_error, output_tail};
use crate::ports::forge::Landing;
use crate::ports::{PortError, PortResult, Repo};

impl LocalForge {
    pub(super) async fn land_as(
        &self,
        repo: &Repo,
        number: ChangeNumber,
        head: &Sha,
        base: &Sha,
        by: &Principal,
    ) -> PortResult<Landing> {
        let _held = self.lock(repo).await?;
        let mut entry = self.load(repo, number).await?;
        let branches = self.branches(repo, &entry.change).await?;
        if self.record_merge(repo, &mut entry, &branches).await? {
            self.save(repo, &entry).await?;
        }
        match &entry.change.state {
            ChangeState::Merged { sha, .. } if sha == head => return Ok(Landing::Landed(head.clone())),
            ChangeState::Merged { sha, .. } => {
                return Ok(Landing::Stale(format!("change {number} was merged at {}", sha.abbrev())));
            }
            ChangeState::Closed { by } => return Ok(Landing::Stale(format!("change {number} was closed by {by}"))),
            ChangeState::Open => {}
        }
        if branches.head.as_ref() != Some(head) {
            let current = branches.head.as_ref().map_or("no commit", Sha::abbrev);
            return Ok(Landing::Stale(format!(
                "branch {:?} is at {current}, not at {}",
                entry.change.branch,
                head.abbrev()
            )));
        }
        let base_branch = entry.change.base_branch.clone();
        if branches.base != *base {
            let current = branches.base.abbrev();
            return Ok(Landing::Stale(format!("branch {base_branch:?} is at {current}, not at {}", base.abbrev())));
        }
        if !self.mirrors.contains(repo, base, head).await? {
            return Ok(Landing::Stale(format!("{} is not a descendant of {}", head.abbrev(), base.abbrev())));
        }
        crate::fault!("before-land");
        entry.landing = Some(LandingIntent { head: head.clone(), by: by.clone() });
        self.save(repo, &entry).await?;
        crate::fault!("mid-land");
        if let Some(stale) = self.push_base(repo, &base_branch, head, base).await? {
            return Ok(stale);
        }
        crate::fault!("after-land-push");
        entry.change.head = head.clone();
        entry.change.state = ChangeState::Merged { sha: head.clone(), by: by.clone() };
        self.save(repo, &entry).await?;
        Ok(Landing::Landed(head.clone()))
    }

    /// Pushes the base branch by compare-and-swap. `None` = the commit has landed.
    async fn push_base(&self, repo: &Repo, branch: &str, head: &Sha, base: &Sha) -> PortResult<Option<Landing>> {
        let origin = Origin::parse(&repo.origin)?;
        let call = self.git().call(&self.mirrors.dir(&repo.project)).with_origin(&origin);
        let call = call.args(["push", "--porcelain", "--no-verify", "--no-follow-tags"]).args(origin.receive_pack());
        let call = call.arg(format!("--force-with-lease=refs/heads/{branch}:{base}"));
        let call = call.arg("--end-of-options").arg(origin.address()).arg(format!("{head}:refs/heads/{branch}"));
        let doing = format!("land {} on {branch:?}", head.abbrev());
        // In a separate task, so that a cancelled caller does not leave a person's working copy half updated.
        let description = doing.clone();
        let pushed = tokio::spawn(async move { call.run(&description).await }).await;
        let pushed = pushed.unwrap_or_else(|e| Err(PortError::Unknown { what: format!("cannot {doing}: {e}") }));
        if pushed.as_ref().is_ok_and(|finished| finished.ok()) {
            return Ok(None);
        }
        // The current head of the branch decides the outcome, not git's message.
        let unknown = |what: String| PortError::Unknown { what };
        let now =
            self.mirrors.remote_heads(repo, &[branch]).await.map_err(|e| unknown(format!("cannot {doing}: {e}")))?;
        let current = now.heads.get(branch);
        if current == Some(head) {
            return Ok(None);
        }
        if let Some(current) = current.filter(|current| *current != base) {
            if self.mirrors.contains(repo, head, current).await.map_err(|e| unknown(format!("cannot {doing}: {e}")))? {
                return Ok(None);
            }
            return Ok(Some(Landing::Stale(format!("branch {branch:?} moved to {}", current.abbrev()))));
        }
        let finished = pushed?;
        let output = format!("{}; {}", output_tail(&finished.stdout), output_tail(&finished.stderr));
        let dirty_worktree =
            ["Working directory has", "Could not update working tree", "Up-to-date check failed", "local changes"];
        if let (Origin::Local(path), true) = (&origin, dirty_worktree.iter().any(|t| output.contains(t))) {
            return Err(PortError::permanent(
                format!(
                    "branch {branch:?} is checked out in {} with uncommitted changes; nothing was landed",
                    path.display()
                ),
                format!("commit or stash the changes in {}, then run `skep unblock`", path.display()),
            ));
        }
        if output.contains("rejected") {
            return Err(PortError::permanent(
                format!("{} refused to {doing}: {output}", origin.redacted()),
                "allow Skep to push to that branch (permissions, branch protection), or merge the change yourself",
            ));
        }
        Err(command_error(&doing, &finished))
    }
}
