//! What the events of a run prove, gathered as they happen or from its whole journal.

use super::OutcomeRow;
use super::derive::OutcomeReader;
use crate::domain::decide::{decide, open};
use crate::domain::event::Event;
use crate::domain::id::{Sha, Timestamp};
use crate::domain::memory::{Derived, ShownEvent, derive};
use crate::domain::run::Run;

/// What the events of a run have proven so far.
#[derive(Clone, Debug)]
pub struct Proof {
    outcomes: OutcomeReader,
    /// The base that the run was opened at.
    base: Sha,
    shown: Vec<ShownEvent>,
}

impl Proof {
    /// Upper bound on the events that are gathered as they happen. Beyond it the journal is replayed at the end.
    const MAX_GATHERED: usize = 1_000;

    /// Starts with a run of which nothing happened but its opening.
    pub fn opened(run: &Run) -> Option<Proof> {
        (run.seq == 1).then(|| Proof { outcomes: OutcomeReader::default(), base: run.base.clone(), shown: Vec::new() })
    }

    /// Replays a journal. Returns the last state, too.
    ///
    /// # Errors
    ///
    /// Explains why the journal cannot be replayed.
    pub fn replay(journal: impl IntoIterator<Item = (Event, Timestamp)>) -> Result<Option<(Proof, Run)>, String> {
        let mut replayed: Option<(Proof, Run)> = None;
        for ((event, at), seq) in journal.into_iter().zip(1u64..) {
            let refused = |e| format!("event {seq} does not fit the state before it: {e}");
            match (&mut replayed, &event) {
                (None, Event::Opened(opened)) => {
                    let run = open(opened, at).map_err(refused)?.run;
                    replayed = Proof::opened(&run).map(|proof| (proof, run));
                }
                (None, _) => return Err("the first event does not open the run".to_owned()),
                (Some((proof, run)), event) => {
                    let after = decide(run, event, at).map_err(refused)?.run;
                    proof.read(run, event, &after, at);
                    *run = after;
                }
            }
        }
        Ok(replayed)
    }

    /// Reads the event that led from one state to the next.
    pub fn read(&mut self, before: &Run, event: &Event, after: &Run, at: Timestamp) {
        self.outcomes.read(before, event, after, at);
        self.shown.extend(ShownEvent::of(before, event, (after.seq, at)));
    }

    /// Returns whether it has become too large to be held in memory.
    pub fn is_too_large(&self) -> bool {
        self.shown.len() > Self::MAX_GATHERED
    }

    /// Returns the outcomes of the run, whose state now is `run`, in the order of attempts and words. A run that has not
    /// ended has none.
    pub fn outcomes(&self, run: &Run) -> Vec<OutcomeRow> {
        self.outcomes.clone().outcomes(run)
    }

    /// Returns what the ended run has shown, given its outcomes.
    pub fn memories(&self, run: &Run, outcomes: &[OutcomeRow]) -> Derived {
        derive(run, &self.base, outcomes, &self.shown)
    }
}

/// Returns the outcomes that a run's whole journal proves, in the order of attempts and words. A run that has not ended
/// has none.
///
/// # Errors
///
/// Explains why the journal cannot be replayed.
pub fn outcomes(journal: impl IntoIterator<Item = (Event, Timestamp)>) -> Result<Vec<OutcomeRow>, String> {
    Ok(Proof::replay(journal)?.map(|(proof, run)| proof.outcomes(&run)).unwrap_or_default())
}
