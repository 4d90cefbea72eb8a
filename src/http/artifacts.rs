//! What runs leave behind: artifacts, patches, logs. Bytes from outside go out as plain text to be saved, never as a page.

use super::problem::{ApiError, ApiResult};
use super::view::LogView;
use super::{State, find, shapes};
use crate::domain::{ArtifactKind, ArtifactRef, Digest, Run};
use crate::ports::Repo;
use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::collections::BTreeMap;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(bytes)).routes(routes!(patch)).routes(routes!(logs))
}

/// A run's artifacts, oldest first
#[utoipa::path(get, path = "/api/v1/runs/{id}/artifacts", tag = "runs",
    params(("id" = String, description = "Whole or shortened")),
    responses((status = 200, body = Vec<shapes::ArtifactRef>, description = "References; each digest has its bytes")))]
async fn list(Shared(state): Shared<State>, Path(id): Path<String>) -> ApiResult<Json<Vec<ArtifactRef>>> {
    let run = find::run_id(&state, &id).await?;
    Ok(Json(state.store.artifacts(run).await?))
}

/// The bytes of an artifact
///
/// Always as plain text to be saved: they come from engines and commands.
#[utoipa::path(get, path = "/api/v1/runs/{id}/artifacts/{digest}", tag = "runs",
    params(("id" = String, description = "Whole or shortened"), ("digest" = String, description = "64 hex digits")),
    responses((status = 200, description = "The bytes", body = String, content_type = "text/plain; charset=utf-8")))]
async fn bytes(Shared(state): Shared<State>, Path((id, digest)): Path<(String, String)>) -> ApiResult<Response> {
    let run = find::run_id(&state, &id).await?;
    let formed = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    let found = match formed {
        true => state.store.artifact(run, &Digest(digest.to_ascii_lowercase())).await?,
        false => None,
    };
    match found {
        Some((artifact, bytes)) => Ok(saved(&artifact.name, bytes)),
        None => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "no_artifact",
            "the run has no artifact of that digest",
            "GET its artifacts: each has a digest",
        )),
    }
}

/// Whose patch.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Whose {
    /// Only this task's latest (`t1`); the whole change when left out.
    #[param(example = "t1")]
    task: Option<String>,
}

/// A run's patch
///
/// What its branch changes against its base, or what a task's latest attempt left, as a unified diff of at most 1 MiB.
#[utoipa::path(get, path = "/api/v1/runs/{id}/patch", tag = "runs",
    params(("id" = String, description = "Whole or shortened"), Whose),
    responses((status = 200, description = "The diff", body = String, content_type = "text/plain; charset=utf-8")))]
async fn patch(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    Query(whose): Query<Whose>,
) -> ApiResult<Response> {
    let run = find::run(&state, &id).await?;
    let none = |what: &str| {
        ApiError::new(StatusCode::NOT_FOUND, "no_patch", what, "GET the run: `tasks` and `diff` tell what there is")
    };
    if let Some(task) = &whose.task {
        let found = latest_patch(&run, task).ok_or_else(|| none("that task has left no patch"))?;
        let (_, bytes) = state.store.artifact(run.id, &found.digest).await?.ok_or_else(|| none("the patch is gone"))?;
        return Ok(saved(&format!("{}-{task}.patch", run.id.abbrev()), bytes));
    }
    if run.head == run.base {
        return Err(none("nothing has changed yet"));
    }
    let repo = Repo { project: run.project.clone(), origin: run.settings.origin.clone() };
    let (_, bytes) = state.workspaces.diff(&repo, &run.base, &run.head).await?;
    Ok(saved(&format!("{}.patch", run.id.abbrev()), bytes))
}

/// A run's logs, newest last
///
/// Command output, transcripts and test reports; the bytes of each are the artifact of its digest.
#[utoipa::path(get, path = "/api/v1/runs/{id}/logs", tag = "runs",
    params(("id" = String, description = "Whole or shortened")),
    responses((status = 200, body = Vec<LogView>, description = "References")))]
async fn logs(Shared(state): Shared<State>, Path(id): Path<String>) -> ApiResult<Json<Vec<LogView>>> {
    let run = find::run(&state, &id).await?;
    let mut whose = BTreeMap::new();
    for task in &run.tasks {
        for artifact in task.results.iter().flat_map(|r| &r.artifacts) {
            whose.insert(artifact.digest.clone(), (None, Some(task.id)));
        }
    }
    for attempt in &run.attempts {
        for artifact in attempt.ended.iter().flat_map(|e| &e.artifacts) {
            whose.insert(artifact.digest.clone(), (Some(attempt.id), attempt.task));
        }
    }
    let kinds = [ArtifactKind::Log, ArtifactKind::Transcript, ArtifactKind::TestReport];
    let kept = state.store.artifacts(run.id).await?.into_iter().filter(|a| kinds.contains(&a.kind));
    let logs = kept.map(|a| {
        let (attempt, task) = whose.get(&a.digest).copied().unwrap_or_default();
        let (attempt, task) = (attempt.map(|a| a.to_string()), task.map(|t| t.to_string()));
        LogView { digest: a.digest.0, kind: a.kind, name: a.name, size: a.size, attempt, task }
    });
    Ok(Json(logs.collect()))
}

fn latest_patch<'a>(run: &'a Run, task: &str) -> Option<&'a ArtifactRef> {
    run.attempts
        .iter()
        .rev()
        .filter(|a| a.task.is_some_and(|t| t.to_string() == task))
        .filter_map(|a| a.ended.as_ref())
        .flat_map(|e| &e.artifacts)
        .find(|a| a.kind == ArtifactKind::Patch)
}

/// Bytes to be saved under a name made harmless.
fn saved(name: &str, bytes: Vec<u8>) -> Response {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().take(100).map(safe).collect();
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""))
        .unwrap_or(HeaderValue::from_static("attachment"));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    ([(CONTENT_TYPE, kind), (CONTENT_DISPOSITION, disposition)], bytes).into_response()
}
