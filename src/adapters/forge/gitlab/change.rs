//! Opens, updates and closes merge requests.
//!
//! A draft is a merge request whose title starts with `Draft:`; GitLab refuses to merge it.

use super::Topic;
use super::api::{Api, escaped};
use super::quick_actions::defused;
use super::wire::MergeRequest;
use crate::adapters::forge::client::read;
use crate::adapters::forge::rest::RestApi;
use crate::domain::{ChangeNumber, ChangeRef};
use crate::ports::forge::ChangeText;
use crate::ports::{PortError, PortResult};
use http::{Method, StatusCode};
use serde_json::json;

/// Upper bound on a title, in characters: GitLab stores 255.
const MAX_TITLE_CHARS: usize = 240;
/// Upper bound on a description, in bytes.
const MAX_BODY_BYTES: usize = 60 * 1024;
/// Upper bound on the pages of merge requests of one branch that are read.
const MAX_PAGES: usize = 5;
/// Marks a draft.
const DRAFT_PREFIX: &str = "Draft: ";
/// What makes a draft of any title, whatever its case.
const DRAFT_PREFIXES: &[&str] = &["draft:", "[draft]", "(draft)", "wip:", "[wip]"];

/// The title and the description of a merge request as GitLab stores them.
struct Text {
    title: String,
    description: String,
}

/// Returns the hidden line at the end of the description of a merge request that Skep opened for a branch.
fn marker(branch: &str) -> String {
    format!("<!-- skep:change:{} -->", escaped(branch))
}

impl Text {
    fn of(text: &ChangeText<'_>) -> Text {
        let prefix = if text.draft { DRAFT_PREFIX } else { "" };
        let title: String = without_draft_prefix(text.title).chars().take(MAX_TITLE_CHARS).collect();
        let body = defused(&text.body[..text.body.floor_char_boundary(MAX_BODY_BYTES)]);
        Text {
            title: format!("{prefix}{}", title.trim_end()),
            description: format!("{}\n\n{}", body.trim_end(), marker(text.branch)),
        }
    }
}

/// Removes what would make a draft of any title.
fn without_draft_prefix(mut title: &str) -> &str {
    loop {
        title = title.trim_start();
        let prefix = DRAFT_PREFIXES
            .iter()
            .find(|prefix| title.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)));
        let Some(prefix) = prefix else { return title };
        title = &title[prefix.len()..];
    }
}

impl MergeRequest {
    /// Returns whether it can still be merged or closed. One that is `locked` is being merged.
    pub fn is_open(&self) -> bool {
        matches!(self.state.as_str(), "opened" | "locked")
    }
}

fn change_ref(found: &MergeRequest) -> ChangeRef {
    ChangeRef { number: ChangeNumber(found.iid), url: found.web_url.clone() }
}

impl Api<'_> {
    pub(super) async fn ensure_change(&self, text: &ChangeText<'_>) -> PortResult<ChangeRef> {
        let (open, closed) = self.merge_requests_of(text).await?;
        if let Some(open) = open {
            return self.update_merge_request(open, text).await;
        }
        if let Some(closed) = closed {
            return Ok(change_ref(&closed));
        }
        crate::fault!("before-change");
        let created = self.create_merge_request(text).await?;
        crate::fault!("after-change");
        match created {
            Some(new) => Ok(change_ref(&new)),
            // A lost answer, or another process.
            None => match self.merge_requests_of(text).await?.0 {
                Some(open) => self.update_merge_request(open, text).await,
                None => Err(PortError::transient(format!(
                    "{} has a merge request of {:?} that it does not list yet",
                    self.repo, text.branch
                ))),
            },
        }
    }

    /// Returns the open merge request that Skep opened for the branch, and the newest one that is closed or merged.
    ///
    /// # Errors
    /// Permanent if somebody else opened one that is open.
    async fn merge_requests_of(
        &self,
        text: &ChangeText<'_>,
    ) -> PortResult<(Option<MergeRequest>, Option<MergeRequest>)> {
        let path = format!("/merge_requests?state=all&source_branch={}", escaped(text.branch));
        let mut found: Vec<MergeRequest> = self.list(&path, MAX_PAGES, "list the merge requests of a branch").await?;
        // A fork may have a branch of the same name.
        found.retain(|one| {
            one.source_branch == text.branch
                && one.source_project_id == Some(one.target_project_id)
                && text.after.is_none_or(|after| one.iid > after.0)
        });
        found.sort_by_key(|one| one.iid);
        let (mut open, mut closed) = (None, None);
        for one in found {
            match (one.is_open(), self.is_own(&one, text.branch).await?) {
                (true, true) => open = Some(one),
                (true, false) => {
                    let by = one.author.as_ref().map_or("somebody", |user| user.username.as_str());
                    return Err(PortError::permanent(
                        format!("{by}, not Skep, opened merge request {} of the branch {:?}", one.iid, text.branch),
                        format!("close {}, then run `skep unblock`: Skep opens its own", one.web_url),
                    ));
                }
                (false, true) => closed = Some(one),
                (false, false) => {}
            }
        }
        Ok((open, closed))
    }

    /// Returns whether Skep opened a merge request. Its token may be a person's, who opens some as well.
    async fn is_own(&self, found: &MergeRequest, branch: &str) -> PortResult<bool> {
        let is_marked = found.description.as_deref().unwrap_or_default().trim_end().ends_with(&marker(branch));
        Ok(is_marked && self.account().await?.is(found.author.as_ref()))
    }

    /// Opens a merge request; `None` = GitLab has an open one of this branch already.
    async fn create_merge_request(&self, text: &ChangeText<'_>) -> PortResult<Option<MergeRequest>> {
        let project = self.project().await?;
        let refused = match (project.archived, project.merge_requests_enabled) {
            (true, _) => Some(("is archived", "unarchive the project in its settings")),
            (_, Some(false)) => Some(("has no merge requests", "enable merge requests in the project's settings")),
            _ => None,
        };
        if let Some((why, fix)) = refused {
            let what = format!("cannot open a merge request: {} {why}", self.repo);
            return Err(PortError::permanent(what, format!("{fix}, then run `skep unblock`")));
        }
        let doing = "open a merge request";
        let Text { title, description } = Text::of(text);
        let request = json!({
            "source_branch": text.branch, "target_branch": text.base_branch, "title": title, "description": description,
        });
        let answer = self.send(Method::POST, &self.url("/merge_requests"), Some(&request), doing).await?;
        match answer.status {
            StatusCode::CREATED => read(&answer, doing).map(Some),
            StatusCode::CONFLICT => Ok(None),
            _ => Err(self.refusal(&answer, doing, false)),
        }
    }

    /// Brings an open merge request up to date.
    async fn update_merge_request(&self, open: MergeRequest, text: &ChangeText<'_>) -> PortResult<ChangeRef> {
        let Text { title, description } = Text::of(text);
        let stored = open.description.as_deref().unwrap_or_default().replace("\r\n", "\n");
        let is_same_target = open.target_branch == text.base_branch;
        if open.title == title && stored == description && is_same_target {
            return Ok(change_ref(&open));
        }
        let mut change = json!({ "title": title, "description": description });
        if !is_same_target {
            change["target_branch"] = json!(text.base_branch);
        }
        let doing = format!("update merge request {}", open.iid);
        let path = Topic::MergeRequest(open.iid).path();
        self.write(Method::PUT, &path, &change, StatusCode::OK, &doing).await?;
        Ok(change_ref(&open))
    }

    pub(super) async fn close(&self, number: ChangeNumber) -> PortResult<()> {
        if !self.merge_request(number).await?.is_open() {
            return Ok(());
        }
        let doing = format!("close merge request {number}");
        let change = json!({ "state_event": "close" });
        let path = Topic::MergeRequest(number.0).path();
        self.write(Method::PUT, &path, &change, StatusCode::OK, &doing).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::without_draft_prefix;

    #[test]
    fn only_skep_decides_whether_a_title_makes_a_draft() {
        for (title, expected) in [
            ("Add a flag", "Add a flag"),
            ("Draft: Add a flag", "Add a flag"),
            ("draft:[Draft] (DRAFT) WIP: Add a flag", "Add a flag"),
            ("Drafting tables", "Drafting tables"),
            ("é", "é"),
        ] {
            assert_eq!(without_draft_prefix(title), expected);
        }
    }
}
