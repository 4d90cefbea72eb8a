//! Observes a change: its file, and the current branches of the origin.

use super::LocalForge;
use super::state::StoredChange;
use crate::adapters::forge::comment::parse_unblock;
use crate::domain::{
    ChangeNumber, ChangeRequest, ChangeState, CiFailure, JobLog, Observation, Principal, Sha, StatusState,
};
use crate::ports::forge::Review;
use crate::ports::{Change, PortError, PortResult, Repo};
use std::collections::{BTreeMap, BTreeSet};

/// Author of a merge that was made with git, outside of Skep.
const BY_GIT: &str = "local:git";

/// Branches of a change on the origin.
pub(super) struct Branches {
    /// Head of the base branch.
    pub base: Sha,
    /// Head of the change's branch; `None` = the branch was deleted.
    pub head: Option<Sha>,
}

impl LocalForge {
    pub(super) async fn branches(&self, repo: &Repo, change: &Change) -> PortResult<Branches> {
        let mut remote = self.mirrors.remote_heads(repo, &[&change.base_branch, &change.branch]).await?.heads;
        let Some(base) = remote.remove(&change.base_branch) else {
            return Err(PortError::permanent(
                format!("{} no longer has the branch {:?}", repo.origin, change.base_branch),
                "restore the base branch",
            ));
        };
        Ok(Branches { base, head: remote.remove(&change.branch) })
    }

    /// Marks an open change as merged if its head is on the base branch, no matter who pushed it. This also recovers
    /// from a crash between pushing and writing the file. Returns whether the change was marked.
    pub(super) async fn record_merge(
        &self,
        repo: &Repo,
        entry: &mut StoredChange,
        branches: &Branches,
    ) -> PortResult<bool> {
        if entry.change.state != ChangeState::Open {
            return Ok(false);
        }
        let recorded = entry.change.head.clone();
        let intended = entry.landing.as_ref().map(|l| l.head.clone());
        for head in [branches.head.clone(), intended, Some(recorded)].into_iter().flatten() {
            // A head that no longer exists anywhere (deleted before it was fetched) cannot be on the base branch.
            if self.mirrors.contains(repo, &head, &branches.base).await.unwrap_or(false) {
                let by = match &entry.landing {
                    Some(intent) if intent.head == head => intent.by.clone(),
                    _ => Principal::from(BY_GIT),
                };
                entry.change.head = head.clone();
                entry.change.state = ChangeState::Merged { sha: head, by };
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) async fn observe_change(&self, repo: &Repo, number: ChangeNumber) -> PortResult<Observation> {
        let mut entry = self.load(repo, number).await?;
        if entry.landing.as_ref().is_some_and(|intent| intent.token.is_some()) {
            let _held = self.lock(repo).await?;
            entry = self.load(repo, number).await?;
            self.finish_landing(repo, &mut entry).await?;
        }
        let branches = self.branches(repo, &entry.change).await?;
        if self.record_merge(repo, &mut entry, &branches).await? {
            let _held = self.lock(repo).await?;
            entry = self.load(repo, number).await?;
            if self.record_merge(repo, &mut entry, &branches).await? {
                self.save(repo, &entry).await?;
            }
        }
        let change = &entry.change;
        let head = match &change.state {
            ChangeState::Merged { sha, .. } => sha.clone(),
            _ => branches.head.clone().unwrap_or_else(|| change.head.clone()),
        };
        Ok(Observation {
            state: change.state.clone(),
            statuses: statuses(change, &head),
            approved_by: approvals(change, &head),
            failed: BTreeMap::new(),
            required: BTreeSet::new(),
            change_requests: change_requests(change),
            unblocks: change.comments.iter().filter_map(parse_unblock).collect(),
            base: branches.base,
            head,
        })
    }
}

fn statuses(change: &Change, head: &Sha) -> BTreeMap<String, StatusState> {
    let at_head = change.statuses.get(head).into_iter().flatten();
    at_head.filter(|(_, s)| s.by.is_person()).map(|(context, s)| (context.clone(), s.state)).collect()
}

/// Returns what is known about failed statuses: the line that the CI reported.
pub(super) fn ci_failures(change: &Change, head: &Sha, base: &Sha, checks: &[String]) -> Vec<CiFailure> {
    let at = |sha: &Sha, name: &String| change.statuses.get(sha).and_then(|statuses| statuses.get(name));
    let failure = |name: &String| CiFailure {
        summary: at(head, name).map(|status| short(&status.text, CiFailure::MAX_SUMMARY_BYTES)).unwrap_or_default(),
        red_at_base: at(base, name).is_some_and(|status| status.state == StatusState::Failure),
        log: JobLog::Missing { why: "the local forge stores no logs of CI".to_owned() },
        ..CiFailure::named(name)
    };
    checks.iter().map(failure).collect()
}

fn short(text: &str, max_bytes: usize) -> String {
    text[..text.floor_char_boundary(max_bytes)].to_owned()
}

/// Returns the newest reviews by people that request changes, and that the same person has not followed by an approval.
fn change_requests(change: &Change) -> Vec<ChangeRequest> {
    let is_open = |(at, review): &(usize, &Review)| {
        let approves = |later: &Review| later.by == review.by && later.approved;
        review.by.is_person() && !review.approved && !change.reviews[*at..].iter().any(approves)
    };
    let mut open: Vec<ChangeRequest> = change
        .reviews
        .iter()
        .enumerate()
        .filter(is_open)
        .map(|(at, review)| ChangeRequest {
            // Unique among all changes of a run. A change has at most `MAX_COMMENTS` reviews.
            review: (change.number.0 << 16) | at as u64,
            by: review.by.clone(),
            head: review.head.clone(),
            text: short(&review.text, ChangeRequest::MAX_TEXT_BYTES),
            comments: Vec::new(),
            more_comments: 0,
        })
        .collect();
    open.drain(..open.len().saturating_sub(ChangeRequest::MAX));
    open
}

/// Returns the people whose latest review approves exactly this head.
fn approvals(change: &Change, head: &Sha) -> Vec<Principal> {
    let mut latest = BTreeMap::new();
    for review in change.reviews.iter().filter(|r| r.by.is_person()) {
        latest.insert(&review.by, review);
    }
    latest.into_values().filter(|r| r.approved && r.head == *head).map(|r| r.by.clone()).collect()
}
