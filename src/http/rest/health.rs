//! Routes for probes.

use super::problem::ApiResult;
use super::{State, wire};
use crate::service::health;
use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(report)).routes(routes!(live)).routes(routes!(ready))
}

/// Report the health of the service
#[utoipa::path(get, path = "/health", tag = "health", security(()), responses(
    (status = 200, body = wire::Health, description = "Nothing is wrong"),
    (status = 503, body = wire::Health, description = "Something is wrong; `status` says what"),
))]
async fn report(Shared(state): Shared<State>) -> Response {
    let health = health::health(&state.services).await;
    let code = if health.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(wire::Health::from(health))).into_response()
}

/// Liveness probe
///
/// Responds 200 whatever else is wrong: a restart would not fix it.
#[utoipa::path(get, path = "/health/live", tag = "health", security(()), responses(
    (status = 200, description = "The process is alive", body = String, content_type = "text/plain"),
))]
async fn live() -> &'static str {
    "ok\n"
}

/// Readiness probe
#[utoipa::path(get, path = "/health/ready", tag = "health", security(()), responses(
    (status = 200, description = "The service can work", body = String, content_type = "text/plain"),
    (status = 503, description = "The store cannot be written, or the sandbox is broken", body = wire::Problem,
        content_type = "application/problem+json"),
))]
async fn ready(Shared(state): Shared<State>) -> ApiResult<&'static str> {
    health::ready(&state.services).await?;
    Ok("ok\n")
}
