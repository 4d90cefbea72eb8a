//! The double's REST API: accounts, the project, branches, statuses and jobs.

use super::{merge_requests, notes};
use crate::support::forge_server::{LOGIN, REPO, Served, ShownDeployment, State, TOKEN, git, query_value};
use axum::body::Bytes;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// An answer.
pub struct Answered {
    pub status: u16,
    pub body: Value,
    /// The header that names the next page.
    pub link: Option<String>,
    /// The body, if it is not JSON.
    pub text: Option<String>,
}

impl Answered {
    pub fn new(status: u16, body: Value) -> Answered {
        Answered { status, body, link: None, text: None }
    }
}

pub fn error(status: u16, message: &str) -> Answered {
    Answered::new(status, json!({ "message": message }))
}

pub fn missing(what: &str) -> Answered {
    error(404, &format!("404 {what} Not Found"))
}

pub fn user_id(login: &str) -> u64 {
    login.bytes().fold(1_u64, |id, byte| (id * 31 + u64::from(byte)) % 1_000_003)
}

pub fn user(login: &str) -> Value {
    json!({ "id": user_id(login), "username": login, "name": login, "state": "active", "locked": false })
}

/// The id of the project, and of every fork.
pub fn project_id(repo: &str) -> u64 {
    if repo == REPO { 5 } else { 6 }
}

/// The times of what has no time of its own: they are in the order of the ids.
pub fn time_of(id: u64) -> String {
    let start = chrono::DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().timestamp();
    let at = chrono::DateTime::from_timestamp(start + i64::try_from(id).unwrap(), 0).unwrap();
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

pub fn bare(served: &Served) -> std::path::PathBuf {
    served.root.join(format!("{REPO}.git"))
}

/// Returns a page of a list.
pub fn page(state: &State, served: &Served, all: Vec<Value>, query: &str) -> Answered {
    let number = |name: &str, or: usize| query_value(query, name).map_or(or, |value| value.parse().unwrap());
    let (size, page, total) = (number("per_page", 20).min(state.max_page.max(1)), number("page", 1), all.len());
    let shown = all.into_iter().skip((page - 1) * size).take(size).collect();
    let next = format!("<{0}/api/v4/x?page={1}&per_page={size}>; rel=\"next\", ", served.url, page + 1);
    let first = format!("<{}/api/v4/x?page=1&per_page={size}>; rel=\"first\"", served.url);
    let link = if page * size < total { next + &first } else { first };
    Answered { link: Some(link), ..Answered::new(200, shown) }
}

/// Carries out a request.
pub fn handle(served: &Served, parts: &Parts, path: &str, body: &Bytes) -> Answered {
    let mut state = served.state.lock().unwrap();
    git::follow(served, &mut state);
    merge_requests::record_versions(&mut state);
    let authorization = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    if authorization != Some(&format!("Bearer {TOKEN}")) {
        return error(401, "401 Unauthorized");
    }
    let mut body: Value = serde_json::from_slice(body).unwrap_or_default();
    let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let segments: Vec<String> = path.trim_start_matches("/api/v4/").split('/').map(decoded).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let is_read = parts.method == "GET";
    if !is_read && state.lacks.contains("api") {
        let body = json!({ "error": "insufficient_scope", "scope": "api",
            "error_description": "The request requires higher privileges than provided by the access token." });
        return Answered::new(403, body);
    }
    let query = parts.uri.query().unwrap_or("");
    // Attributes of a request that writes may be in its query as well.
    let pairs = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|_| !is_read);
    let pairs: Vec<(String, String)> = pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect();
    for (name, value) in pairs {
        body[name] = json!(value);
    }
    match segments.as_slice() {
        ["user"] => Answered::new(200, user(LOGIN)),
        ["users"] => {
            let name = query_value(query, "username").unwrap_or_default();
            Answered::new(200, json!([user(&name)]))
        }
        ["personal_access_tokens", "self"] => {
            let scopes = if state.lacks.contains("api") { json!(["read_api"]) } else { json!(["api"]) };
            Answered::new(200, json!({ "id": 1, "scopes": scopes, "active": true, "expires_at": "2027-01-01" }))
        }
        ["projects", "my-org/old-name", ..] => Answered::new(301, Value::Null),
        ["projects", REPO | "5", rest @ ..] => {
            if !is_read && (state.archived || state.lacks.contains("write")) {
                return error(403, "403 Forbidden");
            }
            let request = (parts.method.as_str(), rest);
            project(&mut state, served, request, query, &body)
        }
        _ => missing("Project"),
    }
}

fn project(state: &mut State, served: &Served, (method, rest): (&str, &[&str]), query: &str, body: &Value) -> Answered {
    let bare = bare(served);
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    match (method, rest) {
        ("GET", []) => Answered::new(200, project_json(state)),
        ("GET", ["members", "all", id]) => {
            let member = state.collaborators.iter().find(|(name, _)| user_id(name) == number(id));
            let level = |permission: &str| match permission {
                "admin" => 40,
                "write" => 30,
                _ => 20,
            };
            match member {
                Some((name, permission)) => {
                    let level = level(permission);
                    Answered::new(
                        200,
                        json!({ "id": number(id), "username": name, "state": "active", "access_level": level }),
                    )
                }
                None => missing("Member"),
            }
        }
        ("GET", ["repository", "branches", branch]) => match git::head(&bare, branch) {
            Some(sha) => {
                let protected = state.lacks.contains("merge") && *branch == "main";
                Answered::new(
                    200,
                    json!({ "name": branch, "commit": { "id": sha }, "protected": protected, "merged": false,
                        "developers_can_push": false, "developers_can_merge": !protected, "can_push": true }),
                )
            }
            None => missing("Branch"),
        },
        ("DELETE", ["repository", "branches", branch]) => match git::delete_branch(&bare, branch) {
            true => Answered::new(204, Value::Null),
            false => missing("Branch"),
        },
        ("GET", ["repository", "commits", sha, "statuses"]) => {
            let all = query_value(query, "all").as_deref() == Some("true");
            page(state, served, statuses(state, served, sha, all), query)
        }
        ("POST", ["statuses", sha]) => set_status(state, &bare, sha, body),
        ("GET", ["deployments"]) => {
            let environment = query_value(query, "environment").unwrap_or_default();
            let found = state.deployments.iter().rev().filter(|d| d.environment == environment);
            page(state, served, found.map(deployment_json).collect(), query)
        }
        ("POST", ["deployments"]) => {
            let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
            assert!(body["tag"] == false && body["ref"] == "main" && git::has_commit(&bare, &text("sha")), "{body}");
            let (id, payload, states) = (state.id(), Value::Null, vec![text("status")]);
            let (sha, environment) = (text("sha"), text("environment"));
            state.deployments.push(ShownDeployment { id, sha, environment, payload, states });
            Answered::new(201, deployment_json(state.deployments.last().unwrap()))
        }
        ("PUT", ["deployments", id]) => match state.deployments.iter_mut().find(|d| d.id == number(id)) {
            // An ended deployment stays as it ended.
            Some(found) if found.states.last().is_some_and(|last| last == "running") => {
                found.states.push(body["status"].as_str().unwrap().to_owned());
                Answered::new(200, deployment_json(found))
            }
            Some(_) => error(400, "Status cannot transition"),
            None => missing("Deployment"),
        },
        ("GET", ["jobs", id, "trace"]) => match state.check_runs.iter().find(|job| job.id == number(id)) {
            Some(job) => {
                Answered { text: Some(job.log.clone().unwrap_or_default()), ..Answered::new(200, Value::Null) }
            }
            None => missing("Job"),
        },
        ("POST", ["jobs", id, "retry"]) => retry(state, number(id)),
        (_, ["merge_requests", ..]) => merge_requests::handle(state, served, (method, rest), query, body),
        _ => notes::handle(state, served, (method, rest), query, body)
            .unwrap_or_else(|| panic!("GitLab's double does not know {method} {rest:?}")),
    }
}

fn deployment_json(deployment: &ShownDeployment) -> Value {
    json!({ "id": deployment.id, "sha": deployment.sha, "status": deployment.states.last() })
}

fn project_json(state: &State) -> Value {
    let level = if state.lacks.contains("write") { 20 } else { 30 };
    let squash = match (state.forbidden_methods.contains("squash"), state.forbidden_methods.contains("merge")) {
        (true, _) => "never",
        (_, true) => "always",
        _ => "default_off",
    };
    json!({
        "id": project_id(REPO), "path_with_namespace": REPO, "archived": state.archived, "default_branch": "main",
        "merge_requests_enabled": true, "issues_enabled": true, "squash_option": squash,
        "merge_method": if state.forbidden_methods.contains("merge-commit") { "ff" } else { "merge" },
        "only_allow_merge_if_pipeline_succeeds": !state.required.is_empty(),
        "only_allow_merge_if_all_discussions_are_resolved": false,
        "merge_trains_enabled": state.lacks.contains("merging without a train"), "merge_pipelines_enabled": false,
        "permissions": { "project_access": { "access_level": level, "notification_level": 3 }, "group_access": null },
    })
}

/// Returns the external statuses and the jobs of a commit. Only the newest one of a name is listed, unless all are.
fn statuses(state: &State, served: &Served, sha: &str, all: bool) -> Vec<Value> {
    let named = |name: &str| match name {
        "failure" | "failed" | "error" => "failed".to_owned(),
        other => other.to_owned(),
    };
    let external = state.statuses.iter().enumerate().filter(|(_, status)| status.sha == sha).map(|(at, s)| {
        json!({ "id": at + 500_000, "sha": sha, "status": named(&s.state), "name": s.context,
            "description": s.description, "target_url": (!s.page.is_empty()).then_some(&s.page),
            "allow_failure": false })
    });
    let jobs = state.check_runs.iter().filter(|job| job.sha == sha).map(|job| {
        let result = job.conclusion.map_or("running".to_owned(), named);
        json!({ "id": job.id, "sha": sha, "status": result, "name": job.name, "description": null,
            "target_url": format!("{}/{REPO}/-/jobs/{}", served.url, job.id), "allow_failure": false })
    });
    let mut found: Vec<Value> = external.chain(jobs).collect();
    if !all {
        let mut seen = BTreeSet::new();
        found.reverse();
        found.retain(|status| seen.insert(status["name"].as_str().unwrap().to_owned()));
    }
    found
}

fn set_status(state: &mut State, bare: &std::path::Path, sha: &str, body: &Value) -> Answered {
    let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
    let (word, name) = (text("state"), text("name"));
    if !git::has_commit(bare, sha) {
        return missing("Commit");
    }
    let latest = state.statuses.iter().rev().find(|status| status.sha == sha && status.context == name);
    if latest.is_some_and(|latest| latest.state == word && matches!(word.as_str(), "pending" | "running")) {
        return error(400, "Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition)");
    }
    state.status(sha, &name, &word);
    state.statuses.last_mut().unwrap().description = text("description");
    Answered::new(201, json!({ "id": 1, "status": word, "name": name }))
}

/// Runs a job again: another job takes its place.
fn retry(state: &mut State, id: u64) -> Answered {
    let Some(job) = state.check_runs.iter().find(|job| job.id == id).cloned() else { return missing("Job") };
    let newest = state.check_runs.iter().rev().find(|other| other.sha == job.sha && other.name == job.name);
    if newest.is_some_and(|newest| newest.id != id) || job.conclusion.is_none() {
        return error(403, "403 Forbidden - Job is not retryable");
    }
    let workflow = state.actions_runs.iter().find(|run| run.id == job.run).map_or(1, |run| run.workflow);
    let new = state.job(&job.sha, &job.name, workflow, "queued", None).id;
    Answered::new(201, json!({ "id": new, "status": "pending", "name": job.name }))
}
