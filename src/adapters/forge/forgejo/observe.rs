//! Observes a pull request: its state, and everything about exactly its head.

use super::api::{Account, Api, is_person, principal};
use super::ci::required_statuses;
use super::review::Verdicts;
use super::wire::{IssueComment, Pull, TimelineEvent};
use crate::adapters::forge::ci::CiResults;
use crate::adapters::forge::comment::{is_marked, parse_unblock};
use crate::adapters::forge::fork::Forks;
use crate::adapters::forge::rest::sha;
use crate::domain::change::UnblockComment;
use crate::domain::{ChangeNumber, ChangeState, Observation, Timestamp};
use crate::ports::{Comment, PortResult};
use std::collections::BTreeSet;

/// Upper bound on the pages of the history that are searched for who closed a pull request.
const MAX_HISTORY_PAGES: usize = 20;

impl Api<'_> {
    pub(super) async fn observe(&self, number: ChangeNumber) -> PortResult<Observation> {
        let account = self.account().await?;
        let pull = self.pull(number).await?;
        let state = self.state_of(&pull).await?;
        let base_branch = self.base_branch(&pull.base.name).await?;
        let base = sha(&base_branch.commit.id)?;
        let is_open = state == ChangeState::Open;
        // The forge updates the pull request some time after a push; the branch itself is current.
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
            required = required_statuses(&base_branch, &ci.statuses);
            verdicts = self.verdicts(number, &head).await?;
        }
        let CiResults { statuses, failed } = ci;
        let Verdicts { approved_by, change_requests } = verdicts;
        let unblocks = self.unblocks(number, account).await?;
        Ok(Observation { state, head, base, statuses, failed, required, approved_by, change_requests, unblocks })
    }

    async fn state_of(&self, pull: &Pull) -> PortResult<ChangeState> {
        if pull.state == "open" {
            return Ok(ChangeState::Open);
        }
        if let (true, Some(merged)) = (pull.merged, &pull.merge_commit_sha) {
            return Ok(ChangeState::Merged { sha: sha(merged)?, by: principal(pull.merged_by.as_ref()) });
        }
        // Only the history says who it was.
        let doing = format!("find out who closed pull request {}", pull.number);
        let path = format!("/issues/{}/timeline", pull.number);
        let (history, _) = self.first_pages::<TimelineEvent>(&path, MAX_HISTORY_PAGES, &doing).await?;
        let closing = history.into_iter().rev().find(|event| event.kind == "close");
        Ok(ChangeState::Closed { by: principal(closing.and_then(|event| event.user).as_ref()) })
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
            let by = principal(Some(&user));
            let comment = Comment { id, by, at: Timestamp(0), text, marker: None };
            let Some(unblock) = parse_unblock(&comment) else { continue };
            if self.may_write(&user.login).await? {
                unblocks.push(unblock);
            }
        }
        Ok(unblocks)
    }
}
