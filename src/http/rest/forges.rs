//! Route for what forges report.

use super::problem::ApiResult;
use super::{State, wire};
use crate::service::{Caller, intake};
use axum::extract::{Path, Query, State as Shared};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(deliveries))
}

/// Query for deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DeliveryQuery {
    /// Only deliveries before this number, for paging.
    before: Option<u64>,
    /// Maximum number of deliveries, 1 to 500; 100 if absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
}

/// List what a forge reported, newest first
///
/// Webhooks, and what sweeps found, with what became of each. The newest 10,000 are kept.
#[utoipa::path(get, path = "/api/v1/forges/{name}/deliveries", tag = "changes",
    params(("name" = String, description = "Name of the forge"), DeliveryQuery),
    responses((status = 200, body = Vec<wire::Delivery>, description = "Deliveries")))]
async fn deliveries(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(query): Query<DeliveryQuery>,
) -> ApiResult<Json<Vec<wire::Delivery>>> {
    let rows = intake::deliveries(&state.services, &caller, &name, query.before, query.limit).await?;
    Ok(Json(rows.into_iter().map(Into::into).collect()))
}
