//! Routes for spending, and for budgets that runs share.

use super::body::JsonBody;
use super::problem::ApiResult;
use super::{State, wire};
use crate::service::Caller;
use crate::service::budgets::{self, RaiseShared, SpendingQuery};
use axum::extract::{Query, State as Shared};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(spending)).routes(routes!(raise))
}

/// Query for spending.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Spend {
    /// Attribute to sum up by.
    #[param(example = "model")]
    #[param(inline)]
    by: wire::SpendingBy,
    /// Only this project.
    project: Option<String>,
    /// Only this run, whole or shortened.
    run: Option<String>,
    /// Only this UTC day, `2026-11-21` or `today`.
    #[param(example = "today")]
    day: Option<String>,
    /// Maximum number of rows, 1 to 500; 100 if absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
}

/// Sum up spending
///
/// Usage and reservations of attempts. Days are UTC; an attempt belongs to the day it was ordered on. Attempts with a
/// model of unknown price count as `unpriced`: they are charged their full reservation, which is not in the model's
/// sum.
#[utoipa::path(get, path = "/api/v1/spending", tag = "budget", params(Spend),
    responses((status = 200, body = Vec<wire::Spending>, description = "The sums")))]
async fn spending(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Spend>,
) -> ApiResult<Json<Vec<wire::Spending>>> {
    let Spend { by, project, run, day, limit } = query;
    let query = SpendingQuery { by: by.into(), project, run, day, limit };
    let sums = budgets::spending(&state.services, &caller, &query).await?;
    Ok(Json(sums.into_iter().map(Into::into).collect()))
}

/// Raise a shared budget
///
/// Adds to the limits that the runs of a project, or of the current UTC day, share. Runs that wait for exactly this
/// budget continue.
#[utoipa::path(post, path = "/api/v1/budget/raise", tag = "budget", request_body = wire::RaiseShared,
    responses((status = 200, body = wire::Raised, description = "Raised, durably")))]
async fn raise(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    JsonBody(more): JsonBody<wire::RaiseShared>,
) -> ApiResult<Json<wire::Raised>> {
    let wire::RaiseShared { scope, project, tokens, cost_micros } = more;
    let request = RaiseShared { scope: scope.into(), project, tokens, cost_micros };
    let resumed = budgets::raise_shared(&state.services, &caller, &request).await?;
    Ok(Json(wire::Raised { resumed: resumed.iter().map(ToString::to_string).collect() }))
}
