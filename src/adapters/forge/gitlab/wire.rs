//! The parts of GitLab's answers that Skep reads. Anything else may be missing or change.

use serde::Deserialize;

/// A user.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct User {
    pub id: u64,
    pub username: String,
    /// Only some answers say it.
    #[serde(default)]
    pub bot: Option<bool>,
}

/// A token, as it describes itself.
#[derive(Debug, Deserialize)]
pub(super) struct Token {
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default)]
    pub expires_at: Option<String>,
}

/// A project with its settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Project {
    pub path_with_namespace: String,
    pub default_branch: Option<String>,
    pub archived: bool,
    pub merge_requests_enabled: Option<bool>,
    pub issues_enabled: Option<bool>,
    /// `merge`, `rebase_merge` or `ff`.
    pub merge_method: Option<String>,
    /// `never`, `always`, `default_on` or `default_off`.
    pub squash_option: Option<String>,
    pub only_allow_merge_if_pipeline_succeeds: Option<bool>,
    pub only_allow_merge_if_all_discussions_are_resolved: Option<bool>,
    pub merge_pipelines_enabled: Option<bool>,
    pub merge_trains_enabled: Option<bool>,
    pub permissions: Option<Permissions>,
}

/// What the token's account may do in a project.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Permissions {
    pub project_access: Option<Access>,
    pub group_access: Option<Access>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Access {
    pub access_level: u64,
}

/// A member of a project or of a group that it is in.
#[derive(Debug, Deserialize)]
pub(super) struct Member {
    #[serde(default)]
    pub state: String,
    pub access_level: u64,
}

/// A branch.
#[derive(Debug, Deserialize)]
pub(super) struct Branch {
    pub commit: BranchCommit,
    #[serde(default)]
    pub protected: bool,
    #[serde(default)]
    pub developers_can_merge: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct BranchCommit {
    pub id: String,
}

/// A merge request.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct MergeRequest {
    pub iid: u64,
    pub web_url: String,
    /// `opened`, `closed`, `locked` or `merged`.
    pub state: String,
    pub title: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub author: Option<User>,
    pub source_branch: String,
    pub target_branch: String,
    /// `None` = its fork was deleted.
    #[serde(default)]
    pub source_project_id: Option<u64>,
    pub target_project_id: u64,
    /// The head; `None` = it has no commits.
    #[serde(default)]
    pub sha: Option<String>,
    #[serde(default)]
    pub merge_commit_sha: Option<String>,
    #[serde(default)]
    pub squash_commit_sha: Option<String>,
    #[serde(default)]
    pub merge_user: Option<User>,
    /// The older name of `merge_user`.
    #[serde(default)]
    pub merged_by: Option<User>,
    #[serde(default)]
    pub closed_by: Option<User>,
    #[serde(default)]
    pub labels: Vec<String>,
    pub updated_at: String,
    /// Why it cannot be merged.
    #[serde(default)]
    pub detailed_merge_status: Option<String>,
    #[serde(default)]
    pub merge_error: Option<String>,
}

/// A version of a merge request: what its branch contained after a push.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    /// `None` = it has no commits.
    #[serde(default)]
    pub head_commit_sha: Option<String>,
    pub created_at: String,
}

/// The approvals of a merge request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Approvals {
    pub approved_by: Vec<Approval>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Approval {
    pub user: User,
    /// Newer versions only.
    #[serde(default)]
    pub approved_at: Option<String>,
}

/// A reviewer of a merge request.
#[derive(Debug, Deserialize)]
pub(super) struct Reviewer {
    pub user: User,
    #[serde(default)]
    pub state: String,
}

/// A comment, or what GitLab itself notes in the history.
#[derive(Debug, Deserialize)]
pub(super) struct Note {
    pub id: u64,
    #[serde(default)]
    pub author: Option<User>,
    #[serde(default)]
    pub body: Option<String>,
    /// Whether GitLab wrote it about something that its author did.
    #[serde(default)]
    pub system: bool,
    /// Whether only members see it.
    #[serde(default)]
    pub internal: Option<bool>,
    /// The older name of `internal`. GitLab sends both, so it cannot be an alias.
    #[serde(default)]
    pub confidential: Option<bool>,
    pub created_at: String,
    pub updated_at: String,
    #[serde(default)]
    pub resolved: bool,
    /// `None` = it is about no line.
    #[serde(default)]
    pub position: Option<Position>,
    /// In the events of a project: `Issue` or `MergeRequest`.
    #[serde(default)]
    pub noteable_type: Option<String>,
    #[serde(default)]
    pub noteable_iid: Option<u64>,
}

impl Note {
    /// Returns whether anybody who sees its topic sees it, too, and somebody wrote it.
    pub fn is_public(&self) -> bool {
        !self.system && self.internal != Some(true) && self.confidential != Some(true)
    }
}

/// The line that a note is about.
#[derive(Debug, Deserialize)]
pub(super) struct Position {
    #[serde(default)]
    pub new_path: Option<String>,
    #[serde(default)]
    pub old_path: Option<String>,
    #[serde(default)]
    pub new_line: Option<u64>,
    #[serde(default)]
    pub old_line: Option<u64>,
}

/// A thread of notes.
#[derive(Debug, Deserialize)]
pub(super) struct Discussion {
    pub id: String,
    #[serde(default)]
    pub notes: Vec<Note>,
}

/// A commit status, or a job of a pipeline.
#[derive(Debug, Deserialize)]
pub(super) struct CommitStatus {
    pub id: u64,
    pub status: String,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub target_url: Option<String>,
    #[serde(default)]
    pub allow_failure: bool,
}

/// An issue.
#[derive(Debug, Deserialize)]
pub(super) struct IssueAnswer {
    pub iid: u64,
    pub title: String,
    #[serde(default)]
    pub description: Option<String>,
    pub web_url: String,
    pub state: String,
    #[serde(default)]
    pub labels: Vec<String>,
    #[serde(default)]
    pub author: Option<User>,
    #[serde(default)]
    pub confidential: bool,
    pub updated_at: String,
}

/// A label was set or removed.
#[derive(Debug, Deserialize)]
pub(super) struct LabelEvent {
    #[serde(default)]
    pub user: Option<User>,
    pub created_at: String,
    /// `None` = it was deleted.
    #[serde(default)]
    pub label: Option<Label>,
    pub action: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Label {
    pub name: String,
}

/// Something that happened in a project.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub created_at: String,
    #[serde(default)]
    pub note: Option<Note>,
}

/// A deployment.
#[derive(Debug, Deserialize)]
pub(super) struct Deployment {
    pub id: u64,
    pub sha: String,
    pub status: String,
}

#[cfg(test)]
mod tests {
    use super::Note;

    #[test]
    fn a_note_for_members_is_not_public_by_either_of_its_names() {
        // GitLab sends both names.
        let note = |internal: bool, confidential: bool, system: bool| -> Note {
            serde_json::from_value(serde_json::json!({
                "id": 1, "body": "x", "system": system, "internal": internal, "confidential": confidential,
                "created_at": "2026-11-30T12:00:00.000Z", "updated_at": "2026-11-30T12:00:00.000Z",
            }))
            .unwrap()
        };
        assert!(note(false, false, false).is_public());
        for hidden in [note(true, true, false), note(true, false, false), note(false, true, false)] {
            assert!(!hidden.is_public());
        }
        assert!(!note(false, false, true).is_public(), "what GitLab itself notes is not a comment");
    }
}
