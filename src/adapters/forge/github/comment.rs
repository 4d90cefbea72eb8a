//! Writes comments, each once.

use super::api::Api;
use super::wire::IssueComment;
use crate::adapters::forge::answer::Answer;
use crate::adapters::forge::comment::{hidden, whole};
use crate::adapters::forge::rest::RestApi;
use crate::domain::ChangeNumber;
use crate::ports::{PortError, PortResult};
use http::{Method, StatusCode};
use serde_json::{Value, json};

/// Upper bound on the pages of comments that are read.
const MAX_PAGES: usize = 20;
impl Api<'_> {
    /// Returns the comments of a pull request, oldest first.
    pub(super) async fn comments(&self, change: ChangeNumber) -> PortResult<Vec<IssueComment>> {
        let doing = format!("read the comments on pull request {change}");
        self.list(&format!("/issues/{change}/comments"), MAX_PAGES, &doing).await
    }

    pub(super) async fn ensure_comment(&self, change: ChangeNumber, marker: &str, text: &str) -> PortResult<()> {
        self.own_comment(change, marker, text).await.map(drop)
    }

    /// Writes a comment, or brings the text of the one with this marker up to date.
    pub(super) async fn put_comment(&self, change: ChangeNumber, marker: &str, text: &str) -> PortResult<()> {
        let Some(before) = self.own_comment(change, marker, text).await? else { return Ok(()) };
        let body = whole(text, &hidden(marker));
        if before.body.as_deref().unwrap_or_default().replace("\r\n", "\n") == body {
            return Ok(());
        }
        let (path, change) = (format!("/issues/comments/{}", before.id), json!({ "body": body }));
        let doing = format!("update comment {}", before.id);
        self.write(Method::PATCH, &path, &change, StatusCode::OK, &doing).await.map(drop)
    }

    /// Writes a comment, or returns the one that has this marker.
    async fn own_comment(&self, change: ChangeNumber, marker: &str, text: &str) -> PortResult<Option<IssueComment>> {
        let account = self.account().await?;
        let hidden = hidden(marker);
        let key = format!("{}#{change} {hidden}", self.repo);
        let is_own = |comment: &IssueComment| {
            account.is(comment.user.as_ref())
                && comment.body.as_deref().unwrap_or_default().trim_end().ends_with(&hidden)
        };
        if let Some(own) = self.comments(change).await?.into_iter().find(is_own) {
            self.forge.unsure_comments.forget(&key);
            return Ok(Some(own));
        }
        let doing = format!("comment on pull request {change}");
        let path = format!("/issues/{change}/comments");
        let answer = self.post_once(key, &path, &json!({ "body": whole(text, &hidden) }), &doing).await?;
        match answer.status {
            StatusCode::CREATED => Ok(None),
            _ => Err(self.refusal(&answer, &doing, false)),
        }
    }

    /// Posts a comment that GitHub's list does not show. After a lost answer it is not posted again before the list must
    /// show it.
    pub(super) async fn post_once(&self, key: String, path: &str, body: &Value, doing: &str) -> PortResult<Answer> {
        self.forge.unsure_comments.check(&key, doing)?;
        crate::fault!("before-comment");
        let mut sent = self.send(Method::POST, &self.url(path), Some(body), doing).await;
        if let Ok(answer) = &sent
            && matches!(answer.status.as_u16(), 408 | 500..)
        {
            sent = Err(self.refusal(answer, doing, false));
        }
        if let Err(PortError::Unknown { .. }) = sent {
            self.forge.unsure_comments.note(key);
        }
        let answer = sent?;
        crate::fault!("after-comment");
        Ok(answer)
    }
}
