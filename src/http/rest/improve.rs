//! Routes for proposals to improve what makes runs fail.

use super::body::JsonBody;
use super::problem::ApiResult;
use super::{State, wire};
use crate::service::Caller;
use crate::service::improve::{self, NewPass};
use axum::extract::{Path, State as Shared};
use axum::{Extension, Json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default()
        .routes(routes!(pass))
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(accept))
        .routes(routes!(drop_proposal))
}

/// Find failures that recur, and propose what to change
///
/// Reads the runs of the window, measures the effect of accepted proposals, and stores new proposals: at most as many as
/// the configuration allows to be open. Needs the right `run`, for a dry run `read`. Changes no configuration.
#[utoipa::path(post, path = "/api/v1/improve", tag = "improvement", request_body = wire::NewImprovePass,
    responses((status = 200, body = wire::ImprovePass, description = "What was found, and what is new")))]
async fn pass(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<wire::NewImprovePass>,
) -> ApiResult<Json<wire::ImprovePass>> {
    let wire::NewImprovePass { since_secs, project, dry_run, as_issue } = new;
    let request = NewPass { since_secs, project, dry_run, as_issue };
    Ok(Json(improve::pass(&state.services, &caller, &request).await?.into()))
}

/// List proposals, newest first
///
/// Those of all states, at most 500.
#[utoipa::path(get, path = "/api/v1/proposals", tag = "improvement",
    responses((status = 200, body = Vec<wire::Proposal>, description = "The proposals")))]
async fn list(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Json<Vec<wire::Proposal>>> {
    let proposals = improve::list(&state.services, &caller).await?;
    Ok(Json(proposals.into_iter().map(Into::into).collect()))
}

/// Get a proposal
#[utoipa::path(get, path = "/api/v1/proposals/{id}", tag = "improvement",
    params(("id" = String, description = "The id, or its first four digits or more")),
    responses((status = 200, body = wire::Proposal, description = "The proposal")))]
async fn show(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<Json<wire::Proposal>> {
    Ok(Json(improve::show(&state.services, &caller, &id).await?.into()))
}

/// Accept a proposal
///
/// A person makes the change. Its effect is measured from now on: over the next 30 ends of the step, or 28 days. Needs
/// the right `approve`.
#[utoipa::path(post, path = "/api/v1/proposals/{id}/accept", tag = "improvement",
    params(("id" = String, description = "The id, or its first four digits or more")),
    responses((status = 200, body = wire::Proposal, description = "Accepted; its state is `testing`")))]
async fn accept(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<Json<wire::Proposal>> {
    Ok(Json(improve::accept(&state.services, &caller, &id).await?.into()))
}

/// Drop a proposal
///
/// The same failure is not proposed again for 90 days. Needs the right `approve`.
#[utoipa::path(post, path = "/api/v1/proposals/{id}/drop", tag = "improvement", request_body = wire::DropProposal,
    params(("id" = String, description = "The id, or its first four digits or more")),
    responses((status = 200, body = wire::Proposal, description = "Dropped")))]
async fn drop_proposal(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    JsonBody(drop): JsonBody<wire::DropProposal>,
) -> ApiResult<Json<wire::Proposal>> {
    Ok(Json(improve::drop_proposal(&state.services, &caller, &id, &drop.why).await?.into()))
}
