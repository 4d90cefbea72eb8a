//! Route that creates login links for the pages.

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
/// The link opens a session on the pages for the caller, who must be a person with the right `admin`. It works once,
/// for ten minutes.
#[utoipa::path(post, path = "/api/v1/login-links", tag = "sessions",
    responses((status = 201, body = wire::LoginLink, description = "The link, which is shown only here")))]
async fn create(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<(StatusCode, Json<wire::LoginLink>)> {
    let link = sessions::new_link(&state.services, &caller).await?;
    Ok((StatusCode::CREATED, Json(wire::LoginLink::new(link))))
}
