//! Lands exactly one commit on the base branch, if everything is still as it was when it was checked.
//!
//! A working copy of a local origin that has the base branch checked out moves with it: see
//! [`crate::platform::git::WorkingCopyMove`].

use super::LocalForge;
use super::state::{LandingIntent, StoredChange};
use crate::domain::{ChangeNumber, ChangeState, Principal, Sha};
use crate::platform::git::{
    Access, BranchUpdate, IndexLock, LocalView, LockGuard, WorkingCopy, command_error, lock_error, output_tail,
};
use crate::platform::process::ProcessOutput;
use crate::ports::forge::Landing;
use crate::ports::{PortError, PortResult, Repo};
use std::time::{Duration, SystemTime};

/// A working copy that moves with the base branch, and the lock on its index.
struct Moving {
    copy: WorkingCopy,
    lock: IndexLock,
}

impl LocalForge {
    pub(super) async fn land_as(
        &self,
        repo: &Repo,
        number: ChangeNumber,
        head: &Sha,
        base: &Sha,
        by: &Principal,
    ) -> PortResult<Landing> {
        let held = self.lock(repo).await?;
        let mut entry = self.load(repo, number).await?;
        self.finish_landing(repo, &mut entry).await?;
        let branches = self.branches(repo, &entry.change).await?;
        if self.record_merge(repo, &mut entry, &branches).await? {
            self.save(repo, &entry).await?;
        }
        match &entry.change.state {
            ChangeState::Merged { sha, .. } if sha == head => {
                let access = self.mirrors.access(repo).await?;
                self.tidy_up(repo, &access, &entry, branches.head.as_ref()).await;
                return Ok(Landing::Landed(head.clone()));
            }
            ChangeState::Merged { sha, .. } => {
                return Ok(Landing::Stale(format!("change {number} was merged at {}", sha.abbrev())));
            }
            ChangeState::Closed { by } => return Ok(Landing::Stale(format!("change {number} was closed by {by}"))),
            ChangeState::Open => {}
        }
        // A branch that was deleted changes nothing about the commit: the mirror has it.
        let current = branches.head.as_ref().unwrap_or(&entry.change.head);
        if current != head {
            return Ok(Landing::Stale(format!(
                "branch {:?} is at {}, not at {}",
                entry.change.branch,
                current.abbrev(),
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
        let access = self.mirrors.access(repo).await?;
        // A lock on the branch that was made while a killed try pushed was left by that try.
        let killed = entry.landing.as_ref().filter(|tried| tried.head == *head).and_then(|tried| tried.pushing_since);
        let intent = LandingIntent::new(head, base, by, killed);
        entry.landing = Some(intent.clone());
        self.save(repo, &entry).await?;
        crate::fault!("mid-land");
        let (pushed, held) = match self.prepare(repo, &access, &base_branch, &intent).await {
            Err(error) => (Err(error), Some(held)),
            Ok(mut moving) => {
                moving.iter_mut().for_each(|one| one.lock.keep());
                let since = killed.map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
                let (pushed, held) = self.push_base(repo, &access, (&base_branch, head, base, since), held).await;
                let is_known = !matches!(pushed, Err(PortError::Unknown { .. }));
                if is_known && !matches!(pushed, Ok(None)) {
                    moving.drain(..).for_each(|one| one.lock.release());
                }
                (pushed.map(|stale| (stale, moving)), held)
            }
        };
        if !matches!(pushed, Ok((None, _)) | Err(PortError::Unknown { .. })) {
            entry.landing = Some(intent.ended());
            self.save(repo, &entry).await?;
            return pushed.map(|(stale, _)| stale.unwrap_or_else(|| Landing::Landed(head.clone())));
        }
        let (_, moving) = pushed?;
        crate::fault!("after-land-push");
        entry.change.head = head.clone();
        entry.change.state = ChangeState::Merged { sha: head.clone(), by: by.clone() };
        self.save(repo, &entry).await?;
        if let Some(view) = &access.view {
            for one in moving {
                self.mirrors.working_copy_move(repo, view, &one.copy).await?.apply(base, head).await?;
                one.lock.release();
            }
        }
        entry.landing = Some(intent.ended());
        self.save(repo, &entry).await?;
        self.tidy_up(repo, &access, &entry, branches.head.as_ref()).await;
        drop(held);
        Ok(Landing::Landed(head.clone()))
    }

    /// Locks the working copies that have the base branch checked out, and verifies that nothing of a person's is in the
    /// way. Writes nothing else.
    async fn prepare(
        &self,
        repo: &Repo,
        access: &Access,
        base_branch: &str,
        intent: &LandingIntent,
    ) -> PortResult<Vec<Moving>> {
        let (Some(view), Some((token, base))) = (&access.view, intent.token.as_ref().zip(intent.base.as_ref())) else {
            return Ok(Vec::new());
        };
        let copies = self.mirrors.checked_out(view, base_branch).await?;
        let mut moving = Vec::new();
        for copy in &copies {
            moving.push(Moving { copy: copy.clone(), lock: IndexLock::acquire(copy, token).await? });
        }
        // Under the locks no git can check out another branch.
        if self.mirrors.checked_out(view, base_branch).await? != copies {
            return Err(PortError::transient(format!(
                "{base_branch:?} was just checked out or left by a person's git"
            )));
        }
        for one in &moving {
            self.mirrors.working_copy_move(repo, view, &one.copy).await?.verify(base, &intent.head).await?;
        }
        Ok(moving)
    }

    /// Finishes the landing of a process that was killed: moves the working copies that it left locked. Where the branch
    /// had not moved yet, nothing was written, and only the lock is removed.
    pub(super) async fn finish_landing(&self, repo: &Repo, entry: &mut StoredChange) -> PortResult<()> {
        let Some(intent) = entry.landing.clone() else { return Ok(()) };
        let (Some(token), Some(base)) = (&intent.token, &intent.base) else { return Ok(()) };
        let Some(view) = self.mirrors.access(repo).await?.view else { return Ok(()) };
        let base_branch = entry.change.base_branch.clone();
        let left: Vec<WorkingCopy> =
            view.repository.working_copies().into_iter().filter(|copy| IndexLock::is_held(copy, token)).collect();
        if !left.is_empty() {
            let now = self.mirrors.remote_heads(repo, &[&base_branch]).await?.heads.remove(&base_branch);
            for copy in &left {
                self.finish_move(repo, &view, copy, (token, base), now.as_ref()).await?;
            }
        }
        entry.landing = Some(intent.moved());
        self.save(repo, entry).await
    }

    async fn finish_move(
        &self,
        repo: &Repo,
        view: &LocalView,
        copy: &WorkingCopy,
        (token, base): (&str, &Sha),
        now: Option<&Sha>,
    ) -> PortResult<()> {
        let mut lock = IndexLock::acquire(copy, token).await?;
        if let Some(now) = now.filter(|now| *now != base) {
            lock.keep();
            tracing::warn!(dir = %copy.dir.display(), head = %now, "finishing a landing that was killed");
            self.mirrors.ensure_commit(repo, base).await?;
            self.mirrors.ensure_commit(repo, now).await?;
            self.mirrors.working_copy_move(repo, view, copy).await?.apply(base, now).await?;
        }
        lock.release();
        Ok(())
    }

    /// Pushes the base branch by compare-and-swap. `None` = the commit has landed.
    async fn push_base(
        &self,
        repo: &Repo,
        access: &Access,
        (branch, head, base, own_locks_since): (&str, &Sha, &Sha, Option<SystemTime>),
        held: LockGuard,
    ) -> (PortResult<Option<Landing>>, Option<LockGuard>) {
        let doing = format!("land {} on {branch:?}", head.abbrev());
        let update = BranchUpdate { branch, head: Some(head), expected: Some(base), own_locks_since };
        let (pushed, held) = self.mirrors.push(repo, access, update, &doing, Some(held)).await;
        (self.outcome_of(repo, access, (branch, head, base), pushed, &doing).await, held)
    }

    /// Returns the outcome of a push. The current head of the branch decides it, not git's message.
    async fn outcome_of(
        &self,
        repo: &Repo,
        access: &Access,
        (branch, head, base): (&str, &Sha, &Sha),
        pushed: PortResult<ProcessOutput>,
        doing: &str,
    ) -> PortResult<Option<Landing>> {
        if pushed.as_ref().is_ok_and(|finished| finished.ok()) {
            return Ok(None);
        }
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
        if let Some(locked) = lock_error(access, &finished) {
            return Err(locked);
        }
        let output = format!("{}; {}", output_tail(&finished.stdout), output_tail(&finished.stderr));
        if output.contains("rejected") {
            return Err(PortError::permanent(
                format!("{} refused to {doing}: {output}", access.redacted()),
                "allow Skep to push to that branch (permissions, branch protection), or merge the change yourself",
            ));
        }
        Err(command_error(doing, &finished))
    }

    /// Records the landing in the mirror, and deletes the branch of the change. Neither matters to the result.
    async fn tidy_up(&self, repo: &Repo, access: &Access, entry: &StoredChange, branch_head: Option<&Sha>) {
        let (branch, head) = (&entry.change.branch, &entry.change.head);
        if let Err(error) = self.mirrors.record_branch(repo, &entry.change.base_branch, head).await {
            tracing::warn!(%error, "cannot record the landing in the mirror");
        }
        if branch_head != Some(head) || !branch.contains('/') {
            return;
        }
        // A person may be looking at it.
        if let Some(view) = &access.view
            && !self.mirrors.checked_out(view, branch).await.is_ok_and(|copies| copies.is_empty())
        {
            return;
        }
        let update =
            BranchUpdate { branch, head: None, expected: Some(head), own_locks_since: Some(SystemTime::UNIX_EPOCH) };
        let doing = format!("delete branch {branch:?}");
        match self.mirrors.push(repo, access, update, &doing, None).await.0 {
            Ok(finished) if finished.ok() => {}
            Ok(finished) => tracing::warn!("cannot {doing}: {}", output_tail(&finished.stderr)),
            Err(error) => tracing::warn!(%error, "cannot {doing}"),
        }
    }
}
