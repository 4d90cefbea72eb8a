//! Routes for verified outcomes.

use super::problem::ApiResult;
use super::{State, wire};
use crate::service::Caller;
use crate::service::outcomes::{self, OutcomeQuery};
use axum::extract::{Query, State as Shared};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(rebuild))
}

/// Query for outcomes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Only of this project.
    project: Option<String>,
    /// Only of this run, whole or shortened.
    run: Option<String>,
    /// Only with this word.
    #[param(example = "missed")]
    word: Option<String>,
    /// Only of runs older than this one, for paging.
    before: Option<String>,
    /// Maximum number of rows, 1 to 500; 100 if absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
}

/// List verified outcomes, newest run first
///
/// What the journals of ended runs prove about their attempts. They are written when a run ends, and never changed.
#[utoipa::path(get, path = "/api/v1/outcomes", tag = "improvement", params(Which),
    responses((status = 200, body = Vec<wire::VerifiedOutcome>, description = "The outcomes")))]
async fn list(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Which>,
) -> ApiResult<Json<Vec<wire::VerifiedOutcome>>> {
    let Which { project, run, word, before, limit } = query;
    let query = OutcomeQuery { project, run, word, before, limit };
    let rows = outcomes::list(&state.services, &caller, &query).await?;
    Ok(Json(rows.into_iter().map(Into::into).collect()))
}

/// Derive the outcomes of all ended runs again
///
/// From their journals: needed for runs that ended before Skep recorded outcomes. Needs the right `admin`.
#[utoipa::path(post, path = "/api/v1/outcomes/rebuild", tag = "improvement",
    responses((status = 200, body = wire::RebuiltOutcomes, description = "Derived and stored")))]
async fn rebuild(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Json<wire::RebuiltOutcomes>> {
    Ok(Json(outcomes::rebuild(&state.services, &caller).await?.into()))
}
