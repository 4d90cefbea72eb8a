//! Merges a pull request, if everything is still as it was when it was checked.
//!
//! The forge compares the head itself. It cannot compare the base: Skep reads it directly before, so that a push to the
//! base within that moment is merged with a change that was proven on the commit before. The method `fast-forward-only`,
//! or a branch protection rule that blocks outdated branches, closes this gap.

use super::api::{Api, escaped};
use super::wire::{Pull, Repository};
use crate::adapters::forge::answer::Answer;
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
            let at = sha(&pull.head.sha)?;
            return Ok(Landing::Stale(format!(
                "pull request {number} is at {}, not at {}",
                at.abbrev(),
                head.abbrev()
            )));
        }
        let head_repo = pull.head.repo.as_ref().map(|repo| repo.full_name.as_str());
        if self.head_repo(head_repo).is_some() {
            return Err(self.only_maintainers_merge(pull.number, &pull.html_url));
        }
        let methods = self.merge_methods().await?;
        let branch = &pull.base.name;
        let current = sha(&self.base_branch(branch).await?.commit.id)?;
        if current != *base {
            let (at, not_at) = (current.abbrev(), base.abbrev());
            return Ok(Landing::Stale(format!("branch {branch:?} is at {at}, not at {not_at}")));
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
                    "allow one in the repository's settings, then run `skep unblock`",
                )
            },
            |answer| self.not_allowed(&answer, number),
        ))
    }

    /// Merges by one method. The outcome of a lost answer is observed, and so is the id of the merged commit.
    async fn merge(&self, number: ChangeNumber, head: &Sha, method: MergeMethod) -> PortResult<Tried> {
        let doing = format!("merge pull request {number}");
        let url = self.url(&format!("/pulls/{number}/merge"));
        let body = json!({ "Do": method.name(), "head_commit_id": head });
        crate::fault!("before-land");
        let sent = self.send(Method::POST, &url, Some(&body), &doing).await;
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
            StatusCode::OK => match ended(&self.pull(number).await?, head)? {
                Some(landing) => Ok(Tried::Landing(landing)),
                None => Err(PortError::Unknown { what: format!("cannot {doing}: the forge does not show the merge") }),
            },
            // The head or the base moved. A conflict has no message.
            StatusCode::CONFLICT if answer.says("out of date") || answer.message().is_empty() => {
                let why = Some(answer.message()).filter(|message| !message.is_empty());
                Ok(Tried::Landing(Landing::Stale(why.unwrap_or_else(|| "the merge conflicts".to_owned()))))
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND | StatusCode::CONFLICT => {
                match ended(&self.pull(number).await?, head)? {
                    Some(landing) => Ok(Tried::Landing(landing)),
                    None if answer.says("merge style") => Ok(Tried::NotAllowed(answer)),
                    // The forge computes this some time after a push; a conflict would have moved the base.
                    None if answer.says("try again later") => Err(PortError::transient(format!(
                        "cannot {doing} in {}: the forge does not regard it as mergeable yet",
                        self.repo
                    ))),
                    None if answer.status == StatusCode::NOT_FOUND => Err(self.refusal(&answer, &doing, false)),
                    None => Err(self.not_allowed(&answer, number)),
                }
            }
            _ => Err(self.refusal(&answer, &doing, false)),
        }
    }

    /// Creates the error for a merge that a rule of the repository forbids.
    fn not_allowed(&self, answer: &Answer, number: ChangeNumber) -> PortError {
        let software = self.forge.settings.software;
        let message = answer.message();
        PortError::permanent(
            format!("cannot merge pull request {number} in {}: {software} answered: {message}", self.repo),
            format!(
                "fulfil the branch protection rule that {software} names, or merge the pull request there, then run \
                 `skep unblock`"
            ),
        )
    }

    /// Returns the methods to try: the configured one, or those that the repository allows.
    async fn merge_methods(&self) -> PortResult<Vec<MergeMethod>> {
        if let Some(method) = self.forge.settings.merge_method {
            return Ok(vec![method]);
        }
        let settings: Repository = self.get("", "read the repository's settings").await?;
        let is_allowed = |method: &MergeMethod| match method {
            MergeMethod::Merge => settings.allow_merge_commits.unwrap_or(true),
            MergeMethod::Squash => settings.allow_squash_merge.unwrap_or(true),
            MergeMethod::Rebase => settings.allow_rebase.unwrap_or(true),
            MergeMethod::RebaseMerge => settings.allow_rebase_explicit.unwrap_or(false),
            // Versions that do not report it do not have it.
            MergeMethod::FastForwardOnly => settings.allow_fast_forward_only_merge.unwrap_or(false),
        };
        Ok(MergeMethod::OF_FORGEJO.iter().copied().filter(is_allowed).collect())
    }

    /// Deletes the branch of a merged pull request, unless it moved. The result does not depend on it.
    async fn delete_branch(&self, pull: &Pull, head: &Sha) {
        let branch = if pull.head.label.is_empty() { &pull.head.name } else { &pull.head.label };
        let doing = format!("delete the branch {branch:?}");
        let deleted = async {
            if !branch.contains('/') || self.branch_head(branch).await?.as_ref() != Some(head) {
                return Ok(());
            }
            let url = self.url(&format!("/branches/{}", escaped(branch)));
            let answer = self.send(Method::DELETE, &url, None, &doing).await?;
            match answer.status {
                // The forge deletes it itself where the repository says so.
                StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
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
    Ok(Some(match (pull.merged, &pull.merge_commit_sha) {
        (true, Some(merged)) if pull.head.sha == head.as_str() => Landing::Landed(sha(merged)?),
        (true, _) => Landing::Stale(format!("pull request {} was merged at another head", pull.number)),
        (false, _) => Landing::Stale(format!("pull request {} was closed", pull.number)),
    }))
}
