//! Reviews by people: approvals, requests for changes, and the answers in their threads.

use super::api::{Account, Api, is_person};
use super::wire::{PullReview, ReviewComment, User};
use crate::adapters::forge::comment::{hidden, shortened, whole};
use crate::adapters::forge::once::WriteOnce;
use crate::adapters::forge::rest::RestApi;
use crate::domain::{ChangeNumber, ChangeRequest, LineComment, Principal, Sha};
use crate::ports::PortResult;
use http::StatusCode;
use serde_json::json;
use std::collections::BTreeMap;

/// Upper bounds on the pages of reviews, and of their comments, that are read.
const MAX_REVIEW_PAGES: usize = 10;
const MAX_COMMENT_PAGES: usize = 20;

/// What people who may write think of a pull request.
#[derive(Default)]
pub(super) struct Verdicts {
    /// Those whose latest verdict approves exactly the head.
    pub approved_by: Vec<Principal>,
    /// The requests for changes that their authors have not followed by an approval.
    pub change_requests: Vec<ChangeRequest>,
}

impl Api<'_> {
    pub(super) async fn verdicts(&self, number: ChangeNumber, head: &Sha, account: &Account) -> PortResult<Verdicts> {
        let doing = format!("read the reviews of pull request {number}");
        let reviews: Vec<PullReview> = self.list(&format!("/pulls/{number}/reviews"), MAX_REVIEW_PAGES, &doing).await?;
        let approved_by = self.approvals(&reviews, head, account).await?;
        let change_requests = self.change_requests(number, &reviews, account).await?;
        Ok(Verdicts { approved_by, change_requests })
    }

    async fn approvals(&self, reviews: &[PullReview], head: &Sha, account: &Account) -> PortResult<Vec<Principal>> {
        let mut latest: BTreeMap<&str, (&User, bool)> = BTreeMap::new();
        for review in reviews {
            let Some(user) = review.user.as_ref().filter(|user| is_person(user)) else { continue };
            let approves = match review.state.as_str() {
                "APPROVED" => review.commit_id.as_deref() == Some(head.as_str()),
                "CHANGES_REQUESTED" | "DISMISSED" => false,
                // A comment, or a review that was not submitted, changes nothing.
                _ => continue,
            };
            latest.insert(&user.login, (user, approves));
        }
        let mut approvals = Vec::new();
        for (user, _) in latest.into_values().filter(|(_, approves)| *approves) {
            if self.may_write(user).await? {
                approvals.push(account.principal(Some(user)));
            }
        }
        Ok(approvals)
    }

    async fn change_requests(
        &self,
        number: ChangeNumber,
        reviews: &[PullReview],
        account: &Account,
    ) -> PortResult<Vec<ChangeRequest>> {
        let is_by = |review: &PullReview, user: &User| review.user.as_ref().is_some_and(|by| by.login == user.login);
        let mut open: Vec<(&PullReview, &User, &str)> = Vec::new();
        for (at, review) in reviews.iter().enumerate().rev() {
            let (Some(user), Some(head)) = (&review.user, &review.commit_id) else { continue };
            let is_answered = || reviews[at..].iter().any(|later| later.state == "APPROVED" && is_by(later, user));
            let counts = review.state == "CHANGES_REQUESTED" && is_person(user) && !is_answered();
            if counts && open.len() < ChangeRequest::MAX && self.may_write(user).await? {
                open.push((review, user, head));
            }
        }
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let comments = self.review_comments(number).await?;
        let requests = open.into_iter().rev().map(|(review, user, head)| {
            let of_review = || comments.iter().filter(|c| c.pull_request_review_id == Some(review.id));
            let all = of_review().count();
            ChangeRequest {
                review: review.id,
                by: account.principal(Some(user)),
                head: Sha(head.to_owned()),
                text: shortened(review.body.as_deref(), ChangeRequest::MAX_TEXT_BYTES),
                comments: of_review().take(ChangeRequest::MAX_COMMENTS).map(line_comment).collect(),
                more_comments: all.saturating_sub(ChangeRequest::MAX_COMMENTS) as u64,
            }
        });
        Ok(requests.collect())
    }

    /// Returns the comments of all reviews of a pull request, oldest first.
    async fn review_comments(&self, number: ChangeNumber) -> PortResult<Vec<ReviewComment>> {
        let doing = format!("read the review comments on pull request {number}");
        self.list(&format!("/pulls/{number}/comments"), MAX_COMMENT_PAGES, &doing).await
    }

    pub(super) async fn ensure_reply(
        &self,
        number: ChangeNumber,
        thread: u64,
        marker: &str,
        text: &str,
    ) -> PortResult<()> {
        let account = self.account().await?;
        let hidden = hidden(marker);
        let key = format!("{}#{number}:{thread} {hidden}", self.repo);
        let comments = self.review_comments(number).await?;
        let is_own = |comment: &ReviewComment| {
            account.is(comment.user.as_ref())
                && comment.body.as_deref().unwrap_or_default().trim_end().ends_with(&hidden)
        };
        if comments.iter().any(is_own) {
            self.forge.unsure_writes.forget(&key);
            return Ok(());
        }
        if !comments.iter().any(|comment| comment.id == thread) {
            tracing::debug!(repository = %self.repo, thread, "a review thread was deleted; nothing to answer");
            return Ok(());
        }
        let doing = format!("answer a review comment on pull request {number}");
        let path = format!("/pulls/{number}/comments/{thread}/replies");
        let answer = self.post_once(key, &path, &json!({ "body": whole(text, &hidden) }), &doing).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::NOT_FOUND => Ok(()),
            _ => Err(self.refusal(&answer, &doing, false)),
        }
    }
}

fn line_comment(comment: &ReviewComment) -> LineComment {
    LineComment {
        thread: comment.in_reply_to_id.unwrap_or(comment.id),
        path: shortened(Some(&comment.path), ChangeRequest::MAX_COMMENT_BYTES),
        line: comment.line.or(comment.original_line).unwrap_or(0),
        text: shortened(comment.body.as_deref(), ChangeRequest::MAX_COMMENT_BYTES),
    }
}
