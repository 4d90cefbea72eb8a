//! Derives the outcomes of a run that ends, from its journal in the store.

use super::deps::Deps;
use super::retry::patiently;
use crate::domain::{Event, OutcomeRow, RunId, Timestamp, outcomes};
use crate::ports::PortResult;
use std::time::Duration;

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
    let journal = patiently(patience, || deps.store.history(run)).await?;
    let last = (event.clone(), at);
    Ok(journal.and_then(|journal| outcomes(journal.into_iter().chain([last]))).unwrap_or_else(|why| {
        tracing::warn!(%run, why, "no outcomes are recorded; `skep verify` shows what is wrong with the journal");
        Vec::new()
    }))
}
