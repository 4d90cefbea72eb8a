//! The payloads of GitHub's webhooks.

use crate::adapters::forge::webhook::{Authentication, Comment, CommonHead, Format, Named, Payload, known_label};
use crate::domain::Fact;
use crate::domain::delivery::may_be_run_branch;
use serde::Deserialize;

/// Upper bound on the branches of one event.
const MAX_BRANCHES: usize = 10;
const MAX_BRANCH_BYTES: usize = 255;

pub(super) const FORMAT: Format = Format {
    software: "GitHub",
    authentication: Authentication::Signature { headers: &["x-hub-signature-256"], prefix: "sha256=" },
    delivery: &["x-github-delivery"],
    event: &["x-github-event"],
};

/// The parts of a payload that Skep reads.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct GitHubPayload {
    action: String,
    issue: Option<Numbered>,
    pull_request: Option<PullRequest>,
    label: Option<Named>,
    comment: Option<Comment>,
    check_run: Option<CheckRun>,
    check_suite: Option<OnBranch>,
    workflow_run: Option<OnBranch>,
    branches: Vec<Named>,
}

#[derive(Deserialize)]
struct Numbered {
    number: u64,
}
#[derive(Deserialize)]
struct PullRequest {
    number: u64,
    head: BranchRef,
}
#[derive(Deserialize)]
struct BranchRef {
    #[serde(rename = "ref")]
    name: String,
}
#[derive(Deserialize)]
struct CheckRun {
    check_suite: Option<OnBranch>,
}
#[derive(Deserialize)]
struct OnBranch {
    #[serde(default)]
    head_branch: Option<String>,
}

impl Payload for GitHubPayload {
    type Head = CommonHead;
    const EVENTS: &'static [&'static str] = &[
        "issues",
        "issue_comment",
        "pull_request",
        "pull_request_review",
        "check_run",
        "check_suite",
        "workflow_run",
        "status",
    ];

    fn fact(self, event: &str, start_label: Option<&str>) -> Result<Fact, String> {
        let GitHubPayload {
            action,
            issue,
            pull_request,
            label,
            comment,
            check_run,
            check_suite,
            workflow_run,
            branches,
        } = self;
        match (event, action.as_str()) {
            ("issues" | "pull_request", "labeled") => {
                let name = label.map(|label| label.name).unwrap_or_default();
                let known = known_label(&name, start_label, event == "issues");
                let number = issue.map(|issue| issue.number).or(pull_request.map(|pull| pull.number));
                match (known, number) {
                    (Some(label), Some(number)) => Ok(Fact::Labelled { number, label: label.to_owned() }),
                    _ => Err("the label means nothing to Skep".to_owned()),
                }
            }
            ("issue_comment", "created") => {
                let (Some(issue), Some(comment)) = (issue, comment) else {
                    return Err("it names no comment".to_owned());
                };
                comment.fact(issue.number)
            }
            ("issues" | "issue_comment", _) => Err("Skep does not use this action".to_owned()),
            _ => {
                let suite = check_suite.or(check_run.and_then(|run| run.check_suite)).or(workflow_run);
                let of_checks = suite.and_then(|suite| suite.head_branch);
                let of_pull = pull_request.map(|pull| pull.head.name);
                let all = of_pull.into_iter().chain(of_checks).chain(branches.into_iter().map(|branch| branch.name));
                let own = all.filter(|branch| branch.len() <= MAX_BRANCH_BYTES && may_be_run_branch(branch));
                let branches: Vec<String> = own.take(MAX_BRANCHES).collect();
                match branches.is_empty() {
                    true => Err("no run has such a branch".to_owned()),
                    false => Ok(Fact::Moved { branches }),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::webhook::read;
    use super::*;
    use serde_json::{Value, json};

    fn fact_of(event: &str, body: &Value) -> Result<Fact, String> {
        read::<GitHubPayload>("GitHub", "1".to_owned(), event.to_owned(), Some("skep"), body.to_string().as_bytes())
            .unwrap()
            .fact
    }

    #[test]
    fn events_become_facts_without_any_text() {
        let repository = json!({ "full_name": "My-Org/Calc" });
        let labelled = |name: &str| json!({ "action": "labeled", "repository": repository, "issue": { "number": 7 }, "label": { "name": name } });
        let label = |label: &str| Ok(Fact::Labelled { number: 7, label: label.to_owned() });
        assert_eq!(fact_of("issues", &labelled("Skep")), label("skep"));
        assert_eq!(fact_of("issues", &labelled("unblocked")), label("unblocked"));
        assert!(fact_of("issues", &labelled("bug")).is_err());
        let commented = |body: &str| {
            json!({ "action": "created", "repository": repository, "issue": { "number": 7 },
                "comment": { "id": 9, "body": body } })
        };
        assert_eq!(fact_of("issue_comment", &commented("/skep run")), Ok(Fact::Commented { number: 7, comment: 9 }));
        assert!(fact_of("issue_comment", &commented("fine")).is_err());
        let moved = Ok(Fact::Moved { branches: vec!["skep/3f9a12bc".to_owned()] });
        let branch = json!({ "head_branch": "skep/3f9a12bc" });
        for (event, part) in [
            ("check_suite", json!({ "check_suite": branch })),
            ("check_run", json!({ "check_run": { "check_suite": branch } })),
            ("workflow_run", json!({ "workflow_run": branch })),
            ("status", json!({ "branches": [{ "name": "main" }, { "name": "skep/3f9a12bc" }] })),
            (
                "pull_request",
                json!({ "action": "closed", "pull_request": { "number": 8, "head": { "ref": "skep/3f9a12bc" } } }),
            ),
        ] {
            let mut body = part;
            assert!(fact_of(event, &body).is_err(), "{event} without a repository");
            body["repository"] = repository.clone();
            assert_eq!(fact_of(event, &body), moved, "{event}");
        }
        assert!(fact_of("deployment", &json!({ "issue": "whatever" })).is_err());
        assert!(read::<GitHubPayload>("GitHub", "1".to_owned(), "push".to_owned(), None, b"payload=%7B%7D").is_err());
    }
}
