//! Answers of the gate's own: plain text for proxies, the provider's own shape for models, so that agents understand a no.

use super::wire::Wire;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

/// A plain answer.
pub fn text(status: StatusCode, words: &str) -> Response {
    with(status, "text/plain; charset=utf-8", format!("{words}\n"))
}

/// A plain no.
pub fn denied(words: &str) -> Response {
    text(StatusCode::FORBIDDEN, words)
}

/// An error in the shape the caller of `wire` reads.
pub fn error(wire: Wire, status: StatusCode, words: &str) -> Response {
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
            json!({ "type": "error", "error": { "type": kind, "message": words } })
        }
        Wire::Chat | Wire::Responses => {
            let kind = match code {
                402 => "insufficient_quota",
                401 | 403 => "permission_error",
                429 => "rate_limit_exceeded",
                500.. => "server_error",
                _ => "invalid_request_error",
            };
            json!({ "error": { "message": words, "type": kind, "param": null, "code": kind } })
        }
        Wire::Gemini => {
            let kind = match code {
                402 | 429 => "RESOURCE_EXHAUSTED",
                401 | 403 => "PERMISSION_DENIED",
                500.. => "UNAVAILABLE",
                _ => "INVALID_ARGUMENT",
            };
            json!({ "error": { "code": code, "message": words, "status": kind } })
        }
        Wire::Ollama => json!({ "error": words }),
    };
    let mut response = with(status, "application/json", body.to_string());
    if matches!(code, 400..=428) {
        // The clients of two providers look at this before they try again.
        response.headers_mut().insert(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"));
    }
    response
}

fn with(status: StatusCode, kind: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
