//! Reviews by people: approvals, requests for changes, and the answers in their threads.
//!
//! GitLab does not say which commit an approval is about. It notes when it was given, and when each version of the
//! merge request began: an approval counts for the version that it was given on.

use super::Topic;
use super::api::{Api, is_person, principal, time};
use super::wire::{Approvals, Discussion, Note, Reviewer, User, Version};
use crate::adapters::forge::comment::{hidden, shortened};
use crate::adapters::forge::once::WriteOnce;
use crate::adapters::forge::rest::{RestApi, sha};
use crate::domain::{ChangeNumber, ChangeRequest, LineComment, Principal, Sha, Timestamp};
use crate::ports::PortResult;
use http::StatusCode;
use serde_json::json;

/// Upper bound on the pages of threads, and of reviewers, that are read.
const MAX_PAGES: usize = 20;
/// What GitLab notes about an approval.
const APPROVED: &str = "approved this merge request";
/// What the note about a request for changes starts with.
const REQUESTED_CHANGES: &str = "requested changes";

/// What people who may write think of a merge request.
#[derive(Default)]
pub(super) struct Verdicts {
    /// Those whose approval was given on exactly the head.
    pub approved_by: Vec<Principal>,
    /// The requests for changes that their authors have not followed by an approval.
    pub change_requests: Vec<ChangeRequest>,
}

impl Note {
    fn is_by(&self, user: &User) -> bool {
        self.author.as_ref().is_some_and(|author| author.id == user.id)
    }

    /// Returns whether GitLab notes that its author did something.
    fn notes(&self, what: &str) -> bool {
        self.system && self.body.as_deref().is_some_and(|body| body.starts_with(what))
    }
}

impl Api<'_> {
    /// Returns the verdicts. `notes` are those on the merge request, oldest first.
    pub(super) async fn verdicts(&self, number: ChangeNumber, head: &Sha, notes: &[Note]) -> PortResult<Verdicts> {
        let path = Topic::MergeRequest(number.0).path();
        // The newest one comes first.
        let doing = format!("read the versions of merge request {number}");
        let (versions, _) = self.first_pages::<Version>(&format!("{path}/versions"), 1, &doing).await?;
        let approved_by = self.approvals(&path, head, &versions, notes).await?;
        let change_requests = self.change_requests(&path, head, &versions, notes).await?;
        Ok(Verdicts { approved_by, change_requests })
    }

    async fn approvals(
        &self,
        path: &str,
        head: &Sha,
        versions: &[Version],
        notes: &[Note],
    ) -> PortResult<Vec<Principal>> {
        // Until GitLab has taken in a push, no approval is about it.
        let Some(current) =
            versions.first().filter(|version| version.head_commit_sha.as_deref() == Some(head.as_str()))
        else {
            return Ok(Vec::new());
        };
        let since = time(&current.created_at)?;
        let approvals: Approvals = self.get(&format!("{path}/approvals"), "read the approvals").await?;
        let mut approved_by = Vec::new();
        for approval in approvals.approved_by.iter().filter(|approval| is_person(&approval.user)) {
            let user = &approval.user;
            let noted = notes.iter().rev().find(|note| note.notes(APPROVED) && note.is_by(user));
            let at = approval.approved_at.as_deref().or(noted.map(|note| note.created_at.as_str()));
            let is_current = at.map(time).transpose()?.is_some_and(|at| at >= since);
            if is_current && self.may_write(&user.username).await? {
                approved_by.push(principal(Some(user)));
            }
        }
        Ok(approved_by)
    }

    async fn change_requests(
        &self,
        path: &str,
        head: &Sha,
        versions: &[Version],
        notes: &[Note],
    ) -> PortResult<Vec<ChangeRequest>> {
        let reviewers: Vec<Reviewer> = self.list(&format!("{path}/reviewers"), MAX_PAGES, "read the reviewers").await?;
        let mut requests = Vec::new();
        let mut threads = None;
        for Reviewer { user, .. } in reviewers.iter().filter(|reviewer| reviewer.state == "requested_changes") {
            if !is_person(user) || !self.may_write(&user.username).await? {
                continue;
            }
            if threads.is_none() {
                threads = Some(self.discussions(path).await?);
            }
            let threads = threads.as_deref().unwrap_or_default();
            // Everything that the reviewer wrote before the request, and after an earlier one, belongs to it.
            let mut own: Vec<&Note> = Vec::new();
            let mut open = Vec::new();
            for note in notes.iter().filter(|note| note.is_by(user)) {
                if note.notes(APPROVED) {
                    (own, open) = (Vec::new(), Vec::new());
                } else if note.notes(REQUESTED_CHANGES) {
                    open.push((note, std::mem::take(&mut own)));
                } else if note.is_public() {
                    own.push(note);
                }
            }
            if open.is_empty() {
                tracing::warn!(
                    project = %self.repo, reviewer = user.username,
                    "GitLab shows requested changes, but no note of when; they become no tasks"
                );
            }
            for (request, texts) in open {
                let head = version_at(versions, time(&request.created_at)?)?.unwrap_or_else(|| head.clone());
                requests.push(change_request(request.id, user, head, &texts, threads));
            }
        }
        requests.sort_by_key(|request| request.review);
        let too_many = requests.len().saturating_sub(ChangeRequest::MAX);
        requests.drain(..too_many);
        Ok(requests)
    }

    async fn discussions(&self, path: &str) -> PortResult<Vec<Discussion>> {
        self.list(&format!("{path}/discussions"), MAX_PAGES, "read the threads of a merge request").await
    }

    /// Answers in a thread.
    pub(super) async fn ensure_reply(
        &self,
        number: ChangeNumber,
        thread: u64,
        marker: &str,
        text: &str,
    ) -> PortResult<()> {
        let account = self.account().await?;
        let hidden = hidden(marker);
        let key = format!("{}!{number}:{thread} {hidden}", self.repo);
        let path = Topic::MergeRequest(number.0).path();
        let threads = self.discussions(&path).await?;
        let Some(thread) = threads.iter().find(|t| t.notes.first().is_some_and(|first| first.id == thread)) else {
            tracing::debug!(repository = %self.repo, thread, "a review thread was deleted; nothing to answer");
            return Ok(());
        };
        let is_own = |note: &Note| {
            account.is(note.author.as_ref()) && note.body.as_deref().unwrap_or_default().trim_end().ends_with(&hidden)
        };
        if thread.notes.iter().any(is_own) {
            self.forge.unsure_writes.forget(&key);
            return Ok(());
        }
        let doing = format!("answer a thread of merge request {number}");
        let path = format!("{path}/discussions/{}/notes", super::api::escaped(&thread.id));
        let answer = self.post_once(key, &path, &json!({ "body": self.stored(text, &hidden) }), &doing).await?;
        match answer.status {
            StatusCode::CREATED => Ok(()),
            _ => Err(self.refusal(&answer, &doing, false)),
        }
    }
}

/// Returns the head of the version that was current at a time.
fn version_at(versions: &[Version], at: Timestamp) -> PortResult<Option<Sha>> {
    for version in versions {
        if time(&version.created_at)? <= at {
            return version.head_commit_sha.as_deref().map(sha).transpose();
        }
    }
    Ok(None)
}

/// Creates a request for changes of what its author wrote: on lines of files in threads that are not resolved, and
/// anywhere else.
fn change_request(review: u64, by: &User, head: Sha, notes: &[&Note], threads: &[Discussion]) -> ChangeRequest {
    let (mut texts, mut comments) = (Vec::new(), Vec::new());
    for note in notes {
        match &note.position {
            None => texts.push(note.body.as_deref().unwrap_or_default()),
            Some(position) => {
                let thread = threads.iter().find(|t| t.notes.iter().any(|n| n.id == note.id));
                let first = thread.and_then(|thread| thread.notes.first());
                if note.resolved || first.is_some_and(|first| first.resolved) {
                    continue;
                }
                let path = position.new_path.as_ref().or(position.old_path.as_ref());
                comments.push(LineComment {
                    thread: first.map_or(note.id, |first| first.id),
                    path: shortened(path.map(String::as_str), ChangeRequest::MAX_COMMENT_BYTES),
                    line: position.new_line.or(position.old_line).unwrap_or_default(),
                    text: shortened(note.body.as_deref(), ChangeRequest::MAX_COMMENT_BYTES),
                });
            }
        }
    }
    let more_comments = comments.len().saturating_sub(ChangeRequest::MAX_COMMENTS) as u64;
    comments.truncate(ChangeRequest::MAX_COMMENTS);
    ChangeRequest {
        review,
        by: principal(Some(by)),
        head,
        text: shortened(Some(&texts.join("\n\n")), ChangeRequest::MAX_TEXT_BYTES),
        comments,
        more_comments,
    }
}
