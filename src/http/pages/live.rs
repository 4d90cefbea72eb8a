//! Stream on which open pages learn that something moved. It only saves time: a page is complete without it, and whoever
//! loses an event sees it at the next one.

use super::problem::PageResult;
use super::visit::Person;
use super::{State, assets};
use crate::service::ServiceError;
use crate::service::watch::{self, Moved, News};
use axum::extract::State as Shared;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::unfold;
use futures::{Stream, StreamExt};
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;

/// Interval of the comments that keep a silent stream open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Time after which a browser reconnects.
const RETRY: Duration = Duration::from_secs(2);
/// Time after which a stream ends, so that the browser reconnects and its session is checked again.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// `GET /live`.
pub async fn live(
    Shared(state): Shared<State>,
    person: Person,
) -> PageResult<Sse<impl Stream<Item = Result<Event, Infallible>> + Send>> {
    let moves = watch::moves(&state.services, &person.caller)?;
    let permit = state.streams.clone().try_acquire_owned().map_err(|_| {
        let detail = "as many event streams are open as server.max_streams allows";
        ServiceError::unavailable(detail, "Close a page, or reload this one by hand")
    })?;
    let hello = Event::default().event("hello").retry(RETRY).data(assets::build());
    let events = unfold((moves, permit, Some(hello)), |(mut moves, permit, hello)| async move {
        let event = match hello {
            Some(hello) => hello,
            None => match moves.news().await? {
                News::Moved(Moved::Run { run, seq }) => {
                    Event::default().event("moved").data(json!({ "run": run.to_string(), "seq": seq }).to_string())
                }
                News::Printed(run) => {
                    Event::default().event("moved").data(json!({ "run": run.to_string(), "output": true }).to_string())
                }
                News::Moved(Moved::Unknown) => Event::default().event("moved").data("{}"),
            },
        };
        Some((Ok(event), (moves, permit, None)))
    });
    let events = events.take_until(tokio::time::sleep(MAX_AGE));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("alive")))
}
