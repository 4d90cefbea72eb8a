//! The attributes of each endpoint, from GitLab's API documentation: those that must be there, and those that may.

use axum::body::Bytes;
use axum::http::request::Parts;
use serde_json::Value;

/// Method, path below the project, required and optional attributes.
type Endpoint = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

/// `*` stands for one part of a path. Attributes of pages may be given with every list.
const ENDPOINTS: &[Endpoint] = &[
    ("GET", "", &[], &["license", "statistics", "with_custom_attributes"]),
    ("GET", "members/all/*", &[], &[]),
    ("GET", "repository/branches/*", &[], &[]),
    ("DELETE", "repository/branches/*", &[], &[]),
    ("GET", "repository/commits/*/statuses", &[], &["ref", "stage", "name", "pipeline_id", "order_by", "sort", "all"]),
    (
        "POST",
        "statuses/*",
        &["state"],
        &["ref", "name", "context", "target_url", "description", "coverage", "pipeline_id"],
    ),
    (
        "GET",
        "merge_requests",
        &[],
        &[
            "state",
            "source_branch",
            "target_branch",
            "labels",
            "order_by",
            "sort",
            "scope",
            "author_id",
            "updated_after",
        ],
    ),
    (
        "POST",
        "merge_requests",
        &["source_branch", "target_branch", "title"],
        &["description", "labels", "squash", "remove_source_branch", "target_project_id", "reviewer_ids"],
    ),
    ("GET", "merge_requests/*", &[], &["include_diverged_commits_count", "include_rebase_in_progress", "render_html"]),
    (
        "PUT",
        "merge_requests/*",
        &[],
        &["title", "description", "target_branch", "state_event", "labels", "add_labels", "remove_labels", "squash"],
    ),
    (
        "PUT",
        "merge_requests/*/merge",
        &[],
        &[
            "sha",
            "squash",
            "auto_merge",
            "merge_when_pipeline_succeeds",
            "should_remove_source_branch",
            "merge_commit_message",
            "squash_commit_message",
        ],
    ),
    ("GET", "deployments", &[], &["order_by", "sort", "updated_after", "updated_before", "environment", "status"]),
    ("POST", "deployments", &["environment", "sha", "ref", "tag", "status"], &[]),
    ("PUT", "deployments/*", &["status"], &[]),
    ("GET", "merge_requests/*/versions", &[], &[]),
    ("GET", "merge_requests/*/approvals", &[], &[]),
    ("GET", "merge_requests/*/reviewers", &[], &[]),
    ("GET", "merge_requests/*/discussions", &[], &[]),
    ("POST", "merge_requests/*/discussions/*/notes", &["body"], &["created_at"]),
    ("GET", "merge_requests/*/resource_label_events", &[], &[]),
    ("GET", "merge_requests/*/notes", &[], &["sort", "order_by"]),
    ("POST", "merge_requests/*/notes", &["body"], &["created_at", "internal", "merge_request_diff_head_sha"]),
    ("GET", "merge_requests/*/notes/*", &[], &[]),
    ("PUT", "merge_requests/*/notes/*", &["body"], &[]),
    ("GET", "jobs/*/trace", &[], &[]),
    ("POST", "jobs/*/retry", &[], &["job_variables_attributes"]),
    (
        "GET",
        "issues",
        &[],
        &["state", "labels", "order_by", "sort", "scope", "author_id", "updated_after", "issue_type"],
    ),
    ("POST", "issues", &["title"], &["description", "labels", "confidential", "issue_type"]),
    ("GET", "issues/*", &[], &[]),
    ("PUT", "issues/*", &[], &["title", "description", "state_event", "labels", "add_labels", "remove_labels"]),
    ("GET", "issues/*/resource_label_events", &[], &[]),
    ("GET", "issues/*/notes", &[], &["sort", "order_by", "activity_filter"]),
    ("POST", "issues/*/notes", &["body"], &["created_at", "internal"]),
    ("GET", "issues/*/notes/*", &[], &[]),
    ("PUT", "issues/*/notes/*", &["body"], &[]),
    ("GET", "events", &[], &["action", "target_type", "before", "after", "sort"]),
];
const OF_PAGES: &[&str] = &["page", "per_page"];

/// Checks a request.
pub fn check(parts: &Parts, path: &str, body: &Bytes) -> Result<(), String> {
    let path = path.strip_prefix("/api/v4/").ok_or("it is below no version of the API")?;
    let Some(rest) = path.strip_prefix("projects/") else { return Ok(()) };
    // A namespaced path is one part.
    let below = rest.split_once('/').map_or("", |(_, below)| below);
    let fits = |pattern: &str| {
        let (pattern, below): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), below.split('/').collect());
        pattern.len() == below.len() && pattern.iter().zip(&below).all(|(p, b)| *p == "*" || p == b)
    };
    let endpoint = ENDPOINTS.iter().find(|(method, pattern, ..)| *method == parts.method.as_str() && fits(pattern));
    let (method, _, required, optional) = endpoint.ok_or("there is no such endpoint")?;
    let query = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut given: Vec<String> = query.map(|pair| pair.split('=').next().unwrap().to_owned()).collect();
    if !body.is_empty() {
        let body: Value = serde_json::from_slice(body).map_err(|e| format!("the body is not JSON: {e}"))?;
        given.extend(body.as_object().ok_or("the body is not an object")?.keys().cloned());
    }
    if let Some(missing) = required.iter().find(|name| !given.iter().any(|g| g == **name)) {
        return Err(format!("{missing} is missing"));
    }
    let is_known = |name: &str| {
        required.contains(&name) || optional.contains(&name) || *method == "GET" && OF_PAGES.contains(&name)
    };
    match given.iter().find(|name| !is_known(name)) {
        Some(unknown) => Err(format!("{unknown} does not have a valid value")),
        None => Ok(()),
    }
}
