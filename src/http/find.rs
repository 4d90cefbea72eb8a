//! Finding a run by its id, shortened or whole, and the ETags that tell whether it moved.

use super::State;
use super::problem::{ApiError, ApiResult};
use super::view::RunView;
use crate::domain::{Run, RunId};
use crate::ports::PortError;
use crate::ports::store::Found;
use axum::Json;
use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};

/// A run's id by its whole or shortened form.
pub async fn run_id(state: &State, text: &str) -> ApiResult<RunId> {
    if text.len() > 36 || !text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Err(ApiError::no_run(text));
    }
    match state.store.find(text).await? {
        Found::One(id) => Ok(id),
        Found::None => Err(ApiError::no_run(text)),
        Found::Several(ids) => Err(ApiError::several_runs(text, &ids)),
    }
}

/// A run's state.
pub async fn run(state: &State, text: &str) -> ApiResult<Run> {
    let id = run_id(state, text).await?;
    match state.store.load(id).await {
        Ok(Some(run)) => Ok(run),
        Ok(None) => Err(ApiError::no_run(text)),
        // The store says so of a snapshot it cannot read; the other runs go on.
        Err(PortError::Permanent { what, fix }) => Err(ApiError::conflict("quarantined", what, fix)),
        Err(other) => Err(other.into()),
    }
}

/// A run as an answer, with its ETag.
pub fn shown(status: StatusCode, run: &Run) -> Response {
    (status, [(ETAG, etag(run.seq))], Json(RunView::of(run))).into_response()
}

/// The ETag of a run at an event.
pub fn etag(seq: u64) -> String {
    format!("\"{seq}\"")
}

/// The event the caller believes the run to be at; `None` = any.
pub fn if_match(headers: &HeaderMap) -> ApiResult<Option<u64>> {
    let Some(text) = one(headers, &IF_MATCH)? else { return Ok(None) };
    if text.trim() == "*" {
        return Ok(None);
    }
    let seq = text.trim().strip_prefix('"').and_then(|t| t.strip_suffix('"')).and_then(|t| t.parse().ok());
    match seq {
        Some(seq) => Ok(Some(seq)),
        None => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "if_match",
            "If-Match is not an ETag of a run",
            "Send the ETag of the run as it was got, quotes included, or leave the header out",
        )),
    }
}

/// Whether the caller has the run at this event already.
pub fn known(headers: &HeaderMap, seq: u64) -> bool {
    let etag = etag(seq);
    let tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    tags.map(str::trim).any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == etag)
}

/// The one value of a header.
pub fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> ApiResult<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value.to_str().is_ok() => Ok(value.to_str().ok()),
        _ => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "header",
            format!("the header {name} cannot be read"),
            "Send it once, in ASCII",
        )),
    }
}
