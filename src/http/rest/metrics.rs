//! Route for Prometheus.

use super::State;
use super::problem::ApiResult;
use crate::service::{Caller, metrics};
use crate::telemetry::TEXT_FORMAT;
use axum::Extension;
use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(scrape))
}

/// Builds the router of the listener for metrics, which needs no token because only this machine can reach it.
pub fn open_routes() -> axum::Router<State> {
    axum::Router::new().route("/metrics", get(scrape_open))
}

/// Read the metrics
///
/// In the Prometheus text format. Needs a token with the right `metrics`.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "All metrics", body = String, content_type = "text/plain"),
))]
async fn scrape(Shared(state): Shared<State>, Extension(caller): Extension<Caller>) -> ApiResult<impl IntoResponse> {
    Ok(([(CONTENT_TYPE, TEXT_FORMAT)], metrics::scrape(&state.services, &caller).await?))
}

async fn scrape_open(Shared(state): Shared<State>) -> ApiResult<impl IntoResponse> {
    Ok(([(CONTENT_TYPE, TEXT_FORMAT)], metrics::text(&state.services).await?))
}
