//! Routes for secrets.
//!
//! Invariant: a value is accepted and never returned. Bodies are parsed here and not by an extractor, whose errors
//! would quote them.

use super::body::SecretBody;
use super::problem::ApiResult;
use super::{State, wire};
use crate::secrets::Secret;
use crate::service::{Caller, secrets};
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list, set)).routes(routes!(remove)).routes(routes!(rekey))
}

/// List the secrets by name
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets",
    responses((status = 200, body = Vec<wire::Secret>, description = "All secrets, without their values")))]
async fn list(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Json<Vec<wire::Secret>>> {
    let rows = secrets::list(&state.services, &caller).await?;
    Ok(Json(rows.into_iter().map(Into::into).collect()))
}

/// Store a secret
///
/// Replaces an older value of that name. Values are never shown again.
#[utoipa::path(post, path = "/api/v1/secrets", tag = "secrets", request_body = wire::NewSecret,
    responses((status = 201, body = wire::StoredSecret, description = "Stored, durably")))]
async fn set(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    body: SecretBody,
) -> ApiResult<impl IntoResponse> {
    let wire::NewSecret { name, project, value } = body.parse()?;
    let value = Secret::new(value);
    let stored = secrets::set(&state.services, &caller, &name, project.as_deref(), &value).await?;
    let stored = wire::StoredSecret { secret: stored.secret.into(), notice: stored.notice };
    Ok((StatusCode::CREATED, Json(stored)))
}

/// Remove a secret
#[utoipa::path(post, path = "/api/v1/secrets/{name}/remove", tag = "secrets", request_body = Option<wire::SecretScope>,
    params(("name" = String, description = "Its name")),
    responses((status = 200, body = wire::SecretScope, description = "Removed")))]
async fn remove(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: SecretBody,
) -> ApiResult<Json<wire::SecretScope>> {
    let scope: wire::SecretScope = body.parse_or_default()?;
    secrets::remove(&state.services, &caller, &name, scope.project.as_deref()).await?;
    Ok(Json(scope))
}

/// Seal every secret with a new key
#[utoipa::path(post, path = "/api/v1/secrets/rekey", tag = "secrets", request_body = wire::NewKey,
    responses((status = 200, body = wire::Rekeyed, description = "All are sealed with it, durably")))]
async fn rekey(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    body: SecretBody,
) -> ApiResult<Json<wire::Rekeyed>> {
    let new: wire::NewKey = body.parse()?;
    Ok(Json(secrets::rekey(&state.services, &caller, &new.file).await?.into()))
}
