//! ETags of runs and single-valued headers.

use super::problem::{ApiError, ApiResult};
use super::wire;
use crate::domain::{Run, Timestamp};
use axum::Json;
use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};

/// Renders a run as it is at `at`, with its ETag.
pub fn tagged(status: StatusCode, run: &Run, at: Timestamp) -> Response {
    (status, [(ETAG, etag(run.seq))], Json(wire::Run::new(run, at))).into_response()
}

/// Returns the ETag of a run at an event.
pub fn etag(seq: u64) -> String {
    format!("\"{seq}\"")
}

/// Returns the event that the caller expects the run to be at; `None` for any.
pub fn if_match(headers: &HeaderMap) -> ApiResult<Option<u64>> {
    let Some(text) = single(headers, &IF_MATCH)? else { return Ok(None) };
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
            "Send the ETag of the run as received, quotes included, or leave the header out",
        )),
    }
}

/// Returns whether the caller already has the run as it is at this event.
pub fn is_known(headers: &HeaderMap, seq: u64) -> bool {
    let etag = etag(seq);
    let tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    tags.map(str::trim).any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == etag)
}

/// Returns the value of a header that may occur once.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> ApiResult<Option<&'a str>> {
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
