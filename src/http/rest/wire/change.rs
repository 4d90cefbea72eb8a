//! Changes (pull requests) of the local forge, and diffs.

use super::Timestamp;
use super::word::words;
use crate::domain;
use crate::ports::forge;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

words! {
    /// Kind of change to a file.
    FileKind = domain::FileKind {
        /// Added.
        Added = "added",
        /// Modified.
        Modified = "modified",
        /// Deleted.
        Deleted = "deleted",
    }
}

/// Changed file.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FileChange {
    /// Path in the repository.
    pub path: String,
    /// Kind of change.
    pub kind: FileKind,
    /// Lines added.
    pub added: u64,
    /// Lines removed.
    pub removed: u64,
    /// Whether git treats it as binary.
    pub binary: bool,
}

/// Size and paths of a diff.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct DiffStat {
    /// Files in path order; at most 1,000.
    pub files: Vec<FileChange>,
    /// Number of files changed.
    pub files_total: u64,
    /// Lines added.
    pub added: u64,
    /// Lines removed.
    pub removed: u64,
}

impl DiffStat {
    /// Returns whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.files_total == 0
    }
    /// Returns `3 files, +10 -2`.
    pub fn summary(&self) -> String {
        let s = if self.files_total == 1 { "" } else { "s" };
        format!("{} file{s}, +{} -{}", self.files_total, self.added, self.removed)
    }
}

impl From<&domain::DiffStat> for DiffStat {
    fn from(diff: &domain::DiffStat) -> DiffStat {
        let file = |f: &domain::FileChange| FileChange {
            path: f.path.clone(),
            kind: f.kind.into(),
            added: f.added,
            removed: f.removed,
            binary: f.binary,
        };
        DiffStat {
            files: diff.files.iter().map(file).collect(),
            files_total: diff.files_total,
            added: diff.added,
            removed: diff.removed,
        }
    }
}

/// State of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeState {
    /// Open.
    Open,
    /// Closed without a merge.
    Closed {
        /// Who closed it.
        by: String,
    },
    /// Merged.
    Merged {
        /// Commit on the base branch.
        sha: String,
        /// Who merged it.
        by: String,
    },
}

impl From<&domain::ChangeState> for ChangeState {
    fn from(state: &domain::ChangeState) -> ChangeState {
        match state {
            domain::ChangeState::Open => ChangeState::Open,
            domain::ChangeState::Closed { by } => ChangeState::Closed { by: by.to_string() },
            domain::ChangeState::Merged { sha, by } => ChangeState::Merged { sha: sha.to_string(), by: by.to_string() },
        }
    }
}

words! {
    /// State of a status.
    StatusState = domain::StatusState {
        /// Not decided yet.
        Pending = "pending",
        /// Passed.
        Success = "success",
        /// Failed.
        Failure = "failure",
    }
}

/// Comment on a change.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangeComment {
    /// Id on the forge.
    pub id: u64,
    /// Author.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Text, Markdown.
    pub text: String,
    /// Hidden marker of a comment written by Skep; absent for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
}

/// Review of a change at one head.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangeReview {
    /// Reviewer.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Commit that was reviewed.
    pub head: String,
    /// Approved; otherwise changes were requested.
    pub approved: bool,
    /// Text.
    pub text: String,
}

/// Status of a commit in one context.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangeStatus {
    /// State.
    pub state: StatusState,
    /// Line for people.
    pub text: String,
    /// Who set it.
    pub by: String,
}

/// Change (pull request) of the local forge.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Number, from 1.
    pub number: u64,
    /// Title.
    pub title: String,
    /// Description, Markdown.
    pub body: String,
    /// Branch to be merged.
    pub branch: String,
    /// Head of that branch.
    pub head: String,
    /// Branch it is merged into.
    pub base_branch: String,
    /// Whether it is a draft.
    pub draft: bool,
    /// State.
    pub state: ChangeState,
    /// Author.
    pub by: String,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Comments, oldest first.
    pub comments: Vec<ChangeComment>,
    /// Reviews by people, oldest first.
    pub reviews: Vec<ChangeReview>,
    /// Statuses by commit and context.
    pub statuses: BTreeMap<String, BTreeMap<String, ChangeStatus>>,
}

impl From<&forge::Change> for Change {
    fn from(change: &forge::Change) -> Change {
        let comment = |c: &forge::Comment| ChangeComment {
            id: c.id,
            by: c.by.to_string(),
            at: c.at.into(),
            text: c.text.clone(),
            marker: c.marker.clone(),
        };
        let review = |r: &forge::Review| ChangeReview {
            by: r.by.to_string(),
            at: r.at.into(),
            head: r.head.to_string(),
            approved: r.approved,
            text: r.text.clone(),
        };
        let status = |(context, s): (&String, &forge::Status)| {
            let status = ChangeStatus { state: s.state.into(), text: s.text.clone(), by: s.by.to_string() };
            (context.clone(), status)
        };
        Change {
            number: change.number.0,
            title: change.title.clone(),
            body: change.body.clone(),
            branch: change.branch.clone(),
            head: change.head.to_string(),
            base_branch: change.base_branch.clone(),
            draft: change.draft,
            state: (&change.state).into(),
            by: change.by.to_string(),
            opened_at: change.opened_at.into(),
            comments: change.comments.iter().map(comment).collect(),
            reviews: change.reviews.iter().map(review).collect(),
            statuses: change
                .statuses
                .iter()
                .map(|(sha, of_commit)| (sha.to_string(), of_commit.iter().map(status).collect()))
                .collect(),
        }
    }
}

/// Text of a review or a comment.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeText {
    /// Text, Markdown.
    #[schema(example = "Looks right to me")]
    pub text: String,
}

/// Status reported by a CI.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewStatus {
    /// Context.
    #[schema(example = "ci/windows")]
    pub context: String,
    /// State.
    #[schema(example = "success")]
    pub state: StatusState,
    /// Line for people.
    #[serde(default)]
    pub text: String,
    /// Commit; the current head of the change if absent.
    #[serde(default)]
    pub sha: Option<String>,
}
