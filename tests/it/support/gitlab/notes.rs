//! The double's issues, and the notes, threads and labels of issues and merge requests.

use super::api::{Answered, missing, page, time_of, user, user_id};
use super::merge_requests::reviewed_at;
use crate::support::forge_server::{Comment, Issue, LOGIN, REPO, ReviewComment, Served, State, now, query_value, time};
use serde_json::{Value, json};

fn issue_json(served: &Served, state: &State, issue: &Issue) -> Value {
    let updated_at = issue.edited.as_ref().map_or(issue.updated_at, |(_, at)| issue.updated_at.max(*at));
    let labels = state.labels.iter().filter(|(of, _)| *of == issue.number).map(|(_, name)| name);
    json!({
        "id": issue.number + 2_000, "iid": issue.number, "title": issue.title, "description": issue.body,
        "author": user(&issue.by), "web_url": format!("{}/{REPO}/-/issues/{}", served.url, issue.number),
        "state": if issue.open { "opened" } else { "closed" }, "labels": labels.collect::<Vec<_>>(),
        "confidential": issue.body.starts_with("CONFIDENTIAL"), "updated_at": time(updated_at), "issue_type": "issue",
    })
}

fn kind_of(state: &State, number: u64) -> &'static str {
    if state.pulls.iter().any(|pull| pull.number == number) { "MergeRequest" } else { "Issue" }
}

fn note_json(state: &State, comment: &Comment) -> Value {
    json!({ "id": comment.id, "type": null, "author": user(&comment.by), "body": comment.body, "system": false,
        "created_at": time(comment.at), "updated_at": time(comment.updated_at), "internal": false, "confidential": false,
        "resolvable": false, "noteable_type": kind_of(state, comment.pull), "noteable_iid": comment.pull })
}

fn system_note(id: u64, by: &str, body: &str, at: &str) -> Value {
    json!({ "id": id, "type": null, "author": user(by), "body": body, "system": true, "created_at": at,
        "updated_at": at, "resolvable": false })
}

fn diff_note(comment: &ReviewComment) -> Value {
    let at = time_of(comment.id);
    json!({ "id": comment.id, "type": "DiffNote", "author": user(&comment.by), "body": comment.body, "system": false,
        "created_at": at, "updated_at": at, "resolvable": true, "resolved": false,
        "position": { "base_sha": "2".repeat(40), "start_sha": "2".repeat(40), "head_sha": "3".repeat(40),
            "position_type": "text", "old_path": comment.path, "new_path": comment.path, "old_line": null,
            "new_line": comment.line } })
}

/// Returns the notes on an issue or a merge request, oldest first: those of people, and those about what they did.
fn notes(state: &State, number: u64) -> Vec<Value> {
    let mut all: Vec<(u64, Value)> = Vec::new();
    all.extend(state.comments.iter().filter(|c| c.pull == number).map(|c| (c.id, note_json(state, c))));
    for review in state.reviews.iter().filter(|review| review.pull == number) {
        let at = time_of(reviewed_at(state, review));
        // The texts of a review come before what it decided.
        let own = state.review_comments.iter().filter(|comment| comment.review == Some(review.id));
        let last = own.clone().map(|comment| comment.id).max().unwrap_or(review.id);
        if !review.body.is_empty() {
            let text = json!({ "id": review.id + 1_000_000, "author": user(&review.by), "body": review.body,
                "system": false, "created_at": at, "updated_at": at, "resolvable": false });
            all.push((review.id, text));
        }
        all.extend(own.map(|comment| (comment.id, diff_note(comment))));
        let what = match review.state {
            "APPROVED" => "approved this merge request",
            "CHANGES_REQUESTED" => "requested changes",
            "DISMISSED" => "unapproved this merge request",
            _ => continue,
        };
        all.push((last, system_note(review.id + 2_000_000, &review.by, what, &at)));
    }
    let replies = state.review_comments.iter().filter(|c| c.pull == number && c.reply_to.is_some());
    all.extend(replies.map(|comment| (comment.id, diff_note(comment))));
    if let Some((by, at)) = state.issues.iter().find(|i| i.number == number).and_then(|issue| issue.edited.clone()) {
        all.push((u64::MAX, system_note(3_000_000, &by, "changed the description", &time(at))));
    }
    all.sort_by_key(|(id, _)| *id);
    all.into_iter().map(|(_, note)| note).collect()
}

fn label_events(state: &State, number: u64) -> Vec<Value> {
    let events = state.events.iter().filter(|event| event.number == number).enumerate();
    let event = |(at, event): (usize, &crate::support::forge_server::IssueEvent)| {
        let action = if event.event == "labeled" { "add" } else { "remove" };
        json!({ "id": at + 1, "user": user(&event.by), "created_at": time(event.at), "action": action,
            "label": { "id": 1, "name": event.label } })
    };
    events.map(event).collect()
}

fn discussions(state: &State, number: u64) -> Vec<Value> {
    let firsts = state.review_comments.iter().filter(|c| c.pull == number && c.reply_to.is_none());
    let thread = |first: &ReviewComment| {
        let replies = state.review_comments.iter().filter(|c| c.reply_to == Some(first.id));
        let notes: Vec<Value> = std::iter::once(first).chain(replies).map(diff_note).collect();
        json!({ "id": format!("{:040x}", first.id), "individual_note": false, "notes": notes })
    };
    firsts.map(thread).collect()
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
    if let ["issues", n, ..] = rest
        && !state.issues.iter().any(|issue| issue.number == number(n))
    {
        return Some(missing("Issue"));
    }
    Some(match (method, rest) {
        ("GET", ["issues"]) => {
            let (label, by) = (query_value(query, "labels"), query_value(query, "author_id"));
            let which = query_value(query, "state");
            let fits = |issue: &&Issue| {
                label.as_ref().is_none_or(|label| state.labels.contains(&(issue.number, label.clone())))
                    && by.as_ref().is_none_or(|by| *by == user_id(&issue.by).to_string())
                    && (issue.open || which.as_deref() == Some("all"))
            };
            let all = state.issues.iter().rev().filter(fits).map(|issue| issue_json(served, state, issue)).collect();
            page(state, served, all, query)
        }
        ("POST", ["issues"]) => {
            state.open_issue(LOGIN, &text("title").unwrap(), &text("description").unwrap_or_default());
            Answered::new(201, issue_json(served, state, state.issues.last().unwrap()))
        }
        ("GET" | "PUT", ["issues", n]) => {
            let issue = state.issue(number(n));
            if method == "PUT" {
                issue.open = text("state_event").map_or(issue.open, |word| word != "close");
                issue.title = text("title").unwrap_or(issue.title.clone());
                issue.body = text("description").unwrap_or(issue.body.clone());
                issue.updated_at = now();
            }
            let issue = state.issue(number(n)).clone();
            Answered::new(200, issue_json(served, state, &issue))
        }
        ("GET", ["events"]) => {
            let after = query_value(query, "after").unwrap();
            let mut comments: Vec<&Comment> = state.comments.iter().collect();
            comments.retain(|comment| time(comment.at)[..10] > *after);
            comments.sort_by_key(|comment| std::cmp::Reverse((comment.at, comment.id)));
            let event = |comment: &Comment| {
                json!({ "id": comment.id, "action_name": "commented on", "target_id": comment.id,
                    "target_type": "Note", "created_at": time(comment.at), "author": user(&comment.by),
                    "note": note_json(state, comment) })
            };
            page(state, served, comments.into_iter().map(event).collect(), query)
        }
        ("GET", [_, n, "resource_label_events"]) => page(state, served, label_events(state, number(n)), query),
        ("GET", [_, n, "discussions"]) => page(state, served, discussions(state, number(n)), query),
        ("POST", [_, n, "discussions", thread, "notes"]) => {
            let thread = u64::from_str_radix(thread, 16).unwrap();
            let Some(first) = state.review_comments.iter().find(|c| c.id == thread).cloned() else {
                return Some(missing("Discussion"));
            };
            let id = state.id();
            let (by, body, reply_to) = (LOGIN.to_owned(), text("body").unwrap(), Some(thread));
            state.review_comments.push(ReviewComment {
                id,
                by,
                body,
                reply_to,
                review: None,
                pull: number(n),
                ..first
            });
            Answered::new(201, json!({ "id": id }))
        }
        ("GET", [_, n, "notes"]) => {
            assert_eq!(query_value(query, "sort").as_deref(), Some("asc"), "the newest one would come first");
            let mut all = notes(state, number(n));
            if state.stale_lists > 0 {
                all.pop();
            }
            let answer = page(state, served, all, query);
            state.stale_lists = state.stale_lists.saturating_sub(1);
            answer
        }
        ("POST", [_, n, "notes"]) => {
            let id = state.post_comment(number(n), LOGIN, &text("body").unwrap());
            Answered::new(201, json!({ "id": id }))
        }
        (_, [_, n, "notes", id]) => {
            let found = state.comments.iter().position(|c| c.id == number(id) && c.pull == number(n));
            let Some(at) = found else { return Some(missing("Note")) };
            if let ("PUT", Some(text)) = (method, text("body")) {
                (state.comments[at].body, state.comments[at].updated_at) = (text, now());
            }
            Answered::new(200, note_json(state, &state.comments[at]))
        }
        _ => return None,
    })
}
