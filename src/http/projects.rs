//! Projects: adding one, listing them, looking at one.

use super::problem::{ApiError, ApiResult};
use super::view::NewProject;
use super::{State, runs, shapes};
use crate::domain::{Project, ProjectName};
use crate::ports::{PortError, Repo};
use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list, add)).routes(routes!(show))
}

/// The projects, by name
#[utoipa::path(get, path = "/api/v1/projects", tag = "projects",
    responses((status = 200, body = Vec<shapes::Project>, description = "All of them")))]
async fn list(Shared(state): Shared<State>) -> ApiResult<Json<Vec<Project>>> {
    Ok(Json(state.store.projects().await?))
}

/// Add a project
///
/// The repository is looked at first: what cannot be read does not become a project.
#[utoipa::path(post, path = "/api/v1/projects", tag = "projects", request_body = NewProject,
    responses((status = 201, body = shapes::Project, description = "Kept, durably",
        headers(("Location" = String, description = "The project")))))]
async fn add(Shared(state): Shared<State>, Json(new): Json<NewProject>) -> ApiResult<impl IntoResponse> {
    runs::bounded([&new.repo].into_iter().chain(&new.base).chain(new.engines.values()))?;
    let name = match &new.name {
        Some(name) => runs::name(name)?,
        None => name_of(&new.repo)?,
    };
    let project = Project {
        name,
        repo: new.repo,
        base: new.base,
        branch_prefix: state.defaults.borrow().branch_prefix.clone(),
        checks: runs::checks(&state, &new.checks)?,
        engines: runs::engines(&new.engines),
        policy: new.policy,
    };
    let taken = || {
        let detail = format!("there is a project {} already", project.name);
        ApiError::conflict("taken", detail, "Give another `name`, or `replace`: true")
    };
    if !new.replace && state.store.project(&project.name).await?.is_some() {
        return Err(taken());
    }
    let repo = Repo { project: project.name.clone(), origin: project.repo.clone() };
    match state.workspaces.fetch(&repo, project.base.as_deref()).await {
        Ok(_) => {}
        Err(PortError::Permanent { what, fix }) => return Err(ApiError::invalid(what, fix)),
        Err(other) => return Err(other.into()),
    }
    match state.store.put_project(&project, new.replace).await {
        Ok(()) => {}
        Err(PortError::Permanent { .. }) if !new.replace => return Err(taken()),
        Err(other) => return Err(other.into()),
    }
    let place = format!("/api/v1/projects/{}", project.name);
    Ok((StatusCode::CREATED, [(LOCATION, place)], Json(project)))
}

/// A project
#[utoipa::path(get, path = "/api/v1/projects/{name}", tag = "projects", params(("name" = String, description = "Its name")),
    responses((status = 200, body = shapes::Project, description = "The project")))]
async fn show(Shared(state): Shared<State>, Path(name): Path<String>) -> ApiResult<Json<Project>> {
    named(&state, &name).await.map(Json)
}

/// A project by its name.
pub(super) async fn named(state: &State, text: &str) -> ApiResult<Project> {
    let found = match ProjectName::new(text) {
        Ok(name) => state.store.project(&name).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| {
        let detail = format!("there is no project {}", super::problem::shown(text));
        ApiError::new(StatusCode::NOT_FOUND, "no_project", detail, "GET /api/v1/projects lists those there are")
    })
}

/// The last part of a path or URL as a name.
fn name_of(repo: &str) -> ApiResult<ProjectName> {
    if repo.trim().is_empty() {
        return Err(ApiError::invalid("repo: missing or empty", "Give an absolute path or a URL"));
    }
    let last = repo.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(repo);
    Ok(ProjectName::from_text(last.strip_suffix(".git").unwrap_or(last)))
}
