//! Runs: asking for one, listing them, and looking at one.

use super::problem::{ApiError, ApiResult};
use super::view::{NewRun, RunPreview, RunView, StepsView};
use super::{State, find, limits, projects, shapes};
use crate::actors::Ask;
use crate::domain::status::RunStatus;
use crate::domain::{EngineSpec, Goal, GoalSource, ProjectName, Role, Run, RunId};
use crate::ports::store::{JournalRow, RunFilter, RunRow};
use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use axum::http::header::{ETAG, LINK, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::collections::BTreeMap;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The most rows of one answer.
const ROWS_MAX: u64 = 500;
const ROWS: u64 = 100;
/// The most checks of one request, and the longest command or name in it, in bytes.
const CHECKS_MAX: usize = 32;
const LINE_MAX: usize = 4096;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default()
        .routes(routes!(list, open))
        .routes(routes!(preview))
        .routes(routes!(show))
        .routes(routes!(steps))
        .routes(routes!(events))
}

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Only this project's.
    #[param(example = "tally")]
    project: Option<String>,
    /// Only this status word: `pending`, `planning`, `planned`, `running`, `paused`, `blocked`, `failed`, `cancelled`, `completed`,
    /// `quarantined`.
    #[param(example = "blocked")]
    status: Option<String>,
    /// Only those not over.
    #[serde(default)]
    open: bool,
    /// At most this many: 1 to 500, 100 when left out.
    limit: Option<u64>,
    /// Older than this run: for paging (the `Link` header has the next page's address).
    before: Option<String>,
}

/// The runs, newest first
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(Which), responses(
    (status = 200, body = Vec<shapes::RunRow>, description = "Some of them",
        headers(("Link" = String, description = "The next page, if this one is full"))),
))]
async fn list(Shared(state): Shared<State>, Query(which): Query<Which>) -> ApiResult<Response> {
    let limit = rows(which.limit)?;
    let before = match &which.before {
        Some(text) => Some(find::run_id(&state, text).await?),
        None => None,
    };
    let project = match &which.project {
        Some(text) => Some(projects::named(&state, text).await?.name),
        None => None,
    };
    let filter = RunFilter {
        project,
        status: which.status.as_deref().map(word).transpose()?,
        open_only: which.open,
        own_only: false,
        before,
        limit,
    };
    let rows = state.store.list(&filter).await?;
    let next = rows.last().filter(|_| rows.len() as u64 == limit).and_then(|last| next_page(&which, limit, last.run));
    let mut response = Json::<Vec<RunRow>>(rows).into_response();
    if let Some(next) = next {
        response.headers_mut().insert(LINK, next);
    }
    Ok(response)
}

/// Ask for a run
///
/// A repository named for the first time becomes a project. With `carry_on`, or an `Idempotency-Key` header, an open run of the same
/// project and goal is carried on instead of a second one opened, so that the request may be repeated; this outlives restarts.
#[utoipa::path(post, path = "/api/v1/runs", tag = "runs", request_body = NewRun,
    params(("Idempotency-Key" = Option<String>, Header, description = "Any value: counts as `carry_on`")),
    responses(
        (status = 201, body = RunView, description = "Opened, durably",
            headers(("Location" = String, description = "The run"), ("ETag" = String))),
        (status = 200, body = RunView, description = "An open run of the same goal is carried on",
            headers(("Location" = String, description = "The run"), ("ETag" = String))),
    ))]
async fn open(Shared(state): Shared<State>, headers: HeaderMap, Json(new): Json<NewRun>) -> ApiResult<Response> {
    let run = state.factory.ask(asked(&state, &headers, new).await?).await?;
    Ok(opened(&run))
}

/// Look ahead
///
/// What a run asked for like this would begin with: engines, checks, limits, and the prompt its manager would be told. Nothing is
/// opened, written or spent; only the project's mirror is fetched.
#[utoipa::path(post, path = "/api/v1/runs/preview", tag = "runs", request_body = NewRun,
    responses((status = 200, body = RunPreview, description = "What it would begin with")))]
async fn preview(
    Shared(state): Shared<State>,
    headers: HeaderMap,
    Json(new): Json<NewRun>,
) -> ApiResult<Json<RunPreview>> {
    let preview = state.factory.preview(asked(&state, &headers, new).await?).await?;
    Ok(Json(RunPreview::of(preview)))
}

/// What was asked for, taken apart.
async fn asked(state: &State, headers: &HeaderMap, new: NewRun) -> ApiResult<Ask> {
    if new.project.is_none() == new.repo.is_none() {
        return Err(ApiError::invalid("name either `project` or `repo`", "Send exactly one of them"));
    }
    let lines = new.repo.iter().chain(&new.base).chain(new.engines.values());
    bounded(lines)?;
    let project = match &new.project {
        Some(text) => Some(projects::named(state, text).await?.name),
        None => None,
    };
    Ok(Ask {
        project,
        repo: new.repo,
        goal: Goal { text: new.goal, source: GoalSource::Manual, asked_by: state.principal.clone() },
        base: new.base,
        engines: engines(&new.engines),
        checks: checks(state, &new.checks)?,
        carry_on: new.carry_on || headers.contains_key("idempotency-key"),
        traceparent: limits::traceparent(headers).map(str::to_owned),
    })
}

/// A run
///
/// Answers 304 when `If-None-Match` holds its ETag.
#[utoipa::path(get, path = "/api/v1/runs/{id}", tag = "runs", params(("id" = String, description = "Whole or shortened")),
    responses(
        (status = 200, body = RunView, description = "The run in full", headers(("ETag" = String))),
        (status = 304, description = "It has not moved"),
    ))]
async fn show(Shared(state): Shared<State>, Path(id): Path<String>, headers: HeaderMap) -> ApiResult<Response> {
    let run = find::run(&state, &id).await?;
    if find::known(&headers, run.seq) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, find::etag(run.seq))]).into_response());
    }
    Ok(find::shown(StatusCode::OK, &run))
}

/// A run's steps
#[utoipa::path(get, path = "/api/v1/runs/{id}/steps", tag = "runs", params(("id" = String, description = "Whole or shortened")),
    responses((status = 200, body = StepsView, description = "Its tasks in plan order", headers(("ETag" = String)))))]
async fn steps(Shared(state): Shared<State>, Path(id): Path<String>) -> ApiResult<Response> {
    let run = find::run(&state, &id).await?;
    let etag = find::etag(run.seq);
    let RunView { id, status, tasks, .. } = RunView::of(&run);
    Ok(([(ETAG, etag)], Json(StepsView { run: id, status, steps: tasks })).into_response())
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Part {
    /// Only those after this number.
    #[serde(default)]
    after: u64,
    /// At most this many: 1 to 500, 100 when left out.
    limit: Option<u64>,
}

/// A run's journal
#[utoipa::path(get, path = "/api/v1/runs/{id}/events", tag = "runs",
    params(("id" = String, description = "Whole or shortened"), Part),
    responses((status = 200, body = Vec<shapes::JournalRow>, description = "Its rows, in order, without a gap")))]
async fn events(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    Query(part): Query<Part>,
) -> ApiResult<Json<Vec<JournalRow>>> {
    let limit = rows(part.limit)?;
    let run = find::run_id(&state, &id).await?;
    // The store counts in signed numbers.
    let after = part.after.min(i64::MAX as u64);
    Ok(Json(state.store.journal(run, after, limit).await?))
}

/// A run that was asked for: 201 when it is new, 200 when it was there.
pub(super) fn opened(run: &Run) -> Response {
    let status = if run.seq == 1 { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = find::shown(status, run);
    if let Ok(place) = HeaderValue::from_str(&format!("/api/v1/runs/{}", run.id)) {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

/// Engines as they are written in requests.
pub(super) fn engines(written: &BTreeMap<Role, String>) -> BTreeMap<Role, EngineSpec> {
    written.iter().map(|(role, text)| (*role, EngineSpec::parse(text))).collect()
}

/// Checks of command lines.
pub(super) fn checks(state: &State, commands: &[String]) -> ApiResult<Vec<crate::domain::CheckSpec>> {
    if commands.len() > CHECKS_MAX {
        return Err(ApiError::invalid(format!("checks: more than {CHECKS_MAX}"), "Put them into one script"));
    }
    bounded(commands)?;
    if commands.iter().any(|c| c.trim().is_empty()) {
        return Err(ApiError::invalid("checks: a command is empty", "Leave it out"));
    }
    Ok((state.checks_from)(commands))
}

/// Refuses lines that no command line, path or branch has.
pub(super) fn bounded<'a>(lines: impl IntoIterator<Item = &'a String>) -> ApiResult<()> {
    for line in lines {
        if line.len() > LINE_MAX || line.contains('\0') {
            let detail = format!("{}… is longer than {LINE_MAX} bytes or holds a NUL", super::problem::shown(line));
            return Err(ApiError::invalid(detail, "Shorten it, or put it into a script"));
        }
    }
    Ok(())
}

/// A project's name.
pub(super) fn name(text: &str) -> ApiResult<ProjectName> {
    // The name is shown in the error, so it is cut first.
    let cut: String = text.chars().take(80).collect();
    ProjectName::new(&cut).map_err(|what| ApiError::invalid(what, "GET /api/v1/projects lists those there are"))
}

/// A status word that a list may have.
fn word(text: &str) -> ApiResult<String> {
    let known: Result<RunStatus, _> = serde_json::from_value(text.into());
    if known.is_ok() || text == "quarantined" {
        return Ok(text.to_owned());
    }
    Err(ApiError::invalid(
        format!("status: {} is no status word", super::problem::shown(text)),
        "Use pending, planning, planned, running, paused, blocked, failed, cancelled, completed or quarantined",
    ))
}

/// How many rows an answer may have.
pub(super) fn rows(limit: Option<u64>) -> ApiResult<u64> {
    match limit.unwrap_or(ROWS) {
        limit @ 1..=ROWS_MAX => Ok(limit),
        _ => Err(ApiError::invalid(format!("limit: must be 1 to {ROWS_MAX}"), "Page with `before` or `after`")),
    }
}

fn next_page(which: &Which, limit: u64, last: RunId) -> Option<HeaderValue> {
    let mut next = format!("</api/v1/runs?before={last}&limit={limit}&open={}", which.open);
    // Both were checked: they hold no character that means something in an address.
    for (key, value) in [("project", &which.project), ("status", &which.status)] {
        if let Some(value) = value {
            next.push_str(&format!("&{key}={value}"));
        }
    }
    HeaderValue::from_str(&format!("{next}>; rel=\"next\"")).ok()
}
