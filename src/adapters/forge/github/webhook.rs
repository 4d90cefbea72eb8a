//! Authenticates and reads webhooks.
//!
//! Invariant: nothing is parsed before the signature was verified over the raw bytes.

use super::GitHubForge;
use crate::domain::Fact;
use crate::domain::command;
use crate::domain::delivery::{UNBLOCKED_LABEL, may_be_run_branch};
use crate::ports::forge_issues::{WebhookEvent, WebhookRefusal};
use crate::ports::{PortError, PortResult};
use crate::secrets::{Live, Secret, register};
use ring::hmac;
use serde::Deserialize;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How long the secrets are used before their sources are read again.
const REUSE: Duration = Duration::from_secs(60);
/// The same, if none of them fits: one may have just been replaced.
const RETRY: Duration = Duration::from_secs(1);
/// Upper bound on the branches of one event.
const MAX_BRANCHES: usize = 10;
const MAX_BRANCH_BYTES: usize = 255;
/// Upper bounds on the characters of an id and of a kind of event.
const MAX_ID_CHARS: usize = 100;
const MAX_EVENT_CHARS: usize = 64;

/// The secrets in use.
pub(super) struct WebhookSecrets {
    all: Vec<Secret>,
    read_at: Instant,
    /// Redacts them.
    _live: Vec<Live>,
}

/// The parts of a payload that Skep reads.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Payload {
    action: String,
    repository: Option<Repository>,
    issue: Option<Numbered>,
    pull_request: Option<PullRequest>,
    label: Option<Named>,
    comment: Option<Comment>,
    check_run: Option<CheckRun>,
    check_suite: Option<OnBranch>,
    workflow_run: Option<OnBranch>,
    branches: Vec<Named>,
}

/// The parts that every event may have.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    action: Option<String>,
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}
#[derive(Deserialize)]
struct Numbered {
    number: u64,
}
#[derive(Deserialize)]
struct Named {
    name: String,
}
#[derive(Deserialize)]
struct Comment {
    id: u64,
    #[serde(default)]
    body: Option<String>,
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

impl GitHubForge {
    pub(super) async fn webhook(
        &self,
        header: &(dyn for<'a> Fn(&'a str) -> Option<String> + Send + Sync),
        body: &[u8],
    ) -> Result<WebhookEvent, WebhookRefusal> {
        if self.settings.intake.webhook_secrets.is_empty() {
            return Err(WebhookRefusal::Off);
        }
        let signature = header("x-hub-signature-256").ok_or(WebhookRefusal::Signature)?;
        let mut secrets = self.webhook_secrets(REUSE).await.map_err(WebhookRefusal::Unavailable)?;
        if !is_signed(&secrets.all, &signature, body) {
            secrets = self.webhook_secrets(RETRY).await.map_err(WebhookRefusal::Unavailable)?;
            if !is_signed(&secrets.all, &signature, body) {
                return Err(WebhookRefusal::Signature);
            }
        }
        let malformed = |what: &str| WebhookRefusal::Malformed(what.to_owned());
        let id = header("x-github-delivery").map(|id| plain(&id, MAX_ID_CHARS)).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| malformed("the header X-GitHub-Delivery is missing"))?;
        let event = header("x-github-event").map(|event| plain(&event, MAX_EVENT_CHARS)).filter(|e| !e.is_empty());
        let event = event.ok_or_else(|| malformed("the header X-GitHub-Event is missing"))?;
        read(id, event, self.settings.intake.label.as_deref(), body).map_err(WebhookRefusal::Malformed)
    }

    /// Returns the secrets, at most this old.
    async fn webhook_secrets(&self, max_age: Duration) -> PortResult<Arc<WebhookSecrets>> {
        let held = self.webhook_secrets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(held) = held.filter(|held| held.read_at.elapsed() < max_age) {
            return Ok(held);
        }
        let (mut all, mut error): (Vec<Secret>, Option<PortError>) = (Vec::new(), None);
        for source in &self.settings.intake.webhook_secrets {
            match self.credentials.secrets.read(source, "webhook secret").await {
                Ok(secret) => all.push(secret),
                // While one is replaced, the other one is valid.
                Err(e) => error = Some(e),
            }
        }
        if let Some(error) = error.filter(|_| all.is_empty()) {
            return Err(error);
        }
        let _live = all.iter().map(|secret| register(&format!("webhook secret of {}", self.name), secret)).collect();
        let fresh = Arc::new(WebhookSecrets { all, read_at: Instant::now(), _live });
        *self.webhook_secrets.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh.clone());
        Ok(fresh)
    }
}

/// Returns whether one of the secrets signed these bytes. The comparison takes the same time wherever they differ.
fn is_signed(secrets: &[Secret], signature: &str, body: &[u8]) -> bool {
    let Some(tag) = signature.strip_prefix("sha256=").and_then(hex) else { return false };
    let mut is_signed = false;
    for secret in secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        is_signed |= hmac::verify(&key, body, &tag).is_ok();
    }
    is_signed
}

/// Reads a SHA-256 in hex.
fn hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

fn plain(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.:".contains(*c)).take(max_chars).collect()
}

/// Reads a payload. Only the parts of an event that Skep knows must have the expected form.
fn read(id: String, event: String, label: Option<&str>, body: &[u8]) -> Result<WebhookEvent, String> {
    let no_json = |e: serde_json::Error| {
        format!("the body is not what GitHub sends as JSON ({e}); set the webhook's content type to application/json")
    };
    let Head { action, repository } = serde_json::from_slice(body).map_err(no_json)?;
    let action = action.map(|action| plain(&action, MAX_EVENT_CHARS)).unwrap_or_default();
    let repository = repository.map(|r| r.full_name).filter(|name| is_repository(name)).unwrap_or_default();
    let known = matches!(
        event.as_str(),
        "issues"
            | "issue_comment"
            | "pull_request"
            | "pull_request_review"
            | "check_run"
            | "check_suite"
            | "workflow_run"
            | "status"
    );
    let fact = match known {
        true => serde_json::from_slice(body).map_err(no_json).map(|payload| fact(&event, label, payload))?,
        false => Err("Skep does not use this event".to_owned()),
    };
    let fact = if repository.is_empty() && fact.is_ok() { Err("it names no repository".to_owned()) } else { fact };
    let event = if action.is_empty() { event } else { format!("{event}.{action}") };
    Ok(WebhookEvent { id, event, repository: repository.to_ascii_lowercase(), fact })
}

fn is_repository(name: &str) -> bool {
    name.len() <= 201 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
}

/// Returns what an event is about, or why it is ignored.
fn fact(event: &str, start_label: Option<&str>, payload: Payload) -> Result<Fact, String> {
    let Payload { action, issue, pull_request, label, comment, check_run, check_suite, workflow_run, branches, .. } =
        payload;
    match (event, action.as_str()) {
        ("issues" | "pull_request", "labeled") => {
            let name = label.map(|label| label.name).unwrap_or_default();
            let is_issue = event == "issues";
            let known = [start_label.filter(|_| is_issue), Some(UNBLOCKED_LABEL)];
            let known = known.into_iter().flatten().find(|known| known.eq_ignore_ascii_case(&name));
            let number = issue.map(|issue| issue.number).or(pull_request.map(|pull| pull.number));
            match (known, number) {
                (Some(label), Some(number)) => Ok(Fact::Labelled { number, label: label.to_owned() }),
                _ => Err("the label means nothing to Skep".to_owned()),
            }
        }
        ("issue_comment", "created") => {
            let (Some(issue), Some(comment)) = (issue, comment) else { return Err("it names no comment".to_owned()) };
            match command::parse(comment.body.as_deref().unwrap_or_default()) {
                Some(_) => Ok(Fact::Commented { number: issue.number, comment: comment.id }),
                None => Err("the comment contains no command".to_owned()),
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fact_of(event: &str, body: &Value) -> Result<Fact, String> {
        read("1".to_owned(), event.to_owned(), Some("skep"), body.to_string().as_bytes()).unwrap().fact
    }

    #[test]
    fn the_signature_of_githubs_documentation_fits() {
        let secrets = [Secret::new("other"), Secret::new("It's a Secret to Everybody")];
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert!(is_signed(&secrets, good, b"Hello, World!"));
        assert!(is_signed(&secrets[1..], &good.to_ascii_uppercase().replace("SHA", "sha"), b"Hello, World!"));
        assert!(!is_signed(&secrets[..1], good, b"Hello, World!"));
        assert!(!is_signed(&secrets, good, b"Hello, World"));
        for bad in ["", "sha256=", "sha1=757107ea", &good[..70], &good[7..], "sha256=é"] {
            assert!(!is_signed(&secrets, bad, b"Hello, World!"), "{bad}");
        }
        assert!(!is_signed(&[], good, b"Hello, World!"));
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
        assert!(read("1".to_owned(), "push".to_owned(), None, b"payload=%7B%7D").is_err());
    }
}
