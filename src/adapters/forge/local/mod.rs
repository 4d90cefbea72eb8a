//! The local forge: changes are files, and the code stays in the origin, so that people's own pushes are always
//! visible.

mod human_actions;
mod land;
mod observe;
mod state;

use crate::domain::{
    BatchProof, ChangeNumber, ChangeRef, ChangeState, CiFailure, Observation, Principal, Sha, StatusState, Timestamp,
    WorkflowRun,
};
use crate::platform::git::{LockGuard, Locks, Mirrors, check_branch, check_sha};
use crate::ports::forge::{BatchMember, ChangeText, Landing, Status};
use crate::ports::{Change, Clock, Comment, Forge, PortError, PortResult, Repo};
use async_trait::async_trait;
use state::{StoredChange, truncated};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Upper bound on comments, and on reviews, of a change.
const MAX_COMMENTS: usize = 1_000;
/// Upper bound on commits with statuses in a change, and on statuses of a commit.
const MAX_STATUSES: usize = 100;
/// Maximum wait for the project's lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);

/// The local forge.
pub struct LocalForge {
    data: PathBuf,
    mirrors: Arc<Mirrors>,
    clock: Arc<dyn Clock>,
    locks: Locks,
}

impl std::fmt::Debug for LocalForge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalForge").field("data", &self.data).finish_non_exhaustive()
    }
}

impl LocalForge {
    /// Creates a forge that stores changes under `<data>/forge` and shares its mirrors with the workspaces.
    pub fn new(data: PathBuf, mirrors: Arc<Mirrors>, clock: Arc<dyn Clock>) -> Self {
        Self { data, mirrors, clock, locks: Locks::default() }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn folder(&self, repo: &Repo) -> PathBuf {
        self.data.join("forge").join(repo.project.as_str())
    }

    /// Locks a project for writing, across processes.
    async fn lock(&self, repo: &Repo) -> PortResult<LockGuard> {
        self.locks.acquire(&self.folder(repo).join(".lock"), LOCK_TIMEOUT).await
    }

    /// Edits a change under the lock. `work` returns its result and whether it modified the change.
    async fn edit<T>(
        &self,
        repo: &Repo,
        number: ChangeNumber,
        work: impl FnOnce(&mut StoredChange) -> PortResult<(T, bool)>,
    ) -> PortResult<T> {
        let _held = self.lock(repo).await?;
        let mut entry = self.load(repo, number).await?;
        let (result, modified) = work(&mut entry)?;
        if modified {
            self.save(repo, &entry).await?;
        }
        Ok(result)
    }
}

/// Returns the reference under which people find a change.
fn change_ref(repo: &Repo, number: ChangeNumber) -> ChangeRef {
    ChangeRef { number, url: format!("skep change show {}#{number}", repo.project) }
}

/// Adds a comment.
fn push_comment(change: &mut Change, by: Principal, at: Timestamp, text: &str, marker: Option<&str>) -> PortResult<()> {
    if change.comments.len() >= MAX_COMMENTS {
        return Err(PortError::permanent(
            format!("change {} already has {MAX_COMMENTS} comments", change.number),
            "close it and submit the goal again",
        ));
    }
    let id = change.comments.iter().map(|c| c.id).max().unwrap_or(0) + 1;
    change.comments.push(Comment { id, by, at, text: truncated(text), marker: marker.map(truncated) });
    Ok(())
}

/// Sets a status. When there are too many, statuses of another commit are dropped, but never those of the current head.
fn put_status(change: &mut Change, sha: &Sha, context: &str, status: Status) -> PortResult<()> {
    check_sha(sha)?;
    if change.statuses.len() >= MAX_STATUSES && !change.statuses.contains_key(sha) {
        let head = change.head.clone();
        if let Some(other) = change.statuses.keys().find(|k| **k != head).cloned() {
            change.statuses.remove(&other);
        }
    }
    let of_commit = change.statuses.entry(sha.clone()).or_default();
    // Never cleaned into another name, which a gate may wait for.
    if context.chars().any(char::is_control) || context.trim() != context || context.chars().count() > 200 {
        let shown: String = context.chars().take(200).collect();
        return Err(PortError::permanent(
            format!("status {shown:?} has control characters, surrounding spaces or more than 200 characters"),
            "give it a name of one line",
        ));
    }
    let context = context.to_owned();
    if context.is_empty() || (of_commit.len() >= MAX_STATUSES && !of_commit.contains_key(&context)) {
        return Err(PortError::permanent(
            format!("status {context:?} cannot be added to {}", sha.abbrev()),
            format!("give it a name; a commit has at most {MAX_STATUSES} statuses"),
        ));
    }
    of_commit.insert(context, status);
    Ok(())
}

#[async_trait]
impl Forge for LocalForge {
    async fn ensure_change(&self, repo: &Repo, text: ChangeText<'_>) -> PortResult<ChangeRef> {
        check_branch(text.branch)?;
        check_branch(text.base_branch)?;
        check_sha(text.head)?;
        let _held = self.lock(repo).await?;
        let numbers = self.numbers(repo).await?;
        for number in numbers.iter().rev() {
            let mut entry = self.load(repo, *number).await?;
            if entry.change.branch != text.branch || text.after.is_some_and(|over| *number <= over) {
                continue;
            }
            // A branch has only one change. If a person closed or merged it, it stays that way, and the next
            // observation reports it.
            if entry.change.state == ChangeState::Open {
                let before = entry.change.clone();
                let change = &mut entry.change;
                change.title = truncated(text.title);
                change.body = truncated(text.body);
                change.head = text.head.clone();
                change.base_branch = text.base_branch.to_owned();
                change.draft = text.draft;
                if *change != before {
                    self.save(repo, &entry).await?;
                }
            }
            return Ok(change_ref(repo, *number));
        }
        let number = ChangeNumber(numbers.last().map_or(1, |n| n.0.saturating_add(1)));
        let change = Change {
            number,
            title: truncated(text.title),
            body: truncated(text.body),
            branch: text.branch.to_owned(),
            head: text.head.clone(),
            base_branch: text.base_branch.to_owned(),
            draft: text.draft,
            state: ChangeState::Open,
            by: Principal::skep(),
            opened_at: self.now(),
            comments: Vec::new(),
            reviews: Vec::new(),
            statuses: Default::default(),
        };
        crate::fault!("before-change");
        self.save(repo, &StoredChange { change, landing: None }).await?;
        crate::fault!("after-change");
        Ok(change_ref(repo, number))
    }

    async fn ensure_comment(&self, repo: &Repo, change: ChangeNumber, marker: &str, text: &str) -> PortResult<()> {
        let at = self.now();
        crate::fault!("before-comment");
        let edit = self.edit(repo, change, |entry| {
            let exists = entry.change.comments.iter().any(|c| c.marker.as_deref() == Some(truncated(marker).as_str()));
            if !exists {
                push_comment(&mut entry.change, Principal::skep(), at, text, Some(marker))?;
            }
            Ok(((), !exists))
        });
        edit.await?;
        crate::fault!("after-comment");
        Ok(())
    }

    async fn set_status(
        &self,
        repo: &Repo,
        change: ChangeNumber,
        sha: &Sha,
        context: &str,
        state: StatusState,
        text: &str,
    ) -> PortResult<()> {
        let status = Status { state, text: truncated(text), by: Principal::skep() };
        self.edit(repo, change, |entry| {
            let before = entry.change.clone();
            put_status(&mut entry.change, sha, context, status)?;
            Ok(((), entry.change != before))
        })
        .await
    }

    async fn inspect_ci(
        &self,
        repo: &Repo,
        change: ChangeNumber,
        head: &Sha,
        base: &Sha,
        checks: &[String],
    ) -> PortResult<Vec<CiFailure>> {
        Ok(observe::ci_failures(&self.load(repo, change).await?.change, head, base, checks))
    }

    async fn rerun_ci(&self, _repo: &Repo, _runs: &BTreeSet<WorkflowRun>) -> PortResult<()> {
        Err(PortError::permanent(
            "the local forge cannot run CI again",
            "run it again where it runs, and report its status",
        ))
    }

    async fn observe(&self, repo: &Repo, change: ChangeNumber) -> PortResult<Observation> {
        self.observe_change(repo, change).await
    }

    async fn land(&self, repo: &Repo, change: ChangeNumber, head: &Sha, base: &Sha) -> PortResult<Landing> {
        check_sha(head)?;
        check_sha(base)?;
        self.land_as(repo, change, head, base, &Principal::skep()).await
    }

    async fn land_batch(&self, repo: &Repo, members: &[BatchMember], proof: &BatchProof) -> PortResult<Landing> {
        members.iter().flat_map(|m| [&m.head, &m.commit]).chain([&proof.base]).try_for_each(check_sha)?;
        self.land_members(repo, members, (&proof.base, Some(proof)), &Principal::skep()).await
    }

    async fn close(&self, repo: &Repo, change: ChangeNumber) -> PortResult<()> {
        self.edit(repo, change, |entry| {
            let open = entry.change.state == ChangeState::Open;
            if open {
                entry.change.state = ChangeState::Closed { by: Principal::skep() };
            }
            Ok(((), open))
        })
        .await
    }
}
