//! Secrets: keeping one, listing their names, forgetting one, sealing them all with a new key.
//!
//! Invariant: a value comes in and never goes out; a body is read here by hand, because an error of the usual reader quotes it.

use super::problem::{ApiError, ApiResult, shown};
use super::view::{KeptSecret, NewKey, NewSecret, SecretOf};
use super::{State, projects, shapes};
use crate::domain::ProjectName;
use crate::ports::vault::{Rekeyed, SecretName, SecretRow};
use crate::secrets::Secret;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list, set)).routes(routes!(remove)).routes(routes!(rekey))
}

/// The secrets, by name
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets",
    responses((status = 200, body = Vec<shapes::SecretRow>, description = "All of them, without their values")))]
async fn list(Shared(state): Shared<State>) -> ApiResult<Json<Vec<SecretRow>>> {
    Ok(Json(state.vault.list().await?))
}

/// Keep a secret
///
/// Over an older value of that name. Values are never shown again.
#[utoipa::path(post, path = "/api/v1/secrets", tag = "secrets", request_body = NewSecret,
    responses((status = 201, body = KeptSecret, description = "Kept, durably")))]
async fn set(Shared(state): Shared<State>, body: Bytes) -> ApiResult<impl IntoResponse> {
    let NewSecret { name, project, value } = read(&body)?;
    let value = Secret::new(value);
    let (name, project) = (named(&name)?, of_project(&state, project.as_deref()).await?);
    let (secret, notice) = state.vault.set(&name, project.as_ref(), &value).await?;
    Ok((StatusCode::CREATED, Json(KeptSecret { secret, notice })))
}

/// Forget a secret
#[utoipa::path(post, path = "/api/v1/secrets/{name}/remove", tag = "secrets", request_body = SecretOf,
    params(("name" = String, description = "Its name")),
    responses((status = 200, body = SecretOf, description = "It is gone")))]
async fn remove(Shared(state): Shared<State>, Path(name): Path<String>, body: Bytes) -> ApiResult<Json<SecretOf>> {
    let of: SecretOf = if body.is_empty() { SecretOf::default() } else { read(&body)? };
    let (name, project) = (named(&name)?, project_name(of.project.as_deref())?);
    match state.vault.remove(&name, project.as_ref()).await? {
        true => Ok(Json(of)),
        false => {
            let whose = project.map_or_else(String::new, |p| format!(" of project {p}"));
            let detail = format!("there is no secret {name}{whose}");
            Err(ApiError::new(StatusCode::NOT_FOUND, "no_secret", detail, "GET /api/v1/secrets lists those there are"))
        }
    }
}

/// Seal every secret with a new key
#[utoipa::path(post, path = "/api/v1/secrets/rekey", tag = "secrets", request_body = NewKey,
    responses((status = 200, body = shapes::Rekeyed, description = "All are sealed with it, durably")))]
async fn rekey(Shared(state): Shared<State>, body: Bytes) -> ApiResult<Json<Rekeyed>> {
    let new: NewKey = read(&body)?;
    let file = std::path::Path::new(&new.file);
    if !file.is_absolute() {
        return Err(ApiError::invalid("file: not an absolute path", "Give the whole path, starting with /"));
    }
    Ok(Json(state.vault.rekey(file).await?))
}

/// Says where a body is wrong, never what stands there.
fn read<T: DeserializeOwned>(body: &[u8]) -> ApiResult<T> {
    serde_json::from_slice(body).map_err(|e| {
        let detail = format!("the body does not fit, at line {} column {}", e.line(), e.column());
        ApiError::invalid(detail, "/openapi.json has its shape; what was sent is not repeated here")
    })
}

fn named(text: &str) -> ApiResult<SecretName> {
    SecretName::new(text).map_err(|why| ApiError::invalid(why, "Give another name"))
}

fn project_name(text: Option<&str>) -> ApiResult<Option<ProjectName>> {
    let name = |text: &str| ProjectName::new(text).map_err(|_| no_project(text));
    text.map(name).transpose()
}

/// A project that is there: a secret for one that is not would never be used.
async fn of_project(state: &State, text: Option<&str>) -> ApiResult<Option<ProjectName>> {
    match text {
        Some(text) => Ok(Some(projects::named(state, text).await?.name)),
        None => Ok(None),
    }
}

fn no_project(text: &str) -> ApiError {
    let detail = format!("there is no project {}", shown(text));
    ApiError::new(StatusCode::NOT_FOUND, "no_project", detail, "GET /api/v1/projects lists those there are")
}
