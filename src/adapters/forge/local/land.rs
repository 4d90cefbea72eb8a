//! Landing: exactly one commit onto the base branch, if everything still is as it was checked.

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
            let there = branches.head.as_ref().map_or("nothing", Sha::abbrev);
            return Ok(Landing::Stale(format!(
                "branch {:?} shows {there}, not {}",
                entry.change.branch,
                head.abbrev()
            )));
        }
        let base_branch = entry.change.base_branch.clone();
        if branches.base != *base {
            let there = branches.base.abbrev();
            return Ok(Landing::Stale(format!("branch {base_branch:?} is at {there}, not at {}", base.abbrev())));
        }
        if !self.mirrors.contains(repo, base, head).await? {
            return Ok(Landing::Stale(format!("{} does not descend from {}", head.abbrev(), base.abbrev())));
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

    /// The compare-and-swap itself. `None` = it is there.
    async fn push_base(&self, repo: &Repo, branch: &str, head: &Sha, base: &Sha) -> PortResult<Option<Landing>> {
        let origin = Origin::parse(&repo.origin)?;
        let call = self.git().call(&self.mirrors.dir(&repo.project)).with_origin(&origin);
        let call = call.args(["push", "--porcelain", "--no-verify", "--no-follow-tags"]).args(origin.receive_pack());
        let call = call.arg(format!("--force-with-lease=refs/heads/{branch}:{base}"));
        let call = call.arg("--end-of-options").arg(origin.address()).arg(format!("{head}:refs/heads/{branch}"));
        let doing = format!("land {} on {branch:?}", head.abbrev());
        // In a task of its own: whoever stops waiting must not leave a person's working copy half updated.
        let words = doing.clone();
        let pushed = tokio::spawn(async move { call.run(&words).await }).await;
        let pushed = pushed.unwrap_or_else(|e| Err(PortError::Unknown { what: format!("cannot {doing}: {e}") }));
        if pushed.as_ref().is_ok_and(|done| done.ok()) {
            return Ok(None);
        }
        // Whatever git says, what is there now decides.
        let unknown = |what: String| PortError::Unknown { what };
        let now =
            self.mirrors.remote_heads(repo, &[branch]).await.map_err(|e| unknown(format!("cannot {doing}: {e}")))?;
        let there = now.heads.get(branch);
        if there == Some(head) {
            return Ok(None);
        }
        if let Some(there) = there.filter(|there| *there != base) {
            if self.mirrors.contains(repo, head, there).await.map_err(|e| unknown(format!("cannot {doing}: {e}")))? {
                return Ok(None);
            }
            return Ok(Some(Landing::Stale(format!("branch {branch:?} moved to {}", there.abbrev()))));
        }
        let done = pushed?;
        let said = format!("{}; {}", output_tail(&done.stdout), output_tail(&done.stderr));
        let in_the_way =
            ["Working directory has", "Could not update working tree", "Up-to-date check failed", "local changes"];
        if let (Origin::Local(path), true) = (&origin, in_the_way.iter().any(|t| said.contains(t))) {
            return Err(PortError::permanent(
                format!(
                    "branch {branch:?} is checked out in {} with changes in the way; nothing was landed",
                    path.display()
                ),
                format!("commit or stash the changes in {}, then `skep unblock`", path.display()),
            ));
        }
        if said.contains("rejected") {
            return Err(PortError::permanent(
                format!("{} refused {doing:?}: {said}", origin.redacted()),
                "let Skep push to that branch (branch protection, rights), or merge the change yourself",
            ));
        }
        Err(command_error(&doing, &done))
    }
}
