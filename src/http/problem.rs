//! Every error of REST as an RFC 9457 problem with a stable code, and the mapping from the errors within.

use super::view::Problem;
use crate::actors::Rejected;
use crate::domain::{Refusal, RunId};
use crate::ports::PortError;
use crate::secrets::redact_all;
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What a handler gives.
pub type ApiResult<T> = Result<T, ApiError>;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// The most of a library's own error text that is passed on.
const TEXT_MAX: usize = 2048;
/// What is true of a run that was put aside.
const QUARANTINED: &str = "The run's row cannot be read; `skep runs` shows the reason, other runs go on. \
    Restore the store from a backup, or use the program version that wrote it";
/// Seconds after which what is away may be back.
const LATER_SECS: &str = "5";

/// A problem on its way out.
#[derive(Debug)]
pub struct ApiError(Box<Problem>);

impl ApiError {
    /// A problem.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>, fix: impl Into<String>) -> ApiError {
        ApiError(Box::new(Problem {
            kind: format!("urn:skep:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: status.as_u16(),
            detail: redact_all(&detail.into()).into_owned(),
            fix: redact_all(&fix.into()).into_owned(),
            code: code.to_owned(),
        }))
    }
    /// 404: no run of that id.
    pub fn no_run(id: &str) -> ApiError {
        let fix = "GET /api/v1/runs lists those there are; an id may be shortened to four or more of its digits";
        ApiError::new(StatusCode::NOT_FOUND, "no_run", format!("there is no run {}", shown(id)), fix)
    }
    /// 409: a shortened id that is not unique.
    pub fn several_runs(id: &str, runs: &[RunId]) -> ApiError {
        let list: Vec<String> = runs.iter().map(ToString::to_string).collect();
        let detail = format!("{} fits several runs: {}", shown(id), list.join(", "));
        ApiError::new(StatusCode::CONFLICT, "several_runs", detail, "Give more digits")
    }
    /// 422: what was given cannot be used.
    pub fn invalid(detail: impl Into<String>, fix: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail, fix)
    }
    /// 409: it does not fit where things are.
    pub fn conflict(code: &str, detail: impl Into<String>, fix: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, code, detail, fix)
    }
    /// 404 for what a port says is not there.
    pub fn missing(code: &str, error: PortError) -> ApiError {
        match error {
            PortError::Permanent { what, fix } => ApiError::new(StatusCode::NOT_FOUND, code, what, fix),
            other => other.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"skep\""));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(LATER_SECS));
            }
            _ => {}
        }
        response
    }
}

impl From<PortError> for ApiError {
    fn from(error: PortError) -> ApiError {
        let fix = error.fix().to_owned();
        match error {
            PortError::Permanent { what, .. } => ApiError::conflict("not_possible", what, fix),
            PortError::Transient { what, .. } | PortError::Unknown { what } => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "away", what, fix)
            }
            PortError::Fenced { what } => ApiError::conflict("elsewhere", what, fix),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let (status, fix) = match &refusal {
            Refusal::NotAllowed { .. } => (StatusCode::FORBIDDEN, "Ask somebody who may"),
            Refusal::NoBlock { .. } => (StatusCode::NOT_FOUND, "GET the run: `escalations` lists what it waits for"),
            Refusal::Invalid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "Correct it and send it again"),
            Refusal::NotAnAnswer { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "GET the run: each escalation names the answers that lift it")
            }
            Refusal::Ended { .. } => (StatusCode::CONFLICT, "POST the action `retry`, or open a new run"),
            Refusal::OutOfPlace { .. } | Refusal::Repeated { .. } => {
                (StatusCode::CONFLICT, "GET the run and do what still fits")
            }
        };
        ApiError::new(status, refusal.code(), refusal.to_string(), fix)
    }
}

impl From<Rejected> for ApiError {
    fn from(rejected: Rejected) -> ApiError {
        let words = rejected.to_string();
        match rejected {
            Rejected::Refused(refusal) => refusal.into(),
            Rejected::NoRun(id) => ApiError::no_run(&id.to_string()),
            Rejected::Moved { .. } => ApiError::new(
                StatusCode::PRECONDITION_FAILED,
                "moved",
                words,
                "GET the run and send its new ETag as If-Match",
            ),
            Rejected::Invalid { what, fix } => ApiError::invalid(what, fix),
            Rejected::Away(what) => ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "away",
                what,
                "Try again when what is away is there again",
            ),
            Rejected::Elsewhere(_) => {
                ApiError::conflict("elsewhere", words, "Talk to the process that carries the run, or wait")
            }
            Rejected::Quarantined(what) => ApiError::conflict("quarantined", what, QUARANTINED),
        }
    }
}

/// Text from outside in a message: one line, capped, nothing that a terminal would obey.
pub fn shown(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
    format!("\"{clean}\"")
}

/// Makes a problem of every error answer that is none yet: unknown routes, wrong methods, what extractors refuse, panics.
/// One place, so that none can be forgotten.
pub async fn everywhere(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    // What has a JSON body was worded on purpose: a problem, or a health report.
    let done = response.headers().get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"application/"));
    if done || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let mut answer = from_status(status, &text_of(status, body).await).into_response();
    for (name, value) in &parts.headers {
        // `Allow` and the like stay; what described the old body goes.
        if !answer.headers().contains_key(name) && name != "content-length" {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer
}

async fn text_of(status: StatusCode, body: Body) -> String {
    // What went wrong inside is for the log, not for the caller.
    if status.is_server_error() {
        return String::new();
    }
    let bytes = to_bytes(body, TEXT_MAX).await.unwrap_or_default();
    String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect()
}

fn from_status(status: StatusCode, text: &str) -> ApiError {
    let (code, fallback, fix) = match status {
        StatusCode::NOT_FOUND => ("no_route", "there is nothing at this address", "GET /openapi.json lists the routes"),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("method", "this address does not take that method", "The Allow header lists those it takes")
        }
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the body is larger than 1 MiB", "Send less"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ("media_type", "the body is not declared as JSON", "Send Content-Type: application/json")
        }
        StatusCode::REQUEST_TIMEOUT => ("timeout", "the request did not arrive in time", "Send it again"),
        StatusCode::GATEWAY_TIMEOUT => {
            ("timeout", "there was no answer in time; it may still happen", "Look whether it happened, then try again")
        }
        StatusCode::BAD_REQUEST => ("bad_request", "the request cannot be read", "Correct it and send it again"),
        StatusCode::UNPROCESSABLE_ENTITY => ("invalid", "the body does not fit", "GET /openapi.json shows its shape"),
        s if s.is_server_error() => {
            ("internal", "something went wrong inside Skep; the log has it", "Look whether it happened, then try again")
        }
        _ => ("refused", "the request was refused", "GET /openapi.json shows what is understood"),
    };
    let detail = if text.is_empty() { fallback } else { text };
    ApiError::new(status, code, detail, fix)
}
