//! Routes for people and access tokens.

use super::body::JsonBody;
use super::problem::{ApiError, ApiResult};
use super::{State, wire};
use crate::service::tokens::NewToken;
use crate::service::{Caller, people, single_sign_on, tokens};
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default()
        .routes(routes!(list_people, add_person))
        .routes(routes!(grant))
        .routes(routes!(disable))
        .routes(routes!(enable))
        .routes(routes!(link))
        .routes(routes!(list_tokens, create_token))
        .routes(routes!(rotate_token))
        .routes(routes!(revoke_token))
}

/// List the people, by name
///
/// The owner of the process, who may do everything, is not among them. Needs the right `people`, as all of these routes.
#[utoipa::path(get, path = "/api/v1/people", tag = "people",
    responses((status = 200, body = Vec<wire::Person>, description = "Everybody, disabled people too")))]
async fn list_people(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Json<Vec<wire::Person>>> {
    let people = people::list(&state.services, &caller).await?;
    Ok(Json(people.into_iter().map(Into::into).collect()))
}

/// Add a person
#[utoipa::path(post, path = "/api/v1/people", tag = "people", request_body = wire::NewPerson,
    responses((status = 201, body = wire::Person, description = "Added")))]
async fn add_person(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<wire::NewPerson>,
) -> ApiResult<(StatusCode, Json<wire::Person>)> {
    let person = people::add(&state.services, &caller, &new.name, &new.role, new.project.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(person.into())))
}

/// Give a person another role, in the whole service or in one project
///
/// It applies to the person's next request, also in open sessions and with existing tokens.
#[utoipa::path(post, path = "/api/v1/people/{name}/role", tag = "people", request_body = wire::NewRole,
    params(("name" = String, description = "The person's name")),
    responses((status = 200, body = wire::Person, description = "Granted")))]
async fn grant(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(new): JsonBody<wire::NewRole>,
) -> ApiResult<Json<wire::Person>> {
    let granted = people::grant(&state.services, &caller, &name, &new.role, new.project.as_deref()).await?;
    Ok(Json(granted.into()))
}

/// Disable a person
///
/// The person's sessions and tokens stop working at once.
#[utoipa::path(post, path = "/api/v1/people/{name}/disable", tag = "people",
    params(("name" = String, description = "The person's name")),
    responses((status = 200, body = wire::Person, description = "Disabled")))]
async fn disable(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Json<wire::Person>> {
    Ok(Json(people::set_disabled(&state.services, &caller, &name, true).await?.into()))
}

/// Enable a disabled person again
#[utoipa::path(post, path = "/api/v1/people/{name}/enable", tag = "people",
    params(("name" = String, description = "The person's name")),
    responses((status = 200, body = wire::Person, description = "Enabled")))]
async fn enable(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Json<wire::Person>> {
    Ok(Json(people::set_disabled(&state.services, &caller, &name, false).await?.into()))
}

/// Link a person with an account at the identity provider
///
/// The account belongs to that person from then on, whoever it belonged to before.
#[utoipa::path(post, path = "/api/v1/people/{name}/link", tag = "people", request_body = wire::NewIdentity,
    params(("name" = String, description = "The person's name")),
    responses((status = 200, body = wire::Person, description = "Linked; the account logs this person in")))]
async fn link(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(new): JsonBody<wire::NewIdentity>,
) -> ApiResult<Json<wire::Person>> {
    Ok(Json(single_sign_on::link(&state.services, &caller, &name, &new.subject).await?.into()))
}

/// Query for access tokens.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct TokenQuery {
    /// Maximum number of tokens, 1 to 500; 100 if absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
}

/// List access tokens, newest first
#[utoipa::path(get, path = "/api/v1/tokens", tag = "people", params(TokenQuery),
    responses((status = 200, body = Vec<wire::AccessToken>, description = "Tokens without their secrets")))]
async fn list_tokens(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<TokenQuery>,
) -> ApiResult<Json<Vec<wire::AccessToken>>> {
    let rows = tokens::list(&state.services, &caller, query.limit).await?;
    Ok(Json(rows.into_iter().map(Into::into).collect()))
}

/// Create an access token
///
/// A token never has the right `people`, so a stolen one cannot create others.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "people", request_body = wire::NewAccessToken,
    responses((status = 201, body = wire::CreatedAccessToken, description = "The token, which is shown only here")))]
async fn create_token(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<wire::NewAccessToken>,
) -> ApiResult<(StatusCode, Json<wire::CreatedAccessToken>)> {
    if new.never_expires && new.days.is_some() {
        return Err(ApiError::invalid("`days` and `never_expires` exclude each other", "Send one of them"));
    }
    let expires = new.expiry();
    let new = NewToken { name: new.name, person: new.person, rights: new.rights, projects: new.projects, expires };
    let created = tokens::create(&state.services, &caller, new).await?;
    Ok((StatusCode::CREATED, Json(created.into())))
}

/// Replace an access token by a new one
///
/// The new one has the same name, rights and lifetime. The old one works for an hour more, so that programs can change
/// over.
#[utoipa::path(post, path = "/api/v1/tokens/{id}/rotate", tag = "people",
    params(("id" = String, description = "Id of the token")),
    responses((status = 201, body = wire::CreatedAccessToken, description = "The token, which is shown only here")))]
async fn rotate_token(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<wire::CreatedAccessToken>)> {
    let created = tokens::rotate(&state.services, &caller, &id).await?;
    Ok((StatusCode::CREATED, Json(created.into())))
}

/// Revoke an access token
#[utoipa::path(post, path = "/api/v1/tokens/{id}/revoke", tag = "people",
    params(("id" = String, description = "Id of the token")),
    responses((status = 200, body = wire::AccessToken, description = "Revoked; it stops working at once")))]
async fn revoke_token(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<Json<wire::AccessToken>> {
    Ok(Json(tokens::revoke(&state.services, &caller, &id).await?.into()))
}
