//! Opens, updates and closes pull requests.
//!
//! A draft is a pull request whose title starts with `WIP:`; the forge refuses to merge it.

use super::api::{Api, escaped};
use super::wire::{Pull, PullBranch};
use crate::adapters::forge::client::read;
use crate::adapters::forge::fork::Forks;
use crate::adapters::forge::rest::RestApi;
use crate::adapters::forge::settings::RepoName;
use crate::domain::{ChangeNumber, ChangeRef};
use crate::ports::forge::ChangeText;
use crate::ports::{PortError, PortResult};
use http::{Method, StatusCode};
use serde_json::json;

/// Upper bound on a title, in characters: the forge stores 255.
const MAX_TITLE_CHARS: usize = 245;
/// Upper bound on a body, in bytes: the forge stores 65,535.
const MAX_BODY_BYTES: usize = 60 * 1024;
/// Upper bounds on the pages of pull requests that are searched: of the open ones, and of the newest closed ones.
const MAX_OPEN_PAGES: usize = 40;
const MAX_CLOSED_PAGES: usize = 6;
/// Marks a draft.
const DRAFT_PREFIX: &str = "WIP: ";

/// The title and the body of a pull request as the forge stores them.
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
        let prefix = if text.draft { DRAFT_PREFIX } else { "" };
        let title: String = without_draft_prefix(text.title).chars().take(MAX_TITLE_CHARS).collect();
        let body = &text.body[..text.body.floor_char_boundary(MAX_BODY_BYTES)];
        Text { title: format!("{prefix}{title}"), body: format!("{}\n\n{}", body.trim_end(), marker(text.branch)) }
    }
}

/// Removes what would make a draft of any title.
fn without_draft_prefix(mut title: &str) -> &str {
    loop {
        title = title.trim_start();
        let prefix = ["wip:", "[wip]"]
            .into_iter()
            .find(|prefix| title.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)));
        let Some(prefix) = prefix else { return title };
        title = &title[prefix.len()..];
    }
}

impl PullBranch {
    /// Returns whether it is this branch, which may be deleted.
    pub fn is(&self, branch: &str) -> bool {
        self.name == branch || self.label == branch
    }
}

fn change_ref(pull: &Pull) -> ChangeRef {
    ChangeRef { number: ChangeNumber(pull.number), url: pull.html_url.clone() }
}

/// Returns whether a pull request is one of the branch in this repository, and not the previous one.
fn is_of_branch(pull: &Pull, text: &ChangeText<'_>, from: &RepoName) -> bool {
    let repo = pull.head.repo.as_ref().map_or("", |repo| repo.full_name.as_str());
    pull.head.is(text.branch)
        && repo.eq_ignore_ascii_case(&from.to_string())
        && text.after.is_none_or(|after| pull.number > after.0)
}

impl Api<'_> {
    pub(super) async fn ensure_change(&self, text: &ChangeText<'_>) -> PortResult<ChangeRef> {
        let from = self.fork().await?.unwrap_or_else(|| self.repo.clone());
        if let Some(pull) = self.open_pull(text, &from).await? {
            return self.update_pull(pull, text).await;
        }
        if let Some(pull) = self.closed_pull(text, &from).await? {
            return Ok(change_ref(&pull));
        }
        crate::fault!("before-change");
        let created = self.create_pull(text, &from).await?;
        crate::fault!("after-change");
        match created {
            Some(pull) => Ok(change_ref(&pull)),
            // A lost answer, or another process.
            None => match self.open_pull(text, &from).await? {
                Some(pull) => self.update_pull(pull, text).await,
                None => Err(PortError::transient(format!(
                    "{} has a pull request of {:?} that it does not list yet",
                    self.repo, text.branch
                ))),
            },
        }
    }

    /// Returns the open pull request that Skep opened for the branch.
    ///
    /// # Errors
    /// Permanent if somebody else opened one.
    async fn open_pull(&self, text: &ChangeText<'_>, from: &RepoName) -> PortResult<Option<Pull>> {
        let mut pulls: Vec<Pull> = self.list("/pulls?state=open", MAX_OPEN_PAGES, "list the pull requests").await?;
        pulls.retain(|pull| is_of_branch(pull, text, from));
        let mut own = None;
        for pull in pulls {
            if !self.is_own(&pull, text.branch).await? {
                let by = pull.user.as_ref().map_or("somebody", |user| user.login.as_str());
                return Err(PortError::permanent(
                    format!("{by}, not Skep, opened pull request {} of the branch {:?}", pull.number, text.branch),
                    format!("close {}, then run `skep unblock`: Skep opens its own", pull.html_url),
                ));
            }
            own = Some(pull);
        }
        Ok(own)
    }

    /// Returns the newest pull request that Skep opened for the branch and that is closed or merged.
    async fn closed_pull(&self, text: &ChangeText<'_>, from: &RepoName) -> PortResult<Option<Pull>> {
        let path = "/pulls?state=closed";
        let (pulls, _) = self.first_pages::<Pull>(path, MAX_CLOSED_PAGES, "list the closed pull requests").await?;
        let mut newest: Option<Pull> = None;
        for pull in pulls {
            let is_newer = newest.as_ref().is_none_or(|newest| pull.number > newest.number);
            if is_newer && is_of_branch(&pull, text, from) && self.is_own(&pull, text.branch).await? {
                newest = Some(pull);
            }
        }
        Ok(newest)
    }

    /// Returns whether Skep opened a pull request. Its token may be a person's, who opens some as well.
    async fn is_own(&self, pull: &Pull, branch: &str) -> PortResult<bool> {
        let is_marked = pull.body.as_deref().unwrap_or_default().trim_end().ends_with(&marker(branch));
        Ok(is_marked && self.account().await?.is(pull.user.as_ref()))
    }

    /// Opens a pull request; `None` = the forge has an open one of this branch already.
    async fn create_pull(&self, text: &ChangeText<'_>, from: &RepoName) -> PortResult<Option<Pull>> {
        let doing = "open a pull request";
        let Text { title, body } = Text::of(text);
        let head = if *from == self.repo { text.branch.to_owned() } else { format!("{}:{}", from.owner, text.branch) };
        let request = json!({ "title": title, "body": body, "head": head, "base": text.base_branch });
        let answer = self.send(Method::POST, &self.url("/pulls"), Some(&request), doing).await?;
        match answer.status {
            StatusCode::CREATED => read(&answer, doing).map(Some),
            StatusCode::CONFLICT => Ok(None),
            _ => Err(self.refusal(&answer, doing, false)),
        }
    }

    /// Brings an open pull request up to date.
    async fn update_pull(&self, pull: Pull, text: &ChangeText<'_>) -> PortResult<ChangeRef> {
        let Text { title, body } = Text::of(text);
        let is_same_text =
            pull.title == title && pull.body.as_deref().unwrap_or_default().replace("\r\n", "\n") == body;
        let is_same_base = pull.base.name == text.base_branch;
        if is_same_text && is_same_base {
            return Ok(change_ref(&pull));
        }
        let mut change = json!({ "title": title, "body": body });
        if !is_same_base {
            change["base"] = json!(text.base_branch);
        }
        let doing = format!("update pull request {}", pull.number);
        self.write(Method::PATCH, &format!("/pulls/{}", pull.number), &change, StatusCode::CREATED, &doing).await?;
        Ok(change_ref(&pull))
    }

    pub(super) async fn close(&self, number: ChangeNumber) -> PortResult<()> {
        if self.pull(number).await?.state != "open" {
            return Ok(());
        }
        let doing = format!("close pull request {number}");
        let change = json!({ "state": "closed" });
        self.write(Method::PATCH, &format!("/pulls/{number}"), &change, StatusCode::CREATED, &doing).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::without_draft_prefix;

    #[test]
    fn only_skep_decides_whether_a_title_makes_a_draft() {
        for (title, expected) in [
            ("Add a flag", "Add a flag"),
            ("WIP: Add a flag", "Add a flag"),
            ("wip:[WIP]  Add a flag", "Add a flag"),
            ("Wipe the disk", "Wipe the disk"),
            ("é", "é"),
        ] {
            assert_eq!(without_draft_prefix(title), expected);
        }
    }
}
