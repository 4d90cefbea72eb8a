//! Routes for checks without a run.

use super::problem::{ApiError, ApiResult};
use super::{State, wire};
use crate::service::Caller;
use crate::service::checks::{self, CheckProgress, ChecksEvent, ChecksRequest};
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::{Extension, Json};
use futures::Stream;
use futures::stream::unfold;
use serde::Serialize;
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Interval of the comments that keep a silent stream open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(plan)).routes(routes!(run))
}

fn request(new: wire::NewCheckPlan) -> ChecksRequest {
    ChecksRequest {
        project: new.project,
        repo: new.repo,
        base: new.base,
        checks: new.checks,
        spec: new.spec,
        working_copy: new.working_copy,
    }
}

/// Show the checks of a repository
///
/// Returns the checks that a run would use, and the hosts they need and may not reach. Only the project's mirror is
/// fetched, and nothing of the repository is run.
#[utoipa::path(post, path = "/api/v1/checks/plan", tag = "checks", request_body = wire::NewCheckPlan,
    responses((status = 200, body = wire::CheckPlan, description = "The checks")))]
async fn plan(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Json(new): Json<wire::NewCheckPlan>,
) -> ApiResult<Json<wire::CheckPlan>> {
    Ok(Json(checks::plan(&state.services, &caller, request(new)).await?.into()))
}

/// Run the checks of a repository
///
/// Runs them as a run would, on the base commit, and streams what happens as server-sent events: `plan`, then for each
/// check `started`, `output` and `finished`, at last `end` with all results, or `error`. Closing the stream ends the
/// checks.
#[utoipa::path(post, path = "/api/v1/checks/run", tag = "checks", request_body = wire::NewCheckPlan,
    responses((status = 200, description = "What happens", body = wire::CheckResult, content_type = "text/event-stream")))]
async fn run(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Json(new): Json<wire::NewCheckPlan>,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>> + Send>> {
    let permit = state.streams.clone().try_acquire_owned().map_err(|_| {
        let detail = "as many event streams are open as server.max_streams allows";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail, "Close one of them")
    })?;
    let plan = checks::plan(&state.services, &caller, request(new)).await?;
    let events = checks::run(&state.services, &caller, plan.clone())?;
    let first = event("plan", &wire::CheckPlan::from(plan));
    let stream = unfold((Some(first), events, permit), |(first, mut events, permit)| async move {
        let next = match first {
            Some(first) => first,
            None => rendered(events.recv().await?),
        };
        Some((Ok(next), (None, events, permit)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("alive")))
}

fn rendered(happened: ChecksEvent) -> Event {
    match happened {
        ChecksEvent::Progress(CheckProgress::Started { name, command }) => {
            event("started", &json!({ "name": name, "command": command }))
        }
        ChecksEvent::Progress(CheckProgress::Output { name: _, line }) => {
            event("output", &json!({ "text": format!("{line}\n") }))
        }
        ChecksEvent::Progress(CheckProgress::Finished(result)) => event("finished", &wire::CheckResult::from(&result)),
        ChecksEvent::Ended(results) => {
            let results: Vec<wire::CheckResult> = results.iter().map(Into::into).collect();
            event("end", &json!({ "results": results }))
        }
        ChecksEvent::Failed(error) => event("error", &ApiError::from(error).problem()),
    }
}

fn event(name: &str, value: &impl Serialize) -> Event {
    // The wire types consist of plain values, which always serialize.
    Event::default().event(name).data(serde_json::to_string(value).unwrap_or_default())
}
