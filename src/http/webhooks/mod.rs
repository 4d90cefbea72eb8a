//! Webhooks of forges: `POST /webhooks/NAME`. A request authenticates itself by the signature over its bytes; it needs
//! no token, and a token opens nothing here.

use super::State;
use super::limits::{self, MAX_BODY_BYTES};
use super::rest::problem::ApiError;
use crate::service::intake::{self, Receipt};
use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Maximum bytes of a body: the largest that GitHub sends.
const MAX_WEBHOOK_BYTES: usize = 25 * 1024 * 1024;
/// Bodies above the usual size that are read at the same time.
const MAX_LARGE: usize = 2;
/// Time limit for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a large body waits for others.
const LARGE_WAIT: Duration = Duration::from_secs(5);
/// Time limit for storing a delivery.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// Permits for large bodies.
#[derive(Clone)]
struct Large(Arc<Semaphore>);

/// Builds the routes, with their own guards.
pub fn routes() -> Router<State> {
    let large = Large(Arc::new(Semaphore::new(MAX_LARGE)));
    Router::new()
        .route("/webhooks/{forge}", post(receive))
        .method_not_allowed_fallback(limits::not_allowed)
        .layer(axum::Extension(large))
}

async fn receive(
    Shared(state): Shared<State>,
    axum::Extension(large): axum::Extension<Large>,
    Path(forge): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = match read(&parts.headers, body, &large).await {
        Ok(body) => body,
        Err(StatusCode::PAYLOAD_TOO_LARGE) => {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return ApiError::new(status, "too_large", "the body is larger than 25 MiB", "Send fewer events")
                .into_response();
        }
        Err(status) => return status.into_response(),
    };
    let header = |name: &str| parts.headers.get(name)?.to_str().ok().map(str::to_owned);
    let received = match timeout(STORE_TIMEOUT, intake::receive(&state.services, &forge, &header, &body)).await {
        Ok(received) => received,
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    match received {
        Ok(Receipt::Stored) => StatusCode::ACCEPTED.into_response(),
        Ok(Receipt::Unknown) => StatusCode::NOT_FOUND.into_response(),
        Ok(Receipt::Unsigned) => StatusCode::UNAUTHORIZED.into_response(),
        Ok(Receipt::Malformed(why)) => {
            ApiError::new(StatusCode::BAD_REQUEST, "webhook", why, "Correct the webhook on the forge").into_response()
        }
        Err(error) => ApiError::from(error).into_response(),
    }
}

/// Reads the body. One of the usual size needs no permit, so that large ones cannot keep it out.
async fn read(headers: &HeaderMap, body: axum::body::Body, large: &Large) -> Result<Bytes, StatusCode> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let declared = declared.ok_or(StatusCode::LENGTH_REQUIRED)?;
    if declared > MAX_WEBHOOK_BYTES {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let _permit = match declared > MAX_BODY_BYTES {
        true => match timeout(LARGE_WAIT, large.0.acquire()).await {
            Ok(Ok(permit)) => Some(permit),
            _ => return Err(StatusCode::SERVICE_UNAVAILABLE),
        },
        false => None,
    };
    match timeout(BODY_TIMEOUT, to_bytes(body, declared)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}
