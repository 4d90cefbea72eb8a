//! Writes comments, each once.

use super::api::Api;
use super::error::Answer;
use super::wire::IssueComment;
use crate::domain::ChangeNumber;
use crate::ports::{PortError, PortResult};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// Upper bound on a comment, in bytes: GitHub accepts 65,536 characters.
const MAX_TEXT_BYTES: usize = 60 * 1024;
/// Upper bound on the pages of comments that are read.
const MAX_PAGES: usize = 20;
/// How old GitHub's lists may be. A comment whose answer was lost is not written again before.
const MAX_LIST_AGE: Duration = Duration::from_secs(30);
/// Upper bound on comments whose answer was lost, in memory.
const MAX_UNSURE: usize = 1_000;

/// Begins the hidden line at the end of each comment of Skep.
pub(super) const MARKER_START: &str = "<!-- skep:";

/// Returns the hidden line at the end of the comment of an effect.
pub(super) fn hidden(marker: &str) -> String {
    format!("<!-- {} -->", marker.replace("--", "-"))
}

/// Returns a comment as GitHub stores it.
pub(super) fn whole(text: &str, hidden: &str) -> String {
    let text = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
    format!("{}\n\n{hidden}", text.trim_end())
}

/// Returns whether a comment ends with a marker of Skep.
pub(super) fn is_marked(body: &str) -> bool {
    body.trim_end().lines().next_back().is_some_and(|line| line.starts_with(MARKER_START))
}

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
            self.forget_unsure(&key);
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
        let written = self.unsure().get(&key).copied();
        if let Some(wait) = written.and_then(|at| MAX_LIST_AGE.checked_sub(at.elapsed())) {
            return Err(PortError::Transient {
                what: format!("cannot {doing}: it may have been written, and GitHub's list may be old"),
                after: Some(wait.min(Duration::from_secs(5)).max(Duration::from_millis(100))),
            });
        }
        crate::fault!("before-comment");
        let mut sent = self.send(Method::POST, &self.url(path), Some(body), doing).await;
        if let Ok(answer) = &sent
            && matches!(answer.status.as_u16(), 408 | 500..)
        {
            sent = Err(self.refusal(answer, doing, false));
        }
        if let Err(PortError::Unknown { .. }) = sent {
            let mut unsure = self.unsure();
            if unsure.len() >= MAX_UNSURE {
                unsure.retain(|_, at| at.elapsed() < MAX_LIST_AGE);
            }
            unsure.insert(key, Instant::now());
        }
        let answer = sent?;
        crate::fault!("after-comment");
        Ok(answer)
    }

    /// Forgets a lost answer: the comment is there.
    pub(super) fn forget_unsure(&self, key: &str) {
        self.unsure().remove(key);
    }

    fn unsure(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<String, Instant>> {
        self.forge.unsure_comments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
