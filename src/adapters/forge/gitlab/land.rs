//! Merges a merge request, if everything is still as it was when it was checked.
//!
//! GitLab compares the head itself. It cannot compare the target branch: Skep reads it directly before, so that a push
//! to it within that moment is merged with a change that was proven on the commit before. The merge methods *Merge
//! commit with semi-linear history* and *Fast-forward merge* of the project close this gap.

use super::Topic;
use super::api::{Api, escaped};
use super::wire::{MergeRequest, Project};
use crate::adapters::forge::answer::Answer;
use crate::adapters::forge::rest::{RestApi, sha};
use crate::adapters::forge::settings::MergeMethod;
use crate::domain::{ChangeNumber, Sha};
use crate::ports::forge::Landing;
use crate::ports::{PortError, PortResult};
use http::{Method, StatusCode};
use serde_json::json;

impl Api<'_> {
    pub(super) async fn land(&self, number: ChangeNumber, head: &Sha, base: &Sha) -> PortResult<Landing> {
        let found = self.merge_request(number).await?;
        if let Some(known) = ended(&found, head)? {
            if let Landing::Landed(_) = known {
                self.delete_branch(&found, head).await;
            }
            return Ok(known);
        }
        self.check_unlocked(&found)?;
        if found.sha.as_deref() != Some(head.as_str()) {
            let at = found.head()?;
            let (at, not_at) = (at.abbrev(), head.abbrev());
            return Ok(Landing::Stale(format!("merge request {number} is at {at}, not at {not_at}")));
        }
        let project = self.project().await?;
        let squash = self.squash(&project)?;
        if project.merge_trains_enabled == Some(true) {
            return Err(PortError::permanent(
                format!(
                    "cannot merge merge request {number}: {} merges by merge trains, which Skep does not use",
                    self.repo
                ),
                format!(
                    "add {} to the merge train; then run `skep unblock`, and Skep observes the merge",
                    found.web_url
                ),
            ));
        }
        let branch = &found.target_branch;
        let current = self.target_head(branch).await?;
        if current != *base {
            let (at, not_at) = (current.abbrev(), base.abbrev());
            return Ok(Landing::Stale(format!("branch {branch:?} is at {at}, not at {not_at}")));
        }
        let landing = self.merge(number, head, squash).await?;
        if let Landing::Landed(_) = landing {
            self.delete_branch(&found, head).await;
        }
        Ok(landing)
    }

    /// Returns whether to squash: as configured, or as the project proposes.
    fn squash(&self, project: &Project) -> PortResult<bool> {
        let option = project.squash_option.as_deref().unwrap_or("default_off");
        match (self.forge.settings.merge_method, option) {
            (Some(MergeMethod::Squash), "never") | (Some(MergeMethod::Merge), "always") => {
                let squashing = if option == "never" { "forbids" } else { "requires" };
                Err(PortError::permanent(
                    format!("{} {squashing} squashing, and merge_method says otherwise", self.repo),
                    format!(
                        "change *Squash commits when merging* in the project's settings, or forges.{}.merge_method, \
                         then run `skep unblock`",
                        self.forge.name
                    ),
                ))
            }
            (Some(method), _) => Ok(method == MergeMethod::Squash),
            (None, option) => Ok(matches!(option, "always" | "default_on")),
        }
    }

    /// Merges. The outcome of a lost answer is observed, and so is the id of the merged commit.
    async fn merge(&self, number: ChangeNumber, head: &Sha, squash: bool) -> PortResult<Landing> {
        let doing = format!("merge merge request {number}");
        let url = self.url(&format!("{}/merge", Topic::MergeRequest(number.0).path()));
        let body = json!({ "sha": head, "squash": squash });
        crate::fault!("before-land");
        let sent = self.send(Method::PUT, &url, Some(&body), &doing).await;
        crate::fault!("after-land-push");
        let answer = match sent {
            Ok(answer) if answer.status.as_u16() < 500 => answer,
            lost => {
                let error = lost.map_or_else(|error| error, |answer| self.refusal(&answer, &doing, false));
                return match (ended(&self.merge_request(number).await?, head)?, error) {
                    (Some(landing), PortError::Unknown { .. }) => Ok(landing),
                    (_, error) => Err(error),
                };
            }
        };
        let now = self.merge_request(number).await?;
        if let Some(landing) = ended(&now, head)? {
            return Ok(landing);
        }
        self.check_unlocked(&now)?;
        match answer.status {
            StatusCode::OK => {
                Err(PortError::Unknown { what: format!("cannot {doing}: GitLab does not show the merge yet") })
            }
            // The head moved: the answer names it. There are other conflicts, such as a lock.
            StatusCode::CONFLICT if answer.says("sha does not match") => Ok(Landing::Stale(answer.message())),
            // So GitLab answers when the account may not merge to this branch: the token worked a moment ago.
            StatusCode::UNAUTHORIZED => Err(PortError::permanent(
                format!(
                    "cannot {doing} in {}: {} may not merge to {:?}",
                    self.repo,
                    self.login().await?,
                    now.target_branch
                ),
                format!(
                    "allow it in {}/{}/-/settings/repository, protected branches, or merge {} there, then run `skep \
                     unblock`",
                    self.forge.settings.url, self.repo, now.web_url
                ),
            )),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_ACCEPTABLE | StatusCode::UNPROCESSABLE_ENTITY => {
                self.not_mergeable(&answer, &now)
            }
            _ => Err(self.refusal(&answer, &doing, false)),
        }
    }

    /// Refuses a merge request that GitLab is merging at this moment: how that ends is known soon.
    fn check_unlocked(&self, found: &MergeRequest) -> PortResult<()> {
        match found.state.as_str() {
            "locked" => Err(PortError::transient(format!(
                "cannot merge merge request {} in {}: GitLab is merging it",
                found.iid, self.repo
            ))),
            _ => Ok(()),
        }
    }

    async fn login(&self) -> PortResult<&str> {
        Ok(&self.account().await?.login)
    }

    /// Returns what it means that GitLab refused a merge: the merge request says why.
    fn not_mergeable(&self, answer: &Answer, now: &MergeRequest) -> PortResult<Landing> {
        let status = now.detailed_merge_status.as_deref().unwrap_or_default();
        let fix = match status {
            // It was still being found out a moment ago.
            "mergeable" | "unchecked" | "checking" | "preparing" | "approvals_syncing" => {
                return Err(PortError::transient(format!(
                    "cannot merge merge request {} in {}: GitLab is still checking whether it can be merged",
                    now.iid, self.repo
                )));
            }
            "ci_still_running" => {
                return Err(PortError::transient(format!(
                    "cannot merge merge request {} in {}: its pipeline still runs",
                    now.iid, self.repo
                )));
            }
            "conflict" | "broken_status" => return Ok(Landing::Stale("the merge conflicts".to_owned())),
            "need_rebase" => return Ok(Landing::Stale(format!("{:?} moved", now.target_branch))),
            "not_approved" => "get the approvals that the approval rules require",
            "discussions_not_resolved" => "resolve its threads: the project requires that all of them are",
            "requested_changes" => "let the reviewers who requested changes approve, or bypass their requests",
            "ci_must_pass" => "the project requires a pipeline that succeeds: run one, or fix the failed one",
            "draft_status" => "mark it as ready",
            "merge_request_blocked" => "merge the merge requests that it depends on",
            "status_checks_must_pass" => "let its external status checks pass",
            "jira_association_missing" => "mention a Jira issue in its title or description",
            "security_policy_violations" | "policies_denied" => "comply with the security policies that it violates",
            "locked_paths" | "locked_lfs_files" => "unlock the files that it changes",
            "merge_time" => "wait for the time after which it may be merged",
            _ => "do what GitLab asks for, or merge it there",
        };
        let parts = [status.to_owned(), now.merge_error.clone().unwrap_or_default(), answer.message()];
        let said: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Err(PortError::permanent(
            format!("cannot merge merge request {} in {}: GitLab answered: {}", now.iid, self.repo, said.join(": ")),
            format!("see {}: {fix}, then run `skep unblock`", now.web_url),
        ))
    }

    /// Deletes the branch of a merged merge request, unless it moved. The result does not depend on it.
    async fn delete_branch(&self, merged: &MergeRequest, head: &Sha) {
        let branch = &merged.source_branch;
        let doing = format!("delete the branch {branch:?}");
        let deleted = async {
            if !branch.contains('/') || self.branch_head(branch).await?.as_ref() != Some(head) {
                return Ok(());
            }
            let url = self.url(&format!("/repository/branches/{}", escaped(branch)));
            let answer = self.send(Method::DELETE, &url, None, &doing).await?;
            match answer.status {
                // GitLab deletes it itself where the project says so.
                StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
                _ => Err(self.refusal(&answer, &doing, false)),
            }
        };
        if let Err(error) = deleted.await {
            tracing::warn!(%error, "the branch of a merged merge request stays");
        }
    }
}

/// Returns the outcome of a merge request that is no longer open.
fn ended(found: &MergeRequest, head: &Sha) -> PortResult<Option<Landing>> {
    if found.is_open() {
        return Ok(None);
    }
    Ok(Some(match found.state.as_str() {
        "merged" if found.sha.as_deref().map(sha).transpose()?.as_ref() == Some(head) => {
            Landing::Landed(found.landed()?)
        }
        "merged" => Landing::Stale(format!("merge request {} was merged at another head", found.iid)),
        _ => Landing::Stale(format!("merge request {} was closed", found.iid)),
    }))
}
