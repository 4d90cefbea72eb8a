//! How long and how much a request may be, what every answer carries, and its span.

use crate::telemetry::TraceContext;
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response as HttpResponse, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::time::Duration;
use tokio::time::timeout;
use tracing::Instrument;

/// The most bytes of a body.
pub const BODY_MAX: usize = 1024 * 1024;
/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How long a reading request may take.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// How long a writing one may take: the runtime answers within ten minutes, since intake may clone a repository.
const WRITE_WITHIN: Duration = Duration::from_secs(620);

const TRACEPARENT: &str = "traceparent";

/// Headers of every answer: nothing here is a page, nothing may be framed, guessed at, or kept.
const EVERYWHERE: [(HeaderName, HeaderValue); 6] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Gives every call its span, below the caller's trace where it names one, and every answer its headers.
pub async fn observed(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    // The route, not the address: an address may hold anything.
    let span = tracing::info_span!(
        "http",
        http.request.method = method_name(request.method()),
        http.route = route,
        http.response.status_code = tracing::field::Empty
    );
    let span = TraceContext::under(traceparent(request.headers()), span);
    let mut response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    for (name, value) in EVERYWHERE {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The caller's trace context, if it is one.
pub fn traceparent(headers: &HeaderMap) -> Option<&str> {
    headers.get(TRACEPARENT)?.to_str().ok().filter(|t| t.parse::<TraceContext>().is_ok())
}

fn method_name(method: &Method) -> &str {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];
    if known.contains(method) { method.as_str() } else { "_OTHER" }
}

/// Takes the body in whole, within its limits, and holds the handler to its time.
pub async fn bounded(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = match timeout(BODY_WITHIN, to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            // The other errors are cut connections: nobody reads the answer.
            let large = std::error::Error::source(&error).is_some_and(|e| e.to_string().contains("limit"));
            return if large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST }.into_response();
        }
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let within = if parts.method.is_safe() { READ_WITHIN } else { WRITE_WITHIN };
    match timeout(within, next.run(Request::from_parts(parts, Body::from(body)))).await {
        Ok(response) => response,
        Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
    }
}

/// No such address.
pub async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// No such method there.
pub async fn not_allowed() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}

/// A handler panicked: the caller learns nothing of the values, the panic hook has told the log.
pub fn panicked(_: Box<dyn Any + Send + 'static>) -> HttpResponse<Body> {
    tracing::error!("a request handler panicked");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
