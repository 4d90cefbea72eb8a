//! Routes that stream server-sent events: the journal of a run, and which runs have moved.

use super::problem::{ApiError, ApiResult};
use super::{State, etag, wire};
use crate::service::Caller;
use crate::service::watch::{self, Moved, Seen, Watch, watch};
use axum::Extension;
use axum::extract::{Path, Query, State as Shared};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use futures::stream::unfold;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Interval of the comments that keep a silent stream open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(stream)).routes(routes!(moves))
}

/// Start of a stream.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct StreamQuery {
    /// Only rows after this number; the `Last-Event-ID` header takes precedence.
    #[serde(default)]
    after: u64,
}

/// Stream the events of a run
///
/// Each committed row is an event with its number as `id` and its name as `event`. Lines of output of running engines
/// and checks come as `output` without an id; some may be lost. When the run has ended, the event `end` follows, and the stream
/// ends. Reconnect with `Last-Event-ID` and nothing is missed or repeated.
#[utoipa::path(get, path = "/api/v1/runs/{id}/stream", tag = "runs",
    params(("id" = String, description = "Whole or shortened"), StreamQuery, ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, description = "The rows", body = wire::Event, content_type = "text/event-stream")))]
async fn stream(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>> + Send>> {
    let after = match etag::single(&headers, &LAST_EVENT_ID)? {
        None => query.after,
        Some(text) => text.trim().parse().map_err(|_| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "last_event_id",
                "Last-Event-ID is not a number",
                "Send the last `id` received",
            )
        })?,
    };
    let watch: Watch = watch(&state.services, &caller, &id, after).await?;
    let permit = permit(&state, "Close one, or poll /events instead")?;
    let events = unfold((watch, permit), |(mut watch, permit)| async move {
        let seen = watch.next().await?;
        Some((Ok(rendered(seen)), (watch, permit)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("alive")))
}

/// Stream which runs have moved
///
/// Begins with `hello`. Each `moved` names a run and its last event; one without a run says that any run may have
/// moved. It only saves polling: some may be lost, so read what you show again after each reconnect.
#[utoipa::path(get, path = "/api/v1/stream", tag = "runs",
    responses((status = 200, description = "The movements", body = wire::Movement, content_type = "text/event-stream")))]
async fn moves(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>> + Send>> {
    let moves = watch::moves(&state.services, &caller)?;
    let permit = permit(&state, "Close one, or poll /runs instead")?;
    let hello = Event::default().event("hello").data("{}");
    let events = unfold((moves, permit, Some(hello)), |(mut moves, permit, hello)| async move {
        let event = match hello {
            Some(hello) => hello,
            None => {
                let movement = match moves.next().await? {
                    Moved::Run { run, seq } => wire::Movement { run: Some(run.to_string()), seq: Some(seq) },
                    Moved::Unknown => wire::Movement::default(),
                };
                Event::default().event("moved").data(json(&movement))
            }
        };
        Some((Ok(event), (moves, permit, None)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("alive")))
}

/// Takes one of the permits for event streams.
fn permit(state: &State, fix: &str) -> ApiResult<OwnedSemaphorePermit> {
    state.streams.clone().try_acquire_owned().map_err(|_| {
        let detail = "as many event streams are open as server.max_streams allows";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail, fix)
    })
}

fn rendered(seen: Seen) -> Event {
    match seen {
        Seen::Row(row) => {
            let event = Event::default().id(row.seq.to_string()).event(single_word(&row.name));
            event.data(json(&wire::Event::from(row)))
        }
        Seen::Output { run, attempt, text } => {
            let attempt = Some(attempt.to_string());
            let output = wire::Output { run: run.to_string(), attempt, check: None, text };
            Event::default().event("output").data(json(&output))
        }
        Seen::CheckOutput { run, check, text } => {
            let output = wire::Output { run: run.to_string(), attempt: None, check: Some(check), text };
            Event::default().event("output").data(json(&output))
        }
        Seen::End { run, status, outcome } => {
            let outcome = outcome.as_ref().map(Into::into);
            let end = wire::End { run: run.to_string(), status: status.to_owned(), outcome };
            Event::default().event("end").data(json(&end))
        }
    }
}

fn json(value: &impl Serialize) -> String {
    // The wire types consist of plain values, which always serialize.
    serde_json::to_string(value).unwrap_or_default()
}

/// Reduces an event's name to one word: the text of a damaged row must not break out of its line.
fn single_word(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect()
}
