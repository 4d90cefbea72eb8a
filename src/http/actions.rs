//! What people say to a run. Every action may be repeated: what has happened already is answered with the run as it is.

use super::problem::{ApiError, ApiResult};
use super::view::{RunView, Say};
use super::{State, find, limits, runs};
use crate::actors::{Ask, Rejected};
use crate::domain::run::Outcome;
use crate::domain::{self, BlockId, BlockKind, Event, Goal, GoalSource, Refusal, Run};
use axum::Json;
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
        .routes(routes!(raise))
}

/// A call of an action, taken apart.
struct Call {
    run: Run,
    say: Say,
    if_seq: Option<u64>,
}

impl Call {
    async fn of(state: &State, id: &str, request: Request) -> Result<Call, Response> {
        let if_seq = find::if_match(request.headers()).map_err(ApiError::into_response)?;
        let say = say(request).await?;
        let run = find::run(state, id).await.map_err(ApiError::into_response)?;
        match if_seq {
            // Said here too, so that what would be a repetition is not taken for one in a run that moved.
            Some(seq) if seq != run.seq => Err(ApiError::from(Rejected::Moved { seq: run.seq }).into_response()),
            _ => Ok(Call { run, say, if_seq }),
        }
    }

    /// The block named, or the oldest that fits.
    fn block(&self, fits: impl Fn(&BlockKind) -> bool, what: &str) -> ApiResult<BlockId> {
        if let Some(text) = &self.say.block {
            return block_id(text);
        }
        let oldest = self.run.blocks.iter().find(|b| fits(&b.kind));
        oldest.map(|b| b.id).ok_or_else(|| match self.run.outcome.is_some() {
            true => ApiError::from(Refusal::Ended { outcome: domain::status::of_run(&self.run).word().to_owned() }),
            false => ApiError::conflict(
                "nothing_to_answer",
                format!("the run waits for no {what}; it is {}", domain::status::of_run(&self.run).word()),
                "GET the run: `escalations` lists what it waits for",
            ),
        })
    }

    fn text(&self) -> String {
        self.say.text.clone().unwrap_or_default()
    }
}

/// Approve, or decline
///
/// Lifts the block named, or the oldest approval the run waits for. `no` declines; `text` says what should be different.
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/approve", tag = "actions", request_body = Option<Say>,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = RunView, description = "The run after it", headers(("ETag" = String)))))]
async fn approve(Shared(state): Shared<State>, Path(id): Path<String>, request: Request) -> Result<Response, Response> {
    let call = Call::of(&state, &id, request).await?;
    done(async {
        let block = call.block(BlockKind::is_approval, "approval")?;
        let answer = if call.say.no { domain::Answer::No { why: call.text() } } else { domain::Answer::Yes };
        answered(&state, &call, block, answer).await
    })
    .await
}

/// Answer what a run waits for
///
/// Lifts the block named, or the oldest: with `more` budget, with `skip` (the task is given up), with `no` (the run ends
/// undelivered), with a `text` (an answer or a hint), else with yes.
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/unblock", tag = "actions", request_body = Option<Say>,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = RunView, description = "The run after it", headers(("ETag" = String)))))]
async fn unblock(Shared(state): Shared<State>, Path(id): Path<String>, request: Request) -> Result<Response, Response> {
    let call = Call::of(&state, &id, request).await?;
    done(async {
        let block = call.block(|_| true, "answer")?;
        let Say { no, skip, text, more, .. } = call.say.clone();
        let answer = match (more, text) {
            (Some(raise), _) => domain::Answer::More { raise },
            (None, _) if skip => domain::Answer::Skip,
            (None, text) if no => domain::Answer::No { why: text.unwrap_or_default() },
            (None, Some(text)) => domain::Answer::Text { text },
            (None, None) => domain::Answer::Yes,
        };
        answered(&state, &call, block, answer).await
    })
    .await
}

/// Pause
///
/// Nothing new starts; what is under way ends.
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/pause", tag = "actions", request_body = Option<Say>,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = RunView, description = "The run after it", headers(("ETag" = String)))))]
async fn pause(Shared(state): Shared<State>, Path(id): Path<String>, request: Request) -> Result<Response, Response> {
    let call = Call::of(&state, &id, request).await?;
    let event = Event::Paused { by: state.principal.clone() };
    done(told(&state, &call, event)).await
}

/// Let a run go on: one that was paused, or that was left where it is
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/resume", tag = "actions", request_body = Option<Say>,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = RunView, description = "The run after it", headers(("ETag" = String)))))]
async fn resume(Shared(state): Shared<State>, Path(id): Path<String>, request: Request) -> Result<Response, Response> {
    let call = Call::of(&state, &id, request).await?;
    let event = Event::Resumed { by: state.principal.clone() };
    if call.run.paused.is_some() || call.run.ended() {
        return done(told(&state, &call, event)).await;
    }
    // Not paused: there is nothing to write, but a run that is told something is carried on, after a kill for one, and its change
    // is looked at. Another's run says so.
    match state.factory.tell(call.run.id, event, call.if_seq).await {
        Ok(_) | Err(Rejected::Refused(_)) => {}
        Err(other) => return Err(ApiError::from(other).into_response()),
    }
    state.factory.carry_on(call.run.id).await;
    let now = find::run(&state, &id).await.map_err(ApiError::into_response)?;
    Ok(find::shown(StatusCode::OK, &now))
}

/// Cancel
///
/// A landing under way is waited for: what is on the base branch counts as delivered.
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/cancel", tag = "actions", request_body = Option<Say>,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = RunView, description = "The run after it", headers(("ETag" = String)))))]
async fn cancel(Shared(state): Shared<State>, Path(id): Path<String>, request: Request) -> Result<Response, Response> {
    let call = Call::of(&state, &id, request).await?;
    if matches!(call.run.outcome, Some(Outcome::Cancelled { .. })) {
        return Ok(find::shown(StatusCode::OK, &call.run));
    }
    let event = Event::CancelRequested { by: state.principal.clone(), why: call.text() };
    done(told(&state, &call, event)).await
}

/// Give more budget, asked or not
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/raise", tag = "actions", request_body = Say,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = RunView, description = "The run after it", headers(("ETag" = String)))))]
async fn raise(Shared(state): Shared<State>, Path(id): Path<String>, request: Request) -> Result<Response, Response> {
    let call = Call::of(&state, &id, request).await?;
    let event = Event::Raised { raise: call.say.more.unwrap_or_default(), by: state.principal.clone() };
    done(told(&state, &call, event)).await
}

/// Try again
///
/// A run that used up its tries or rounds gets as many again, with `text` as a hint. A run that ended undelivered is followed by a
/// new one with the same project, goal, engines and checks (201 with its Location).
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions/retry", tag = "actions", request_body = Option<Say>,
    params(("id" = String, description = "Whole or shortened"), ("If-Match" = Option<String>, Header)),
    responses(
        (status = 200, body = RunView, description = "The run after it", headers(("ETag" = String))),
        (status = 201, body = RunView, description = "The new run", headers(("Location" = String), ("ETag" = String))),
    ))]
async fn retry(Shared(state): Shared<State>, Path(id): Path<String>, request: Request) -> Result<Response, Response> {
    let trace = limits::traceparent(request.headers()).map(str::to_owned);
    let call = Call::of(&state, &id, request).await?;
    done(async {
        match &call.run.outcome {
            Some(Outcome::Delivered { sha }) => Err(ApiError::conflict(
                "delivered",
                format!("the run is delivered: {} is on {}", sha.abbrev(), call.run.settings.base_branch),
                "Open a new run for a new goal",
            )),
            Some(_) => Ok(runs::opened(&state.factory.ask(again(&state, &call.run, trace)).await?)),
            None => {
                let used_up = |k: &BlockKind| matches!(k, BlockKind::Tries { .. } | BlockKind::Rounds);
                let block = call.block(used_up, "further try")?;
                let answer = call.say.text.clone().map_or(domain::Answer::Yes, |text| domain::Answer::Text { text });
                answered(&state, &call, block, answer).await
            }
        }
    })
    .await
}

/// The same once more. An open run of that goal is carried on, so that a repeated request opens one run.
fn again(state: &State, run: &Run, traceparent: Option<String>) -> Ask {
    Ask {
        project: Some(run.project.clone()),
        repo: None,
        goal: Goal {
            text: run.goal.text.clone(),
            source: GoalSource::Retry { run: run.id },
            asked_by: state.principal.clone(),
        },
        base: Some(run.settings.base_branch.clone()),
        engines: run.settings.engines.clone(),
        checks: run.settings.checks.clone(),
        carry_on: true,
        traceparent,
    }
}

async fn answered(state: &State, call: &Call, block: BlockId, answer: domain::Answer) -> ApiResult<Response> {
    let event = Event::Answered { block: Some(block), answer, by: state.principal.clone() };
    told(state, call, event).await
}

async fn told(state: &State, call: &Call, event: Event) -> ApiResult<Response> {
    match state.factory.tell(call.run.id, event, call.if_seq).await {
        Ok(run) => Ok(find::shown(StatusCode::OK, &run)),
        Err(Rejected::Refused(Refusal::Repeated { .. })) => {
            Ok(find::shown(StatusCode::OK, &find::run(state, &call.run.id.to_string()).await?))
        }
        Err(other) => Err(other.into()),
    }
}

async fn done(work: impl Future<Output = ApiResult<Response>>) -> Result<Response, Response> {
    work.await.map_err(ApiError::into_response)
}

/// The body; none at all says nothing more than the action itself.
async fn say(request: Request) -> Result<Say, Response> {
    let (parts, body) = request.into_parts();
    let bytes =
        axum::body::to_bytes(body, limits::BODY_MAX).await.map_err(|_| StatusCode::BAD_REQUEST.into_response())?;
    if bytes.is_empty() {
        return Ok(Say::default());
    }
    let request = Request::from_parts(parts, axum::body::Body::from(bytes));
    Json::<Say>::from_request(request, &()).await.map(|Json(say)| say).map_err(IntoResponse::into_response)
}

/// `b1` or `#b1`.
fn block_id(text: &str) -> ApiResult<BlockId> {
    let digits = text.strip_prefix('#').unwrap_or(text).strip_prefix('b');
    digits.and_then(|d| d.parse().ok()).map(BlockId).ok_or_else(|| {
        ApiError::invalid(format!("block: {} is no block", super::problem::shown(text)), "Blocks are named b1, b2, …")
    })
}
