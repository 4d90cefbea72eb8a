//! Routes for deployments and sponsors.

use super::body::{JsonBody, OptionalBody};
use super::problem::ApiResult;
use super::{State, wire};
use crate::service::Caller;
use crate::service::deployments::{self, DeployRequest, NewSponsor, SponsorAct};
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const MARKDOWN: &str = "text/markdown; charset=utf-8";

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(deploy))
        .routes(routes!(roll_back))
        .routes(routes!(approve))
        .routes(routes!(decline))
        .routes(routes!(suspend))
        .routes(routes!(resume))
        .routes(routes!(probe))
        .routes(routes!(runbook))
        .routes(routes!(rollout))
        .routes(routes!(report))
        .routes(routes!(sponsors, add_sponsor))
        .routes(routes!(pause_sponsor))
        .routes(routes!(resume_sponsor))
        .routes(routes!(end_sponsor))
}

/// List the targets of deployments, by name
///
/// Each with its newest rollouts.
#[utoipa::path(get, path = "/api/v1/deployments", tag = "deployments",
    responses((status = 200, body = Vec<wire::Deployment>, description = "The configured targets")))]
async fn list(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Json<Vec<wire::Deployment>>> {
    let all = deployments::list(&state.services, &caller).await?;
    Ok(Json(all.into_iter().map(Into::into).collect()))
}

/// Get a target with its rollouts
#[utoipa::path(get, path = "/api/v1/deployments/{name}", tag = "deployments",
    params(("name" = String, description = "The target")),
    responses((status = 200, body = wire::Deployment, description = "The target")))]
async fn show(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Json<wire::Deployment>> {
    Ok(Json(deployments::show(&state.services, &caller, &name).await?.into()))
}

/// Deploy a version
///
/// A running service carries it out. Needs the right `run`; with `approve`, also the right `approve`.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/deploy", tag = "deployments",
    params(("name" = String, description = "The target")), request_body = wire::NewRollout,
    responses((status = 201, body = wire::Rollout, description = "The rollout, queued")))]
async fn deploy(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    OptionalBody(new): OptionalBody<wire::NewRollout>,
) -> ApiResult<(StatusCode, Json<wire::Rollout>)> {
    let request = DeployRequest { sha: new.sha, approve: new.approve };
    let rollout = deployments::deploy(&state.services, &caller, &name, request).await?;
    Ok((StatusCode::CREATED, Json(rollout.into())))
}

/// Deploy an earlier version again
///
/// Needs the right `approve`.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/rollback", tag = "deployments",
    params(("name" = String, description = "The target")), request_body = wire::NewRollback,
    responses((status = 201, body = wire::Rollout, description = "The rollout, queued")))]
async fn roll_back(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    OptionalBody(new): OptionalBody<wire::NewRollback>,
) -> ApiResult<(StatusCode, Json<wire::Rollout>)> {
    let rollout = deployments::roll_back(&state.services, &caller, &name, new.to).await?;
    Ok((StatusCode::CREATED, Json(rollout.into())))
}

/// Approve the rollout that waits
///
/// Needs the right `approve`.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/approve", tag = "deployments",
    params(("name" = String, description = "The target")), request_body = wire::RolloutApproval,
    responses((status = 200, body = wire::Rollout, description = "The rollout")))]
async fn approve(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    OptionalBody(approval): OptionalBody<wire::RolloutApproval>,
) -> ApiResult<Json<wire::Rollout>> {
    Ok(Json(deployments::answer(&state.services, &caller, &name, approval.rollout, None).await?.into()))
}

/// Decline the rollout that waits
///
/// Needs the right `approve`.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/decline", tag = "deployments",
    params(("name" = String, description = "The target")), request_body = wire::DeploymentReason,
    responses((status = 200, body = wire::Rollout, description = "The rollout")))]
async fn decline(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(reason): JsonBody<wire::DeploymentReason>,
) -> ApiResult<Json<wire::Rollout>> {
    Ok(Json(deployments::answer(&state.services, &caller, &name, reason.rollout, Some(reason.why)).await?.into()))
}

/// Suspend a target
///
/// Nothing new is deployed to it; what is deployed stays as it is. Needs the right `approve`.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/suspend", tag = "deployments",
    params(("name" = String, description = "The target")), request_body = wire::DeploymentReason,
    responses((status = 200, body = wire::Deployment, description = "The target")))]
async fn suspend(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(reason): JsonBody<wire::DeploymentReason>,
) -> ApiResult<Json<wire::Deployment>> {
    Ok(Json(deployments::suspend(&state.services, &caller, &name, &reason.why).await?.into()))
}

/// Resume a suspended target
///
/// Needs the right `approve`.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/resume", tag = "deployments",
    params(("name" = String, description = "The target")),
    responses((status = 200, body = wire::Deployment, description = "The target")))]
async fn resume(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Json<wire::Deployment>> {
    Ok(Json(deployments::resume(&state.services, &caller, &name).await?.into()))
}

/// Probe a target now
///
/// Needs the right `run`.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/probe", tag = "deployments",
    params(("name" = String, description = "The target")),
    responses((status = 200, body = wire::Deployment, description = "The target")))]
async fn probe(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Json<wire::Deployment>> {
    Ok(Json(deployments::probe(&state.services, &caller, &name).await?.into()))
}

/// Get the runbook of a target
///
/// How a person deploys, checks and rolls back without Skep.
#[utoipa::path(get, path = "/api/v1/deployments/{name}/runbook", tag = "deployments",
    params(("name" = String, description = "The target")),
    responses((status = 200, body = String, content_type = "text/markdown", description = "The runbook, in Markdown")))]
async fn runbook(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Response> {
    let text = deployments::runbook(&state.services, &caller, &name).await?;
    Ok(([(CONTENT_TYPE, MARKDOWN)], text).into_response())
}

/// Get a rollout
#[utoipa::path(get, path = "/api/v1/deployments/{name}/rollouts/{n}", tag = "deployments",
    params(("name" = String, description = "The target"), ("n" = u64, description = "The number of the rollout")),
    responses((status = 200, body = wire::Rollout, description = "The rollout with its acceptance report")))]
async fn rollout(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path((name, number)): Path<(String, u64)>,
) -> ApiResult<Json<wire::Rollout>> {
    Ok(Json(deployments::rollout(&state.services, &caller, &name, number).await?.1.into()))
}

/// Get the acceptance report of a rollout, with the runbook
#[utoipa::path(get, path = "/api/v1/deployments/{name}/rollouts/{n}/report", tag = "deployments",
    params(("name" = String, description = "The target"), ("n" = u64, description = "The number of the rollout")),
    responses((status = 200, body = String, content_type = "text/markdown", description = "The report, in Markdown")))]
async fn report(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path((name, number)): Path<(String, u64)>,
) -> ApiResult<Response> {
    let text = deployments::report(&state.services, &caller, &name, number).await?;
    Ok(([(CONTENT_TYPE, MARKDOWN)], text).into_response())
}

/// List the sponsors, by project and name
#[utoipa::path(get, path = "/api/v1/sponsors", tag = "deployments",
    responses((status = 200, body = Vec<wire::Sponsor>, description = "The sponsors, ended ones too")))]
async fn sponsors(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Json<Vec<wire::Sponsor>>> {
    let all = deployments::list_sponsors(&state.services, &caller).await?;
    let now = state.services.clock.now();
    Ok(Json(all.into_iter().map(|sponsor| wire::Sponsor::of(sponsor, now)).collect()))
}

/// Add a sponsor
///
/// One of the same project and name is replaced. Needs the right `admin`.
#[utoipa::path(post, path = "/api/v1/sponsors", tag = "deployments", request_body = wire::NewSponsor,
    responses((status = 201, body = wire::Sponsor, description = "The sponsor")))]
async fn add_sponsor(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<wire::NewSponsor>,
) -> ApiResult<(StatusCode, Json<wire::Sponsor>)> {
    let wire::NewSponsor { name, project, hosting, domain, monthly_micros, public, notes } = new;
    let new = NewSponsor { name, project, hosting, domain, monthly_micros, public, notes };
    let sponsor = deployments::add_sponsor(&state.services, &caller, new).await?;
    Ok((StatusCode::CREATED, Json(wire::Sponsor::of(sponsor, state.services.clock.now()))))
}

/// Pause a sponsor
///
/// It covers nothing until it is resumed. Needs the right `admin`.
#[utoipa::path(post, path = "/api/v1/sponsors/pause", tag = "deployments", request_body = wire::SponsorName,
    responses((status = 200, body = wire::Sponsor, description = "The sponsor")))]
async fn pause_sponsor(state: Shared<State>, caller: Extension<Caller>, which: JsonBody<wire::SponsorName>) -> Changed {
    change_sponsor(state, caller, which, SponsorAct::Pause).await
}

/// Resume a sponsor
///
/// Needs the right `admin`.
#[utoipa::path(post, path = "/api/v1/sponsors/resume", tag = "deployments", request_body = wire::SponsorName,
    responses((status = 200, body = wire::Sponsor, description = "The sponsor")))]
async fn resume_sponsor(
    state: Shared<State>,
    caller: Extension<Caller>,
    which: JsonBody<wire::SponsorName>,
) -> Changed {
    change_sponsor(state, caller, which, SponsorAct::Resume).await
}

/// End a sponsor
///
/// Needs the right `admin`.
#[utoipa::path(post, path = "/api/v1/sponsors/end", tag = "deployments", request_body = wire::SponsorName,
    responses((status = 200, body = wire::Sponsor, description = "The sponsor")))]
async fn end_sponsor(state: Shared<State>, caller: Extension<Caller>, which: JsonBody<wire::SponsorName>) -> Changed {
    change_sponsor(state, caller, which, SponsorAct::End).await
}

type Changed = ApiResult<Json<wire::Sponsor>>;

async fn change_sponsor(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    JsonBody(which): JsonBody<wire::SponsorName>,
    act: SponsorAct,
) -> Changed {
    let sponsor = deployments::change_sponsor(&state.services, &caller, &which.project, &which.name, act).await?;
    Ok(Json(wire::Sponsor::of(sponsor, state.services.clock.now())))
}
