//! Routes for memory: what ended runs have shown about a project.

use super::body::JsonBody;
use super::problem::ApiResult;
use super::{State, wire};
use crate::service::Caller;
use crate::service::memory::{self, ForgetRequest, MemoryQuery, NewLesson, Swept};
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default()
        .routes(routes!(list, add))
        .routes(routes!(forget))
        .routes(routes!(sweep))
        .routes(routes!(effect))
        .routes(routes!(show))
        .routes(routes!(promote))
        .routes(routes!(given))
}

/// Query for rows.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Only of this project.
    project: Option<String>,
    /// Only of this kind: `fact`, `change` or `lesson`.
    #[param(example = "fact")]
    kind: Option<String>,
    /// Only in this state: `live`, `stale` or `forgotten`; all but the last if absent.
    #[param(example = "live")]
    state: Option<String>,
    /// Rank live rows by their relevance to this text; citations are not checked. Needs `project`.
    q: Option<String>,
    /// Maximum number of rows, 1 to 500; 100 if absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
}

/// List memory
///
/// What ended runs have shown: those seen last first, or with `q` the best first.
#[utoipa::path(get, path = "/api/v1/memories", tag = "memory", params(Which),
    responses((status = 200, body = Vec<wire::Memory>, description = "The rows")))]
async fn list(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Which>,
) -> ApiResult<Json<Vec<wire::Memory>>> {
    let Which { project, kind, state: of_state, q, limit } = query;
    let query = MemoryQuery { project, kind, state: of_state, q, limit };
    let found = memory::list(&state.services, &caller, &query).await?;
    Ok(Json(found.into_iter().map(Into::into).collect()))
}

/// Add a lesson
///
/// Attempts are given lessons only if the configuration says so. Needs the right `approve`, and a person.
#[utoipa::path(post, path = "/api/v1/memories", tag = "memory", request_body = wire::NewLesson,
    responses((status = 200, body = wire::Memory, description = "The lesson; the same one again lives longer")))]
async fn add(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<wire::NewLesson>,
) -> ApiResult<Json<wire::Memory>> {
    let wire::NewLesson { project, text, path, line } = new;
    let new = NewLesson { project, text, path, line };
    Ok(Json(memory::add(&state.services, &caller, &new).await?.into()))
}

/// Forget memory
///
/// The text of the rows is removed, and they are not made again. Needs the right `approve`.
#[utoipa::path(post, path = "/api/v1/memories/forget", tag = "memory", request_body = wire::ForgetMemories,
    responses((status = 200, body = wire::ForgottenMemories, description = "What was forgotten")))]
async fn forget(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    JsonBody(which): JsonBody<wire::ForgetMemories>,
) -> ApiResult<Json<wire::ForgottenMemories>> {
    let wire::ForgetMemories { project, id, run, path, author } = which;
    let request = ForgetRequest { project, id, run, path, author };
    let forgotten = memory::forget(&state.services, &caller, &request).await?;
    Ok(Json(wire::ForgottenMemories { forgotten: forgotten.into_iter().map(|id| id.0).collect() }))
}

/// Check the citations of memory
///
/// Rows that cite what is no longer there become stale, and rows that have expired are removed. Needs the right `run`.
#[utoipa::path(post, path = "/api/v1/memories/sweep", tag = "memory", request_body = wire::SweepMemories,
    responses((status = 200, body = wire::SweptMemories, description = "What was found")))]
async fn sweep(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    JsonBody(which): JsonBody<wire::SweepMemories>,
) -> ApiResult<Json<wire::SweptMemories>> {
    let Swept { checked, stale, expired, problems } =
        memory::sweep(&state.services, &caller, which.project.as_deref()).await?;
    Ok(Json(wire::SweptMemories { checked, stale, expired, problems }))
}

/// Project to measure.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Measured {
    /// Only runs of this project.
    project: Option<String>,
}

/// Measure whether memory helps
///
/// Compares the ended runs that were given rows with the holdout, which was given none.
#[utoipa::path(get, path = "/api/v1/memories/effect", tag = "memory", params(Measured),
    responses((status = 200, body = wire::MemoryEffect, description = "The comparison")))]
async fn effect(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Measured>,
) -> ApiResult<Json<wire::MemoryEffect>> {
    Ok(Json(memory::effect(&state.services, &caller, query.project.as_deref()).await?.into()))
}

/// Get a row
#[utoipa::path(get, path = "/api/v1/memories/{id}", tag = "memory",
    params(("id" = String, description = "The id, twelve hex digits")),
    responses((status = 200, body = wire::Memory, description = "The row")))]
async fn show(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<Json<wire::Memory>> {
    Ok(Json(memory::show(&state.services, &caller, &id).await?.into()))
}

/// Promote a row
///
/// Opens a run that adds what the row says to `AGENTS.md`. An open run of the same row is returned instead.
#[utoipa::path(post, path = "/api/v1/memories/{id}/promote", tag = "memory",
    params(("id" = String, description = "The id, twelve hex digits")),
    responses((status = 201, body = wire::Run, description = "The run")))]
async fn promote(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<wire::Run>)> {
    let run = memory::promote(&state.services, &caller, &id).await?;
    Ok((StatusCode::CREATED, Json(wire::Run::new(&run, state.services.clock.now()))))
}

/// List what a run was given from memory
#[utoipa::path(get, path = "/api/v1/runs/{id}/memories", tag = "memory",
    params(("id" = String, description = "The run's id, or its beginning")),
    responses((status = 200, body = wire::GivenMemories, description = "What its attempts were given")))]
async fn given(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<Json<wire::GivenMemories>> {
    Ok(Json(memory::given(&state.services, &caller, &id).await?.into()))
}
