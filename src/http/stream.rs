//! A run's journal as server-sent events: each row once, in order, without a gap, wherever the watcher comes back.
//!
//! The feed only hurries the look: it loses news by design and tells nothing of what another process commits, so the journal is
//! read from the last row sent, at each piece of news and every few seconds.

use super::problem::{ApiError, ApiResult};
use super::{State, find, shapes};
use crate::actors::News;
use crate::domain::{RunId, status};
use crate::ports::PortResult;
use axum::extract::{Path, Query, State as Shared};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use futures::stream::unfold;
use serde::Deserialize;
use serde_json::json;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Journal rows read at once.
const ROWS: u64 = 200;
/// How often the journal is read without news.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How often a silent stream shows that it is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(stream))
}

/// From where.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct From {
    /// Only rows after this number; the `Last-Event-ID` header goes before it.
    #[serde(default)]
    after: u64,
}

/// A run's journal as it grows
///
/// Each committed row is an event with its number as `id` and its name as `event`. Lines of engines at work come as `said` without
/// an id; some may be lost. After the run's end comes `end`, then the stream ends. Come back with `Last-Event-ID` and nothing is
/// missed or repeated.
#[utoipa::path(get, path = "/api/v1/runs/{id}/stream", tag = "runs",
    params(("id" = String, description = "Whole or shortened"), From, ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, description = "The rows", body = shapes::JournalRow, content_type = "text/event-stream")))]
async fn stream(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>> + Send>> {
    let after = match find::one(&headers, &LAST_EVENT_ID)? {
        None => from.after,
        Some(text) => text.trim().parse().map_err(|_| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "last_event_id",
                "Last-Event-ID is no number",
                "Send the last `id` got",
            )
        })?,
    };
    let run = find::run_id(&state, &id).await?;
    let place = state.streams.clone().try_acquire_owned().map_err(|_| {
        let detail = "as many event streams are open as server.max_streams allows";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail, "Close one, or read /events instead")
    })?;
    let watch = Watch {
        // Listening before the first look: what is committed in between is told twice and read once.
        news: state.notifications.listen(),
        state,
        run,
        // The store counts in signed numbers.
        last: after.min(i64::MAX as u64),
        ready: VecDeque::new(),
        look: true,
        look_at: Instant::now(),
        over: false,
        _place: place,
    };
    let events = unfold(watch, |mut watch| async move { watch.next().await.map(|event| (Ok(event), watch)) });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY).text("alive")))
}

/// One watcher.
struct Watch {
    state: State,
    run: RunId,
    news: broadcast::Receiver<News>,
    /// The last row sent.
    last: u64,
    ready: VecDeque<Event>,
    /// Whether the journal may have rows not read.
    look: bool,
    /// When it is read without news.
    look_at: Instant,
    over: bool,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            if std::mem::take(&mut self.look)
                && let Err(error) = self.read().await
            {
                // The watcher is told nothing: the store may answer at the next look.
                tracing::debug!(%error, run = %self.run, "a watcher's look at the journal failed");
            }
            if self.ready.is_empty() && !self.look && !self.over {
                self.wait().await;
            }
        }
    }

    /// Reads what is new; sees whether it was the end.
    async fn read(&mut self) -> PortResult<()> {
        self.look_at = Instant::now() + LOOK_EVERY;
        let rows = self.state.store.journal(self.run, self.last, ROWS).await?;
        for row in &rows {
            self.last = row.seq;
            let named = Event::default().id(row.seq.to_string()).event(word(&row.name));
            // Rows are made of plain values, which always serialise.
            self.ready.push_back(named.data(serde_json::to_string(row).unwrap_or_default()));
        }
        if rows.len() as u64 == ROWS {
            self.look = true;
            return Ok(());
        }
        // A run that cannot be read has no end to be told of; its rows still come.
        if let Ok(Some(run)) = self.state.store.load(self.run).await
            && run.ended()
        {
            if run.seq > self.last {
                self.look = true;
            } else {
                let end = json!({ "run": run.id, "status": status::of_run(&run).word(), "outcome": run.outcome });
                self.ready.push_back(Event::default().event("end").data(end.to_string()));
                self.over = true;
            }
        }
        Ok(())
    }

    async fn wait(&mut self) {
        match timeout_at(self.look_at, self.news.recv()).await {
            Ok(Ok(News::Said { run, attempt, text })) if run == self.run => {
                let said = json!({ "run": run, "attempt": attempt.to_string(), "text": text });
                self.ready.push_back(Event::default().event("said").data(said.to_string()));
            }
            Ok(Ok(News::Moved { run, seq })) => self.look = run == self.run && seq > self.last,
            Ok(Ok(News::Said { .. })) => {}
            Ok(Err(broadcast::error::RecvError::Closed)) => {
                tokio::time::sleep_until(self.look_at).await;
                self.look = true;
            }
            Ok(Err(broadcast::error::RecvError::Lagged(_))) | Err(_) => self.look = true,
        }
    }
}

/// An event's name as one word: what a damaged row holds must not break out of its line.
fn word(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect()
}
