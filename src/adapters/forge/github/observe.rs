//! Observes a pull request: its state, and everything about exactly its head.

use super::api::{Account, Api, escaped, is_person};
use super::review::Verdicts;
use super::wire::{Issue, IssueComment, Permission, Pull, User};
use crate::adapters::forge::ci::CiResults;
use crate::adapters::forge::client::read;
use crate::adapters::forge::comment::{is_marked, parse_unblock};
use crate::adapters::forge::fork::Forks;
use crate::adapters::forge::rest::{RestApi, sha};
use crate::domain::change::UnblockComment;
use crate::domain::{ChangeNumber, ChangeState, Observation, Timestamp};
use crate::ports::{Comment, PortResult};
use http::{Method, StatusCode};
use std::collections::BTreeSet;

impl Api<'_> {
    pub(super) async fn observe(&self, number: ChangeNumber) -> PortResult<Observation> {
        let account = self.account().await?;
        let pull = self.pull(number).await?;
        let state = self.state_of(&pull, account).await?;
        let base = self.base_head(&pull.base.name).await?;
        let is_open = state == ChangeState::Open;
        // GitHub updates the pull request some time after a push; the branch itself is current.
        let branch = match self.head_repo(pull.head.repo.as_ref().map(|repo| repo.full_name.as_str())) {
            Some(fork) if is_open => fork.branch_head(&pull.head.name).await?,
            None if is_open => self.branch_head(&pull.head.name).await?,
            _ => None,
        };
        let head = match branch {
            Some(head) => head,
            None => sha(&pull.head.sha)?,
        };
        let (mut ci, mut required, mut verdicts) = (CiResults::default(), BTreeSet::new(), Verdicts::default());
        if is_open {
            ci = self.ci_results(&head).await?;
            required = self.required_statuses(&pull.base.name).await?;
            verdicts = self.verdicts(number, &head, account).await?;
        }
        let CiResults { statuses, failed } = ci;
        let Verdicts { approved_by, change_requests } = verdicts;
        let unblocks = self.unblocks(number, account).await?;
        Ok(Observation { state, head, base, statuses, failed, required, approved_by, change_requests, unblocks })
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
        let answer = self.send(Method::GET, &self.url(&path), None, &doing).await?;
        let found: Option<Permission> = match answer.status {
            StatusCode::OK => Some(read(&answer, &doing)?),
            StatusCode::NOT_FOUND => None,
            // Only those who may push are told; then nobody's word counts.
            StatusCode::FORBIDDEN if answer.says("must have push access") => None,
            _ => return Err(self.refusal(&answer, &doing, true)),
        };
        Ok(found.is_some_and(|found| matches!(found.permission.as_str(), "admin" | "maintain" | "write")))
    }
}
