//! Derives the outcomes of a run that ends, and what it has shown, from its journal in the store.

use super::deps::Deps;
use super::memories;
use super::retry::patiently;
use crate::domain::{Event, OutcomeRow, Run, Timestamp, outcomes};
use crate::ports::PortResult;
use std::time::Duration;

/// Stores what a run has shown, and returns the outcomes that are written with its last event, which led to the state
/// `run`. A journal that proves nothing does not keep its run from ending.
///
/// # Errors
/// The store was unavailable for `patience`.
pub(super) async fn of_ending(
    deps: &Deps,
    run: &Run,
    (event, at): (&Event, Timestamp),
    patience: Duration,
) -> PortResult<Vec<OutcomeRow>> {
    let unproven = |why: String| {
        tracing::warn!(run = %run.id, why, "no outcomes are recorded; `skep verify` shows what is wrong with the journal");
        Vec::new()
    };
    let mut journal = match patiently(patience, || deps.store.history(run.id)).await? {
        Ok(journal) => journal,
        Err(why) => return Ok(unproven(why)),
    };
    journal.push((event.clone(), at));
    let rows = match outcomes(journal.iter().cloned()) {
        Ok(rows) => rows,
        Err(why) => return Ok(unproven(why)),
    };
    memories::remember(deps, run, &rows, &journal, patience).await;
    Ok(rows)
}
