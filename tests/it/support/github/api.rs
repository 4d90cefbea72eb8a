//! The double's REST and GraphQL API.

use super::{APP_ID, ci};
use crate::support::forge_server::{
    Comment, Issue, IssueEvent, LOGIN, Minted, Pull, REPO, Reply, Review, Served, ShownDeployment, State, Status,
    TOKEN, git, query_value, time,
};
use axum::body::Bytes;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

pub fn error(status: u16, message: &str) -> Reply {
    (status, json!({ "message": message, "documentation_url": "https://docs.github.com" }))
}

fn invalid(message: &str) -> Reply {
    (422, json!({ "message": "Validation Failed", "errors": [{ "resource": "X", "message": message }] }))
}

pub fn user(login: &str) -> Value {
    let kind = if login.ends_with("[bot]") { "Bot" } else { "User" };
    json!({ "login": login, "id": 1, "type": kind })
}

fn pull_json(url: &str, pull: &Pull) -> Value {
    let owner = pull.head_repo.split('/').next().unwrap();
    json!({
        "number": pull.number,
        "node_id": format!("PR_{}", pull.number),
        "html_url": format!("{url}/{REPO}/pull/{}", pull.number),
        "state": if pull.open { "open" } else { "closed" },
        "draft": pull.draft,
        "merged_at": pull.merged.as_ref().map(|_| "2026-01-01T00:00:00Z"),
        "merged_by": pull.merged.as_ref().map(|(_, by)| user(by)),
        // GitHub shows a test merge here while it is open.
        "merge_commit_sha": pull.merged.as_ref().map_or("1".repeat(40), |(sha, _)| sha.clone()),
        "title": pull.title,
        "body": pull.body,
        "user": user(&pull.by),
        "head": { "ref": pull.branch, "sha": pull.head, "label": format!("{owner}:{}", pull.branch),
                  "repo": { "full_name": pull.head_repo } },
        "base": { "ref": pull.base, "sha": "2".repeat(40), "repo": { "full_name": REPO } },
    })
}

fn labels_json(state: &State, number: u64) -> Vec<Value> {
    state.labels.iter().filter(|(n, _)| *n == number).map(|(_, name)| json!({ "name": name })).collect()
}

fn issue_json(url: &str, state: &State, issue: &Issue) -> Value {
    json!({
        "number": issue.number, "title": issue.title, "body": issue.body, "user": user(&issue.by),
        "html_url": format!("{url}/{REPO}/issues/{}", issue.number),
        "state": if issue.open { "open" } else { "closed" },
        "labels": labels_json(state, issue.number), "updated_at": time(issue.updated_at),
    })
}

fn pull_as_issue_json(url: &str, state: &State, pull: &Pull) -> Value {
    json!({
        "number": pull.number, "title": pull.title, "body": pull.body, "user": user(&pull.by),
        "html_url": format!("{url}/{REPO}/pull/{}", pull.number),
        "state": if pull.open { "open" } else { "closed" },
        "labels": labels_json(state, pull.number), "updated_at": time(super::now()),
        "pull_request": { "url": format!("{url}/repos/{REPO}/pulls/{}", pull.number) },
        "closed_by": pull.closed_by.as_deref().map(user),
    })
}

fn event_json(event: &IssueEvent) -> Value {
    json!({ "event": event.event, "actor": user(&event.by), "created_at": time(event.at), "label": { "name": event.label } })
}

fn comment_json(url: &str, comment: &Comment) -> Value {
    json!({
        "id": comment.id, "user": user(&comment.by), "body": comment.body,
        "issue_url": format!("{url}/repos/{REPO}/issues/{}", comment.pull),
        "created_at": time(comment.at), "updated_at": time(comment.updated_at),
    })
}

/// Returns the account of a token: its login, and what it may do.
fn account(state: &State, parts: &Parts) -> Option<(String, Option<Minted>)> {
    let token = parts.headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
    if token == TOKEN {
        return Some((LOGIN.to_owned(), None));
    }
    let minted = state.minted.iter().find(|m| m.token == token && !m.revoked)?;
    Some(("skep-app[bot]".to_owned(), Some(minted.clone())))
}

/// Checks the App's token as GitHub does.
fn is_app(parts: &Parts) -> bool {
    let Some(token) = parts.headers.get("authorization").and_then(|v| v.to_str().ok()?.strip_prefix("Bearer ")) else {
        return false;
    };
    let Some((signed, signature)) = token.rsplit_once('.') else { return false };
    let pem: String = include_str!("app_key.pub.pem").lines().filter(|l| !l.starts_with('-')).collect();
    let key = STANDARD.decode(pem).unwrap();
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::RSA_PKCS1_2048_8192_SHA256, key);
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    let claims = signed.split_once('.').and_then(|(_, c)| URL_SAFE_NO_PAD.decode(c).ok()).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let (issued, expires) = (claims["iat"].as_u64().unwrap_or(0), claims["exp"].as_u64().unwrap_or(0));
    key.verify(signed.as_bytes(), &signature).is_ok()
        && claims["iss"].as_str().and_then(|id| id.parse().ok()) == Some(APP_ID)
        && issued <= now
        && expires > now
        && expires - issued <= 600
}

/// Carries out a request.
pub fn handle(served: &Served, parts: &Parts, path: &str, body: &Bytes) -> Reply {
    let mut state = served.state.lock().unwrap();
    git::follow(served, &mut state);
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let path = percent_decode_str(path).decode_utf8_lossy().into_owned();
    let method = parts.method.as_str();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, segments.as_slice()) {
        ("GET", ["app"]) if is_app(parts) => return (200, json!({ "slug": "skep-app" })),
        ("GET", ["repos", "my-org", "calc", "installation"]) if is_app(parts) => {
            return (200, json!({ "id": 7, "permissions": state.installation, "suspended_at": null }));
        }
        ("GET", ["repos", _, _, "installation"]) if is_app(parts) => return error(404, "Not Found"),
        ("POST", ["app", "installations", "7", "access_tokens"]) if is_app(parts) => return mint(&mut state, &body),
        _ => {}
    }
    let Some((login, minted)) = account(&state, parts) else { return error(401, "Bad credentials") };
    let is_read = method == "GET";
    match (method, segments.as_slice()) {
        ("GET", ["user"]) if minted.is_none() => (200, user(&login)),
        ("GET", ["user"]) => error(403, "Resource not accessible by integration"),
        ("POST", ["graphql"]) => graphql(&mut state, &body),
        (_, ["repos", "my-org", "old-name", ..]) => error(301, "Moved Permanently"),
        (_, ["repos", "my-org", "calc", rest @ ..]) => {
            if let Some(permission) = needed(method, rest).filter(|p| state.lacks.contains(p)) {
                let mut refused = error(403, "Resource not accessible by personal access token");
                refused.1["accepted"] = json!(format!("{permission}={}", if is_read { "read" } else { "write" }));
                return refused;
            }
            if !is_read && state.archived {
                return error(403, "Repository was archived so is read-only.");
            }
            match rest {
                ["collaborators", ..] if state.read_only => {
                    return error(403, "Must have push access to view collaborator permission.");
                }
                ["git", ..] | ["statuses", ..] | ["pulls", _, "merge"] if state.read_only && !is_read => {
                    return error(403, "Resource not accessible by personal access token");
                }
                _ => {}
            }
            let query = parts.uri.query().unwrap_or("");
            repository(&mut state, served, &login, (method, rest), query, &body)
        }
        (method, ["repos", owner, "calc", rest @ ..]) => {
            fork(&mut state, served, &format!("{owner}/calc"), (method, rest))
                .unwrap_or_else(|| error(404, "Not Found"))
        }
        _ => error(404, "Not Found"),
    }
}

/// Carries out a request about a fork, or another repository of the account.
fn fork(state: &mut State, served: &Served, name: &str, (method, rest): (&str, &[&str])) -> Option<Reply> {
    let is_fork = state.forks.contains(name);
    if !is_fork && !state.strangers.contains(name) {
        return None;
    }
    let bare = served.root.join(format!("{name}.git"));
    match (method, rest) {
        ("GET", []) => {
            let parent = is_fork.then(|| json!({ "full_name": REPO }));
            let may = json!({ "push": true });
            let facts = json!({ "full_name": name, "fork": is_fork, "parent": parent, "default_branch": "main",
                                "permissions": may });
            Some((200, facts))
        }
        ("GET", ["git", "ref", "heads", branch @ ..]) => {
            let sha = git::head(&bare, &branch.join("/"))?;
            Some((200, json!({ "ref": format!("refs/heads/{}", branch.join("/")), "object": { "sha": sha } })))
        }
        _ => None,
    }
}

fn needed(method: &str, rest: &[&str]) -> Option<&'static str> {
    match (method, rest) {
        (_, [.., "check-runs"]) => Some("checks"),
        (_, ["actions", ..]) => Some("actions"),
        (_, ["deployments", ..]) => Some("deployments"),
        ("POST", ["statuses", _]) => Some("statuses"),
        (_, ["commits", _, "statuses"]) => Some("statuses_read"),
        ("GET", _) | (_, ["forks"]) => None,
        (_, ["git", ..]) | ("PUT", ["pulls", _, "merge"]) => Some("contents"),
        _ => Some("pull_requests"),
    }
}

fn mint(state: &mut State, body: &Value) -> Reply {
    let asked = body["permissions"].as_object().unwrap();
    for (name, level) in asked {
        let has = state.installation.get(name).map_or("", String::as_str);
        if has != "write" && level.as_str() != Some(has) {
            return invalid("The permissions requested are not granted to this installation.");
        }
    }
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let minted = Minted {
        token: format!("stand-in-installation-{}", state.id()),
        repositories: body["repositories"].as_array().unwrap().iter().map(text).collect(),
        permissions: asked.iter().map(|(k, v)| (k.clone(), text(v))).collect(),
        revoked: false,
    };
    let expires_at = chrono::DateTime::from_timestamp(
        i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap() + state.token_secs,
        0,
    );
    let answer = json!({ "token": minted.token, "expires_at": expires_at.unwrap().to_rfc3339() });
    state.minted.push(minted);
    (201, answer)
}

fn graphql(state: &mut State, body: &Value) -> Reply {
    let (query, id) = (body["query"].as_str().unwrap_or(""), body["variables"]["id"].as_str().unwrap_or(""));
    let lacks = state.lacks.contains("pull_requests");
    if query.contains("lastEditedAt") {
        let number = body["variables"]["number"].as_u64().unwrap();
        let edited = state.issues.iter().find(|issue| issue.number == number).and_then(|issue| issue.edited.clone());
        let editor = edited.as_ref().map(|(by, _)| json!({ "login": by, "__typename": "User" }));
        let issue = json!({ "lastEditedAt": edited.map(|(_, at)| time(at)), "editor": editor });
        return (200, json!({ "data": { "repository": { "issue": issue } } }));
    }
    let pull = state.pulls.iter_mut().find(|pull| format!("PR_{}", pull.number) == id);
    match pull {
        Some(_) if lacks => {
            (200, json!({ "data": null, "errors": [{ "type": "FORBIDDEN", "message": "Resource not accessible" }] }))
        }
        Some(pull) if query.contains("markPullRequestReadyForReview(input: {pullRequestId: $id})") => {
            pull.draft = false;
            (200, json!({ "data": {} }))
        }
        Some(pull) if query.contains("convertPullRequestToDraft(input: {pullRequestId: $id})") => {
            pull.draft = true;
            (200, json!({ "data": {} }))
        }
        _ => (200, json!({ "errors": [{ "type": "NOT_FOUND", "message": "Could not resolve to a node" }] })),
    }
}

/// Returns the page that is asked for.
pub fn page(all: Vec<Value>, query: &str) -> Value {
    let number = |name: &str, or: usize| query_value(query, name).map_or(or, |v| v.parse().unwrap());
    let (size, page) = (number("per_page", 30), number("page", 1));
    all.into_iter().skip((page - 1) * size).take(size).collect()
}

fn repository(
    state: &mut State,
    served: &Served,
    login: &str,
    (method, rest): (&str, &[&str]),
    query: &str,
    body: &Value,
) -> Reply {
    let (url, bare) = (&served.url, served.root.join(format!("{REPO}.git")));
    let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    match (method, rest) {
        ("GET", []) => {
            let allows = |method: &str| !state.forbidden_methods.contains(method);
            let settings = json!({
                "full_name": REPO, "archived": state.archived, "default_branch": "main",
                "allow_merge_commit": allows("merge"), "allow_squash_merge": allows("squash"),
                "allow_rebase_merge": allows("rebase"), "permissions": { "push": !state.read_only },
            });
            (200, settings)
        }
        ("GET", ["git", "ref", "heads", branch @ ..]) => match git::head(&bare, &branch.join("/")) {
            Some(sha) => (200, json!({ "ref": format!("refs/heads/{}", branch.join("/")), "object": { "sha": sha } })),
            None => error(404, "Not Found"),
        },
        ("POST", ["git", "refs"]) if !git::has_commit(&bare, &text("sha")) => error(422, "Object does not exist"),
        ("DELETE", ["git", "refs", "heads", branch @ ..]) => match git::delete_branch(&bare, &branch.join("/")) {
            true => (204, Value::Null),
            false => error(422, "Reference does not exist"),
        },
        ("GET", ["collaborators", person, "permission"]) => {
            let permission = state.collaborators.get(*person).copied().unwrap_or("none");
            (200, json!({ "permission": permission, "user": user(person) }))
        }
        ("GET", ["pulls"]) => {
            let head = query_value(query, "head");
            let mut pulls: Vec<&Pull> = state.pulls.iter().collect();
            let stale = state.stale_lists > 0;
            if stale {
                pulls.pop();
            }
            let label = |p: &Pull| format!("{}:{}", p.head_repo.split('/').next().unwrap(), p.branch);
            pulls.retain(|p| head.as_ref().is_none_or(|head| label(p) == *head));
            pulls.retain(|p| p.open || query.contains("state=all"));
            let all = pulls.iter().rev().map(|p| pull_json(url, p)).collect();
            state.stale_lists = state.stale_lists.saturating_sub(1);
            (200, page(all, query))
        }
        ("POST", ["pulls"]) => {
            let head = text("head");
            let Some((from, branch)) = git::head_of(state, &head) else { return invalid("head is invalid") };
            let Some(sha) = git::head(&served.root.join(format!("{from}.git")), &branch) else {
                return invalid("head is invalid");
            };
            if head == text("base") {
                return invalid(&format!("No commits between {head} and {head}"));
            }
            if state.no_drafts && body["draft"] == true {
                return error(422, "Draft pull requests are not supported in this repository.");
            }
            if state.pulls.iter().any(|p| p.open && p.branch == branch && p.head_repo == from) {
                return invalid(&format!("A pull request already exists for my-org:{head}."));
            }
            let number = state.open_pull(login, &branch, &from, &sha);
            let pull = state.pulls.last_mut().unwrap();
            (pull.title, pull.body, pull.base) = (text("title"), text("body"), text("base"));
            pull.draft = body["draft"] == true;
            assert_eq!(number, pull.number);
            (201, pull_json(url, pull))
        }
        ("POST", ["forks"]) => {
            let owner = body["organization"].as_str().unwrap_or(login).to_owned();
            let name = git::fork(served, state, &owner);
            (202, json!({ "full_name": name, "fork": true, "parent": { "full_name": REPO } }))
        }
        ("GET" | "PATCH", ["pulls", n]) => {
            let Some(pull) = state.pulls.iter_mut().find(|p| p.number == number(n)) else {
                return error(404, "Not Found");
            };
            if method == "PATCH" {
                for (name, slot) in [("title", &mut pull.title), ("body", &mut pull.body), ("base", &mut pull.base)] {
                    if let Some(text) = body[name].as_str() {
                        *slot = text.to_owned();
                    }
                }
                if body["state"] == "closed" && pull.open {
                    (pull.open, pull.closed_by) = (false, Some(login.to_owned()));
                }
            }
            (200, pull_json(url, pull))
        }
        ("PUT", ["pulls", n, "merge"]) => merge(state, &bare, login, number(n), body),
        ("GET", ["pulls", n, "reviews"]) => {
            let of_pull = state.reviews.iter().filter(|r| r.pull == number(n));
            let review = |r: &Review| json!({ "id": r.id, "user": user(&r.by), "state": r.state, "commit_id": r.head, "body": r.body });
            (200, page(of_pull.map(review).collect(), query))
        }
        ("GET", ["issues"]) if query_value(query, "creator").is_some() => {
            let (creator, all) = (query_value(query, "creator"), query_value(query, "state"));
            assert_eq!(all.as_deref(), Some("all"));
            let own = state.issues.iter().rev().filter(|i| Some(&i.by) == creator.as_ref());
            (200, page(own.map(|i| issue_json(url, state, i)).collect(), query))
        }
        ("POST", ["issues"]) => {
            let number = state.id();
            let (title, body, by) = (text("title"), text("body"), login.to_owned());
            state.issues.push(Issue { number, title, body, by, open: true, edited: None, updated_at: super::now() });
            let opened = state.issues.last().map(|issue| issue_json(url, state, issue));
            (201, opened.unwrap())
        }
        ("GET", ["issues"]) => {
            let label = query_value(query, "labels").unwrap();
            let has = |number: u64| state.labels.contains(&(number, label.clone()));
            let issues = state.issues.iter().filter(|i| i.open && has(i.number)).map(|i| issue_json(url, state, i));
            let pulls = state.pulls.iter().filter(|p| p.open && has(p.number));
            let pulls = pulls.map(|p| pull_as_issue_json(url, state, p));
            (200, page(issues.chain(pulls).collect(), query))
        }
        ("GET", ["issues", "comments"]) => {
            let since = query_value(query, "since").unwrap();
            let since = chrono::DateTime::parse_from_rfc3339(&since).unwrap().timestamp();
            let mut found: Vec<&Comment> = state.comments.iter().filter(|c| c.updated_at >= since).collect();
            found.sort_by_key(|comment| comment.updated_at);
            (200, page(found.into_iter().map(|comment| comment_json(url, comment)).collect(), query))
        }
        ("GET" | "PATCH", ["issues", "comments", id]) => {
            let Some(comment) = state.comments.iter_mut().find(|c| c.id == number(id)) else {
                return error(404, "Not Found");
            };
            if let ("PATCH", Some(text)) = (method, body["body"].as_str()) {
                (comment.body, comment.updated_at) = (text.to_owned(), super::now());
            }
            (200, comment_json(url, comment))
        }
        ("GET", ["issues", n, "events"]) => {
            let of_issue = state.events.iter().filter(|event| event.number == number(n));
            (200, page(of_issue.map(event_json).collect(), query))
        }
        ("PATCH", ["issues", n]) => {
            let Some(issue) = state.issues.iter_mut().find(|i| i.number == number(n)) else {
                return error(404, "Not Found");
            };
            if let Some(word) = body["state"].as_str() {
                issue.open = word != "closed";
            }
            for (name, slot) in [("title", &mut issue.title), ("body", &mut issue.body)] {
                if let Some(text) = body[name].as_str() {
                    *slot = text.to_owned();
                }
            }
            (200, json!({}))
        }
        ("GET", ["issues", n]) => {
            let pull = state.pulls.iter().find(|p| p.number == number(n)).map(|p| pull_as_issue_json(url, state, p));
            let issue = state.issues.iter().find(|i| i.number == number(n)).map(|i| issue_json(url, state, i));
            pull.or(issue).map_or(error(404, "Not Found"), |found| (200, found))
        }
        ("GET", ["issues", n, "comments"]) => {
            let mut comments: Vec<_> = state.comments.iter().filter(|c| c.pull == number(n)).collect();
            if state.stale_lists > 0 {
                comments.pop();
            }
            let all = comments.iter().map(|c| comment_json(url, c)).collect();
            state.stale_lists = state.stale_lists.saturating_sub(1);
            (200, page(all, query))
        }
        ("POST", ["issues", n, "comments"]) => {
            state.comment(number(n), login, &text("body"));
            (201, json!({ "id": state.next_id }))
        }
        ("GET", ["commits", sha, "statuses"]) => {
            let sha = git::head(&bare, sha).unwrap_or_else(|| (*sha).to_owned());
            let of_commit = state.statuses.iter().enumerate().rev().filter(|(_, s)| s.sha == sha);
            let all = of_commit
                .map(|(id, s)| {
                    json!({ "id": id, "context": s.context, "state": s.state, "description": s.description,
                            "target_url": null })
                })
                .collect();
            (200, page(all, query))
        }
        ("GET", ["deployments"]) => {
            let wanted = |name: &str| query_value(query, name).unwrap_or_default();
            let (sha, environment) = (wanted("sha"), wanted("environment"));
            let found = state.deployments.iter().rev().filter(|d| d.sha == sha && d.environment == environment);
            (200, page(found.map(|d| json!({ "id": d.id, "sha": d.sha, "payload": d.payload })).collect(), query))
        }
        ("POST", ["deployments"]) => {
            if !git::has_commit(&bare, &text("ref")) {
                return error(422, "No ref found for that commit");
            }
            // Without these, GitHub merges the default branch, or waits for statuses.
            assert!(body["auto_merge"] == false && body["required_contexts"] == json!([]), "{body}");
            let (id, states) = (state.id(), Vec::new());
            let (sha, environment) = (text("ref"), text("environment"));
            state.deployments.push(ShownDeployment { id, sha, environment, payload: body["payload"].clone(), states });
            (201, json!({ "id": id, "payload": body["payload"] }))
        }
        ("GET", ["deployments", id, "statuses"]) => match state.deployments.iter().find(|d| d.id == number(id)) {
            Some(found) => (200, page(found.states.iter().rev().map(|s| json!({ "state": s })).collect(), query)),
            None => error(404, "Not Found"),
        },
        ("POST", ["deployments", id, "statuses"]) => {
            let Some(found) = state.deployments.iter_mut().find(|d| d.id == number(id)) else {
                return error(404, "Not Found");
            };
            found.states.push(text("state"));
            (201, json!({ "state": text("state") }))
        }
        ("POST", ["statuses", sha]) => {
            if !git::has_commit(&bare, sha) {
                return error(422, "No commit found for SHA");
            }
            assert!(text("description").chars().count() <= 140, "GitHub refuses longer ones");
            let (sha, context) = ((*sha).to_owned(), text("context"));
            let (state_text, description) = (text("state"), text("description"));
            state.statuses.push(Status { sha, context, state: state_text, description, page: String::new() });
            (201, json!({}))
        }
        _ => ci::handle(state, served, login, (method, rest), query, body)
            .unwrap_or_else(|| panic!("GitHub's double does not know {method} {rest:?}")),
    }
}

fn merge(state: &mut State, bare: &std::path::Path, login: &str, number: u64, body: &Value) -> Reply {
    let method = body["merge_method"].as_str().unwrap_or("merge").to_owned();
    let name = match method.as_str() {
        "merge" => "Merge commits",
        "squash" => "Squash merges",
        _ => "Rebase merges",
    };
    if state.forbidden_methods.contains(method.as_str()) {
        return error(405, &format!("{name} are not allowed on this repository."));
    }
    let protected = state.protected;
    let Some(pull) = state.pulls.iter_mut().find(|p| p.number == number) else { return error(404, "Not Found") };
    if !pull.open {
        return error(405, "Pull Request is not mergeable");
    }
    if pull.draft {
        return error(405, "Pull Request is still a draft");
    }
    if body["sha"].as_str() != Some(pull.head.as_str()) {
        return error(409, "Head branch was modified. Review and try the merge again.");
    }
    if let Some(rule) = protected {
        return error(405, rule);
    }
    let Some(sha) = git::merge(bare, pull, &method) else { return error(405, "Pull Request is not mergeable") };
    (pull.open, pull.merged) = (false, Some((sha.clone(), login.to_owned())));
    state.merges += 1;
    (200, json!({ "sha": sha, "merged": true, "message": "Pull Request successfully merged" }))
}
