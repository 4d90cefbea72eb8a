//! The proxy's own responses: plain text for proxy requests, the provider's error format for model calls, so that
//! agents understand them.

use super::wire::Wire;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

/// Builds a plain-text response.
pub fn text(status: StatusCode, message: &str) -> Response {
    build(status, "text/plain; charset=utf-8", format!("{message}\n"))
}

/// Builds a plain-text 403 response.
pub fn denied(message: &str) -> Response {
    text(StatusCode::FORBIDDEN, message)
}

/// Builds an error in the format that clients of `wire` expect.
pub fn error(wire: Wire, status: StatusCode, message: &str) -> Response {
    let code = status.as_u16();
    let body: Value = match wire {
        Wire::Anthropic => {
            let kind = match code {
                400 | 413 | 415 => "invalid_request_error",
                401 => "authentication_error",
                402 => "billing_error",
                403 => "permission_error",
                429 => "rate_limit_error",
                _ => "api_error",
            };
            json!({ "type": "error", "error": { "type": kind, "message": message } })
        }
        Wire::Chat | Wire::Responses => {
            let kind = match code {
                402 => "insufficient_quota",
                401 | 403 => "permission_error",
                429 => "rate_limit_exceeded",
                500.. => "server_error",
                _ => "invalid_request_error",
            };
            json!({ "error": { "message": message, "type": kind, "param": null, "code": kind } })
        }
        Wire::Gemini => {
            let kind = match code {
                402 | 429 => "RESOURCE_EXHAUSTED",
                401 | 403 => "PERMISSION_DENIED",
                500.. => "UNAVAILABLE",
                _ => "INVALID_ARGUMENT",
            };
            json!({ "error": { "code": code, "message": message, "status": kind } })
        }
        Wire::Ollama => json!({ "error": message }),
    };
    let mut response = build(status, "application/json", body.to_string());
    if matches!(code, 400..=428) {
        // The official clients of two providers check this header before they retry.
        response.headers_mut().insert(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"));
    }
    response
}

fn build(status: StatusCode, kind: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
