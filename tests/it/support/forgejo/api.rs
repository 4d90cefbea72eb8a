//! The double's REST API.

use super::issues;
use crate::support::forge_server::{
    CheckRun, LOGIN, Pull, REPO, Review, ReviewComment, Served, State, Status, TOKEN, git, query_value, time,
};
use axum::body::Bytes;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// An answer.
pub struct Answered {
    pub status: u16,
    pub body: Value,
    /// The entries of the whole list.
    pub total: Option<usize>,
    /// The body, if it is not JSON.
    pub text: Option<String>,
}

impl Answered {
    pub fn new(status: u16, body: Value) -> Answered {
        Answered { status, body, total: None, text: None }
    }
}

fn error(status: u16, message: &str) -> Answered {
    Answered::new(status, json!({ "message": message, "url": "https://forgejo.example.org/api/swagger" }))
}

pub fn missing() -> Answered {
    error(404, "The target couldn't be found.")
}

/// The ids of the forge's own accounts are negative.
pub fn user(login: &str) -> Value {
    let id = match login {
        "Ghost" => -1,
        "forgejo-actions" => -2,
        _ => login.bytes().fold(1_i64, |id, byte| (id * 31 + i64::from(byte)) % 1_000_003),
    };
    json!({ "id": id, "login": login, "full_name": "", "is_admin": false })
}

pub fn pull_json(served: &Served, pull: &Pull) -> Value {
    let url = &served.url;
    let is_there = pull.head_repo != REPO || git::head(&bare(served), &pull.branch).is_some();
    let head_ref = if is_there { pull.branch.clone() } else { format!("refs/pull/{}/head", pull.number) };
    json!({
        "id": pull.number + 1_000,
        "number": pull.number,
        "html_url": format!("{url}/{REPO}/pulls/{}", pull.number),
        "state": if pull.open { "open" } else { "closed" },
        "merged": pull.merged.is_some(),
        "merged_at": pull.merged.as_ref().map(|_| time(0)),
        "merged_by": pull.merged.as_ref().map(|(_, by)| user(by)),
        "merge_commit_sha": pull.merged.as_ref().map(|(sha, _)| sha),
        "title": pull.title,
        "body": pull.body,
        "user": user(&pull.by),
        "head": { "label": pull.branch, "ref": head_ref, "sha": pull.head, "repo": { "full_name": pull.head_repo } },
        "base": { "label": pull.base, "ref": pull.base, "sha": "2".repeat(40), "repo": { "full_name": REPO } },
    })
}

fn is_draft(pull: &Pull) -> bool {
    let title = pull.title.to_ascii_lowercase();
    title.starts_with("wip:") || title.starts_with("[wip]")
}

fn review_json(state: &State, review: &Review) -> Value {
    let (name, dismissed) = match review.state {
        "CHANGES_REQUESTED" => ("REQUEST_CHANGES", false),
        "DISMISSED" => ("REQUEST_CHANGES", true),
        "COMMENTED" => ("COMMENT", false),
        other => (other, false),
    };
    let comments = state.review_comments.iter().filter(|comment| comment.review == Some(review.id)).count();
    json!({ "id": review.id, "user": user(&review.by), "state": name, "dismissed": dismissed, "official": true,
            "commit_id": review.head, "body": review.body, "comments_count": comments })
}

fn review_comment_json(comment: &ReviewComment) -> Value {
    json!({ "id": comment.id, "user": user(&comment.by), "path": comment.path, "position": comment.line.unwrap_or(0),
            "original_position": 0, "body": comment.body, "pull_request_review_id": comment.review })
}

fn bare(served: &Served) -> std::path::PathBuf {
    served.root.join(format!("{REPO}.git"))
}

/// Returns the scope that a token needs.
fn needed(method: &str, segments: &[&str]) -> &'static str {
    match (method, segments) {
        (_, ["user"]) => "read:user",
        ("GET", [_, _, _, "issues", ..]) => "read:issue",
        (_, [_, _, _, "issues", ..]) => "write:issue",
        ("GET", _) => "read:repository",
        _ => "write:repository",
    }
}

/// Carries out a request.
pub fn handle(served: &Served, parts: &Parts, path: &str, body: &Bytes) -> Answered {
    let mut state = served.state.lock().unwrap();
    git::follow(served, &mut state);
    let authorization = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    if authorization != Some(&format!("token {TOKEN}")) {
        return error(401, "invalid username, password or token");
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let path = percent_decode_str(path.trim_start_matches("/api/v1/")).decode_utf8_lossy().into_owned();
    let (method, segments): (&str, Vec<&str>) = (parts.method.as_str(), path.split('/').collect());
    let scope = needed(method, &segments);
    if state.lacks.contains(scope) {
        return error(403, &format!("token does not have at least one of required scope(s): [{scope}]"));
    }
    match segments.as_slice() {
        ["user"] => Answered::new(200, user(LOGIN)),
        ["repos", "my-org", "old-name", ..] => Answered::new(307, Value::Null),
        ["repos", "my-org", "calc", rest @ ..] => {
            let is_read = method == "GET";
            if !is_read && state.archived {
                return error(423, "my-org/calc is archived");
            }
            if !is_read && state.lacks.contains("write") && !matches!(rest, ["pulls"]) {
                return error(403, "user should have a permission to write to a repo");
            }
            let is_for_writers = matches!(rest, ["pulls", _, "merge"] | ["statuses", ..] | ["branches", ..]);
            if !is_read && state.read_only && is_for_writers {
                return error(403, "user should have a permission to write to a repo");
            }
            repository(&mut state, served, (method, rest), parts.uri.query().unwrap_or(""), &body)
        }
        ["repos", owner, "calc", rest @ ..] => fork(&state, served, &format!("{owner}/calc"), (method, rest)),
        _ => missing(),
    }
}

/// Carries out a request about a fork, or another repository of the account.
fn fork(state: &State, served: &Served, name: &str, (method, rest): (&str, &[&str])) -> Answered {
    let is_fork = state.forks.contains(name);
    let bare = served.root.join(format!("{name}.git"));
    match (method, rest) {
        _ if !is_fork && !state.strangers.contains(name) => missing(),
        ("GET", []) => {
            let parent = is_fork.then(|| json!({ "full_name": REPO }));
            let may = json!({ "admin": true, "push": true, "pull": true });
            let facts = json!({ "full_name": name, "fork": is_fork, "parent": parent, "default_branch": "main",
                                "permissions": may });
            Answered::new(200, facts)
        }
        ("GET", ["branches", branch @ ..]) => match git::head(&bare, &branch.join("/")) {
            Some(sha) => Answered::new(200, json!({ "name": branch.join("/"), "commit": { "id": sha } })),
            None => missing(),
        },
        _ => missing(),
    }
}

/// Returns a page of a list.
pub fn page(state: &State, all: Vec<Value>, query: &str) -> Answered {
    let number = |name: &str, or: usize| query_value(query, name).map_or(or, |value| value.parse().unwrap());
    let (size, page, total) = (number("limit", 30).min(state.max_page), number("page", 1), all.len());
    let shown = all.into_iter().skip((page - 1) * size).take(size).collect();
    Answered { total: Some(total), ..Answered::new(200, shown) }
}

pub fn list(all: Vec<Value>) -> Answered {
    Answered::new(200, Value::Array(all))
}

fn repository(
    state: &mut State,
    served: &Served,
    (method, rest): (&str, &[&str]),
    query: &str,
    body: &Value,
) -> Answered {
    let bare = bare(served);
    let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    match (method, rest) {
        ("GET", []) => {
            let allows = |method: &str| !state.forbidden_methods.contains(method);
            let settings = json!({
                "full_name": REPO, "archived": state.archived, "has_pull_requests": true, "default_branch": "main",
                "permissions": { "admin": !state.lacks.contains("admin") && !state.lacks.contains("write"),
                                 "push": !state.lacks.contains("write") && !state.read_only, "pull": true },
                "allow_merge_commits": allows("merge"), "allow_squash_merge": allows("squash"),
                "allow_rebase": allows("rebase"), "allow_rebase_explicit": allows("rebase-merge"),
                "allow_fast_forward_only_merge": allows("fast-forward-only"),
            });
            Answered::new(200, settings)
        }
        ("GET", ["branches", branch @ ..]) => match git::head(&bare, &branch.join("/")) {
            Some(sha) => {
                let rule = json!({
                    "name": branch.join("/"), "commit": { "id": sha }, "protected": state.protected.is_some(),
                    "enable_status_check": !state.required.is_empty(), "status_check_contexts": state.required,
                    "user_can_push": true, "user_can_merge": !state.lacks.contains("merge"),
                });
                Answered::new(200, rule)
            }
            None => missing(),
        },
        ("DELETE", ["branches", branch @ ..]) => match git::delete_branch(&bare, &branch.join("/")) {
            true => Answered::new(204, Value::Null),
            false => missing(),
        },
        ("GET", ["collaborators", person, "permission"]) => {
            if (state.lacks.contains("admin") || state.read_only) && *person != LOGIN {
                return error(403, "Only admins can query all permissions, repo admins can query all repo permissions");
            }
            match state.collaborators.get(*person) {
                Some(permission) => Answered::new(
                    200,
                    json!({ "permission": permission, "role_name": permission, "user": user(person) }),
                ),
                None => Answered::new(200, json!({ "permission": "none", "role_name": "", "user": user(person) })),
            }
        }
        ("GET", ["assignees"]) => {
            let writers = state.collaborators.iter().filter(|(_, permission)| **permission != "read");
            list(writers.map(|(name, _)| user(name)).collect())
        }
        ("GET", ["pulls"]) => {
            let open = query_value(query, "state").as_deref() != Some("closed");
            let mut pulls: Vec<&Pull> = state.pulls.iter().filter(|pull| pull.open == open).collect();
            if state.stale_lists > 0 {
                pulls.pop();
            }
            let all = pulls.iter().rev().map(|pull| pull_json(served, pull)).collect();
            state.stale_lists = state.stale_lists.saturating_sub(1);
            page(state, all, query)
        }
        ("POST", ["pulls"]) => {
            let (head, base) = (text("head"), text("base"));
            if head == base {
                return error(422, "Invalid PullRequest: There are no changes between the head and the base");
            }
            let Some((from, branch)) = git::head_of(state, &head) else { return missing() };
            let Some(sha) = git::head(&served.root.join(format!("{from}.git")), &branch) else { return missing() };
            if state.pulls.iter().any(|p| p.open && p.branch == branch && p.base == base && p.head_repo == from) {
                return error(409, "pull request already exists for these targets [id: 1, issue_id: 1]");
            }
            state.open_pull(LOGIN, &branch, &from, &sha);
            let pull = state.pulls.last_mut().unwrap();
            (pull.title, pull.body, pull.base) = (text("title"), text("body"), base);
            Answered::new(201, pull_json(served, pull))
        }
        ("POST", ["forks"]) => {
            let owner = body["organization"].as_str().unwrap_or(LOGIN).to_owned();
            if state.forks.contains(&format!("{owner}/calc")) {
                return error(409, "repository is already forked by user");
            }
            let name = git::fork(served, state, &owner);
            Answered::new(202, json!({ "full_name": name, "fork": true, "parent": { "full_name": REPO } }))
        }
        (_, ["pulls", n]) => {
            let Some(pull) = state.pulls.iter_mut().find(|pull| pull.number == number(n)) else { return missing() };
            if method == "GET" {
                return Answered::new(200, pull_json(served, pull));
            }
            for (name, slot) in [("title", &mut pull.title), ("body", &mut pull.body), ("base", &mut pull.base)] {
                if let Some(text) = body[name].as_str() {
                    *slot = text.to_owned();
                }
            }
            if body["state"] == "closed" && pull.open {
                (pull.open, pull.closed_by) = (false, Some(LOGIN.to_owned()));
            }
            Answered::new(201, pull_json(served, pull))
        }
        ("POST", ["pulls", n, "merge"]) => merge(state, &bare, number(n), body),
        ("GET", ["pulls", n, "reviews"]) => {
            let of_pull = state.reviews.iter().filter(|review| review.pull == number(n));
            let all = of_pull.map(|review| review_json(state, review)).collect();
            page(state, all, query)
        }
        ("GET", ["pulls", _, "reviews", id, "comments"]) => {
            let of_review = state.review_comments.iter().filter(|comment| comment.review == Some(number(id)));
            list(of_review.map(review_comment_json).collect())
        }
        ("POST", ["pulls", _, "reviews", ..]) if state.is_old => missing(),
        ("POST", ["pulls", n, "reviews", review, "comments"]) => {
            let id = state.id();
            let comment = ReviewComment {
                id,
                pull: number(n),
                review: Some(number(review)),
                reply_to: None,
                by: LOGIN.to_owned(),
                path: text("path"),
                line: body["new_position"].as_u64(),
                body: text("body"),
            };
            state.review_comments.push(comment);
            Answered::new(200, json!({ "id": id }))
        }
        ("GET", ["commits", sha, "statuses"]) => {
            let of_commit = state.statuses.iter().enumerate().rev().filter(|(_, status)| status.sha == *sha);
            let status = |(at, s): (usize, &Status)| {
                json!({ "id": at + 1, "status": s.state, "context": s.context, "description": s.description,
                        "target_url": s.page, "creator": user(LOGIN) })
            };
            page(state, of_commit.map(status).collect(), query)
        }
        ("POST", ["statuses", sha]) => {
            if !git::has_commit(&bare, sha) {
                return error(404, "object does not exist");
            }
            let (sha, context, page) = ((*sha).to_owned(), text("context"), text("target_url"));
            let (state_name, description) = (text("state"), text("description"));
            state.statuses.push(Status { sha, context, state: state_name, description, page });
            Answered::new(201, json!({}))
        }
        ("GET", ["actions", ..]) if state.is_old => missing(),
        ("GET", ["actions", "runs"]) => {
            let sha = query_value(query, "head_sha").unwrap_or_default();
            let has_job = |run: u64| state.check_runs.iter().any(|job| job.run == run && job.sha == sha);
            let runs = state.actions_runs.iter().filter(|run| has_job(run.id));
            // The number within the repository is another one than the id.
            let runs: Vec<Value> = runs.map(|run| json!({ "id": run.id + 500, "index_in_repo": run.id })).collect();
            Answered::new(200, json!({ "total_count": runs.len(), "workflow_runs": runs }))
        }
        ("GET", ["actions", "runs", id, "jobs"]) => {
            let of_run = state.check_runs.iter().filter(|job| job.run + 500 == number(id));
            list(of_run.map(|job: &CheckRun| json!({ "id": job.id, "name": job.name })).collect())
        }
        ("GET", ["actions", "jobs", id, "logs"]) => {
            let job = state.check_runs.iter().find(|job| job.id == number(id));
            match job.and_then(|job| job.log.clone()) {
                Some(log) => Answered { text: Some(log), ..Answered::new(200, Value::Null) },
                None => missing(),
            }
        }
        _ => issues::handle(state, served, (method, rest), query, body)
            .unwrap_or_else(|| panic!("Forgejo's double does not know {method} {rest:?}")),
    }
}

fn merge(state: &mut State, bare: &std::path::Path, number: u64, body: &Value) -> Answered {
    let method = body["Do"].as_str().unwrap();
    let is_forbidden = state.forbidden_methods.contains(method);
    let protected = state.protected;
    let Some(pull) = state.pulls.iter_mut().find(|pull| pull.number == number) else { return missing() };
    if pull.merged.is_some() {
        return error(405, "The PR is already merged");
    }
    if !pull.open {
        return missing();
    }
    if is_draft(pull) {
        return error(405, "Work in progress PRs cannot be merged");
    }
    if let Some(rule) = protected {
        return error(405, rule);
    }
    if is_forbidden {
        return error(405, &format!("{method} is not allowed an allowed merge style for this repository"));
    }
    if body["head_commit_id"].as_str() != Some(pull.head.as_str()) {
        return error(409, "head out of date");
    }
    let Some(sha) = git::merge(bare, pull, method) else {
        return Answered::new(409, json!({ "Style": method, "StdErr": "CONFLICT" }));
    };
    (pull.open, pull.merged) = (false, Some((sha, LOGIN.to_owned())));
    state.merges += 1;
    Answered::new(200, Value::Null)
}
