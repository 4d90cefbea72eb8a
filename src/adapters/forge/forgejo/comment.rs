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

impl Api<'_> {
    /// Returns the comments on a pull request, oldest first. The forge does not divide them into pages.
    pub(super) async fn comments(&self, change: ChangeNumber) -> PortResult<Vec<IssueComment>> {
        let doing = format!("read the comments on pull request {change}");
        self.get(&format!("/issues/{change}/comments"), &doing).await
    }

    pub(super) async fn ensure_comment(&self, change: ChangeNumber, marker: &str, text: &str) -> PortResult<()> {
        let account = self.account().await?;
        let hidden = hidden(marker);
        let key = format!("{}#{change} {hidden}", self.repo);
        let is_own = |comment: &IssueComment| {
            account.is(comment.user.as_ref())
                && comment.body.as_deref().unwrap_or_default().trim_end().ends_with(&hidden)
        };
        if self.comments(change).await?.iter().any(is_own) {
            self.forge.unsure_comments.forget(&key);
            return Ok(());
        }
        let doing = format!("comment on pull request {change}");
        let path = format!("/issues/{change}/comments");
        let answer = self.post_once(key, &path, &json!({ "body": whole(text, &hidden) }), &doing).await?;
        match answer.status {
            StatusCode::CREATED => Ok(()),
            _ => Err(self.refusal(&answer, &doing, false)),
        }
    }

    /// Posts a comment that the forge's list does not show. After a lost answer the forge may still be at work, so it is
    /// not posted again at once.
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
