//! Routes for changes (pull requests) of the local forge.

use super::body::{JsonBody, OptionalBody};
use super::problem::ApiResult;
use super::{State, wire};
use crate::service::Caller;
use crate::service::changes::{self, ChangeRef, NewStatus};
use axum::extract::{Path, State as Shared};
use axum::{Extension, Json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(approve))
        .routes(routes!(decline))
        .routes(routes!(comment))
        .routes(routes!(merge))
        .routes(routes!(close))
        .routes(routes!(status))
}

type ChangePath = Path<(String, u64)>;

/// List the changes of a project, newest first
#[utoipa::path(get, path = "/api/v1/projects/{name}/changes", tag = "changes", params(("name" = String, description = "The project")),
    responses((status = 200, body = Vec<wire::Change>, description = "At most 200")))]
async fn list(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Json<Vec<wire::Change>>> {
    let changes = changes::list(&state.services, &caller, &name).await?;
    Ok(Json(changes.iter().map(Into::into).collect()))
}

/// Show a change
#[utoipa::path(get, path = "/api/v1/projects/{name}/changes/{n}", tag = "changes",
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = wire::Change, description = "The change")))]
async fn show(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path((name, n)): ChangePath,
) -> ApiResult<Json<wire::Change>> {
    let change = changes::show(&state.services, &caller, ChangeRef { project: &name, number: n }).await?;
    Ok(Json((&change).into()))
}

/// Approve a change at its current head
#[utoipa::path(post, path = "/api/v1/projects/{name}/changes/{n}/approve", tag = "changes",
    request_body = Option<wire::ChangeText>,
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = wire::Change, description = "The change afterwards")))]
async fn approve(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path((name, n)): ChangePath,
    OptionalBody(review): OptionalBody<wire::ChangeText>,
) -> ApiResult<Json<wire::Change>> {
    let (of, text) = (ChangeRef { project: &name, number: n }, review.text);
    let change = changes::review(&state.services, &caller, of, true, &text).await?;
    Ok(Json((&change).into()))
}

/// Request changes at the current head
#[utoipa::path(post, path = "/api/v1/projects/{name}/changes/{n}/decline", tag = "changes",
    request_body = Option<wire::ChangeText>,
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = wire::Change, description = "The change afterwards")))]
async fn decline(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path((name, n)): ChangePath,
    OptionalBody(review): OptionalBody<wire::ChangeText>,
) -> ApiResult<Json<wire::Change>> {
    let (of, text) = (ChangeRef { project: &name, number: n }, review.text);
    let change = changes::review(&state.services, &caller, of, false, &text).await?;
    Ok(Json((&change).into()))
}

/// Comment on a change
///
/// `UNBLOCK #b1 …` lifts a block of its run.
#[utoipa::path(post, path = "/api/v1/projects/{name}/changes/{n}/comment", tag = "changes", request_body = wire::ChangeText,
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = wire::Change, description = "The change afterwards")))]
async fn comment(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path((name, n)): ChangePath,
    JsonBody(comment): JsonBody<wire::ChangeText>,
) -> ApiResult<Json<wire::Change>> {
    let of = ChangeRef { project: &name, number: n };
    let change = changes::comment(&state.services, &caller, of, &comment.text).await?;
    Ok(Json((&change).into()))
}

/// Merge a change as a person
///
/// Only as a fast-forward of the base branch to the current head.
#[utoipa::path(post, path = "/api/v1/projects/{name}/changes/{n}/merge", tag = "changes",
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = wire::Change, description = "The change afterwards")))]
async fn merge(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path((name, n)): ChangePath,
) -> ApiResult<Json<wire::Change>> {
    let change = changes::merge(&state.services, &caller, ChangeRef { project: &name, number: n }).await?;
    Ok(Json((&change).into()))
}

/// Close a change without merging it
#[utoipa::path(post, path = "/api/v1/projects/{name}/changes/{n}/close", tag = "changes",
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = wire::Change, description = "The change afterwards")))]
async fn close(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path((name, n)): ChangePath,
) -> ApiResult<Json<wire::Change>> {
    let change = changes::close(&state.services, &caller, ChangeRef { project: &name, number: n }).await?;
    Ok(Json((&change).into()))
}

/// Report a status, as a CI does
#[utoipa::path(post, path = "/api/v1/projects/{name}/changes/{n}/status", tag = "changes", request_body = wire::NewStatus,
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = wire::Change, description = "The change afterwards")))]
async fn status(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path((name, n)): ChangePath,
    JsonBody(new): JsonBody<wire::NewStatus>,
) -> ApiResult<Json<wire::Change>> {
    let wire::NewStatus { context, state: reported, text, sha } = new;
    let status = NewStatus { context, state: reported.into(), text, sha };
    let of = ChangeRef { project: &name, number: n };
    let change = changes::report_status(&state.services, &caller, of, status).await?;
    Ok(Json((&change).into()))
}
