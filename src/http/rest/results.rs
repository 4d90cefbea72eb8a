//! Route for the newest test results of a project.

use super::problem::ApiResult;
use super::{State, wire};
use crate::service::{Caller, results};
use axum::extract::{Path, State as Shared};
use axum::{Extension, Json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(latest))
}

/// Get the newest test results of a project
///
/// The newest results of its newest run that was checked: at the head of its branch, else at a task's commit. The bytes
/// of logs and JUnit reports are artifacts of that run.
#[utoipa::path(get, path = "/api/v1/projects/{name}/tests/latest", tag = "projects",
    params(("name" = String, description = "The project's name")),
    responses((status = 200, body = wire::LatestTests, description = "The results")))]
async fn latest(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Json<wire::LatestTests>> {
    Ok(Json(results::latest(&state.services, &caller, &name).await?.into()))
}
