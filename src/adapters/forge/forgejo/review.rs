//! Reviews by people: approvals, requests for changes, and the answers in their threads.

use super::api::{Api, is_person, principal};
use super::wire::{PullReview, ReviewComment, User};
use crate::adapters::forge::comment::{hidden, shortened, whole};
use crate::adapters::forge::once::WriteOnce;
use crate::adapters::forge::rest::RestApi;
use crate::domain::{ChangeNumber, ChangeRequest, LineComment, Principal, Sha};
use crate::ports::PortResult;
use http::StatusCode;
use serde_json::json;
use std::collections::BTreeMap;

/// Upper bound on the pages of reviews that are read.
const MAX_PAGES: usize = 20;
/// Upper bound on reviews whose comments are searched for a thread.
const MAX_SEARCHED: usize = 30;

/// What people who may write think of a pull request.
#[derive(Default)]
pub(super) struct Verdicts {
    /// Those whose latest verdict approves exactly the head.
    pub approved_by: Vec<Principal>,
    /// The requests for changes that their authors have not followed by an approval.
    pub change_requests: Vec<ChangeRequest>,
}

impl PullReview {
    fn approves(&self) -> bool {
        self.state == "APPROVED" && !self.dismissed
    }

    fn requests_changes(&self) -> bool {
        self.state == "REQUEST_CHANGES" && !self.dismissed
    }
}

impl ReviewComment {
    fn line(&self) -> u64 {
        if self.position > 0 { self.position } else { self.original_position }
    }
}

impl Api<'_> {
    pub(super) async fn verdicts(&self, number: ChangeNumber, head: &Sha) -> PortResult<Verdicts> {
        let reviews = self.reviews(number).await?;
        let approved_by = self.approvals(&reviews, head).await?;
        let change_requests = self.change_requests(number, &reviews).await?;
        Ok(Verdicts { approved_by, change_requests })
    }

    /// Returns the reviews of a pull request, oldest first.
    async fn reviews(&self, number: ChangeNumber) -> PortResult<Vec<PullReview>> {
        let doing = format!("read the reviews of pull request {number}");
        let mut reviews: Vec<PullReview> = self.list(&format!("/pulls/{number}/reviews"), MAX_PAGES, &doing).await?;
        reviews.sort_by_key(|review| review.id);
        Ok(reviews)
    }

    async fn approvals(&self, reviews: &[PullReview], head: &Sha) -> PortResult<Vec<Principal>> {
        let mut latest: BTreeMap<&str, (&User, bool)> = BTreeMap::new();
        for review in reviews {
            let Some(user) = review.user.as_ref().filter(|user| is_person(user)) else { continue };
            // A comment, a question for a review, or a review that was not submitted changes nothing.
            if matches!(review.state.as_str(), "APPROVED" | "REQUEST_CHANGES") {
                let approves = review.approves() && review.commit_id.as_deref() == Some(head.as_str());
                latest.insert(&user.login, (user, approves));
            }
        }
        let mut approvals = Vec::new();
        for (user, _) in latest.into_values().filter(|(_, approves)| *approves) {
            if self.may_write(&user.login).await? {
                approvals.push(principal(Some(user)));
            }
        }
        Ok(approvals)
    }

    async fn change_requests(&self, number: ChangeNumber, reviews: &[PullReview]) -> PortResult<Vec<ChangeRequest>> {
        let is_by = |review: &PullReview, user: &User| review.user.as_ref().is_some_and(|by| by.id == user.id);
        let mut open: Vec<(&PullReview, &User, &str)> = Vec::new();
        for (at, review) in reviews.iter().enumerate().rev() {
            let (Some(user), Some(head)) = (&review.user, &review.commit_id) else { continue };
            let is_answered = || reviews[at..].iter().any(|later| later.approves() && is_by(later, user));
            let counts = review.requests_changes() && is_person(user) && !is_answered();
            if counts && open.len() < ChangeRequest::MAX && self.may_write(&user.login).await? {
                open.push((review, user, head));
            }
        }
        let mut requests = Vec::new();
        for (review, user, head) in open.into_iter().rev() {
            let comments = self.review_comments(number, review).await?;
            requests.push(ChangeRequest {
                review: review.id,
                by: principal(Some(user)),
                head: Sha(head.to_owned()),
                text: shortened(review.body.as_deref(), ChangeRequest::MAX_TEXT_BYTES),
                more_comments: comments.len().saturating_sub(ChangeRequest::MAX_COMMENTS) as u64,
                comments: comments
                    .iter()
                    .take(ChangeRequest::MAX_COMMENTS)
                    .map(|c| line_comment(c, &comments))
                    .collect(),
            });
        }
        Ok(requests)
    }

    /// Returns the comments of a review. The forge does not divide them into pages.
    async fn review_comments(&self, number: ChangeNumber, review: &PullReview) -> PortResult<Vec<ReviewComment>> {
        if review.comments_count == 0 {
            return Ok(Vec::new());
        }
        let doing = format!("read the comments of review {}", review.id);
        let found: Option<Vec<ReviewComment>> =
            self.find(&format!("/pulls/{number}/reviews/{}/comments", review.id), &doing).await?;
        Ok(found.unwrap_or_default())
    }

    /// Answers below a comment of a review where the forge's API can, and on the pull request otherwise.
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
        let is_own = |comment: &ReviewComment| {
            account.is(comment.user.as_ref())
                && comment.body.as_deref().unwrap_or_default().trim_end().ends_with(&hidden)
        };
        let reviews = self.reviews(number).await?;
        for review in reviews.iter().rev().filter(|review| review.comments_count > 0).take(MAX_SEARCHED) {
            let comments = self.review_comments(number, review).await?;
            let Some(first) = comments.iter().find(|comment| comment.id == thread) else { continue };
            if comments.iter().any(is_own) {
                self.forge.unsure_writes.forget(&key);
                return Ok(());
            }
            let doing = format!("answer a review comment on pull request {number}");
            let path = format!("/pulls/{number}/reviews/{}/comments", review.id);
            let side = if first.position > 0 { "new_position" } else { "old_position" };
            let body = json!({ "path": first.path, side: first.line(), "body": whole(text, &hidden) });
            let answer = self.post_once(key, &path, &body, &doing).await?;
            return match answer.status {
                StatusCode::OK | StatusCode::CREATED => Ok(()),
                // Older versions, and Gitea, can only add comments with a new review.
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                    let text = format!("On `{}`, line {}:\n\n{text}", first.path.replace('`', ""), first.line());
                    self.ensure_comment(number, marker, &text).await
                }
                _ => Err(self.refusal(&answer, &doing, false)),
            };
        }
        tracing::debug!(repository = %self.repo, thread, "a review thread was deleted; nothing to answer");
        Ok(())
    }
}

/// Returns a comment with its thread: the first comment of its review on the same line.
fn line_comment(comment: &ReviewComment, all: &[ReviewComment]) -> LineComment {
    let place = |c: &ReviewComment| (c.path.clone(), c.position, c.original_position);
    let first = all.iter().find(|other| place(other) == place(comment));
    LineComment {
        thread: first.map_or(comment.id, |first| first.id),
        path: shortened(Some(&comment.path), ChangeRequest::MAX_COMMENT_BYTES),
        line: comment.line(),
        text: shortened(comment.body.as_deref(), ChangeRequest::MAX_COMMENT_BYTES),
    }
}
