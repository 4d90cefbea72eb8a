//! The double's issues, their labels, histories and comments.

use super::api::{Answered, list, missing, page, pull_json, user};
use crate::support::forge_server::{Comment, Issue, LOGIN, Pull, REPO, Served, State, now, query_value, time};
use serde_json::{Value, json};

fn labels_json(state: &State, number: u64) -> Value {
    let own = state.labels.iter().filter(|(n, _)| *n == number);
    let own: Vec<Value> = own.map(|(_, name)| json!({ "id": 1, "name": name, "color": "00aabb" })).collect();
    // An empty list is written as `null`, here as in many of the forge's answers.
    if own.is_empty() { Value::Null } else { own.into() }
}

fn issue_json(served: &Served, state: &State, issue: &Issue) -> Value {
    let updated_at = issue.edited.as_ref().map_or(issue.updated_at, |(_, at)| issue.updated_at.max(*at));
    json!({
        "id": issue.number + 2_000, "number": issue.number, "title": issue.title, "body": issue.body,
        "user": user(&issue.by), "html_url": format!("{}/{REPO}/issues/{}", served.url, issue.number),
        "state": if issue.open { "open" } else { "closed" }, "labels": labels_json(state, issue.number),
        "pull_request": null, "updated_at": time(updated_at),
    })
}

fn pull_as_issue_json(served: &Served, state: &State, pull: &Pull) -> Value {
    let mut issue = pull_json(served, pull);
    issue["labels"] = labels_json(state, pull.number);
    issue["pull_request"] = json!({ "merged": pull.merged.is_some(), "merged_at": null });
    issue["updated_at"] = json!(time(now()));
    issue
}

/// A comment names the address of its issue or of its pull request; the other one is empty.
pub fn comment_json(served: &Served, state: &State, comment: &Comment) -> Value {
    let is_pull = state.pulls.iter().any(|pull| pull.number == comment.pull);
    let address = |kind: &str| format!("{}/{REPO}/{kind}/{}", served.url, comment.pull);
    json!({
        "id": comment.id, "user": user(&comment.by), "body": comment.body,
        "issue_url": if is_pull { String::new() } else { address("issues") },
        "pull_request_url": if is_pull { address("pulls") } else { String::new() },
        "created_at": time(comment.at), "updated_at": time(comment.updated_at),
    })
}

fn timeline(state: &State, number: u64) -> Vec<Value> {
    let comments = state.comments.iter().filter(|comment| comment.pull == number);
    let mut events: Vec<(i64, Value)> =
        comments.map(|c| (c.at, json!({ "type": "comment", "user": user(&c.by), "body": c.body }))).collect();
    for event in state.events.iter().filter(|event| event.number == number) {
        let label = json!({ "id": 1, "name": event.label });
        let text = if event.event == "labeled" { "1" } else { "" };
        events.push((event.at, json!({ "type": "label", "user": user(&event.by), "body": text, "label": label })));
    }
    let closed_by = state.pulls.iter().find(|p| p.number == number).and_then(|p| p.closed_by.clone());
    events.extend(closed_by.map(|by| (now(), json!({ "type": "close", "user": user(&by) }))));
    events.sort_by_key(|(at, _)| *at);
    let written = |(at, mut event): (i64, Value)| {
        event["created_at"] = json!(time(at));
        event
    };
    events.into_iter().map(written).collect()
}

/// Carries out a request; `None` = it is none of these.
pub fn handle(
    state: &mut State,
    served: &Served,
    (method, rest): (&str, &[&str]),
    query: &str,
    body: &Value,
) -> Option<Answered> {
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    Some(match (method, rest) {
        ("GET", ["issues"]) => {
            // A label that nothing has may as well not exist; then the filter is ignored.
            let wanted = query_value(query, "labels");
            let label = wanted.filter(|label| state.labels.iter().any(|(_, name)| name == label));
            let by = query_value(query, "created_by");
            let (kind, which) = (query_value(query, "type"), query_value(query, "state"));
            let fits = |number: u64, open: bool, author: &str| {
                label.as_ref().is_none_or(|label| state.labels.contains(&(number, label.clone())))
                    && by.as_ref().is_none_or(|by| by == author)
                    && (open || which.as_deref() == Some("all"))
            };
            let issues = state.issues.iter().rev().filter(|i| fits(i.number, i.open, &i.by));
            let mut all: Vec<Value> = issues.map(|issue| issue_json(served, state, issue)).collect();
            if kind.as_deref() != Some("issues") {
                let pulls = state.pulls.iter().rev().filter(|p| fits(p.number, p.open, &p.by));
                all.extend(pulls.map(|pull| pull_as_issue_json(served, state, pull)));
            }
            page(state, all, query)
        }
        ("POST", ["issues"]) => {
            let issue = state.open_issue(LOGIN, &text("title").unwrap(), &text("body").unwrap_or_default());
            Answered::new(201, issue_json(served, state, state.issues.iter().find(|i| i.number == issue).unwrap()))
        }
        ("GET", ["issues", "comments"]) => {
            let since = query_value(query, "since").unwrap();
            let since = chrono::DateTime::parse_from_rfc3339(&since).unwrap().timestamp();
            // In the order in which they were written.
            let found = state.comments.iter().filter(|comment| comment.updated_at >= since);
            page(state, found.map(|comment| comment_json(served, state, comment)).collect(), query)
        }
        (_, ["issues", "comments", id]) => {
            let Some(at) = state.comments.iter().position(|comment| comment.id == number(id)) else {
                return Some(missing());
            };
            if let ("PATCH", Some(text)) = (method, text("body")) {
                (state.comments[at].body, state.comments[at].updated_at) = (text, now());
            }
            Answered::new(200, comment_json(served, state, &state.comments[at]))
        }
        ("GET", ["issues", n, "comments"]) => {
            let mut comments: Vec<&Comment> = state.comments.iter().filter(|c| c.pull == number(n)).collect();
            if state.stale_lists > 0 {
                comments.pop();
            }
            let all = comments.into_iter().map(|comment| comment_json(served, state, comment)).collect();
            state.stale_lists = state.stale_lists.saturating_sub(1);
            list(all)
        }
        ("POST", ["issues", n, "comments"]) => {
            let id = state.post_comment(number(n), LOGIN, &text("body").unwrap());
            Answered::new(201, json!({ "id": id }))
        }
        ("GET", ["issues", n, "timeline"]) => page(state, timeline(state, number(n)), query),
        ("GET" | "PATCH", ["issues", n]) => {
            if let Some(pull) = state.pulls.iter().find(|pull| pull.number == number(n)) {
                return Some(Answered::new(200, pull_as_issue_json(served, state, pull)));
            }
            let Some(issue) = state.issues.iter_mut().find(|issue| issue.number == number(n)) else {
                return Some(missing());
            };
            if method == "PATCH" {
                issue.open = text("state").map_or(issue.open, |word| word != "closed");
                issue.title = text("title").unwrap_or(issue.title.clone());
                issue.body = text("body").unwrap_or(issue.body.clone());
                issue.updated_at = now();
            }
            let issue = state.issues.iter().find(|issue| issue.number == number(n)).unwrap();
            Answered::new(if method == "PATCH" { 201 } else { 200 }, issue_json(served, state, issue))
        }
        _ => return None,
    })
}
