//! Observes a pull request: its state, and everything about exactly its head.

use super::api::{Account, Api, escaped, is_person, sha};
use super::client::{PAGE, read};
use super::comment::is_marked;
use super::wire::{CheckRun, CheckRuns, CommitStatus, Issue, IssueComment, Permission, Pull, PullReview, User};
use crate::adapters::forge::comment::parse_unblock;
use crate::domain::change::UnblockComment;
use crate::domain::{ChangeNumber, ChangeState, Observation, OwnStatus, Principal, Sha, StatusState, Timestamp};
use crate::ports::{Comment, PortResult};
use http::{Method, StatusCode};
use std::collections::BTreeMap;

/// Upper bound on the pages of reviews, and of check runs, that are read.
const MAX_PAGES: usize = 10;

impl Api<'_> {
    pub(super) async fn observe(&self, number: ChangeNumber) -> PortResult<Observation> {
        let account = self.account().await?;
        let pull = self.pull(number).await?;
        let state = self.state_of(&pull, account).await?;
        let base = self.base_head(&pull.base.name).await?;
        let is_open = state == ChangeState::Open;
        // GitHub updates the pull request some time after a push; the branch itself is current.
        let branch = if is_open { self.branch_head(&pull.head.name).await? } else { None };
        let head = match branch {
            Some(head) => head,
            None => sha(&pull.head.sha)?,
        };
        let (statuses, approved_by) = match is_open {
            true => (self.statuses_at(&head).await?, self.approvals(number, &head, account).await?),
            false => Default::default(),
        };
        let unblocks = self.unblocks(number, account).await?;
        Ok(Observation { state, head, base, statuses, approved_by, unblocks })
    }

    async fn state_of(&self, pull: &Pull, account: &Account) -> PortResult<ChangeState> {
        if pull.state == "open" {
            return Ok(ChangeState::Open);
        }
        if let (Some(_), Some(merged)) = (&pull.merged_at, &pull.merge_commit_sha) {
            return Ok(ChangeState::Merged { sha: sha(merged)?, by: account.principal(pull.merged_by.as_ref()) });
        }
        let doing = format!("find out who closed pull request {}", pull.number);
        let issue: Option<Issue> = self.find(&format!("/issues/{}", pull.number), &doing).await?;
        Ok(ChangeState::Closed { by: account.principal(issue.and_then(|issue| issue.closed_by).as_ref()) })
    }

    /// Returns the statuses and check runs at a commit, without Skep's own. Of two with one name, the worse counts.
    async fn statuses_at(&self, head: &Sha) -> PortResult<BTreeMap<String, StatusState>> {
        let mut all = BTreeMap::new();
        let mut latest = BTreeMap::new();
        for CommitStatus { context, state, .. } in self.statuses(head).await? {
            latest.entry(context).or_insert(state);
        }
        for (context, state) in latest {
            let state = match state.as_str() {
                "success" => StatusState::Success,
                "pending" => StatusState::Pending,
                _ => StatusState::Failure,
            };
            add_worse(&mut all, context, state);
        }
        for run in self.check_runs(head).await? {
            let state = match (run.status.as_str(), run.conclusion.as_deref()) {
                ("completed", Some("success" | "neutral" | "skipped")) => StatusState::Success,
                ("completed", _) => StatusState::Failure,
                _ => StatusState::Pending,
            };
            add_worse(&mut all, run.name, state);
        }
        all.retain(|context, _| !OwnStatus::CONTEXTS.contains(&context.as_str()));
        Ok(all)
    }

    /// Returns the check runs at a commit. A token that may not read them sees none: fine-grained tokens cannot be given
    /// that permission everywhere.
    async fn check_runs(&self, head: &Sha) -> PortResult<Vec<CheckRun>> {
        let doing = format!("read the check runs of {}", head.abbrev());
        let mut all = Vec::new();
        for page in 1..=MAX_PAGES {
            let path = format!("/commits/{head}/check-runs?filter=latest&per_page={PAGE}&page={page}");
            let answer = self.send(Method::GET, &self.url(&path), None, &doing).await?;
            match answer.status {
                StatusCode::OK => {}
                StatusCode::FORBIDDEN if answer.says("not accessible") => {
                    tracing::debug!(repository = %self.repo, "the account may not read check runs");
                    return Ok(Vec::new());
                }
                _ => return Err(self.refusal(&answer, &doing, true)),
            }
            let CheckRuns { check_runs } = read(&answer, &doing)?;
            let is_last = check_runs.len() < PAGE;
            all.extend(check_runs);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    /// Returns the people who may write and whose latest review approves exactly this head.
    async fn approvals(&self, number: ChangeNumber, head: &Sha, account: &Account) -> PortResult<Vec<Principal>> {
        let doing = format!("read the reviews of pull request {number}");
        let reviews: Vec<PullReview> = self.list(&format!("/pulls/{number}/reviews"), MAX_PAGES, &doing).await?;
        let mut latest: BTreeMap<String, (User, bool)> = BTreeMap::new();
        for review in reviews {
            let Some(user) = review.user.filter(is_person) else { continue };
            let approves = match review.state.as_str() {
                "APPROVED" => review.commit_id.as_deref() == Some(head.as_str()),
                "CHANGES_REQUESTED" | "DISMISSED" => false,
                // A comment, or a review that was not submitted, changes nothing.
                _ => continue,
            };
            latest.insert(user.login.clone(), (user, approves));
        }
        let mut approvals = Vec::new();
        for (user, _) in latest.into_values().filter(|(_, approves)| *approves) {
            if self.may_write(&user).await? {
                approvals.push(account.principal(Some(&user)));
            }
        }
        Ok(approvals)
    }

    /// Returns the comments by people who may write that answer a block.
    async fn unblocks(&self, number: ChangeNumber, account: &Account) -> PortResult<Vec<UnblockComment>> {
        let mut unblocks = Vec::new();
        for IssueComment { id, user, body } in self.comments(number).await? {
            let (Some(user), Some(text)) = (user, body) else { continue };
            // With a person's token, the comments of that person and of Skep have the same author.
            if !is_person(&user) || account.is(Some(&user)) && is_marked(&text) {
                continue;
            }
            let by = account.principal(Some(&user));
            let comment = Comment { id, by, at: Timestamp(0), text, marker: None };
            let Some(unblock) = parse_unblock(&comment) else { continue };
            if self.may_write(&user).await? {
                unblocks.push(unblock);
            }
        }
        Ok(unblocks)
    }

    /// Returns whether a person may write to the repository: only they steer a run.
    pub(super) async fn may_write(&self, user: &User) -> PortResult<bool> {
        let doing = format!("read the permission of {}", user.login);
        let path = format!("/collaborators/{}/permission", escaped(&user.login));
        let found: Option<Permission> = self.find(&path, &doing).await?;
        Ok(found.is_some_and(|found| matches!(found.permission.as_str(), "admin" | "maintain" | "write")))
    }
}

fn add_worse(all: &mut BTreeMap<String, StatusState>, context: String, state: StatusState) {
    let badness = |state: StatusState| match state {
        StatusState::Success => 0,
        StatusState::Pending => 1,
        StatusState::Failure => 2,
    };
    let slot = all.entry(context).or_insert(state);
    if badness(state) > badness(*slot) {
        *slot = state;
    }
}
