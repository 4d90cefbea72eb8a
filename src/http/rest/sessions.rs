//! Route that creates login links for the pages.

use super::body::OptionalBody;
use super::problem::ApiResult;
use super::{State, wire};
use crate::service::{Caller, sessions};
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::{Extension, Json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(create))
}

/// Create a login link
///
/// The link opens a session on the pages, for the caller or for a person who was added by name. It works once, for ten
/// minutes. Needs the right `people`.
#[utoipa::path(post, path = "/api/v1/login-links", tag = "sessions", request_body = Option<wire::NewLoginLink>,
    responses((status = 201, body = wire::LoginLink, description = "The link, which is shown only here")))]
async fn create(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    OptionalBody(new): OptionalBody<wire::NewLoginLink>,
) -> ApiResult<(StatusCode, Json<wire::LoginLink>)> {
    let link = sessions::new_link(&state.services, &caller, new.person.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(wire::LoginLink::new(link))))
}
