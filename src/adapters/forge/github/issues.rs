//! Reads issues, their labels and comments; writes comments in place and closes issues.

use super::api::{Account, Api, PAGE, is_person};
use super::wire::{IssueComment as WrittenComment, Pull, User};
use crate::adapters::forge::client::read;
use crate::adapters::forge::comment::is_marked;
use crate::adapters::forge::once::{Changes, OwnComment, OwnIssueText, WriteOnce};
use crate::adapters::forge::rest::{RestApi, sha};
use crate::adapters::forge::unsure::UnsureWrites;
use crate::domain::{ChangeNumber, Principal, Timestamp};
use crate::ports::forge_issues::{Actor, Issue, IssueAct, IssueComment, LabelledIssue};
use crate::ports::{PortError, PortResult};
use chrono::{DateTime, SecondsFormat};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// Upper bounds on pages.
const MAX_EVENT_PAGES: usize = 20;
const MAX_ISSUE_PAGES: usize = 5;
const MAX_COMMENT_PAGES: usize = 10;
const MAX_COMMENT_LIST_PAGES: usize = 20;

const LAST_EDIT: &str = "query($owner: String!, $name: String!, $number: Int!) { repository(owner: $owner, name: $name) \
    { issue(number: $number) { lastEditedAt editor { login __typename } } } }";

#[derive(Deserialize)]
struct Label {
    name: String,
}

/// An issue or pull request.
#[derive(Deserialize)]
struct IssueAnswer {
    number: u64,
    #[serde(default)]
    title: String,
    #[serde(default)]
    body: Option<String>,
    html_url: String,
    state: String,
    #[serde(default)]
    labels: Vec<Label>,
    #[serde(default)]
    pull_request: Option<serde::de::IgnoredAny>,
    updated_at: String,
    #[serde(default)]
    user: Option<User>,
}

#[derive(Deserialize)]
struct EventAnswer {
    event: String,
    actor: Option<User>,
    created_at: String,
    #[serde(default)]
    label: Option<Label>,
}

#[derive(Deserialize)]
struct CommentAnswer {
    id: u64,
    user: Option<User>,
    #[serde(default)]
    body: Option<String>,
    issue_url: String,
    created_at: String,
    updated_at: String,
}

#[derive(Deserialize)]
struct LastEdit {
    data: Option<EditedRepository>,
}
#[derive(Deserialize)]
struct EditedRepository {
    repository: Option<EditedIssueOf>,
}
#[derive(Deserialize)]
struct EditedIssueOf {
    issue: Option<Edited>,
}
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edited {
    last_edited_at: Option<String>,
    editor: Option<Editor>,
}
#[derive(Deserialize)]
struct Editor {
    login: String,
    #[serde(rename = "__typename", default)]
    kind: String,
}

impl From<Editor> for User {
    fn from(editor: Editor) -> User {
        User { login: editor.login, kind: editor.kind }
    }
}

/// Reads a time.
fn time(text: &str) -> PortResult<Timestamp> {
    let at = DateTime::parse_from_rfc3339(text)
        .map_err(|_| PortError::transient("GitHub's answer contains a time that is none"))?;
    Ok(Timestamp(at.timestamp_millis()))
}

impl Account {
    fn actor(&self, user: Option<&User>) -> Option<Actor> {
        user.map(|user| Actor { login: user.login.clone(), principal: self.principal(Some(user)) })
    }
}

impl Api<'_> {
    pub(super) async fn issue(&self, number: u64) -> PortResult<Option<Issue>> {
        let doing = format!("read issue {number}");
        let found: Option<IssueAnswer> = self.find(&format!("/issues/{number}"), &doing).await?;
        let Some(found) = found else { return Ok(None) };
        let pull = match found.pull_request {
            None => None,
            Some(_) => {
                let Pull { head, .. } = self.pull(ChangeNumber(number)).await?;
                Some((head.name, sha(&head.sha)?))
            }
        };
        Ok(Some(Issue {
            number: found.number,
            title: found.title,
            body: found.body.unwrap_or_default(),
            url: found.html_url,
            is_open: found.state == "open",
            labels: found.labels.into_iter().map(|label| label.name).collect(),
            pull,
        }))
    }

    async fn events(&self, number: u64) -> PortResult<Vec<EventAnswer>> {
        let doing = format!("read the events of issue {number}");
        self.list(&format!("/issues/{number}/events"), MAX_EVENT_PAGES, &doing).await
    }

    pub(super) async fn labelled(&self, issue: &Issue, label: &str) -> PortResult<Option<IssueAct>> {
        if !issue.has(label) {
            return Ok(None);
        }
        let account = self.account().await?;
        let is_this = |event: &EventAnswer| {
            event.event == "labeled" && event.label.as_ref().is_some_and(|l| l.name.eq_ignore_ascii_case(label))
        };
        let last = self.events(issue.number).await?.into_iter().rev().find(is_this);
        // The event may be listed some time after the label.
        let last = last.ok_or_else(|| {
            let what = format!("{} does not report yet who labelled issue {}", self.repo, issue.number);
            PortError::transient(what)
        })?;
        Ok(Some(IssueAct { by: account.actor(last.actor.as_ref()), at: time(&last.created_at)? }))
    }

    pub(super) async fn edited(&self, issue: &Issue, since: Timestamp) -> PortResult<Vec<IssueAct>> {
        let account = self.account().await?;
        let mut edits = Vec::new();
        for event in self.events(issue.number).await?.iter().filter(|event| event.event == "renamed") {
            edits.push(IssueAct { by: account.actor(event.actor.as_ref()), at: time(&event.created_at)? });
        }
        let doing = format!("find out when issue {} was last edited", issue.number);
        let variables = json!({ "owner": self.repo.owner, "name": self.repo.name, "number": issue.number });
        let body = json!({ "query": LAST_EDIT, "variables": variables });
        let answer = self.send(Method::POST, &self.forge.settings.graphql_url(), Some(&body), &doing).await;
        let answer = answer.map_err(|e| match e {
            // It was only read.
            PortError::Unknown { what } => PortError::transient(what),
            other => other,
        })?;
        if answer.status != StatusCode::OK {
            return Err(self.refusal(&answer, &doing, true));
        }
        let LastEdit { data } = read(&answer, &doing)?;
        let edit = data.and_then(|data| data.repository).and_then(|of| of.issue);
        // Without an answer it is unknown whether the text is the one that was meant.
        let edit = edit.ok_or_else(|| PortError::transient(format!("cannot {doing}: GitHub's answer has no issue")))?;
        if let Some(at) = edit.last_edited_at {
            let editor = edit.editor.map(User::from);
            edits.push(IssueAct { by: account.actor(editor.as_ref()), at: time(&at)? });
        }
        edits.retain(|edit| edit.at >= since);
        Ok(edits)
    }

    /// Returns the comments on an issue or pull request, oldest first.
    pub(super) async fn comments(&self, number: ChangeNumber) -> PortResult<Vec<WrittenComment>> {
        let doing = format!("read the comments on #{number}");
        self.list(&format!("/issues/{number}/comments"), MAX_COMMENT_LIST_PAGES, &doing).await
    }

    fn issue_comment(&self, account: &Account, found: CommentAnswer) -> PortResult<IssueComment> {
        let number = found.issue_url.rsplit('/').next().and_then(|n| n.parse().ok());
        let number = number.ok_or_else(|| PortError::transient("GitHub's answer names no issue"))?;
        let text = found.body.unwrap_or_default();
        // With a person's token, the comments of that person and of Skep have the same author.
        let is_own = account.is(found.user.as_ref()) && (account.is_bot || is_marked(&text));
        Ok(IssueComment {
            id: found.id,
            number,
            by: account.actor(found.user.as_ref()),
            is_own,
            at: time(&found.created_at)?,
            updated_at: time(&found.updated_at)?,
            text,
        })
    }

    pub(super) async fn comment_by_id(&self, _number: u64, id: u64) -> PortResult<Option<IssueComment>> {
        let account = self.account().await?;
        let found: Option<CommentAnswer> =
            self.find(&format!("/issues/comments/{id}"), &format!("read comment {id}")).await?;
        found.map(|found| self.issue_comment(account, found)).transpose()
    }

    pub(super) async fn list_labelled(&self, label: &str) -> PortResult<Vec<LabelledIssue>> {
        let label = super::api::escaped(label).replace('/', "%2F");
        let path = format!("/issues?state=open&sort=created&direction=asc&labels={label}");
        let found: Vec<IssueAnswer> = self.pages(&path, MAX_ISSUE_PAGES, "list the labelled issues").await?;
        let issue = |i: IssueAnswer| {
            let updated_at = time(&i.updated_at)?;
            Ok(LabelledIssue { number: i.number, is_pull: i.pull_request.is_some(), updated_at })
        };
        found.into_iter().map(issue).collect()
    }

    pub(super) async fn comments_since(&self, since: Timestamp) -> PortResult<Vec<IssueComment>> {
        let account = self.account().await?;
        let since = DateTime::from_timestamp_millis(since.0).unwrap_or_default();
        let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
        let path = format!("/issues/comments?sort=updated&direction=asc&since={since}");
        let found: Vec<CommentAnswer> = self.pages(&path, MAX_COMMENT_PAGES, "list the new comments").await?;
        found.into_iter().map(|comment| self.issue_comment(account, comment)).collect()
    }

    /// Reads the first pages of a list; `path` has a query.
    async fn pages<T: DeserializeOwned>(&self, path: &str, max_pages: usize, doing: &str) -> PortResult<Vec<T>> {
        let mut all = Vec::new();
        for page in 1..=max_pages {
            let more: Vec<T> = self.get(&format!("{path}&per_page={PAGE}&page={page}"), doing).await?;
            let is_last = more.len() < PAGE;
            all.extend(more);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    pub(super) async fn actor_may_write(&self, actor: &Actor) -> PortResult<bool> {
        let user = User { login: actor.login.clone(), kind: String::new() };
        match is_person(&user) && Principal::is_person(&actor.principal) {
            true => self.may_write(&user).await,
            false => Ok(false),
        }
    }

    pub(super) async fn close_issue(&self, number: u64) -> PortResult<()> {
        let doing = format!("close issue {number}");
        let path = format!("/issues/{number}");
        let found: Option<IssueAnswer> = self.find(&path, &doing).await?;
        if found.is_none_or(|issue| issue.state != "open") {
            return Ok(());
        }
        let change = json!({ "state": "closed", "state_reason": "completed" });
        self.write(Method::PATCH, &path, &change, StatusCode::OK, &doing).await.map(drop)
    }
}

impl WriteOnce for Api<'_> {
    const CHANGES: Changes = Changes { method: Method::PATCH, issue_changed: StatusCode::OK, issue_text: "body" };

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
        let creator = super::api::escaped(&account.login);
        let path = format!("/issues?state=all&sort=created&direction=desc&creator={creator}");
        let mut all: Vec<IssueAnswer> = self.pages(&path, MAX_ISSUE_PAGES, "list Skep's own issues").await?;
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
