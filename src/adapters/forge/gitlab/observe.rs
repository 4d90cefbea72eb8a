//! Observes a merge request: its state, and everything about exactly its head.

use super::Topic;
use super::api::{Api, is_person, principal};
use super::review::Verdicts;
use super::wire::{MergeRequest, Note};
use crate::adapters::forge::ci::CiResults;
use crate::adapters::forge::comment::{is_marked, parse_unblock};
use crate::adapters::forge::rest::sha;
use crate::domain::change::UnblockComment;
use crate::domain::{ChangeNumber, ChangeState, Observation, Sha, Timestamp};
use crate::ports::{Comment, PortError, PortResult};
use std::collections::BTreeSet;

/// Stands for the pipeline where GitLab requires one and none has been reported yet.
const PIPELINE: &str = "pipeline";

impl MergeRequest {
    /// Returns the commit that a merge put on the target branch: a merge commit, a squashed one, or the head itself.
    pub fn landed(&self) -> PortResult<Sha> {
        let landed = self.merge_commit_sha.as_ref().or(self.squash_commit_sha.as_ref()).or(self.sha.as_ref());
        landed.map(|text| sha(text)).unwrap_or_else(|| {
            Err(PortError::transient(format!("GitLab does not report yet what merge request {} became", self.iid)))
        })
    }

    /// Returns its head.
    pub fn head(&self) -> PortResult<Sha> {
        let missing = || PortError::transient(format!("merge request {} has no head yet", self.iid));
        sha(self.sha.as_deref().ok_or_else(missing)?)
    }

    fn change_state(&self) -> PortResult<ChangeState> {
        Ok(match self.state.as_str() {
            "merged" => {
                let by = principal(self.merge_user.as_ref().or(self.merged_by.as_ref()));
                ChangeState::Merged { sha: self.landed()?, by }
            }
            "closed" => ChangeState::Closed { by: principal(self.closed_by.as_ref()) },
            _ => ChangeState::Open,
        })
    }
}

impl Api<'_> {
    pub(super) async fn observe(&self, number: ChangeNumber) -> PortResult<Observation> {
        let found = self.merge_request(number).await?;
        let state = found.change_state()?;
        let base = self.target_head(&found.target_branch).await?;
        let is_open = state == ChangeState::Open;
        // GitLab updates the merge request some time after a push; the branch itself is current.
        let branch = if is_open { self.branch_head(&found.source_branch).await? } else { None };
        let head = match branch {
            Some(head) => head,
            None => found.head()?,
        };
        let notes = self.notes(Topic::MergeRequest(number.0)).await?;
        let (mut ci, mut required, mut verdicts) = (CiResults::default(), BTreeSet::new(), Verdicts::default());
        if is_open {
            ci = self.ci_results(&head).await?;
            verdicts = self.verdicts(number, &head, &notes).await?;
            if ci.statuses.is_empty() && self.project().await?.only_allow_merge_if_pipeline_succeeds == Some(true) {
                required.insert(PIPELINE.to_owned());
            }
        }
        let CiResults { statuses, failed } = ci;
        let Verdicts { approved_by, change_requests } = verdicts;
        let unblocks = self.unblocks(notes).await?;
        Ok(Observation { state, head, base, statuses, failed, required, approved_by, change_requests, unblocks })
    }

    /// Returns the comments by people who may write that answer a block.
    async fn unblocks(&self, notes: Vec<Note>) -> PortResult<Vec<UnblockComment>> {
        let account = self.account().await?;
        let mut unblocks = Vec::new();
        for Note { id, author, body, .. } in notes.into_iter().filter(Note::is_public) {
            let (Some(user), Some(text)) = (author, body) else { continue };
            // With a person's token, the comments of that person and of Skep have the same author.
            if !is_person(&user) || account.is(Some(&user)) && is_marked(&text) {
                continue;
            }
            let by = principal(Some(&user));
            let comment = Comment { id, by, at: Timestamp(0), text, marker: None };
            let Some(unblock) = parse_unblock(&comment) else { continue };
            if self.may_write(&user.username).await? {
                unblocks.push(unblock);
            }
        }
        Ok(unblocks)
    }
}
