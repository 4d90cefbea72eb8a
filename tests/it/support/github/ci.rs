//! The double's GitHub Actions, rules of branches, and threads of reviews.

use super::api::{error, page, user};
use crate::support::forge_server::{CheckRun, REPO, Reply, ReviewComment, Served, State};
use axum::body::Body;
use axum::http::request::Parts;
use axum::response::Response;
use serde_json::{Value, json};

fn check_run_json(url: &str, run: &CheckRun) -> Value {
    json!({
        "id": run.id, "name": run.name, "status": run.status, "conclusion": run.conclusion,
        "app": { "slug": "github-actions" },
        "html_url": format!("{url}/{REPO}/actions/runs/{}/job/{}", run.run, run.id),
        "output": { "title": null, "summary": null, "annotations_count": run.annotations.len() },
    })
}

fn comment_json(comment: &ReviewComment) -> Value {
    json!({
        "id": comment.id, "user": user(&comment.by), "path": comment.path, "line": comment.line,
        "original_line": comment.line, "body": comment.body, "pull_request_review_id": comment.review,
        "in_reply_to_id": comment.reply_to,
    })
}

/// Carries out a request; `None` = it is none of these.
pub fn handle(
    state: &mut State,
    served: &Served,
    login: &str,
    (method, rest): (&str, &[&str]),
    query: &str,
    body: &Value,
) -> Option<Reply> {
    let url = &served.url;
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    let missing = || error(404, "Not Found");
    Some(match (method, rest) {
        ("GET", ["branches", ..]) => {
            let checks = json!({ "enforcement_level": "everyone", "contexts": state.required });
            (200, json!({ "protection": { "enabled": true, "required_status_checks": checks } }))
        }
        ("GET", ["rules", "branches", ..]) => {
            let checks: Vec<Value> = state.required_by_ruleset.iter().map(|c| json!({ "context": c })).collect();
            let rule = json!({ "type": "required_status_checks", "parameters": { "required_status_checks": checks } });
            (200, json!([{ "type": "deletion" }, rule]))
        }
        ("GET", ["commits", sha, "check-runs"]) => {
            let all: Vec<&CheckRun> = state.check_runs.iter().filter(|run| run.sha == *sha).collect();
            // The latest ones: of each job of a workflow run the last attempt.
            let is_latest = |run: &CheckRun| {
                all.iter().all(|o| (o.run, &o.name) != (run.run, &run.name) || o.attempt <= run.attempt)
            };
            let shown = all.iter().filter(|run| query.contains("filter=all") || is_latest(run));
            let shown = shown.map(|run| check_run_json(url, run)).collect();
            (200, json!({ "check_runs": page(shown, query) }))
        }
        ("GET", ["check-runs", id, "annotations"]) => {
            let run = state.check_runs.iter().find(|run| run.id == number(id))?;
            let all = run.annotations.iter().map(|(path, line, message)| {
                json!({ "path": path, "start_line": line, "annotation_level": "failure", "message": message })
            });
            (200, page(all.collect(), query))
        }
        ("GET", ["actions", "runs"]) => (200, json!({ "workflow_runs": [] })),
        ("GET", ["actions", "jobs", id]) => match state.check_runs.iter().find(|run| run.id == number(id)) {
            Some(run) => {
                let steps = json!([{ "name": "Set up job", "conclusion": "success" },
                                   { "name": "Run the tests", "conclusion": run.conclusion }]);
                (200, json!({ "id": run.id, "run_id": run.run, "run_attempt": run.attempt, "steps": steps }))
            }
            None => missing(),
        },
        ("GET", ["actions", "jobs", id, "logs"]) => {
            let run = state.check_runs.iter().find(|run| run.id == number(id));
            match run.is_some_and(|run| run.log.is_some()) {
                true => (302, json!({ "location": format!("{url}/_storage/logs/{id}") })),
                false => error(410, "Server Error"),
            }
        }
        ("GET", ["actions", "runs", id]) => match state.actions_runs.iter().find(|run| run.id == number(id)) {
            Some(run) => {
                let jobs = state.check_runs.iter().filter(|job| job.run == run.id);
                let status = if jobs.clone().all(|job| job.status == "completed") { "completed" } else { "queued" };
                let (workflow, attempt) = (run.workflow, run.attempt);
                (200, json!({ "id": run.id, "workflow_id": workflow, "run_attempt": attempt, "status": status }))
            }
            None => missing(),
        },
        ("POST", ["actions", "runs", id, "rerun-failed-jobs"]) => {
            let run = state.actions_runs.iter_mut().find(|run| run.id == number(id))?;
            let last = run.attempt;
            run.attempt += 1;
            let of_last = |job: &&CheckRun| job.run == number(id) && job.attempt == last;
            let failed: Vec<CheckRun> = state.check_runs.iter().filter(of_last).cloned().collect();
            for job in failed.into_iter().filter(|job| matches!(job.conclusion, Some("failure" | "cancelled"))) {
                let (id, status, conclusion) = (state.id(), "queued", None);
                state.check_runs.push(CheckRun { id, status, conclusion, attempt: job.attempt + 1, ..job });
            }
            (201, json!({}))
        }
        ("GET", ["pulls", n, "comments"]) => {
            let mut of_pull: Vec<&ReviewComment> =
                state.review_comments.iter().filter(|comment| comment.pull == number(n)).collect();
            if state.stale_lists > 0 {
                of_pull.pop();
            }
            let all = of_pull.into_iter().map(comment_json).collect();
            state.stale_lists = state.stale_lists.saturating_sub(1);
            (200, page(all, query))
        }
        ("POST", ["pulls", n, "comments", id, "replies"]) => {
            let Some(first) = state.review_comments.iter().find(|c| c.id == number(id)).cloned() else {
                return Some(missing());
            };
            assert!(first.reply_to.is_none(), "GitHub refuses an answer to an answer");
            let (id, body) = (state.id(), body["body"].as_str().unwrap().to_owned());
            let (by, reply_to) = (login.to_owned(), Some(first.id));
            state.review_comments.push(ReviewComment {
                id,
                pull: number(n),
                review: None,
                reply_to,
                by,
                body,
                ..first
            });
            (201, json!({ "id": id }))
        }
        _ => return None,
    })
}

/// Answers with a stored log. It is another service, which must not see the token.
pub fn stored_log(served: &Served, parts: &Parts, id: &str) -> Response {
    let mut state = served.state.lock().unwrap();
    if parts.headers.contains_key("authorization") {
        state.leaks.push("a token was sent to the storage of logs".to_owned());
    }
    let log = state.check_runs.iter().find(|run| run.id.to_string() == id).and_then(|run| run.log.clone());
    Response::new(Body::from(log.unwrap_or_default()))
}
