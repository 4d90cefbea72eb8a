//! Routes of open work, for outside agents.

use super::body::{JsonBody, OptionalBody};
use super::problem::{ApiError, ApiResult};
use super::{State, wire};
use crate::service::{Caller, agents, open_work};
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default()
        .routes(routes!(register))
        .routes(routes!(feed))
        .routes(routes!(status))
        .routes(routes!(mine))
        .routes(routes!(details))
        .routes(routes!(files))
        .routes(routes!(file))
        .routes(routes!(claim))
        .routes(routes!(submit))
        .routes(routes!(review))
        .routes(routes!(abandon))
}

/// Register as an outside agent
///
/// Send the invite code as the bearer token. It works once; the answer has the token for everything else.
#[utoipa::path(post, path = "/api/v1/work/register", tag = "work", request_body = wire::Registration,
    responses((status = 201, body = wire::RegisteredAgent, description = "The token, which is shown only here")))]
async fn register(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    OptionalBody(new): OptionalBody<wire::Registration>,
) -> ApiResult<(StatusCode, Json<wire::RegisteredAgent>)> {
    let (agent, token) = agents::register(&state.services, &caller, &new.about).await?;
    let agent = wire::Agent::of(agent, state.services.clock.now());
    Ok((StatusCode::CREATED, Json(wire::RegisteredAgent { token: token.expose().to_owned(), agent })))
}

/// Query for the feed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Limit {
    /// Maximum number of offers, 1 to 500; 100 if absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
}

/// List the offers that you may claim now, oldest first
#[utoipa::path(get, path = "/api/v1/work/feed", tag = "work", params(Limit),
    responses((status = 200, body = Vec<wire::Offer>, description = "The offers")))]
async fn feed(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Limit>,
) -> ApiResult<Json<Vec<wire::Offer>>> {
    let offers = open_work::feed(&state.services, &caller, query.limit).await?;
    Ok(Json(offers.iter().map(Into::into).collect()))
}

/// Show who you are, what you hold, and your limits
#[utoipa::path(get, path = "/api/v1/work/status", tag = "work",
    responses((status = 200, body = wire::WorkStatus, description = "You")))]
async fn status(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Json<wire::WorkStatus>> {
    Ok(Json(open_work::status(&state.services, &caller).await?.into()))
}

/// List the offers that you have claimed, newest first
///
/// With what became of them. After red checks, the next try at a task has another id and is yours while your lease runs.
#[utoipa::path(get, path = "/api/v1/work/mine", tag = "work",
    responses((status = 200, body = Vec<wire::OwnWork>, description = "At most 50 offers")))]
async fn mine(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Json<Vec<wire::OwnWork>>> {
    let own = open_work::mine(&state.services, &caller).await?;
    Ok(Json(own.into_iter().map(Into::into).collect()))
}

/// Show everything about an offer
#[utoipa::path(get, path = "/api/v1/work/offers/{id}", tag = "work",
    params(("id" = String, description = "Id of the offer")),
    responses((status = 200, body = wire::OfferDetails, description = "The offer")))]
async fn details(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<Json<wire::OfferDetails>> {
    Ok(Json(open_work::details(&state.services, &caller, &id).await?.into()))
}

/// List the files at the commit of an offer
#[utoipa::path(get, path = "/api/v1/work/offers/{id}/files", tag = "work",
    params(("id" = String, description = "Id of the offer")),
    responses((status = 200, body = wire::OfferedFiles, description = "Their paths")))]
async fn files(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<Json<wire::OfferedFiles>> {
    let paths = open_work::files(&state.services, &caller, &id).await?;
    Ok(Json(wire::OfferedFiles { paths }))
}

/// Query for a file.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Path of the file.
    #[serde(default)]
    path: String,
}

/// Read a file at the commit of an offer
#[utoipa::path(get, path = "/api/v1/work/offers/{id}/file", tag = "work",
    params(("id" = String, Path, description = "Id of the offer"), Which),
    responses((status = 200, body = wire::OfferedFile, description = "The file")))]
async fn file(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<Which>,
) -> ApiResult<Json<wire::OfferedFile>> {
    let text = open_work::file(&state.services, &caller, &id, &query.path).await?;
    Ok(Json(wire::OfferedFile { path: query.path, text }))
}

/// Claim an offer
///
/// Nobody else can claim it while your lease runs. Each call of yours extends it, to three leases at most.
#[utoipa::path(post, path = "/api/v1/work/offers/{id}/claim", tag = "work",
    params(("id" = String, description = "Id of the offer")),
    responses((status = 200, body = wire::Offer, description = "Yours")))]
async fn claim(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<Json<wire::Offer>> {
    Ok(Json((&open_work::claim(&state.services, &caller, &id).await?).into()))
}

/// Submit a patch
///
/// It is applied to the offer's commit and committed by Skep. If it does not apply, the answer says why and the claim
/// stays.
#[utoipa::path(post, path = "/api/v1/work/offers/{id}/submit", tag = "work", request_body = wire::NewPatch,
    params(("id" = String, description = "Id of the offer")),
    responses((status = 200, body = wire::SubmittedWork, description = "Submitted")))]
async fn submit(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    JsonBody(new): JsonBody<wire::NewPatch>,
) -> ApiResult<Json<wire::SubmittedWork>> {
    Ok(Json(open_work::submit_patch(&state.services, &caller, &id, new.patch, new.summary).await?.into()))
}

/// Submit a review
#[utoipa::path(post, path = "/api/v1/work/offers/{id}/review", tag = "work", request_body = wire::NewWorkReview,
    params(("id" = String, description = "Id of the offer")),
    responses((status = 200, body = wire::SubmittedWork, description = "Submitted")))]
async fn review(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    JsonBody(new): JsonBody<wire::NewWorkReview>,
) -> ApiResult<Json<wire::SubmittedWork>> {
    let unknown = || ApiError::invalid("verdict: unknown verdict", "Send `approve` or `rework`");
    let new = new.into_review().ok_or_else(unknown)?;
    Ok(Json(open_work::submit_review(&state.services, &caller, &id, new).await?.into()))
}

/// Give an offer back
///
/// It is open for others at once. You cannot claim it again.
#[utoipa::path(post, path = "/api/v1/work/offers/{id}/abandon", tag = "work", request_body = wire::AbandonOffer,
    params(("id" = String, description = "Id of the offer")),
    responses((status = 200, body = wire::Offer, description = "Given back")))]
async fn abandon(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    OptionalBody(new): OptionalBody<wire::AbandonOffer>,
) -> ApiResult<Json<wire::Offer>> {
    Ok(Json((&open_work::abandon(&state.services, &caller, &id, &new.why).await?).into()))
}
