//! Reads issues, their labels and comments; closes issues.

use super::api::{Api, escaped, is_last, is_person, principal};
use super::wire::{IssueAnswer, IssueComment as WrittenComment, RepoComment, TimelineEvent, User};
use crate::adapters::forge::client::read;
use crate::adapters::forge::comment::is_marked;
use crate::adapters::forge::once::{Changes, OwnComment, OwnIssueText, WriteOnce};
use crate::adapters::forge::rest::{RestApi, sha};
use crate::adapters::forge::unsure::UnsureWrites;
use crate::domain::{ChangeNumber, Timestamp};
use crate::ports::forge_issues::{Actor, Issue, IssueAct, IssueComment, LabelledIssue};
use crate::ports::{PortError, PortResult};
use chrono::{DateTime, SecondsFormat};
use http::{Method, StatusCode};
use serde_json::json;

/// Upper bounds on pages.
const MAX_TIMELINE_PAGES: usize = 40;
const MAX_ISSUE_PAGES: usize = 10;
const MAX_COMMENT_PAGES: usize = 20;

/// How much later than the event in its history an issue may say that it changed: the forge writes the one after the
/// other, and counts in seconds.
const SAME_CHANGE_MS: i64 = 1_000;

/// Reads a time.
fn time(text: &str) -> PortResult<Timestamp> {
    let at = DateTime::parse_from_rfc3339(text)
        .map_err(|_| PortError::transient("the forge's answer contains an invalid time"))?;
    Ok(Timestamp(at.timestamp_millis()))
}

/// Returns who did something; `None` = an account that was deleted.
fn actor(user: Option<&User>) -> Option<Actor> {
    let user = user.filter(|user| is_person(user) || !user.login.eq_ignore_ascii_case("ghost"))?;
    Some(Actor { login: user.login.clone(), principal: principal(Some(user)) })
}

impl IssueAnswer {
    fn has(&self, label: &str) -> bool {
        self.labels.iter().flatten().any(|own| own.name.eq_ignore_ascii_case(label))
    }
}

impl TimelineEvent {
    /// Returns whether the label was set: the text of its event is `1`, and empty if it was removed.
    fn sets(&self, label: &str) -> bool {
        let is_this = self.label.as_ref().is_some_and(|own| own.name.eq_ignore_ascii_case(label));
        self.kind == "label" && is_this && self.body.as_deref() == Some("1")
    }
}

impl Api<'_> {
    async fn find_issue(&self, number: u64) -> PortResult<Option<IssueAnswer>> {
        self.find(&format!("/issues/{number}"), &format!("read issue {number}")).await
    }

    pub(super) async fn issue(&self, number: u64) -> PortResult<Option<Issue>> {
        let Some(found) = self.find_issue(number).await? else { return Ok(None) };
        let pull = match found.pull_request {
            None => None,
            Some(_) => {
                let pull = self.pull(ChangeNumber(number)).await?;
                let branch = if pull.head.label.is_empty() { pull.head.name } else { pull.head.label };
                // The forge updates the pull request some time after a push; the branch itself is current.
                let is_own = pull.head.repo.is_some_and(|r| r.full_name.eq_ignore_ascii_case(&self.repo.to_string()));
                let current = if is_own && found.state == "open" { self.branch_head(&branch).await? } else { None };
                let head = match current {
                    Some(head) => head,
                    None => sha(&pull.head.sha)?,
                };
                Some((branch, head))
            }
        };
        Ok(Some(Issue {
            number: found.number,
            title: found.title,
            body: found.body.unwrap_or_default(),
            url: found.html_url,
            is_open: found.state == "open",
            labels: found.labels.into_iter().flatten().map(|label| label.name).collect(),
            pull,
        }))
    }

    pub(super) async fn labelled(&self, issue: &Issue, label: &str) -> PortResult<Option<IssueAct>> {
        if !issue.has(label) {
            return Ok(None);
        }
        let doing = format!("read the history of issue {}", issue.number);
        let path = format!("/issues/{}/timeline", issue.number);
        let history: Vec<TimelineEvent> = self.list(&path, MAX_TIMELINE_PAGES, &doing).await?;
        let last = history.into_iter().rev().find(|event| event.sets(label));
        let last = last.ok_or_else(|| {
            let what = format!("{} does not report yet who labelled issue {}", self.repo, issue.number);
            PortError::transient(what)
        })?;
        Ok(Some(IssueAct { by: actor(last.user.as_ref()), at: time(&last.created_at)? }))
    }

    /// Returns the author of an issue if its text may be another one than at a time. The API does not report changes of
    /// the text, only that something about the issue changed; and apart from people who may write, only the author can
    /// change the text.
    pub(super) async fn edited(&self, issue: &Issue, since: Timestamp) -> PortResult<Vec<IssueAct>> {
        let Some(found) = self.find_issue(issue.number).await? else { return Ok(Vec::new()) };
        let at = time(&found.updated_at)?;
        let is_unchanged = at.0 <= since.0 + SAME_CHANGE_MS;
        match &found.user {
            Some(user) if is_person(user) && !is_unchanged && !self.may_write(&user.login).await? => {
                Ok(vec![IssueAct { by: actor(Some(user)), at }])
            }
            // Without an author, who may have been deleted, only people who may write can change it.
            _ => Ok(Vec::new()),
        }
    }

    async fn repo_comment(&self, found: RepoComment) -> PortResult<IssueComment> {
        let account = self.account().await?;
        let RepoComment { id, user, body, issue_url, pull_request_url, created_at, updated_at } = found;
        let url = if issue_url.is_empty() { pull_request_url } else { issue_url };
        let number = url.rsplit('/').next().and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| PortError::transient("the forge's answer names no issue"))?;
        let text = body.unwrap_or_default();
        // With a person's token, the comments of that person and of Skep have the same author.
        let is_own = account.is(user.as_ref()) && is_marked(&text);
        let (at, updated_at) = (time(&created_at)?, time(&updated_at)?);
        Ok(IssueComment { id, number, by: actor(user.as_ref()), is_own, at, updated_at, text })
    }

    pub(super) async fn comment_by_id(&self, _number: u64, id: u64) -> PortResult<Option<IssueComment>> {
        let doing = format!("read comment {id}");
        let answer = self.send(Method::GET, &self.url(&format!("/issues/comments/{id}")), None, &doing).await?;
        match answer.status {
            StatusCode::OK => {
                let found = read(&answer, &doing)?;
                self.repo_comment(found).await.map(Some)
            }
            // It was deleted, or it is an event or a review, which give no commands.
            StatusCode::NOT_FOUND | StatusCode::NO_CONTENT => Ok(None),
            _ => Err(self.refusal(&answer, &doing, true)),
        }
    }

    pub(super) async fn list_labelled(&self, label: &str) -> PortResult<Vec<LabelledIssue>> {
        let name = escaped(label).replace('/', "%2F");
        let path = format!("/issues?state=open&labels={name}");
        let doing = "list the labelled issues";
        let (mut labelled, mut seen) = (Vec::new(), 0);
        for page in 1..=MAX_ISSUE_PAGES {
            let (found, total): (Vec<IssueAnswer>, _) = self.page(&path, page, doing).await?;
            seen += found.len();
            let is_last = is_last(found.len(), seen, total);
            // The forge ignores the name of a label that the repository does not have, and lists every issue.
            let is_filtered = found.iter().all(|issue| issue.has(label));
            for issue in found.into_iter().filter(|issue| issue.has(label)) {
                let updated_at = time(&issue.updated_at)?;
                let is_pull = issue.pull_request.is_some();
                labelled.push(LabelledIssue { number: issue.number, is_pull, updated_at });
            }
            if is_last || !is_filtered {
                break;
            }
        }
        Ok(labelled)
    }

    pub(super) async fn comments_since(&self, since: Timestamp) -> PortResult<Vec<IssueComment>> {
        let since = DateTime::from_timestamp_millis(since.0).unwrap_or_default();
        let since = escaped(&since.to_rfc3339_opts(SecondsFormat::Secs, true));
        let path = format!("/issues/comments?since={since}");
        let (found, is_whole) =
            self.first_pages::<RepoComment>(&path, MAX_COMMENT_PAGES, "list the new comments").await?;
        let mut comments = Vec::with_capacity(found.len());
        for comment in found {
            comments.push(self.repo_comment(comment).await?);
        }
        // The forge sorts by when they were written. Those that were not read are newer than the last one that was.
        if let (false, Some(last)) = (is_whole, comments.last().map(|last| last.at)) {
            for comment in &mut comments {
                comment.updated_at.0 = comment.updated_at.0.min(last.0);
            }
        }
        comments.sort_by_key(|comment| (comment.updated_at.0, comment.id));
        Ok(comments)
    }

    pub(super) async fn actor_may_write(&self, actor: &Actor) -> PortResult<bool> {
        match actor.principal.is_person() {
            true => self.may_write(&actor.login).await,
            false => Ok(false),
        }
    }

    /// Returns the comments on an issue or pull request, oldest first. The forge does not divide them into pages.
    pub(super) async fn comments(&self, number: ChangeNumber) -> PortResult<Vec<WrittenComment>> {
        self.get(&format!("/issues/{number}/comments"), &format!("read the comments on #{number}")).await
    }

    pub(super) async fn close_issue(&self, number: u64) -> PortResult<()> {
        if self.find_issue(number).await?.is_none_or(|issue| issue.state != "open") {
            return Ok(());
        }
        let doing = format!("close issue {number}");
        let change = json!({ "state": "closed" });
        self.write(Method::PATCH, &format!("/issues/{number}"), &change, StatusCode::CREATED, &doing).await.map(drop)
    }
}

impl WriteOnce for Api<'_> {
    const CHANGES: Changes = Changes { method: Method::PATCH, issue_changed: StatusCode::CREATED, issue_text: "body" };

    fn place(&self) -> String {
        self.repo.to_string()
    }

    fn unsure(&self) -> &UnsureWrites {
        &self.forge.unsure_writes
    }

    async fn own_comments(&self, number: ChangeNumber) -> PortResult<Vec<OwnComment>> {
        let account = self.account().await?;
        let mut all = self.comments(number).await?;
        all.retain(|comment| account.is(comment.user.as_ref()));
        Ok(all.into_iter().map(|c| OwnComment { id: c.id, body: c.body.unwrap_or_default() }).collect())
    }

    async fn own_issues(&self) -> PortResult<Vec<OwnIssueText>> {
        let account = self.account().await?;
        let path = format!("/issues?state=all&type=issues&created_by={}", escaped(&account.login));
        let (mut all, _) = self.first_pages::<IssueAnswer>(&path, MAX_ISSUE_PAGES, "list Skep's own issues").await?;
        all.retain(|issue| account.is(issue.user.as_ref()) && issue.pull_request.is_none());
        let own = all.into_iter().map(|issue| OwnIssueText {
            number: issue.number,
            title: issue.title,
            body: issue.body.unwrap_or_default(),
            url: issue.html_url,
            is_open: issue.state == "open",
        });
        Ok(own.collect())
    }
}
