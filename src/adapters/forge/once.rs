//! Writes comments and issues, each once: a hidden marker at the end says which one it is.

use super::answer::Answer;
use super::client::read;
use super::comment::{hidden, whole};
use super::rest::RestApi;
use super::unsure::UnsureWrites;
use crate::domain::ChangeNumber;
use crate::ports::forge_issues::OwnIssue;
use crate::ports::{PortError, PortResult};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

/// A comment that Skep's account wrote.
#[derive(Debug)]
pub(super) struct OwnComment {
    pub id: u64,
    pub body: String,
}

/// An issue that Skep's account opened.
#[derive(Debug)]
pub(super) struct OwnIssueText {
    pub number: u64,
    pub title: String,
    pub body: String,
    pub url: String,
    pub is_open: bool,
}

#[derive(Deserialize)]
struct Opened {
    #[serde(alias = "web_url")]
    html_url: String,
}

/// How a kind of forge changes what is written.
pub(super) struct Changes {
    /// The method.
    pub method: Method,
    /// The status of an answer to a change of an issue.
    pub issue_changed: StatusCode,
    /// The name of the text of an issue.
    pub issue_text: &'static str,
}

/// Compares texts as they were sent: a forge may store other line ends.
fn is_same(stored: &str, text: &str) -> bool {
    stored.replace("\r\n", "\n") == text
}

/// A repository where Skep writes comments and issues.
pub(super) trait WriteOnce: RestApi {
    /// How the forge changes what is written.
    const CHANGES: Changes;

    /// Returns the repository, `OWNER/REPO`.
    fn place(&self) -> String;
    /// Returns the writes whose answer was lost.
    fn unsure(&self) -> &UnsureWrites;
    /// Returns the path of the comments on an issue or pull request.
    fn comments_path(&self, number: ChangeNumber) -> String {
        format!("/issues/{number}/comments")
    }
    /// Returns the path of a comment.
    fn comment_path(&self, _number: ChangeNumber, id: u64) -> String {
        format!("/issues/comments/{id}")
    }
    /// Returns a comment or the text of an issue as the forge stores it.
    fn stored(&self, text: &str, hidden: &str) -> String {
        whole(text, hidden)
    }
    /// Lists the comments of Skep's account on an issue or pull request, oldest first.
    fn own_comments(&self, number: ChangeNumber) -> impl Future<Output = PortResult<Vec<OwnComment>>> + Send;
    /// Lists the newest issues of Skep's account, newest first.
    fn own_issues(&self) -> impl Future<Output = PortResult<Vec<OwnIssueText>>> + Send;

    /// Writes the comment with this marker, unless it is there.
    fn ensure_comment(
        &self,
        number: ChangeNumber,
        marker: &str,
        text: &str,
    ) -> impl Future<Output = PortResult<()>> + Send {
        async move { self.own_comment(number, marker, text).await.map(drop) }
    }

    /// Writes the comment with this marker, or brings its text up to date.
    fn put_comment(
        &self,
        number: ChangeNumber,
        marker: &str,
        text: &str,
    ) -> impl Future<Output = PortResult<()>> + Send {
        async move {
            let Some(before) = self.own_comment(number, marker, text).await? else { return Ok(()) };
            let body = self.stored(text, &hidden(marker));
            if is_same(&before.body, &body) {
                return Ok(());
            }
            let (path, change) = (self.comment_path(number, before.id), json!({ "body": body }));
            let doing = format!("update comment {}", before.id);
            self.write(Self::CHANGES.method, &path, &change, StatusCode::OK, &doing).await.map(drop)
        }
    }

    /// Writes a comment, or returns the one that has this marker.
    fn own_comment(
        &self,
        number: ChangeNumber,
        marker: &str,
        text: &str,
    ) -> impl Future<Output = PortResult<Option<OwnComment>>> + Send {
        async move {
            let hidden = hidden(marker);
            let key = format!("{}#{number} {hidden}", self.place());
            let is_this = |comment: &OwnComment| comment.body.trim_end().ends_with(&hidden);
            if let Some(own) = self.own_comments(number).await?.into_iter().find(is_this) {
                self.unsure().forget(&key);
                return Ok(Some(own));
            }
            let (path, doing) = (self.comments_path(number), "write a comment");
            let answer = self.post_once(key, &path, &json!({ "body": self.stored(text, &hidden) }), doing).await?;
            match answer.status {
                StatusCode::CREATED => Ok(None),
                _ => Err(self.refusal(&answer, doing, false)),
            }
        }
    }

    /// Posts what the forge's list does not show. After a lost answer it is not posted again before the list must show
    /// it.
    fn post_once(
        &self,
        key: String,
        path: &str,
        body: &Value,
        doing: &str,
    ) -> impl Future<Output = PortResult<Answer>> + Send {
        async move {
            self.unsure().check(&key, doing)?;
            crate::fault!("before-comment");
            let mut sent = self.send(Method::POST, &self.url(path), Some(body), doing).await;
            if let Ok(answer) = &sent
                && matches!(answer.status.as_u16(), 408 | 500..)
            {
                sent = Err(self.refusal(answer, doing, false));
            }
            if let Err(PortError::Unknown { .. }) = sent {
                self.unsure().note(key);
            }
            let answer = sent?;
            crate::fault!("after-comment");
            Ok(answer)
        }
    }

    /// Opens the issue with this marker, or brings the open one up to date.
    fn put_issue(&self, marker: &str, title: &str, text: &str) -> impl Future<Output = PortResult<OwnIssue>> + Send {
        async move {
            let hidden = hidden(marker);
            let key = format!("{} {hidden}", self.place());
            let Changes { method, issue_changed, issue_text } = Self::CHANGES;
            let body = self.stored(text, &hidden);
            let new = json!({ "title": title, issue_text: body });
            let is_this = |issue: &OwnIssueText| issue.body.trim_end().ends_with(&hidden);
            let Some(own) = self.own_issues().await?.into_iter().find(is_this) else {
                let doing = "open an issue";
                let answer = self.post_once(key, "/issues", &new, doing).await?;
                if answer.status != StatusCode::CREATED {
                    return Err(self.refusal(&answer, doing, false));
                }
                let Opened { html_url } = read(&answer, doing)?;
                return Ok(OwnIssue { url: html_url, is_open: true });
            };
            self.unsure().forget(&key);
            if own.is_open && !(own.title == title && is_same(&own.body, &body)) {
                let (path, doing) = (format!("/issues/{}", own.number), format!("update issue {}", own.number));
                self.write(method, &path, &new, issue_changed, &doing).await?;
            }
            Ok(OwnIssue { url: own.url, is_open: own.is_open })
        }
    }
}
