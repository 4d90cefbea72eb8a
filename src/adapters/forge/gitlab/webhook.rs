//! The payloads of GitLab's webhooks.

use super::Topic;
use crate::adapters::forge::webhook::{Authentication, Comment, Format, Head, Payload, known_label};
use crate::domain::delivery::may_be_run_branch;
use crate::domain::{Fact, Sha};
use crate::platform::git::check_sha;
use serde::Deserialize;

pub(super) const FORMAT: Format = Format {
    software: "GitLab",
    authentication: Authentication::Secret { header: "x-gitlab-token" },
    // The first two stay the same when GitLab sends a delivery again, and the first one is signed; older versions lack
    // them.
    delivery: &["webhook-id", "idempotency-key", "x-gitlab-webhook-uuid", "x-gitlab-event-uuid"],
    // A header names it as well, but differently for hooks of a project and of the whole server.
    event: &[],
};

/// The parts that every event may have.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct GitLabHead {
    object_kind: Option<String>,
    /// Some events have this instead of a kind.
    event_name: Option<String>,
    object_attributes: Option<HeadAttributes>,
    project: Option<Project>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HeadAttributes {
    action: Option<String>,
    /// What became of a pipeline.
    status: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Project {
    path_with_namespace: String,
}

impl Head for GitLabHead {
    fn event(&self) -> Option<&str> {
        self.object_kind.as_deref().or(self.event_name.as_deref())
    }

    fn action(&self) -> Option<&str> {
        let attributes = self.object_attributes.as_ref()?;
        attributes.action.as_deref().or(attributes.status.as_deref())
    }

    fn repository(&self) -> Option<&str> {
        self.project.as_ref().map(|project| project.path_with_namespace.as_str())
    }
}

/// The parts of a payload that Skep reads.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct GitLabPayload {
    object_attributes: Option<Attributes>,
    labels: Option<Vec<Label>>,
    changes: Option<Changes>,
    issue: Option<Numbered>,
    merge_request: Option<Numbered>,
    /// The branch of a job, or the full name of a pushed one.
    #[serde(rename = "ref")]
    name: Option<String>,
    /// The commit of a job.
    sha: Option<String>,
}

/// What an event is about.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Attributes {
    id: u64,
    iid: u64,
    action: Option<String>,
    /// The text of a note.
    note: Option<String>,
    /// What a note is about: `Issue`, `MergeRequest` or something else.
    noteable_type: Option<String>,
    /// Whether only members see it.
    confidential: Option<bool>,
    internal: Option<bool>,
    /// The branch of a merge request.
    source_branch: Option<String>,
    /// The branch of a pipeline.
    #[serde(rename = "ref")]
    name: Option<String>,
    /// The commit of a pipeline.
    sha: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Numbered {
    iid: u64,
    source_branch: Option<String>,
}
#[derive(Default, Deserialize)]
#[serde(default)]
struct Changes {
    labels: Option<LabelChange>,
}
#[derive(Default, Deserialize)]
#[serde(default)]
struct LabelChange {
    previous: Option<Vec<Label>>,
    current: Option<Vec<Label>>,
}
#[derive(Deserialize)]
struct Label {
    title: String,
}

impl Payload for GitLabPayload {
    type Head = GitLabHead;
    const EVENTS: &'static [&'static str] = &["issue", "note", "merge_request", "pipeline", "build", "push"];

    fn fact(self, event: &str, start_label: Option<&str>) -> Result<Fact, String> {
        let GitLabPayload { object_attributes, labels, changes, issue, merge_request, name, sha } = self;
        let about = object_attributes.unwrap_or_default();
        let changes = changes.unwrap_or_default();
        if about.confidential == Some(true) || about.internal == Some(true) {
            return Err("Skep does not read what only members see".to_owned());
        }
        match (event, about.action.as_deref().unwrap_or_default()) {
            ("issue", action) => {
                // An issue may be opened with its labels.
                let set = if action == "open" { labels.unwrap_or_default() } else { changes.added() };
                match is_known(&set, start_label, true) {
                    true => Ok(Fact::Relabelled { number: Topic::Issue(about.iid).key() }),
                    false => Err("no label was set that means anything to Skep".to_owned()),
                }
            }
            ("merge_request", _) => match is_known(&changes.added(), start_label, false) {
                true => Ok(Fact::Relabelled { number: Topic::MergeRequest(about.iid).key() }),
                false => moved([about.source_branch]),
            },
            // Older versions report only new notes, and no action.
            ("note", "create" | "") => {
                let (topic, branch) = match (about.noteable_type.as_deref(), issue, merge_request) {
                    (Some("Issue"), Some(issue), _) => (Topic::Issue(issue.iid), None),
                    (Some("MergeRequest"), _, Some(found)) => (Topic::MergeRequest(found.iid), found.source_branch),
                    _ => return Err("it is about neither an issue nor a merge request".to_owned()),
                };
                let comment = Comment::new(about.id, about.note).fact(topic.key());
                // A note without a command may be part of a review.
                comment.or_else(|why| moved([branch]).map_err(|_| why))
            }
            ("note", _) => Err("Skep does not use this action".to_owned()),
            ("pipeline", _) => {
                let branches = [about.name, merge_request.and_then(|found| found.source_branch)];
                moved(branches).or_else(|_| tested(about.sha))
            }
            ("build", _) => moved([name]).or_else(|_| tested(sha)),
            _ => moved([name.and_then(|name| name.strip_prefix("refs/heads/").map(str::to_owned))]),
        }
    }
}

impl Changes {
    /// Returns the labels that were set.
    fn added(self) -> Vec<Label> {
        let LabelChange { previous, current } = self.labels.unwrap_or_default();
        let before = previous.unwrap_or_default();
        let mut added = current.unwrap_or_default();
        added.retain(|label| before.iter().all(|known| known.title != label.title));
        added
    }
}

fn is_known(labels: &[Label], start_label: Option<&str>, is_issue: bool) -> bool {
    labels.iter().any(|label| known_label(&label.title, start_label, is_issue).is_some())
}

fn moved<const N: usize>(branches: [Option<String>; N]) -> Result<Fact, String> {
    match branches.into_iter().flatten().find(|branch| may_be_run_branch(branch)) {
        Some(branch) => Ok(Fact::Moved { branches: vec![branch] }),
        None => Err("no run has such a branch".to_owned()),
    }
}

fn tested(sha: Option<String>) -> Result<Fact, String> {
    let sha = Sha(sha.unwrap_or_default());
    match check_sha(&sha) {
        Ok(()) => Ok(Fact::Tested { sha }),
        Err(_) => Err("it names no commit".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::webhook::read;
    use super::*;
    use serde_json::{Value, json};

    fn read_event(body: &Value) -> crate::ports::forge_issues::WebhookEvent {
        let mut body = body.clone();
        body["project"] = json!({ "path_with_namespace": "My-Org/Team/Calc" });
        // A repository without a full name, as GitLab sends it.
        body["repository"] = json!({ "name": "Calc" });
        read::<GitLabPayload>("GitLab", "1".to_owned(), String::new(), Some("skep"), body.to_string().as_bytes())
            .unwrap()
    }

    fn fact_of(body: &Value) -> Result<Fact, String> {
        read_event(body).fact
    }

    #[test]
    fn events_become_facts_without_any_text() {
        let labels = |names: &[&str]| -> Value { names.iter().map(|name| json!({ "title": name })).collect() };
        let changed = |kind: &str, before: &[&str], after: &[&str]| {
            json!({ "object_kind": kind, "object_attributes": { "iid": 7, "action": "update", "source_branch": "x" },
                "changes": { "labels": { "previous": labels(before), "current": labels(after) } } })
        };
        let of_issue = Ok(Fact::Relabelled { number: 7 });
        assert_eq!(fact_of(&changed("issue", &["bug"], &["bug", "Skep"])), of_issue);
        assert!(fact_of(&changed("issue", &["skep"], &["skep", "bug"])).is_err(), "it had the label before");
        assert!(fact_of(&changed("issue", &["skep"], &[])).is_err());
        let opened = json!({ "object_kind": "issue", "object_attributes": { "iid": 7, "action": "open" },
            "labels": labels(&["skep"]) });
        assert_eq!(fact_of(&opened), of_issue);
        let mut confidential = opened.clone();
        confidential["object_attributes"]["confidential"] = json!(true);
        assert!(fact_of(&confidential).is_err());
        let key = Topic::MergeRequest(7).key();
        assert_eq!(fact_of(&changed("merge_request", &[], &["unblocked"])), Ok(Fact::Relabelled { number: key }));
        assert!(fact_of(&changed("merge_request", &[], &["skep"])).is_err());
        let noted = |kind: &str, text: &str, action: &str| {
            json!({ "object_kind": "note", "issue": { "iid": 7 },
                "merge_request": { "iid": 7, "source_branch": "skep/3f9a12bc" },
                "object_attributes": { "id": 9, "note": text, "noteable_type": kind, "action": action } })
        };
        assert_eq!(fact_of(&noted("Issue", "/skep run", "create")), Ok(Fact::Commented { number: 7, comment: 9 }));
        assert_eq!(fact_of(&noted("Issue", "/skep run", "")), Ok(Fact::Commented { number: 7, comment: 9 }));
        let on_merge_request = Ok(Fact::Commented { number: key, comment: 9 });
        assert_eq!(fact_of(&noted("MergeRequest", "/skep approve", "create")), on_merge_request);
        let moved = Ok(Fact::Moved { branches: vec!["skep/3f9a12bc".to_owned()] });
        assert_eq!(fact_of(&noted("MergeRequest", "Why?", "create")), moved);
        for ignored in
            [noted("Issue", "fine", "create"), noted("Issue", "/skep run", "update"), noted("Commit", "/skep run", "")]
        {
            assert!(fact_of(&ignored).is_err(), "{ignored}");
        }
        let sha = "3f9a12bc".repeat(5);
        for (body, fact) in [
            (
                json!({ "object_kind": "merge_request",
                    "object_attributes": { "source_branch": "skep/3f9a12bc", "action": "approved" } }),
                &moved,
            ),
            (json!({ "object_kind": "push", "ref": "refs/heads/skep/3f9a12bc" }), &moved),
            (json!({ "object_kind": "pipeline", "object_attributes": { "ref": "skep/3f9a12bc", "sha": sha } }), &moved),
            (
                json!({ "object_kind": "pipeline",
                    "object_attributes": { "ref": "refs/merge-requests/1/head", "sha": sha },
                "merge_request": { "iid": 1, "source_branch": "skep/3f9a12bc" } }),
                &moved,
            ),
            (json!({ "object_kind": "build", "ref": "main", "sha": sha }), &Ok(Fact::Tested { sha: Sha(sha.clone()) })),
        ] {
            assert_eq!(fact_of(&body), *fact, "{body}");
        }
        assert!(fact_of(&json!({ "object_kind": "push", "ref": "refs/tags/skep/3f9a12bc" })).is_err());
        assert!(fact_of(&json!({ "object_kind": "deployment", "issue": "whatever" })).is_err());
    }

    #[test]
    fn an_event_has_the_name_that_its_payload_says() {
        let event = read_event(&json!({ "object_kind": "pipeline", "object_attributes": { "status": "failed" } }));
        assert_eq!((event.event.as_str(), event.repository.as_str()), ("pipeline.failed", "my-org/team/calc"));
        let none = read::<GitLabPayload>("GitLab", "1".to_owned(), String::new(), None, b"{}").unwrap_err();
        assert!(none.contains("kind of event"), "{none}");
    }
}
