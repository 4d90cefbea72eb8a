//! Route for the results of any CI.

use super::body::JsonBody;
use super::problem::ApiResult;
use super::{State, etag, wire};
use crate::service::Caller;
use crate::service::ci::{self, CiReport};
use axum::Extension;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(report))
}

/// Report the result of a CI
///
/// Sets a commit status on the change of the branch's run. The run observes it at once; it waits for the contexts in
/// `policy.required_statuses`. May be repeated.
#[utoipa::path(post, path = "/api/v1/ci", tag = "changes", request_body = wire::CiReport,
    responses((status = 200, body = wire::Run, description = "The run afterwards", headers(("ETag" = String)))))]
async fn report(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    JsonBody(sent): JsonBody<wire::CiReport>,
) -> ApiResult<Response> {
    let wire::CiReport { branch, sha, context, state: reported, url } = sent;
    let report = CiReport { branch, sha, context, state: reported.into(), url };
    let run = ci::report(&state.services, &caller, report).await?;
    Ok(etag::tagged(StatusCode::OK, &run, state.services.clock.now()))
}
