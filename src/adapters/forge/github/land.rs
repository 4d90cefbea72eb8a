//! Merges a pull request, if everything is still as it was when it was checked.
//!
//! GitHub compares the head itself. It cannot compare the base: Skep reads it directly before, so that a push to the base
//! within that moment is merged with a change that was proven on the commit before. A branch protection rule that
//! requires branches to be up to date closes this gap.

use super::api::{Api, escaped};
use super::wire::{Merged, Pull, Repository};
use crate::adapters::forge::answer::Answer;
use crate::adapters::forge::client::read;
use crate::adapters::forge::fork::Forks;
use crate::adapters::forge::rest::{RestApi, sha};
use crate::adapters::forge::settings::MergeMethod;
use crate::domain::{ChangeNumber, Sha};
use crate::ports::forge::Landing;
use crate::ports::{PortError, PortResult};
use http::{Method, StatusCode};
use serde_json::json;

/// What became of a try to merge by one method.
enum Tried {
    Landing(Landing),
    /// The repository does not allow this method.
    NotAllowed(Answer),
}

impl Api<'_> {
    pub(super) async fn land(&self, number: ChangeNumber, head: &Sha, base: &Sha) -> PortResult<Landing> {
        let pull = self.pull(number).await?;
        if let Some(known) = ended(&pull, head)? {
            if let Landing::Landed(_) = known {
                self.delete_branch(&pull, head).await;
            }
            return Ok(known);
        }
        if pull.head.sha != head.as_str() {
            return Ok(Landing::Stale(format!(
                "pull request {number} is at {}, not at {}",
                sha(&pull.head.sha)?.abbrev(),
                head.abbrev()
            )));
        }
        let head_repo = pull.head.repo.as_ref().map(|repo| repo.full_name.as_str());
        if self.head_repo(head_repo).is_some() {
            return Err(self.only_maintainers_merge(pull.number, &pull.html_url));
        }
        let methods = self.merge_methods().await?;
        let current = self.base_head(&pull.base.name).await?;
        if current != *base {
            let branch = &pull.base.name;
            return Ok(Landing::Stale(format!(
                "branch {branch:?} is at {}, not at {}",
                current.abbrev(),
                base.abbrev()
            )));
        }
        let mut refused = None;
        for method in methods {
            match self.merge(number, head, method).await? {
                Tried::Landing(landing) => {
                    if let Landing::Landed(_) = landing {
                        self.delete_branch(&pull, head).await;
                    }
                    return Ok(landing);
                }
                Tried::NotAllowed(answer) => refused = Some(answer),
            }
        }
        Err(refused.map_or_else(
            || {
                PortError::permanent(
                    format!("{} allows no merge method", self.repo),
                    "allow merge commits, squash merging or rebase merging in the repository's settings",
                )
            },
            |answer| self.not_allowed(&answer, number),
        ))
    }

    /// Merges by one method. The outcome of a lost answer is observed.
    async fn merge(&self, number: ChangeNumber, head: &Sha, method: MergeMethod) -> PortResult<Tried> {
        let doing = format!("merge pull request {number}");
        let url = self.url(&format!("/pulls/{number}/merge"));
        let body = json!({ "sha": head, "merge_method": method.name() });
        crate::fault!("before-land");
        let sent = self.send(Method::PUT, &url, Some(&body), &doing).await;
        crate::fault!("after-land-push");
        let answer = match sent {
            Ok(answer) if answer.status.as_u16() < 500 => answer,
            lost => {
                let error = lost.map_or_else(|error| error, |answer| self.refusal(&answer, &doing, false));
                return match (ended(&self.pull(number).await?, head)?, error) {
                    (Some(landing), PortError::Unknown { .. }) => Ok(Tried::Landing(landing)),
                    (_, error) => Err(error),
                };
            }
        };
        match answer.status {
            StatusCode::OK => {
                let merged: Merged = read(&answer, &doing).map_err(|e| PortError::Unknown { what: e.to_string() })?;
                Ok(Tried::Landing(Landing::Landed(sha(&merged.sha)?)))
            }
            StatusCode::CONFLICT => Ok(Tried::Landing(Landing::Stale(answer.message()))),
            StatusCode::METHOD_NOT_ALLOWED if answer.says("branch was modified") => {
                Ok(Tried::Landing(Landing::Stale(answer.message())))
            }
            StatusCode::METHOD_NOT_ALLOWED => match ended(&self.pull(number).await?, head)? {
                Some(landing) => Ok(Tried::Landing(landing)),
                None if is_about_method(&answer) => Ok(Tried::NotAllowed(answer)),
                // GitHub computes this some time after a push; a conflict would have moved the base.
                None if answer.message() == "Pull Request is not mergeable" => Err(PortError::transient(format!(
                    "cannot {doing} in {}: GitHub does not regard it as mergeable yet",
                    self.repo
                ))),
                None => Err(self.not_allowed(&answer, number)),
            },
            _ => Err(self.refusal(&answer, &doing, false)),
        }
    }

    /// Creates the error for a merge that a rule of the repository forbids.
    fn not_allowed(&self, answer: &Answer, number: ChangeNumber) -> PortError {
        PortError::permanent(
            format!("cannot merge pull request {number} in {}: GitHub answered: {}", self.repo, answer.message()),
            "fulfil the branch protection rule that GitHub names, or merge the pull request on GitHub, then run \
             `skep unblock`",
        )
    }

    /// Returns the methods to try: the configured one, or those that the repository allows.
    async fn merge_methods(&self) -> PortResult<Vec<MergeMethod>> {
        if let Some(method) = self.forge.settings.merge_method {
            return Ok(vec![method]);
        }
        let settings: Repository = self.get("", "read the repository's settings").await?;
        let is_allowed = |method: &MergeMethod| {
            let allowed = match method {
                MergeMethod::Merge => settings.allow_merge_commit,
                MergeMethod::Squash => settings.allow_squash_merge,
                MergeMethod::Rebase => settings.allow_rebase_merge,
                MergeMethod::RebaseMerge | MergeMethod::FastForwardOnly => Some(false),
            };
            // Not every account sees the settings.
            allowed.unwrap_or(true)
        };
        Ok(MergeMethod::OF_GITHUB.iter().copied().filter(is_allowed).collect())
    }

    /// Deletes the branch of a merged pull request, unless it moved. The result does not depend on it.
    async fn delete_branch(&self, pull: &Pull, head: &Sha) {
        let branch = &pull.head.name;
        let doing = format!("delete the branch {branch:?}");
        let deleted = async {
            if !branch.contains('/') || self.branch_head(branch).await?.as_ref() != Some(head) {
                return Ok(());
            }
            let url = self.url(&format!("/git/refs/heads/{}", escaped(branch)));
            let answer = self.send(Method::DELETE, &url, None, &doing).await?;
            match answer.status {
                // GitHub deletes it itself where the repository says so.
                StatusCode::NO_CONTENT | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY => Ok(()),
                _ => Err(self.refusal(&answer, &doing, false)),
            }
        };
        if let Err(error) = deleted.await {
            tracing::warn!(%error, "the branch of a merged pull request stays");
        }
    }
}

/// Returns the outcome of a pull request that is no longer open.
fn ended(pull: &Pull, head: &Sha) -> PortResult<Option<Landing>> {
    if pull.state == "open" {
        return Ok(None);
    }
    Ok(Some(match (&pull.merged_at, &pull.merge_commit_sha) {
        (Some(_), Some(merged)) if pull.head.sha == head.as_str() => Landing::Landed(sha(merged)?),
        (Some(_), _) => Landing::Stale(format!("pull request {} was merged at another head", pull.number)),
        (None, _) => Landing::Stale(format!("pull request {} was closed", pull.number)),
    }))
}

/// Returns whether GitHub refused the method of merging, and not the merge.
fn is_about_method(answer: &Answer) -> bool {
    [
        "merge commits are not allowed",
        "squash merges are not allowed",
        "rebase merges are not allowed",
        "linear history",
    ]
    .iter()
    .any(|text| answer.says(text))
}
