//! Derives the outcomes of a run that ends, from its journal in the store.

use super::deps::Deps;
use super::retry::patiently;
use crate::domain::{Event, OutcomeRow, RunId, Timestamp, outcomes};
use crate::ports::{Journal, PortResult};
use std::time::Duration;

/// Journal rows that are read at once.
const PAGE: u64 = 500;

/// Returns the events of a run in order.
///
/// # Errors
/// The store cannot be read. The inner error names an event that cannot be read.
pub async fn read_journal(
    store: &(impl Journal + ?Sized),
    run: RunId,
) -> PortResult<Result<Vec<(Event, Timestamp)>, String>> {
    let mut journal = Vec::new();
    loop {
        let rows = store.events(run, journal.len() as u64, PAGE).await?;
        let is_last = (rows.len() as u64) < PAGE;
        for row in rows {
            match row.event.map(serde_json::from_value::<Event>) {
                Some(Ok(event)) => journal.push((event, row.at)),
                _ => return Ok(Err(format!("event {} of its journal cannot be read", row.seq))),
            }
        }
        if is_last {
            return Ok(Ok(journal));
        }
    }
}

/// Returns the outcomes that are written with the last event of a run. A journal that proves nothing does not keep its
/// run from ending.
///
/// # Errors
/// The store was unavailable for `patience`.
pub(super) async fn of_ending(
    deps: &Deps,
    run: RunId,
    (event, at): (&Event, Timestamp),
    patience: Duration,
) -> PortResult<Vec<OutcomeRow>> {
    let journal = patiently(patience, || read_journal(&*deps.store, run)).await?;
    let last = (event.clone(), at);
    Ok(journal.and_then(|journal| outcomes(journal.into_iter().chain([last]))).unwrap_or_else(|why| {
        tracing::warn!(%run, why, "no outcomes are recorded; `skep verify` shows what is wrong with the journal");
        Vec::new()
    }))
}
