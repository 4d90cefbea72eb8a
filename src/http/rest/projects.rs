//! Routes for projects.

use super::body::JsonBody;
use super::problem::{ApiError, ApiResult};
use super::{State, wire};
use crate::service::Caller;
use crate::service::projects::{self, NewProject};
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list, add)).routes(routes!(show)).routes(routes!(remove))
}

/// List the projects by name
#[utoipa::path(get, path = "/api/v1/projects", tag = "projects",
    responses((status = 200, body = Vec<wire::Project>, description = "All projects")))]
async fn list(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Json<Vec<wire::Project>>> {
    let projects = projects::list(&state.services, &caller).await?;
    Ok(Json(projects.iter().map(Into::into).collect()))
}

/// Add a project
///
/// The repository is fetched first: one that cannot be read does not become a project.
#[utoipa::path(post, path = "/api/v1/projects", tag = "projects", request_body = wire::NewProject,
    responses((status = 201, body = wire::Project, description = "Stored, durably",
        headers(("Location" = String, description = "The project")))))]
async fn add(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<wire::NewProject>,
) -> ApiResult<impl IntoResponse> {
    let policy = new.policy.map(serde_json::from_value).transpose().map_err(|error| {
        ApiError::invalid(format!("policy: {error}"), "Use the keys of [policy] in the configuration")
    })?;
    let new = NewProject {
        name: new.name,
        repo: new.repo,
        base: new.base,
        checks: new.checks,
        engines: new.engines.into_iter().map(|(role, engine)| (role.into(), engine)).collect(),
        policy,
        replace: new.replace,
    };
    let project = projects::add(&state.services, &caller, new).await?;
    let location = format!("/api/v1/projects/{}", project.name);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(wire::Project::from(&project))))
}

/// Show a project
#[utoipa::path(get, path = "/api/v1/projects/{name}", tag = "projects", params(("name" = String, description = "Its name")),
    responses((status = 200, body = wire::Project, description = "The project")))]
async fn show(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Json<wire::Project>> {
    let project = projects::show(&state.services, &caller, &name).await?;
    Ok(Json((&project).into()))
}

/// Remove a project
///
/// Its repository, and the runs it had, stay. Refused with 409 (`project_in_use`) while a run of it is open.
#[utoipa::path(post, path = "/api/v1/projects/{name}/remove", tag = "projects", params(("name" = String, description = "Its name")),
    responses((status = 200, body = wire::Project, description = "The project that was removed")))]
async fn remove(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Json<wire::Project>> {
    let project = projects::remove(&state.services, &caller, &name).await?;
    Ok(Json((&project).into()))
}
