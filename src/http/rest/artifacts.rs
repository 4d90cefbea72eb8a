//! Routes for artifacts, patches and logs. Bytes from outside are sent as plain text to be saved, never as a page.

use super::problem::ApiResult;
use super::{State, wire};
use crate::secrets::redact_bytes;
use crate::service::Caller;
use crate::service::artifacts::{self, File};
use axum::extract::{Path, Query, State as Shared};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(bytes)).routes(routes!(patch)).routes(routes!(logs))
}

/// List the artifacts of a run, oldest first
#[utoipa::path(get, path = "/api/v1/runs/{id}/artifacts", tag = "runs",
    params(("id" = String, description = "Whole or shortened")),
    responses((status = 200, body = Vec<wire::Artifact>, description = "References; get the bytes by digest")))]
async fn list(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<Json<Vec<wire::Artifact>>> {
    let artifacts = artifacts::list(&state.services, &caller, &id).await?;
    Ok(Json(artifacts.iter().map(Into::into).collect()))
}

/// Get the bytes of an artifact
///
/// The bytes come from engines and commands, so they are always sent as plain text to be saved.
#[utoipa::path(get, path = "/api/v1/runs/{id}/artifacts/{digest}", tag = "runs",
    params(("id" = String, description = "Whole or shortened"), ("digest" = String, description = "64 hex digits")),
    responses((status = 200, description = "The bytes", body = String, content_type = "text/plain; charset=utf-8")))]
async fn bytes(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path((id, digest)): Path<(String, String)>,
) -> ApiResult<Response> {
    Ok(attachment(artifacts::bytes(&state.services, &caller, &id, &digest).await?))
}

/// Query for a patch.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct PatchQuery {
    /// Only the latest patch of this task (`t1`); the whole change if absent.
    #[param(example = "t1")]
    task: Option<String>,
}

/// Get the patch of a run
///
/// The diff of its branch against its base, or the one that a task's latest attempt left: a unified diff of at most 1
/// MiB.
#[utoipa::path(get, path = "/api/v1/runs/{id}/patch", tag = "runs",
    params(("id" = String, description = "Whole or shortened"), PatchQuery),
    responses((status = 200, description = "The diff", body = String, content_type = "text/plain; charset=utf-8")))]
async fn patch(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<PatchQuery>,
) -> ApiResult<Response> {
    Ok(attachment(artifacts::patch(&state.services, &caller, &id, query.task.as_deref()).await?))
}

/// List the logs of a run, newest last
///
/// Command output, transcripts and test reports. Get the bytes as artifacts, by digest.
#[utoipa::path(get, path = "/api/v1/runs/{id}/logs", tag = "runs",
    params(("id" = String, description = "Whole or shortened")),
    responses((status = 200, body = Vec<wire::Log>, description = "References")))]
async fn logs(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<Json<Vec<wire::Log>>> {
    let logs = artifacts::logs(&state.services, &caller, &id).await?;
    Ok(Json(logs.into_iter().map(Into::into).collect()))
}

/// Renders bytes as a download under a harmless name. Redacted here, because this is the one exit for bytes: a diff comes
/// from the repository, and a value may have become known after an artifact was stored.
fn attachment(file: File) -> Response {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = file.name.chars().take(100).map(safe).collect();
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""))
        .unwrap_or(HeaderValue::from_static("attachment"));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    ([(CONTENT_TYPE, kind), (CONTENT_DISPOSITION, disposition)], redact_bytes(&file.bytes).into_owned()).into_response()
}
