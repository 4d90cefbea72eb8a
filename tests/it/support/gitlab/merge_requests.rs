//! The double's merge requests: their versions, reviews and merges.

use super::api::{Answered, bare, error, missing, page, project_id, time_of, user};
use super::notes;
use crate::support::forge_server::{LOGIN, Pull, REPO, Review, Served, State, git, now, query_value, time};
use serde_json::{Value, json};

/// Notes each head of a merge request when it is first seen.
pub fn record_versions(state: &mut State) {
    for at in 0..state.pulls.len() {
        let (number, head) = (state.pulls[at].number, state.pulls[at].head.clone());
        let last = state.versions.iter().rev().find(|(pull, ..)| *pull == number);
        if last.is_none_or(|(_, known, _)| *known != head) {
            let id = state.id();
            state.versions.push((number, head, id));
        }
    }
}

/// Returns the id of the newest version with a head, and whether it is the current one.
fn version_of(state: &State, pull: u64, head: &str) -> Option<(u64, bool)> {
    let mut versions = state.versions.iter().rev().filter(|(number, ..)| *number == pull);
    let current = versions.clone().next()?.2;
    let (.., id) = versions.find(|(_, known, _)| known == head)?;
    Some((*id, *id == current))
}

/// Returns when a review was given: as long as the head that it is about was the current one.
pub fn reviewed_at(state: &State, review: &Review) -> u64 {
    match version_of(state, review.pull, &review.head) {
        Some((version, true)) => version.max(review.id),
        Some((version, false)) => version,
        None => 0,
    }
}

/// Returns the verdicts of reviewers: the last one of each.
fn verdicts<'a>(state: &'a State, pull: u64) -> Vec<&'a Review> {
    let mut last: Vec<&'a Review> = Vec::new();
    for review in state.reviews.iter().filter(|review| review.pull == pull && review.state != "COMMENTED") {
        last.retain(|other| other.by != review.by);
        last.push(review);
    }
    last.sort_by_key(|review| review.by.clone());
    last
}

pub fn is_draft(pull: &Pull) -> bool {
    let title = pull.title.to_ascii_lowercase();
    ["draft:", "[draft]", "(draft)"].iter().any(|prefix| title.starts_with(prefix))
}

pub fn json_of(served: &Served, state: &State, pull: &Pull) -> Value {
    let (merged, by) = pull.merged.clone().unzip();
    let status = match state.protected {
        _ if !pull.open => "not_open",
        _ if is_draft(pull) => "draft_status",
        Some(rule) => rule,
        None => "mergeable",
    };
    let labels = state.labels.iter().filter(|(of, _)| *of == pull.number).map(|(_, name)| name);
    let state_name = match (pull.open, &merged) {
        (true, _) => "opened",
        (false, Some(_)) => "merged",
        (false, None) => "closed",
    };
    json!({
        "id": pull.number + 1_000,
        "iid": pull.number,
        "project_id": project_id(REPO),
        "web_url": format!("{}/{REPO}/-/merge_requests/{}", served.url, pull.number),
        "state": state_name,
        "title": pull.title,
        "description": pull.body,
        "draft": is_draft(pull),
        "author": user(&pull.by),
        "source_branch": pull.branch,
        "target_branch": pull.base,
        "source_project_id": project_id(&pull.head_repo),
        "target_project_id": project_id(REPO),
        "sha": pull.head,
        // A fast-forward has no commit of its own.
        "merge_commit_sha": merged.filter(|sha| *sha != pull.head),
        "squash_commit_sha": null,
        "merge_user": by.map(|by| user(&by)),
        "closed_by": pull.closed_by.as_ref().map(|by| user(by)),
        "labels": labels.collect::<Vec<_>>(),
        "updated_at": time(now()),
        "detailed_merge_status": status,
        "merge_error": null,
    })
}

pub fn handle(
    state: &mut State,
    served: &Served,
    (method, rest): (&str, &[&str]),
    query: &str,
    body: &Value,
) -> Answered {
    let bare = bare(served);
    let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    if let [_, n, ..] = rest
        && !state.pulls.iter().any(|pull| pull.number == number(n))
    {
        return missing("Merge Request");
    }
    match (method, rest) {
        ("GET", [_]) => {
            let (which, branch) = (query_value(query, "state"), query_value(query, "source_branch"));
            let label = query_value(query, "labels");
            let mut pulls: Vec<&Pull> = state.pulls.iter().collect();
            if state.stale_lists > 0 {
                pulls.pop();
            }
            pulls.retain(|pull| {
                (pull.open || which.as_deref() != Some("opened"))
                    && branch.as_ref().is_none_or(|branch| *branch == pull.branch)
                    && label.as_ref().is_none_or(|label| state.labels.contains(&(pull.number, label.clone())))
            });
            let all = pulls.iter().rev().map(|pull| json_of(served, state, pull)).collect();
            let answer = page(state, served, all, query);
            state.stale_lists = state.stale_lists.saturating_sub(1);
            answer
        }
        ("POST", [_]) => {
            let (branch, target) = (text("source_branch"), text("target_branch"));
            let Some(sha) = git::head(&bare, &branch) else {
                return Answered::new(400, json!({ "message": ["Source branch \"x\" does not exist"] }));
            };
            let same = |p: &&Pull| p.open && p.branch == branch && p.base == target && p.head_repo == REPO;
            if let Some(other) = state.pulls.iter().find(same) {
                let why =
                    format!("Another open merge request already exists for this source branch: !{}", other.number);
                return Answered::new(409, json!({ "message": [why] }));
            }
            state.open_pull(LOGIN, &branch, REPO, &sha);
            let pull = state.pulls.last_mut().unwrap();
            (pull.title, pull.body, pull.base) = (text("title"), text("description"), target);
            record_versions(state);
            Answered::new(201, json_of(served, state, state.pulls.last().unwrap()))
        }
        (_, [_, n]) => {
            let at = state.pulls.iter().position(|pull| pull.number == number(n)).unwrap();
            if method == "PUT" {
                let pull = &mut state.pulls[at];
                for (name, slot) in
                    [("title", &mut pull.title), ("description", &mut pull.body), ("target_branch", &mut pull.base)]
                {
                    if let Some(text) = body[name].as_str() {
                        *slot = text.to_owned();
                    }
                }
                if body["state_event"] == "close" && pull.open {
                    (pull.open, pull.closed_by) = (false, Some(LOGIN.to_owned()));
                }
            }
            Answered::new(200, json_of(served, state, &state.pulls[at]))
        }
        ("PUT", [_, n, "merge"]) => merge(state, served, number(n), body),
        ("GET", [_, n, "versions"]) => {
            let of_pull = state.versions.iter().rev().filter(|(pull, ..)| *pull == number(n));
            let version = |(_, head, id): &(u64, String, u64)| {
                json!({ "id": id, "head_commit_sha": head, "base_commit_sha": "2".repeat(40),
                    "start_commit_sha": "2".repeat(40), "created_at": time_of(*id), "state": "collected" })
            };
            page(state, served, of_pull.map(version).collect(), query)
        }
        ("GET", [_, n, "approvals"]) => {
            let of = verdicts(state, number(n)).into_iter().filter(|review| review.state == "APPROVED");
            let approved_by: Vec<Value> = of.map(|review| json!({ "user": user(&review.by) })).collect();
            Answered::new(200, json!({ "approved": !approved_by.is_empty(), "approved_by": approved_by }))
        }
        ("GET", [_, n, "reviewers"]) => {
            let reviewer = |review: &Review| {
                let state = match review.state {
                    "APPROVED" => "approved",
                    "CHANGES_REQUESTED" => "requested_changes",
                    _ => "unapproved",
                };
                json!({ "user": user(&review.by), "state": state, "created_at": time_of(0) })
            };
            let all = verdicts(state, number(n)).into_iter().map(reviewer).collect();
            page(state, served, all, query)
        }
        _ => notes::handle(state, served, (method, rest), query, body)
            .unwrap_or_else(|| panic!("GitLab's double does not know {method} {rest:?}")),
    }
}

fn merge(state: &mut State, served: &Served, number: u64, body: &Value) -> Answered {
    let (protected, may_merge) = (state.protected, !state.lacks.contains("merge"));
    let is_fast_forward = state.forbidden_methods.contains("merge-commit");
    let pull = state.pulls.iter_mut().find(|pull| pull.number == number).unwrap();
    if !may_merge {
        return error(401, "401 Unauthorized");
    }
    if !pull.open || is_draft(pull) || protected.is_some() {
        return error(405, "405 Method Not Allowed");
    }
    if body["sha"].as_str() != Some(pull.head.as_str()) {
        return error(409, &format!("SHA does not match HEAD of source branch: {}", pull.head));
    }
    let method = match (body["squash"] == true, is_fast_forward) {
        (true, _) => "squash",
        (false, true) => "fast-forward-only",
        (false, false) => "merge",
    };
    let Some(sha) = git::merge(&bare(served), pull, method) else { return error(422, "Branch cannot be merged") };
    (pull.open, pull.merged) = (false, Some((sha, LOGIN.to_owned())));
    state.merges += 1;
    let pull = state.pulls.iter().find(|pull| pull.number == number).unwrap();
    Answered::new(200, json_of(served, state, pull))
}
