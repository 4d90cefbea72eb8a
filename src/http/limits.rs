//! Limits of requests, headers of every response, and the span of each request.

use crate::telemetry::{TraceContext, metrics};
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response as HttpResponse, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tracing::Instrument;

/// Maximum bytes of a body.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Maximum bytes of a request's head.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Time limit for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit of a reading request.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of a writing request. The runtime answers within ten minutes, since opening a run may clone a repository.
const WRITE_TIMEOUT: Duration = Duration::from_secs(620);

const TRACEPARENT: &str = "traceparent";

/// Headers of responses that are not pages: none may be framed, sniffed or cached.
const NO_PAGE: [(HeaderName, HeaderValue); 6] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Measures every request, and opens a span for it, below the caller's trace if it names one.
pub async fn observed(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = method_name(request.method()).to_owned();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("", MatchedPath::as_str);
    // The span names the route, not the address, because an address may contain anything.
    let span = tracing::info_span!(
        "http",
        http.request.method = method,
        http.route = route,
        http.response.status_code = tracing::field::Empty
    );
    let span = TraceContext::under(traceparent(request.headers()), span);
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    let status = response.status();
    let labels = [
        ("http.request.method", method.as_str()),
        ("http.route", route),
        ("http.response.status_code", status.as_str()),
        ("url.scheme", "http"),
    ];
    metrics().http.duration(began.elapsed(), &labels);
    response
}

/// Adds the headers of responses that are not pages.
pub async fn closed(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in NO_PAGE {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Returns the caller's trace context, if it sent a valid one.
pub fn traceparent(headers: &HeaderMap) -> Option<&str> {
    headers.get(TRACEPARENT)?.to_str().ok().filter(|t| t.parse::<TraceContext>().is_ok())
}

fn method_name(method: &Method) -> &str {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];
    if known.contains(method) { method.as_str() } else { "_OTHER" }
}

/// Refuses a request whose head is too large. The connection's buffer is a limit, too, but not an exact one.
pub async fn small_head(request: Request, next: Next) -> Response {
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    let address = request.uri().path_and_query().map_or(0, |address| address.as_str().len());
    if address + headers.sum::<usize>() > MAX_HEAD_BYTES {
        return StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response();
    }
    next.run(request).await
}

/// Reads the whole body within its limits, and enforces the time limit of the handler.
pub async fn bounded(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = match timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            // Other errors are cut connections, where the response is not read.
            let large = std::error::Error::source(&error).is_some_and(|e| e.to_string().contains("limit"));
            return if large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST }.into_response();
        }
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let limit = if parts.method.is_safe() { READ_TIMEOUT } else { WRITE_TIMEOUT };
    match timeout(limit, next.run(Request::from_parts(parts, Body::from(body)))).await {
        Ok(response) => response,
        Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
    }
}

/// Responds to an unknown address.
pub async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// Responds to an unknown method of a known address.
pub async fn not_allowed() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}

/// Responds to a panic in a handler. The panic hook has logged it; the caller learns no details.
pub fn panicked(_: Box<dyn Any + Send + 'static>) -> HttpResponse<Body> {
    tracing::error!("a request handler panicked");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
