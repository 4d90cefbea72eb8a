//! The payloads of Forgejo's and Gitea's webhooks.
//!
//! They say that the labels of an issue changed but not which one, and name a tested commit but not its branch.

use crate::adapters::forge::webhook::{Authentication, Comment, CommonHead, Format, Named, Payload, known_label};
use crate::domain::delivery::may_be_run_branch;
use crate::domain::{Fact, Sha};
use crate::platform::git::check_sha;
use serde::Deserialize;

pub(super) const FORMAT: Format = Format {
    software: "the forge",
    authentication: Authentication::Signature { headers: &["x-forgejo-signature", "x-gitea-signature"], prefix: "" },
    delivery: &["x-forgejo-delivery", "x-gitea-delivery"],
    event: &["x-forgejo-event", "x-gitea-event"],
};

/// The parts of a payload that Skep reads.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ForgejoPayload {
    action: String,
    issue: Option<Issue>,
    pull_request: Option<PullRequest>,
    comment: Option<Comment>,
    /// The commit of a status.
    sha: String,
    /// A run of Gitea's Actions, or one of its jobs.
    workflow_run: Option<Tested>,
    workflow_job: Option<Tested>,
    /// A run of Forgejo's Actions.
    run: Option<Tested>,
}

#[derive(Deserialize)]
struct Issue {
    number: u64,
    #[serde(default)]
    labels: Option<Vec<Named>>,
}
#[derive(Deserialize)]
struct PullRequest {
    number: u64,
    #[serde(default)]
    labels: Option<Vec<Named>>,
    head: Head,
}
#[derive(Deserialize)]
struct Head {
    /// The name of the branch.
    #[serde(default)]
    label: String,
    /// The same, or `refs/pull/N/head` once the branch is deleted.
    #[serde(rename = "ref", default)]
    name: String,
}
#[derive(Deserialize)]
struct Tested {
    #[serde(alias = "commit_sha", default)]
    head_sha: String,
}

impl Payload for ForgejoPayload {
    type Head = CommonHead;
    const EVENTS: &'static [&'static str] = &[
        "issues",
        "issue_comment",
        "pull_request",
        "pull_request_approved",
        "pull_request_rejected",
        "pull_request_comment",
        "status",
        "workflow_run",
        "workflow_job",
        "action_run_failure",
        "action_run_recover",
        "action_run_success",
    ];

    fn fact(self, event: &str, start_label: Option<&str>) -> Result<Fact, String> {
        let ForgejoPayload { action, issue, pull_request, comment, sha, workflow_run, workflow_job, run } = self;
        match (event, action.as_str()) {
            // An issue may be opened with its labels, which is not reported otherwise.
            ("issues", "label_updated" | "opened") => {
                let Some(issue) = issue else { return Err("it names no issue".to_owned()) };
                relabelled(issue.number, issue.labels, start_label, true)
            }
            ("issue_comment", "created") => {
                let (Some(issue), Some(comment)) = (issue, comment) else {
                    return Err("it names no comment".to_owned());
                };
                comment.fact(issue.number)
            }
            ("issues" | "issue_comment", _) => Err("Skep does not use this action".to_owned()),
            ("pull_request", "label_updated") => {
                let Some(pull) = pull_request else { return Err("it names no pull request".to_owned()) };
                relabelled(pull.number, pull.labels, start_label, false)
            }
            ("pull_request" | "pull_request_approved" | "pull_request_rejected" | "pull_request_comment", _) => {
                let head = pull_request.map(|pull| pull.head).into_iter().flat_map(|head| [head.label, head.name]);
                match head.into_iter().find(|branch| may_be_run_branch(branch)) {
                    Some(branch) => Ok(Fact::Moved { branches: vec![branch] }),
                    None => Err("no run has such a branch".to_owned()),
                }
            }
            _ => {
                let of_actions = workflow_run.or(workflow_job).or(run).map(|tested| tested.head_sha);
                let sha = Sha(of_actions.unwrap_or(sha));
                match check_sha(&sha) {
                    Ok(()) => Ok(Fact::Tested { sha }),
                    Err(_) => Err("it names no commit".to_owned()),
                }
            }
        }
    }
}

fn relabelled(
    number: u64,
    labels: Option<Vec<Named>>,
    start_label: Option<&str>,
    is_issue: bool,
) -> Result<Fact, String> {
    let is_known = |label: &Named| known_label(&label.name, start_label, is_issue).is_some();
    match labels.unwrap_or_default().iter().any(is_known) {
        true => Ok(Fact::Relabelled { number }),
        false => Err("none of its labels means anything to Skep".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::webhook::read;
    use super::*;
    use serde_json::{Value, json};

    fn fact_of(event: &str, body: &Value) -> Result<Fact, String> {
        let mut body = body.clone();
        body["repository"] = json!({ "full_name": "My-Org/Calc" });
        let body = body.to_string();
        read::<ForgejoPayload>("x", "1".to_owned(), event.to_owned(), Some("skep"), body.as_bytes()).unwrap().fact
    }

    #[test]
    fn events_become_facts_without_any_text() {
        let labels = |action: &str, names: &[&str]| {
            let labels: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
            json!({ "action": action, "issue": { "number": 7, "labels": labels },
                "pull_request": { "number": 7, "labels": labels, "head": { "ref": "feature" } } })
        };
        let relabelled = Ok(Fact::Relabelled { number: 7 });
        assert_eq!(fact_of("issues", &labels("label_updated", &["bug", "Skep"])), relabelled);
        assert_eq!(fact_of("issues", &labels("opened", &["skep"])), relabelled);
        assert_eq!(fact_of("pull_request", &labels("label_updated", &["unblocked"])), relabelled);
        assert!(fact_of("pull_request", &labels("label_updated", &["skep"])).is_err());
        assert!(fact_of("issues", &labels("label_updated", &["bug"])).is_err());
        assert!(fact_of("issues", &labels("closed", &["skep"])).is_err());
        assert!(fact_of("issues", &json!({ "action": "opened", "issue": { "number": 7, "labels": null } })).is_err());
        let commented = |action: &str, text: &str| json!({ "action": action, "issue": { "number": 7 }, "comment": { "id": 9, "body": text }, "is_pull": true });
        let fact = Ok(Fact::Commented { number: 7, comment: 9 });
        assert_eq!(fact_of("issue_comment", &commented("created", "/skep run")), fact);
        assert!(fact_of("issue_comment", &commented("created", "fine")).is_err());
        assert!(fact_of("issue_comment", &commented("edited", "/skep run")).is_err());
        let moved = Ok(Fact::Moved { branches: vec!["skep/3f9a12bc".to_owned()] });
        for (event, head) in [
            ("pull_request", json!({ "ref": "skep/3f9a12bc" })),
            ("pull_request_approved", json!({ "label": "skep/3f9a12bc", "ref": "refs/pull/8/head" })),
            ("pull_request_rejected", json!({ "label": "skep/3f9a12bc", "ref": "skep/3f9a12bc" })),
        ] {
            assert_eq!(fact_of(event, &json!({ "pull_request": { "number": 8, "head": head } })), moved, "{event}");
        }
        let sha = "3f9a12bc".repeat(5);
        let tested = Ok(Fact::Tested { sha: Sha(sha.clone()) });
        for (event, body) in [
            ("status", json!({ "sha": sha, "context": "ci" })),
            ("workflow_run", json!({ "action": "completed", "workflow_run": { "head_sha": sha } })),
            ("workflow_job", json!({ "action": "completed", "workflow_job": { "head_sha": sha } })),
            ("action_run_failure", json!({ "action": "failure", "run": { "commit_sha": sha } })),
        ] {
            assert_eq!(fact_of(event, &body), tested, "{event}");
        }
        assert!(fact_of("status", &json!({ "sha": "main" })).is_err());
        assert!(fact_of("push", &json!({ "issue": "whatever", "run": 7 })).is_err());
    }
}
