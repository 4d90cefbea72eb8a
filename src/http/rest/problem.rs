//! Errors of REST as RFC 9457 problems with stable codes.

use super::wire::Problem;
use crate::secrets::redact_all;
use crate::service::{ErrorKind, ServiceError};
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Result of a handler.
pub type ApiResult<T> = Result<T, ApiError>;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// Maximum bytes of a library's error text that is passed on.
const MAX_TEXT_BYTES: usize = 2048;
/// Seconds after which an unavailable service may be back.
const RETRY_AFTER_SECS: &str = "5";

/// Error of a handler.
#[derive(Debug)]
pub struct ApiError(Box<Problem>);

impl ApiError {
    /// Creates an error. Secrets are redacted from its texts.
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
    /// Returns the problem, for a stream whose status was sent before.
    pub(super) fn problem(&self) -> &Problem {
        &self.0
    }
    /// 422: the input is not usable.
    pub fn invalid(detail: impl Into<String>, fix: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail, fix)
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> ApiError {
        let status = match error.kind {
            ErrorKind::Malformed => StatusCode::BAD_REQUEST,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Moved => StatusCode::PRECONDITION_FAILED,
            ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::TooMany => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        ApiError::new(status, error.code, error.detail, error.fix)
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
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("60"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
            }
            _ => {}
        }
        response
    }
}

/// Turns every error response that is not a problem yet into one: unknown routes, wrong methods, refusals of
/// extractors, panics.
pub async fn everywhere(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    // A response with a JSON body was written on purpose: a problem, or a health report.
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"application/"));
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let mut problem = from_status(status, &text_of(status, body).await).into_response();
    for (name, value) in &parts.headers {
        // `Allow` and the like stay; headers that described the old body do not.
        if !problem.headers().contains_key(name) && name != "content-length" {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}

async fn text_of(status: StatusCode, body: Body) -> String {
    // Internal errors are for the log, not for the caller.
    if status.is_server_error() {
        return String::new();
    }
    let bytes = to_bytes(body, MAX_TEXT_BYTES).await.unwrap_or_default();
    String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect()
}

fn from_status(status: StatusCode, text: &str) -> ApiError {
    let (code, fallback, fix) = match status {
        StatusCode::NOT_FOUND => ("no_route", "no route has this address", "GET /openapi.json lists the routes"),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("method", "this address does not support the method", "The Allow header lists the supported methods")
        }
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the body is larger than 1 MiB", "Send a smaller body"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            ("headers_too_large", "the address and headers are larger than 32 KiB", "Send fewer or shorter ones")
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ("media_type", "the body is not declared as JSON", "Send Content-Type: application/json")
        }
        StatusCode::REQUEST_TIMEOUT => ("timeout", "the request did not arrive in time", "Send it again"),
        StatusCode::GATEWAY_TIMEOUT => {
            ("timeout", "the time limit is over; the action may still happen", "Check whether it happened, then retry")
        }
        StatusCode::BAD_REQUEST => ("bad_request", "the request cannot be parsed", "Correct it and send it again"),
        StatusCode::UNPROCESSABLE_ENTITY => {
            ("invalid", "the body does not match the schema", "GET /openapi.json has the schema")
        }
        s if s.is_server_error() => {
            ("internal", "internal error; the log has the details", "Check whether it happened, then retry")
        }
        _ => ("refused", "the request was refused", "GET /openapi.json describes the requests"),
    };
    let detail = if text.is_empty() { fallback } else { text };
    ApiError::new(status, code, detail, fix)
}
