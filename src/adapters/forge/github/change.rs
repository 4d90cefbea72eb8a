//! Opens, updates and closes pull requests.

use super::api::{Api, PAGE, escaped};
use super::wire::Pull;
use crate::adapters::forge::client::read;
use crate::adapters::forge::fork::Forks;
use crate::adapters::forge::rest::RestApi;
use crate::adapters::forge::settings::RepoName;
use crate::domain::{ChangeNumber, ChangeRef};
use crate::ports::forge::ChangeText;
use crate::ports::{PortError, PortResult};
use http::{Method, StatusCode};
use serde_json::json;

/// Upper bound on a title, in characters.
const MAX_TITLE_CHARS: usize = 250;
/// Upper bound on a body, in bytes: GitHub accepts 65,536 characters.
const MAX_BODY_BYTES: usize = 60 * 1024;

/// The title and the body of a pull request as GitHub stores them.
struct Text {
    title: String,
    body: String,
}

/// Returns the hidden line at the end of the body of a pull request that Skep opened for a branch.
fn marker(branch: &str) -> String {
    format!("<!-- skep:change:{} -->", escaped(branch))
}

impl Text {
    fn of(text: &ChangeText<'_>) -> Text {
        let title: String = text.title.chars().take(MAX_TITLE_CHARS).collect();
        let body = &text.body[..text.body.floor_char_boundary(MAX_BODY_BYTES)];
        Text { title, body: format!("{}\n\n{}", body.trim_end(), marker(text.branch)) }
    }
}

fn change_ref(pull: &Pull) -> ChangeRef {
    ChangeRef { number: ChangeNumber(pull.number), url: pull.html_url.clone() }
}

impl Api<'_> {
    pub(super) async fn ensure_change(&self, text: &ChangeText<'_>) -> PortResult<ChangeRef> {
        let from = self.fork().await?.unwrap_or_else(|| self.repo.clone());
        let head = format!("{}%3A{}", from.owner, escaped(text.branch));
        if let Some(pull) = self.own_pull(text, &from, &format!("state=all&head={head}")).await? {
            return self.update_pull(pull, text).await;
        }
        crate::fault!("before-change");
        let opened = self.open_pull(text, &from, text.draft).await?;
        crate::fault!("after-change");
        match opened {
            Some(pull) => Ok(change_ref(&pull)),
            // A lost answer, or another process: the list did not have it yet, or is filtered by another spelling of the
            // owner.
            None => match self.own_pull(text, &from, "state=open").await? {
                Some(pull) => self.update_pull(pull, text).await,
                None => Err(PortError::transient(format!(
                    "{} has a pull request of {:?} that it does not list yet",
                    self.repo, text.branch
                ))),
            },
        }
    }

    /// Returns the newest pull request that Skep opened for the branch, of those that a filter lists.
    ///
    /// # Errors
    /// Permanent if somebody else opened one that is still open.
    async fn own_pull(&self, text: &ChangeText<'_>, from: &RepoName, filter: &str) -> PortResult<Option<Pull>> {
        let path = format!("/pulls?{filter}&sort=created&direction=desc&per_page={PAGE}");
        let mut pulls: Vec<Pull> = self.get(&path, "list pull requests").await?;
        let own_name = from.to_string();
        pulls.retain(|pull| {
            let repo = pull.head.repo.as_ref().map_or("", |repo| repo.full_name.as_str());
            pull.head.name == text.branch
                && repo.eq_ignore_ascii_case(&own_name)
                && text.after.is_none_or(|after| pull.number > after.0)
        });
        let account = self.account().await?;
        let marker = marker(text.branch);
        let is_own = |pull: &Pull| {
            let is_marked = || pull.body.as_deref().unwrap_or_default().trim_end().ends_with(&marker);
            account.is(pull.user.as_ref()) && (account.is_bot || is_marked())
        };
        if let Some(foreign) = pulls.iter().find(|pull| pull.state == "open" && !is_own(pull)) {
            let by = foreign.user.as_ref().map_or("somebody", |user| user.login.as_str());
            return Err(PortError::permanent(
                format!("{by}, not Skep, opened pull request {} of the branch {:?}", foreign.number, text.branch),
                format!("close {}, then run `skep unblock`: Skep opens its own", foreign.html_url),
            ));
        }
        Ok(pulls.into_iter().filter(is_own).max_by_key(|pull| pull.number))
    }

    /// Opens a pull request; `None` = GitHub has an open one of this branch already.
    async fn open_pull(&self, text: &ChangeText<'_>, from: &RepoName, draft: bool) -> PortResult<Option<Pull>> {
        let doing = "open a pull request";
        let Text { title, body } = Text::of(text);
        let head = if *from == self.repo { text.branch.to_owned() } else { format!("{}:{}", from.owner, text.branch) };
        let request = json!({ "title": title, "body": body, "head": head, "base": text.base_branch, "draft": draft });
        let answer = self.send(Method::POST, &self.url("/pulls"), Some(&request), doing).await?;
        match answer.status {
            StatusCode::CREATED => read(&answer, doing).map(Some),
            StatusCode::UNPROCESSABLE_ENTITY if answer.says("already exists") => Ok(None),
            // Drafts are a paid feature of private repositories.
            StatusCode::UNPROCESSABLE_ENTITY if draft && answer.says("draft pull requests are not supported") => {
                Box::pin(self.open_pull(text, from, false)).await
            }
            _ => Err(self.refusal(&answer, doing, false)),
        }
    }

    /// Brings an open pull request up to date. One that a person closed or merged stays that way.
    async fn update_pull(&self, pull: Pull, text: &ChangeText<'_>) -> PortResult<ChangeRef> {
        if pull.state != "open" {
            return Ok(change_ref(&pull));
        }
        let Text { title, body } = Text::of(text);
        let is_same = pull.title == title
            && pull.body.as_deref().unwrap_or_default().replace("\r\n", "\n") == body
            && pull.base.name == text.base_branch;
        if !is_same {
            let doing = format!("update pull request {}", pull.number);
            let change = json!({ "title": title, "body": body, "base": text.base_branch });
            self.write(Method::PATCH, &format!("/pulls/{}", pull.number), &change, StatusCode::OK, &doing).await?;
        }
        if pull.draft != text.draft {
            self.set_draft(&pull, text.draft).await?;
        }
        Ok(change_ref(&pull))
    }

    /// Converts a pull request to a draft, or marks it as ready for review.
    async fn set_draft(&self, pull: &Pull, draft: bool) -> PortResult<()> {
        let (mutation, doing) = match draft {
            true => ("convertPullRequestToDraft", "convert a pull request to a draft"),
            false => ("markPullRequestReadyForReview", "mark a pull request as ready for review"),
        };
        let refused = match self.mutate(mutation, "pullRequestId", &pull.node_id, doing).await {
            Err(error @ PortError::Permanent { .. }) => error,
            other => return other,
        };
        match draft {
            // Where there are no drafts, the pull request is as good without.
            true => tracing::warn!(error = %refused, "the pull request stays ready for review"),
            // The list may have been old.
            false if self.pull(ChangeNumber(pull.number)).await?.draft => return Err(refused),
            false => {}
        }
        Ok(())
    }

    pub(super) async fn close(&self, number: ChangeNumber) -> PortResult<()> {
        if self.pull(number).await?.state != "open" {
            return Ok(());
        }
        let doing = format!("close pull request {number}");
        let change = json!({ "state": "closed" });
        self.write(Method::PATCH, &format!("/pulls/{number}"), &change, StatusCode::OK, &doing).await.map(drop)
    }
}
