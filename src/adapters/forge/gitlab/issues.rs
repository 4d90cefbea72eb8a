//! Reads issues, their labels and comments; closes issues.
//!
//! Confidential issues, and notes for members only, are not read: what Skep writes about them could be public.

use super::Topic;
use super::api::{Api, escaped, is_person, principal, time};
use super::quick_actions::defused;
use super::wire::{Event, IssueAnswer, LabelEvent, MergeRequest, Note, User};
use crate::adapters::forge::comment::{is_marked, whole};
use crate::adapters::forge::once::{Changes, OwnComment, OwnIssueText, WriteOnce};
use crate::adapters::forge::rest::RestApi;
use crate::adapters::forge::unsure::UnsureWrites;
use crate::domain::{ChangeNumber, Timestamp};
use crate::ports::forge_issues::{Actor, Issue, IssueAct, IssueComment, LabelledIssue};
use crate::ports::{PortError, PortResult};
use chrono::{DateTime, Days};
use http::{Method, StatusCode};
use serde_json::json;

/// Upper bounds on pages.
const MAX_LABEL_PAGES: usize = 20;
const MAX_ISSUE_PAGES: usize = 5;
const MAX_EVENT_PAGES: usize = 10;
/// What GitLab notes about changes of an issue's title or text. An edit that also ticks an item of a list is noted only as
/// that, whatever else it changes.
const EDITS: &[&str] = &["changed title", "changed the description", "marked the checklist item", "marked the task"];

/// Returns whether a note of GitLab's says that an issue's title or text changed.
fn is_edit(note: &str) -> bool {
    EDITS.iter().any(|edit| note.starts_with(edit))
}

/// Returns who did something; `None` = an account that was deleted.
fn actor(user: Option<&User>) -> Option<Actor> {
    let user = user.filter(|user| is_person(user) || !user.username.eq_ignore_ascii_case("ghost"))?;
    Some(Actor { login: user.username.clone(), principal: principal(Some(user)) })
}

/// Returns the topic of an issue or a merge request.
fn topic_of(issue: &Issue) -> Topic {
    match issue.pull {
        Some(_) => Topic::MergeRequest(issue.number),
        None => Topic::Issue(issue.number),
    }
}

impl Api<'_> {
    async fn find_issue(&self, number: u64) -> PortResult<Option<IssueAnswer>> {
        let topic = Topic::Issue(number);
        let found: Option<IssueAnswer> = self.find(&topic.path(), &format!("read {topic}")).await?;
        Ok(found.filter(|issue| !issue.confidential))
    }

    /// Returns an issue or a merge request by its key.
    pub(super) async fn issue(&self, key: u64) -> PortResult<Option<Issue>> {
        match Topic::of(key) {
            Topic::Issue(number) => Ok(self.find_issue(number).await?.map(|found| Issue {
                number: found.iid,
                title: found.title,
                body: found.description.unwrap_or_default(),
                url: found.web_url,
                is_open: found.state == "opened",
                labels: found.labels,
                pull: None,
            })),
            topic @ Topic::MergeRequest(_) => {
                let found: Option<MergeRequest> = self.find(&topic.path(), &format!("read {topic}")).await?;
                let Some(found) = found else { return Ok(None) };
                // GitLab updates the merge request some time after a push; the branch itself is current.
                let is_own = found.source_project_id == Some(found.target_project_id);
                let branch =
                    if is_own && found.is_open() { self.branch_head(&found.source_branch).await? } else { None };
                let head = match branch {
                    Some(head) => head,
                    None => found.head()?,
                };
                Ok(Some(Issue {
                    number: found.iid,
                    is_open: found.is_open(),
                    title: found.title,
                    body: found.description.unwrap_or_default(),
                    url: found.web_url,
                    labels: found.labels,
                    pull: Some((found.source_branch, head)),
                }))
            }
        }
    }

    pub(super) async fn labelled(&self, issue: &Issue, label: &str) -> PortResult<Option<IssueAct>> {
        if !issue.has(label) {
            return Ok(None);
        }
        let topic = topic_of(issue);
        let doing = format!("read who labelled {topic}");
        let path = format!("{}/resource_label_events", topic.path());
        let events: Vec<LabelEvent> = self.list(&path, MAX_LABEL_PAGES, &doing).await?;
        let is_this = |event: &&LabelEvent| {
            event.action == "add" && event.label.as_ref().is_some_and(|own| own.name.eq_ignore_ascii_case(label))
        };
        let mut last: Option<IssueAct> = None;
        for event in events.iter().filter(is_this) {
            let act = IssueAct { by: actor(event.user.as_ref()), at: time(&event.created_at)? };
            if last.as_ref().is_none_or(|last| last.at <= act.at) {
                last = Some(act);
            }
        }
        // The event may be listed some time after the label.
        let missing = || PortError::transient(format!("{} does not report yet who labelled {topic}", self.repo));
        last.ok_or_else(missing).map(Some)
    }

    /// Returns who changed the title or the text of an issue after a time: GitLab notes it among the comments.
    pub(super) async fn edited(&self, issue: &Issue, since: Timestamp) -> PortResult<Vec<IssueAct>> {
        let mut edits = Vec::new();
        for note in self.notes(topic_of(issue)).await?.iter().filter(|note| note.system) {
            let body = note.body.as_deref().unwrap_or_default();
            let at = time(&note.created_at)?;
            if is_edit(body) && at >= since {
                edits.push(IssueAct { by: actor(note.author.as_ref()), at });
            }
        }
        Ok(edits)
    }

    /// Returns a note as a comment; `None` = it is none, or for members only.
    async fn comment_of(&self, topic: Topic, note: Note) -> PortResult<Option<IssueComment>> {
        if !note.is_public() {
            return Ok(None);
        }
        let account = self.account().await?;
        let text = note.body.unwrap_or_default();
        Ok(Some(IssueComment {
            id: note.id,
            number: topic.key(),
            by: actor(note.author.as_ref()),
            // With a person's token, the comments of that person and of Skep have the same author.
            is_own: account.is(note.author.as_ref()) && is_marked(&text),
            at: time(&note.created_at)?,
            updated_at: time(&note.updated_at)?,
            text,
        }))
    }

    pub(super) async fn comment_by_id(&self, key: u64, id: u64) -> PortResult<Option<IssueComment>> {
        let topic = Topic::of(key);
        let found: Option<Note> =
            self.find(&format!("{}/notes/{id}", topic.path()), &format!("read comment {id}")).await?;
        match found {
            Some(note) => self.comment_of(topic, note).await,
            None => Ok(None),
        }
    }

    pub(super) async fn list_labelled(&self, label: &str) -> PortResult<Vec<LabelledIssue>> {
        let query = format!("state=opened&order_by=created_at&sort=asc&labels={}", escaped(label));
        let (issues, _) = self
            .first_pages::<IssueAnswer>(&format!("/issues?{query}"), MAX_ISSUE_PAGES, "list the labelled issues")
            .await?;
        let doing = "list the labelled merge requests";
        let (merge_requests, _) =
            self.first_pages::<MergeRequest>(&format!("/merge_requests?{query}"), MAX_ISSUE_PAGES, doing).await?;
        let mut labelled = Vec::new();
        for issue in issues.iter().filter(|issue| !issue.confidential) {
            let (number, updated_at) = (Topic::Issue(issue.iid).key(), time(&issue.updated_at)?);
            labelled.push(LabelledIssue { number, is_pull: false, updated_at });
        }
        for one in &merge_requests {
            let (number, updated_at) = (Topic::MergeRequest(one.iid).key(), time(&one.updated_at)?);
            labelled.push(LabelledIssue { number, is_pull: true, updated_at });
        }
        Ok(labelled)
    }

    /// Lists the new comments. GitLab lists those of a project only among its events, the newest first, and selects
    /// them by day.
    pub(super) async fn comments_since(&self, since: Timestamp) -> PortResult<Vec<IssueComment>> {
        let day = DateTime::from_timestamp_millis(since.0).unwrap_or_default().date_naive();
        // Events of the day itself are not after it; and clocks differ.
        let after = day.checked_sub_days(Days::new(2)).unwrap_or(day);
        let path = format!("/events?action=commented&sort=desc&after={after}");
        let (mut comments, mut is_whole) = (Vec::new(), false);
        for page in 1..=MAX_EVENT_PAGES {
            let (events, is_last): (Vec<Event>, bool) = self.page(&path, page, "list the new comments").await?;
            is_whole = is_last;
            for event in events {
                // Forges count in seconds.
                if time(&event.created_at)?.0 < since.0 - 1_000 {
                    is_whole = true;
                    break;
                }
                let Some(note) = event.note else { continue };
                let topic = match (note.noteable_type.as_deref(), note.noteable_iid) {
                    (Some("Issue"), Some(number)) => Topic::Issue(number),
                    (Some("MergeRequest"), Some(number)) => Topic::MergeRequest(number),
                    _ => continue,
                };
                comments.extend(self.comment_of(topic, note).await?);
            }
            if is_whole {
                break;
            }
        }
        if !is_whole {
            tracing::warn!(repository = %self.repo, "more comments than are read were written since the last sweep");
        }
        comments.sort_by_key(|comment| (comment.at.0, comment.id));
        Ok(comments)
    }

    pub(super) async fn actor_may_write(&self, actor: &Actor) -> PortResult<bool> {
        match actor.principal.is_person() {
            true => self.may_write(&actor.login).await,
            false => Ok(false),
        }
    }

    /// Comments on a merge request.
    pub(super) async fn ensure_comment(&self, change: ChangeNumber, marker: &str, text: &str) -> PortResult<()> {
        WriteOnce::ensure_comment(self, ChangeNumber(Topic::MergeRequest(change.0).key()), marker, text).await
    }

    pub(super) async fn close_issue(&self, number: u64) -> PortResult<()> {
        if self.find_issue(number).await?.is_none_or(|issue| issue.state != "opened") {
            return Ok(());
        }
        let topic = Topic::Issue(number);
        let change = json!({ "state_event": "close" });
        self.write(Method::PUT, &topic.path(), &change, StatusCode::OK, &format!("close {topic}")).await.map(drop)
    }
}

impl WriteOnce for Api<'_> {
    const CHANGES: Changes = Changes { method: Method::PUT, issue_changed: StatusCode::OK, issue_text: "description" };

    fn place(&self) -> String {
        self.repo.to_string()
    }

    fn unsure(&self) -> &UnsureWrites {
        &self.forge.unsure_writes
    }

    fn comments_path(&self, number: ChangeNumber) -> String {
        format!("{}/notes", Topic::of(number.0).path())
    }

    fn comment_path(&self, number: ChangeNumber, id: u64) -> String {
        format!("{}/notes/{id}", Topic::of(number.0).path())
    }

    fn stored(&self, text: &str, hidden: &str) -> String {
        // Cut first: a cut can make a command of what was none.
        defused(&whole(text, hidden))
    }

    async fn own_comments(&self, number: ChangeNumber) -> PortResult<Vec<OwnComment>> {
        let account = self.account().await?;
        let mut all = self.notes(Topic::of(number.0)).await?;
        all.retain(|note| !note.system && account.is(note.author.as_ref()));
        Ok(all.into_iter().map(|note| OwnComment { id: note.id, body: note.body.unwrap_or_default() }).collect())
    }

    async fn own_issues(&self) -> PortResult<Vec<OwnIssueText>> {
        let account = self.account().await?;
        let path = format!("/issues?state=all&order_by=created_at&sort=desc&author_id={}", account.id);
        let (mut all, _) = self.first_pages::<IssueAnswer>(&path, MAX_ISSUE_PAGES, "list Skep's own issues").await?;
        all.retain(|issue| account.is(issue.author.as_ref()));
        let own = all.into_iter().map(|issue| OwnIssueText {
            number: issue.iid,
            title: issue.title,
            body: issue.description.unwrap_or_default(),
            url: issue.web_url,
            is_open: issue.state == "opened",
        });
        Ok(own.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::is_edit;

    #[test]
    fn an_edit_that_ticks_an_item_counts_as_an_edit() {
        for note in [
            "changed title from **{-Old-}** to **{+New+}**",
            "changed the description",
            "marked the checklist item **Tests** as completed",
            "marked the task **Tests** as incomplete",
        ] {
            assert!(is_edit(note), "{note}");
        }
        assert!(!is_edit("added ~skep label") && !is_edit("closed"));
    }
}
