//! Whether the service is alive, whether it is ready, and how it is.

use super::State;
use super::view::Health;
use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long the store and the runtime may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(health)).routes(routes!(live)).routes(routes!(ready))
}

/// How the service is
#[utoipa::path(get, path = "/health", tag = "health", security(()), responses(
    (status = 200, body = Health, description = "All is well"),
    (status = 503, body = Health, description = "Something is wrong; `status` says what"),
))]
async fn health(Shared(state): Shared<State>) -> Response {
    let (store, live) = tokio::join!(store_answers(&state), timeout(PATIENCE, state.factory.live()));
    let status = match (store, &live) {
        (false, _) => "the store does not answer",
        (true, Err(_)) => "the runtime does not answer",
        (true, Ok(_)) if state.sandbox.broken().is_some() => "the sandbox does not hold",
        (true, Ok(_)) => "ok",
    };
    let health = Health {
        status: status.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        live: live.map_or(0, |runs| runs.len() as u64),
        store,
        sandbox: state.sandbox.level().to_owned(),
        uptime_secs: state.started_at.elapsed().as_secs(),
    };
    let code = if health.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(health)).into_response()
}

/// Whether the process is alive
///
/// Answers 200 whatever else is wrong: a restart would not mend it.
#[utoipa::path(get, path = "/health/live", tag = "health", security(()), responses(
    (status = 200, description = "It is", body = String, content_type = "text/plain"),
))]
async fn live() -> &'static str {
    "ok\n"
}

/// Whether the service is ready for work
#[utoipa::path(get, path = "/health/ready", tag = "health", security(()), responses(
    (status = 200, description = "It is", body = String, content_type = "text/plain"),
    (status = 503, description = "The store did not answer within two seconds, or the sandbox does not hold", body = super::view::Problem,
        content_type = "application/problem+json"),
))]
async fn ready(Shared(state): Shared<State>) -> super::problem::ApiResult<&'static str> {
    if let Some((what, fix)) = state.sandbox.broken() {
        return Err(super::problem::ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "sandbox", &what, &fix));
    }
    if store_answers(&state).await {
        return Ok("ok\n");
    }
    Err(super::problem::ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "away",
        "the store did not answer within two seconds",
        "Look at the database; the service goes on by itself once it answers",
    ))
}

async fn store_answers(state: &State) -> bool {
    matches!(timeout(PATIENCE, state.store.ping()).await, Ok(Ok(())))
}
