//! Lands exactly one commit on the base branch, that of a change or the last one of a batch, if everything is still as it
//! was when it was checked.
//!
//! A working copy of a local origin that has the base branch checked out moves with it: see
//! [`crate::platform::git::WorkingCopyMove`].

use super::LocalForge;
use super::state::{LandingIntent, StoredChange};
use crate::domain::{BatchProof, ChangeNumber, ChangeState, Principal, Sha};
use crate::platform::git::{
    Access, BranchUpdate, IndexLock, LocalView, LockGuard, WorkingCopy, command_error, lock_error, output_tail,
};
use crate::platform::process::ProcessOutput;
use crate::ports::forge::{BatchMember, Landing};
use crate::ports::{PortError, PortResult, Repo};
use std::time::{Duration, SystemTime};

/// A change that can land.
struct Lander {
    entry: StoredChange,
    /// Head of its branch on the origin; `None` = the branch was deleted.
    branch: Option<Sha>,
    /// The commit that lands.
    commit: Sha,
}

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
        let member = BatchMember { change: number, head: head.clone(), commit: head.clone() };
        self.land_members(repo, &[member], (base, None), by).await
    }

    /// Lands changes on top of each other, all or none.
    pub(super) async fn land_members(
        &self,
        repo: &Repo,
        members: &[BatchMember],
        (base, proof): (&Sha, Option<&BatchProof>),
        by: &Principal,
    ) -> PortResult<Landing> {
        let held = self.lock(repo).await?;
        let mut landers = Vec::new();
        for member in members {
            match self.verify(repo, member, base).await? {
                Ok(lander) => landers.push(lander),
                Err(landing) => return Ok(landing),
            }
        }
        let Some((base_branch, tip)) = landers.last().map(|l| (l.entry.change.base_branch.clone(), l.commit.clone()))
        else {
            return Ok(Landing::Stale("the batch is empty".to_owned()));
        };
        if !self.mirrors.contains(repo, base, &tip).await? {
            return Ok(Landing::Stale(format!("{} is not a descendant of {}", tip.abbrev(), base.abbrev())));
        }
        crate::fault!("before-land");
        let access = self.mirrors.access(repo).await?;
        // A lock on the branch that was made while a killed try pushed was left by that try.
        let tried = landers.iter().filter_map(|l| Some((l.entry.landing.as_ref()?, &l.commit)));
        let tried = tried.filter(|(tried, commit)| proof.is_some() || tried.head == **commit);
        let killed = tried.filter_map(|(tried, _)| tried.pushing_since).min();
        let intent = LandingIntent::new(&tip, base, by, killed);
        for (lander, member) in landers.iter_mut().zip(members) {
            lander.entry.landing = Some(intent.of_member(member, proof));
            self.save(repo, &lander.entry).await?;
        }
        crate::fault!("mid-land");
        let (pushed, held) = match self.prepare(repo, &access, &base_branch, &intent).await {
            Err(error) => (Err(error), Some(held)),
            Ok(mut moving) => {
                moving.iter_mut().for_each(|one| one.lock.keep());
                let since = killed.map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
                let (pushed, held) = self.push_base(repo, &access, (&base_branch, &tip, base, since), held).await;
                let is_known = !matches!(pushed, Err(PortError::Unknown { .. }));
                if is_known && !matches!(pushed, Ok(None)) {
                    moving.drain(..).for_each(|one| one.lock.release());
                }
                (pushed.map(|stale| (stale, moving)), held)
            }
        };
        if !matches!(pushed, Ok((None, _)) | Err(PortError::Unknown { .. })) {
            self.end_landing(repo, &mut landers).await?;
            return pushed.map(|(stale, _)| stale.unwrap_or_else(|| Landing::Landed(tip.clone())));
        }
        let (_, moving) = pushed?;
        crate::fault!("after-land-push");
        for Lander { entry, commit, .. } in &mut landers {
            entry.change.head = commit.clone();
            entry.change.state = ChangeState::Merged { sha: commit.clone(), by: by.clone() };
            self.save(repo, entry).await?;
        }
        if let Some(view) = &access.view {
            for one in moving {
                self.mirrors.working_copy_move(repo, view, &one.copy).await?.apply(base, &tip).await?;
                one.lock.release();
            }
        }
        self.end_landing(repo, &mut landers).await?;
        self.record_base(repo, &base_branch, &tip).await;
        for (Lander { entry, branch, .. }, member) in landers.iter().zip(members) {
            self.delete_branch(repo, &access, entry, (branch.as_ref(), &member.head)).await;
        }
        drop(held);
        Ok(Landing::Landed(tip))
    }

    /// Verifies that a change can land; else returns how it landed before, or why it does not.
    async fn verify(&self, repo: &Repo, member: &BatchMember, base: &Sha) -> PortResult<Result<Lander, Landing>> {
        let BatchMember { change: number, head, commit } = member;
        let mut entry = self.load(repo, *number).await?;
        self.finish_landing(repo, &mut entry).await?;
        let branches = self.branches(repo, &entry.change).await?;
        if self.record_merge(repo, &mut entry, &branches).await? {
            self.save(repo, &entry).await?;
        }
        let stale = |why: String| Ok(Err(Landing::Stale(why)));
        match &entry.change.state {
            ChangeState::Merged { sha, .. } => {
                let intent = entry.landing.as_ref().filter(|intent| intent.head == *sha);
                let proven = intent.and_then(|intent| intent.proven.as_ref()).unwrap_or(sha);
                if proven != head {
                    return stale(format!("change {number} was merged at {}", sha.abbrev()));
                }
                let access = self.mirrors.access(repo).await?;
                self.record_base(repo, &entry.change.base_branch, &entry.change.head).await;
                self.delete_branch(repo, &access, &entry, (branches.head.as_ref(), head)).await;
                let proof = intent.and_then(|intent| intent.batch.clone());
                let sha = sha.clone();
                return Ok(Err(proof.map_or(Landing::Landed(sha.clone()), |proof| Landing::LandedInBatch(sha, proof))));
            }
            ChangeState::Closed { by } => return stale(format!("change {number} was closed by {by}")),
            ChangeState::Open => {}
        }
        // A branch that was deleted changes nothing about the commit: the mirror has it.
        let current = branches.head.as_ref().unwrap_or(&entry.change.head);
        if current != head {
            let (branch, current) = (&entry.change.branch, current.abbrev());
            return stale(format!("branch {branch:?} is at {current}, not at {}", head.abbrev()));
        }
        if branches.base != *base {
            let (base_branch, current) = (&entry.change.base_branch, branches.base.abbrev());
            return stale(format!("branch {base_branch:?} is at {current}, not at {}", base.abbrev()));
        }
        Ok(Ok(Lander { entry, branch: branches.head, commit: commit.clone() }))
    }

    /// Records that nothing of a landing is left to do.
    async fn end_landing(&self, repo: &Repo, landers: &mut [Lander]) -> PortResult<()> {
        for Lander { entry, .. } in landers {
            entry.landing = entry.landing.take().map(LandingIntent::ended);
            self.save(repo, entry).await?;
        }
        Ok(())
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

    /// Records the base branch in the mirror. It does not matter to the result.
    async fn record_base(&self, repo: &Repo, base_branch: &str, base: &Sha) {
        if let Err(error) = self.mirrors.record_branch(repo, base_branch, base).await {
            tracing::warn!(%error, "cannot record the landing in the mirror");
        }
    }

    /// Deletes the branch of a change, if it is still at the head that landed. It does not matter to the result.
    async fn delete_branch(
        &self,
        repo: &Repo,
        access: &Access,
        entry: &StoredChange,
        (branch_head, head): (Option<&Sha>, &Sha),
    ) {
        let branch = &entry.change.branch;
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
