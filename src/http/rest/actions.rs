//! Routes for actions on a run. Each may be repeated: an action that has happened already responds with the run as it
//! is.

use super::body::OptionalBody;
use super::problem::{ApiError, ApiResult};
use super::{State, etag, runs, wire};
use crate::domain::Answer;
use crate::http::limits;
use crate::service::Caller;
use crate::service::actions::{self, NewSettings, Retry, Target};
use crate::service::reverts::{self, Revert};
use axum::Extension;
use axum::extract::{FromRequest, Path, Request, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default()
        .routes(routes!(approve))
        .routes(routes!(unblock))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(cancel))
        .routes(routes!(retry))
        .routes(routes!(revert))
        .routes(routes!(raise))
        .routes(routes!(lift_quarantine))
}

/// Approve or decline
///
/// Lifts the block named, or the oldest approval that the run waits for. `no` declines; `text` says what should be
/// different.
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/approve", tag = "actions", request_body = Option<wire::Action>,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = wire::Run, description = "The run afterwards", headers(("ETag" = String)))))]
async fn approve(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let (if_seq, action) = parse(request).await?;
    let (target, block) = (Target { run: &id, if_seq }, action.block.as_deref());
    let run = match action.no {
        true => actions::decline(&state.services, &caller, &target, block, action.text.unwrap_or_default()).await,
        false => actions::approve(&state.services, &caller, &target, block).await,
    };
    Ok(etag::tagged(StatusCode::OK, &run.map_err(refused)?, state.services.clock.now()))
}

/// Answer a question
///
/// Lifts the block named, or the oldest: with `more` budget, with `skip` (the task is dropped), with `no` (the run ends
/// undelivered), with a `text` (an answer or a hint), otherwise with yes.
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/unblock", tag = "actions", request_body = Option<wire::Action>,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = wire::Run, description = "The run afterwards", headers(("ETag" = String)))))]
async fn unblock(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let (if_seq, action) = parse(request).await?;
    let (settings, wire::Action { block, no, skip, text, more, .. }) = (settings(&action), action);
    let answer = match (more, text) {
        (Some(raise), _) => Answer::More { raise: raise.into() },
        (None, _) if skip => Answer::Skip,
        (None, text) if no => Answer::No { why: text.unwrap_or_default() },
        (None, Some(text)) => Answer::Text { text },
        (None, None) => Answer::Yes,
    };
    let target = Target { run: &id, if_seq };
    let run = actions::answer(&state.services, &caller, &target, block.as_deref(), answer, &settings).await;
    Ok(etag::tagged(StatusCode::OK, &run.map_err(refused)?, state.services.clock.now()))
}

/// Pause
///
/// Nothing new starts; what is in progress finishes.
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/pause", tag = "actions", request_body = Option<wire::Action>,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = wire::Run, description = "The run afterwards", headers(("ETag" = String)))))]
async fn pause(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let (if_seq, _) = parse(request).await?;
    let run = actions::pause(&state.services, &caller, &Target { run: &id, if_seq }).await;
    Ok(etag::tagged(StatusCode::OK, &run.map_err(refused)?, state.services.clock.now()))
}

/// Resume
///
/// Resumes a run that was paused, or that no process drives.
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/resume", tag = "actions", request_body = Option<wire::Action>,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = wire::Run, description = "The run afterwards", headers(("ETag" = String)))))]
async fn resume(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let (if_seq, _) = parse(request).await?;
    let run = actions::resume(&state.services, &caller, &Target { run: &id, if_seq }).await;
    Ok(etag::tagged(StatusCode::OK, &run.map_err(refused)?, state.services.clock.now()))
}

/// Cancel
///
/// A landing in progress is awaited: what reaches the base branch counts as delivered.
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/cancel", tag = "actions", request_body = Option<wire::Action>,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = wire::Run, description = "The run afterwards", headers(("ETag" = String)))))]
async fn cancel(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let (if_seq, action) = parse(request).await?;
    let target = Target { run: &id, if_seq };
    let run = actions::cancel(&state.services, &caller, &target, action.text.unwrap_or_default()).await;
    Ok(etag::tagged(StatusCode::OK, &run.map_err(refused)?, state.services.clock.now()))
}

/// Raise the budget of a run
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/raise", tag = "actions", request_body = wire::Action,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = wire::Run, description = "The run afterwards", headers(("ETag" = String)))))]
async fn raise(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let (if_seq, action) = parse(request).await?;
    let target = Target { run: &id, if_seq };
    let run = actions::raise(&state.services, &caller, &target, action.more.unwrap_or_default().into()).await;
    Ok(etag::tagged(StatusCode::OK, &run.map_err(refused)?, state.services.clock.now()))
}

/// Retry
///
/// A run that used up its tries or rounds gets as many again, with `text` as a hint. A run that ended undelivered is
/// followed by a new one with the same project, goal, engines and checks (201 with its Location).
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/retry", tag = "actions", request_body = Option<wire::Action>,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses(
        (status = 200, body = wire::Run, description = "The run afterwards", headers(("ETag" = String))),
        (status = 201, body = wire::Run, description = "The new run", headers(("Location" = String), ("ETag" = String))),
    ))]
async fn retry(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let trace = limits::traceparent(request.headers()).map(str::to_owned);
    let (if_seq, action) = parse(request).await?;
    let (target, settings) = (Target { run: &id, if_seq }, settings(&action));
    let wire::Action { block, text: hint, more, .. } = action;
    let how = Retry { block: block.as_deref(), hint, more: more.map(Into::into), settings: &settings };
    let opened = actions::retry(&state.services, &caller, &target, how, trace).await;
    Ok(runs::rendered(&state, &opened.map_err(refused)?))
}

/// Revert what a run has landed
///
/// Opens a run that takes the landed change back; it is checked, reviewed and approved like every other. `text` says why.
/// An open run that does the same is returned instead.
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/revert", tag = "actions", request_body = Option<wire::Action>,
    params(("id" = String, description = "Whole or shortened")),
    responses(
        (status = 200, body = wire::Run, description = "The open run that reverts it", headers(("ETag" = String))),
        (status = 201, body = wire::Run, description = "The new run", headers(("Location" = String), ("ETag" = String))),
    ))]
async fn revert(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let traceparent = limits::traceparent(request.headers()).map(str::to_owned);
    let (_, action) = parse(request).await?;
    let asked = Revert { settings: settings(&action), why: action.text, traceparent };
    let opened = reverts::revert(&state.services, &caller, &id, asked).await;
    Ok(runs::rendered(&state, &opened.map_err(refused)?))
}

/// Lift a quarantine
///
/// For a quarantined run whose cause was fixed. The run is resumed.
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/lift-quarantine", tag = "actions",
    params(("id" = String, description = "Whole or shortened")),
    responses((status = 200, body = wire::Run, description = "The run afterwards", headers(("ETag" = String)))))]
async fn lift_quarantine(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let run = actions::lift_quarantine(&state.services, &caller, &id).await?;
    Ok(etag::tagged(StatusCode::OK, &run, state.services.clock.now()))
}

/// Returns the engines, checks and limits that an action gives its run.
fn settings(action: &wire::Action) -> NewSettings {
    let engines = action.engines.iter().map(|(role, engine)| ((*role).into(), engine.clone())).collect();
    NewSettings { engines, checks: action.checks.clone(), limits: action.limits.into() }
}

fn refused(error: crate::service::ServiceError) -> Response {
    ApiError::from(error).into_response()
}

/// Parses the expected event and the body.
async fn parse(request: Request) -> Result<(Option<u64>, wire::Action), Response> {
    let if_seq = etag::if_match(request.headers()).map_err(ApiError::into_response)?;
    let OptionalBody(action) = OptionalBody::from_request(request, &()).await?;
    Ok((if_seq, action))
}
