//! Routes to open, preview, list and read runs.

use super::body::JsonBody;
use super::problem::ApiResult;
use super::{State, etag, wire};
use crate::http::limits;
use crate::service::Caller;
use crate::service::idempotency::IdempotencyKey;
use crate::service::landings;
use crate::service::runs::{self, OpenRun, Opened, Preview, RunPage, RunQuery};
use axum::extract::{Path, Query, State as Shared};
use axum::http::header::{ETAG, LINK, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default()
        .routes(routes!(list, open))
        .routes(routes!(preview))
        .routes(routes!(show))
        .routes(routes!(steps))
        .routes(routes!(events))
}

/// Query for the run list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only runs of this project.
    #[param(example = "tally")]
    project: Option<String>,
    /// Only runs with this status: `pending`, `planning`, `planned`, `running`, `paused`, `blocked`, `failed`,
    /// `cancelled`, `completed`, `quarantined`.
    #[param(example = "blocked")]
    status: Option<String>,
    /// Only runs that have not ended.
    #[serde(default)]
    open: bool,
    /// Maximum number of rows, 1 to 500; 100 if absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
    /// Only runs older than this one, for paging. The `Link` header has the address of the next page.
    before: Option<String>,
}

/// List runs, newest first
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(ListQuery), responses(
    (status = 200, body = Vec<wire::RunSummary>, description = "Runs",
        headers(("Link" = String, description = "Address of the next page, if this one is full"))),
))]
async fn list(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let ListQuery { project, status, open, limit, before } = query;
    let query = RunQuery { project, status, open, limit, before };
    let page = runs::list(&state.services, &caller, &query).await?;
    let next = next_page(&query, &page);
    let rows: Vec<wire::RunSummary> = page.rows.into_iter().map(Into::into).collect();
    let mut response = Json(rows).into_response();
    if let Some(next) = next {
        response.headers_mut().insert(LINK, next);
    }
    Ok(response)
}

/// Open a run
///
/// A repository that is named for the first time becomes a project. With an `Idempotency-Key`
/// (draft-ietf-httpapi-idempotency-key-header) the request may be repeated for a week, also after a restart and after the
/// run has ended: the same key with the same body returns the same run; with another body it is refused with 422
/// (`idempotency_key_reused`). A repetition waits for the first request, up to two minutes, then it is refused with 409
/// (`request_in_progress`). `reuse_open_run` instead reuses an open run of the same project and goal; if that run has
/// other engines or checks than those named, the request is refused with 409 (`settings_differ`), unless `on_difference`
/// says otherwise. With `spec` in place of `goal`, the run is done when every acceptance criterion is met; a spec that
/// is not valid is refused with 422 (`invalid`), each problem with its line and column.
#[utoipa::path(post, path = "/api/v1/runs", tag = "runs", request_body = wire::NewRun,
    params(("Idempotency-Key" = Option<String>, Header, description = "A unique string for this request, such as a UUID in quotes")),
    responses(
        (status = 201, body = wire::Run, description = "Opened, durably",
            headers(("Location" = String, description = "The run"), ("ETag" = String))),
        (status = 200, body = wire::Run, description = "An open run of the same goal is reused",
            headers(("Location" = String, description = "The run"), ("ETag" = String))),
    ))]
async fn open(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    JsonBody(new): JsonBody<wire::NewRun>,
) -> ApiResult<Response> {
    let key = etag::single(&headers, &IDEMPOTENCY_KEY)?.map(IdempotencyKey::parse).transpose()?;
    let opened = runs::open(&state.services, &caller, request(new, &headers), key.as_ref()).await?;
    Ok(rendered(&state, &opened))
}

/// Preview a run
///
/// Returns what a run requested like this would start with: engines, checks, limits, and the manager's prompt. Nothing
/// is opened, written or spent; only the project's mirror is fetched.
#[utoipa::path(post, path = "/api/v1/runs/preview", tag = "runs", request_body = wire::NewRun,
    responses((status = 200, body = wire::Preview, description = "What it would start with")))]
async fn preview(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    JsonBody(new): JsonBody<wire::NewRun>,
) -> ApiResult<Json<wire::Preview>> {
    let preview: Preview = runs::preview(&state.services, &caller, request(new, &headers)).await?;
    Ok(Json(preview.into()))
}

/// Show a run
///
/// Responds 304 if `If-None-Match` has its ETag.
#[utoipa::path(get, path = "/api/v1/runs/{id}", tag = "runs", params(("id" = String, description = "Whole or shortened")),
    responses(
        (status = 200, body = wire::Run, description = "The run in full", headers(("ETag" = String))),
        (status = 304, description = "It has not moved"),
    ))]
async fn show(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let run = runs::show(&state.services, &caller, &id).await?;
    // The watch goes on after the run's last event.
    let watch = if run.ended() { landings::show(&state.services, &caller, &id).await? } else { None };
    if watch.is_none() && etag::is_known(&headers, run.seq) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, etag::etag(run.seq))]).into_response());
    }
    let view =
        wire::Run { after_landing: watch.as_ref().map(Into::into), ..wire::Run::new(&run, state.services.clock.now()) };
    Ok((StatusCode::OK, [(ETAG, etag::etag(run.seq))], Json(view)).into_response())
}

/// List the steps of a run
#[utoipa::path(get, path = "/api/v1/runs/{id}/steps", tag = "runs", params(("id" = String, description = "Whole or shortened")),
    responses((status = 200, body = wire::Steps, description = "Its tasks in plan order", headers(("ETag" = String)))))]
async fn steps(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let run = runs::show(&state.services, &caller, &id).await?;
    let etag = etag::etag(run.seq);
    let wire::Run { id, status, tasks, .. } = wire::Run::new(&run, state.services.clock.now());
    Ok(([(ETAG, etag)], Json(wire::Steps { run: id, status, steps: tasks })).into_response())
}

/// Part of a journal.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    /// Only rows after this number.
    #[serde(default)]
    after: u64,
    /// Maximum number of rows, 1 to 500; 100 if absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
}

/// List the events of a run
#[utoipa::path(get, path = "/api/v1/runs/{id}/events", tag = "runs",
    params(("id" = String, description = "Whole or shortened"), EventsQuery),
    responses((status = 200, body = Vec<wire::Event>, description = "Rows of its journal, in order, without gaps")))]
async fn events(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(part): Query<EventsQuery>,
) -> ApiResult<Json<Vec<wire::Event>>> {
    let rows = runs::events(&state.services, &caller, &id, part.after, part.limit).await?;
    Ok(Json(rows.into_iter().map(Into::into).collect()))
}

fn request(new: wire::NewRun, headers: &HeaderMap) -> OpenRun {
    OpenRun {
        project: new.project,
        repo: new.repo,
        goal: new.goal,
        spec: new.spec,
        base: new.base,
        engines: new.engines.into_iter().map(|(role, engine)| (role.into(), engine)).collect(),
        checks: new.checks,
        limits: new.limits.into(),
        reuse_open_run: new.reuse_open_run,
        on_difference: new.on_difference.into(),
        traceparent: limits::traceparent(headers).map(str::to_owned),
    }
}

/// Renders a run that was requested: 201 if it is new, 200 if it existed.
pub(super) fn rendered(state: &State, opened: &Opened) -> Response {
    let status = if opened.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = etag::tagged(status, &opened.run, state.services.clock.now());
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/runs/{}", opened.run.id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn next_page(query: &RunQuery, page: &RunPage) -> Option<HeaderValue> {
    let last = page.next_before?;
    let mut next = format!("</api/v1/runs?before={last}&limit={}&open={}", page.limit, query.open);
    // The service has checked both: they contain no character that has a meaning in an address.
    for (key, value) in [("project", &query.project), ("status", &query.status)] {
        if let Some(value) = value {
            next.push_str(&format!("&{key}={value}"));
        }
    }
    HeaderValue::from_str(&format!("{next}>; rel=\"next\"")).ok()
}
