//! Derives the outcomes of a run that ends, and what it has shown: from the events as they happened, or from its journal
//! if it was resumed in between.

use super::deps::Deps;
use super::memories;
use super::retry::patiently;
use crate::domain::{Event, OutcomeRow, Proof, Run, Timestamp};
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
    gathered: Option<Proof>,
    (event, at): (&Event, Timestamp),
    patience: Duration,
) -> PortResult<Vec<OutcomeRow>> {
    let proof = match gathered {
        Some(proof) => Ok(proof),
        None => match patiently(patience, || deps.store.history(run.id)).await? {
            Ok(journal) => of_journal(journal, event, at),
            Err(why) => Err(why),
        },
    };
    let proof = match proof {
        Ok(proof) => proof,
        Err(why) => {
            tracing::warn!(run = %run.id, why, "no outcomes are recorded; `skep verify` shows what is wrong with the journal");
            return Ok(Vec::new());
        }
    };
    let rows = proof.outcomes(run);
    memories::remember(deps, run, &proof.memories(run, &rows), patience).await;
    Ok(rows)
}

/// Replays a journal and the event that follows it.
fn of_journal(mut journal: Vec<(Event, Timestamp)>, event: &Event, at: Timestamp) -> Result<Proof, String> {
    journal.push((event.clone(), at));
    let (proof, _) = Proof::replay(journal)?.ok_or("it is empty")?;
    Ok(proof)
}
