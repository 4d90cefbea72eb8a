//! Routes for schedules.

use super::problem::ApiResult;
use super::{State, wire};
use crate::service::{Caller, schedules};
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::{Extension, Json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(start))
}

/// List the schedules, by name
#[utoipa::path(get, path = "/api/v1/schedules", tag = "schedules",
    responses((status = 200, body = Vec<wire::Schedule>, description = "The configured schedules")))]
async fn list(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Json<Vec<wire::Schedule>>> {
    let scheduled = schedules::list(&state.services, &caller).await?;
    Ok(Json(scheduled.into_iter().map(Into::into).collect()))
}

/// Start the run of a schedule now
///
/// Its next time stays as it is. An open run of the same goal is returned instead of a second one.
#[utoipa::path(post, path = "/api/v1/schedules/{name}/run", tag = "schedules",
    params(("name" = String, description = "The schedule")),
    responses((status = 201, body = wire::Run, description = "The run")))]
async fn start(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<(StatusCode, Json<wire::Run>)> {
    let run = schedules::start_now(&state.services, &caller, &name).await?;
    Ok((StatusCode::CREATED, Json(wire::Run::new(&run, state.services.clock.now()))))
}
