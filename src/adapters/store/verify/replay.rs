//! Replays a journal through the rules that wrote it: the state, the pending effects and the ledger rows that must be
//! in the store if nothing was changed.

use crate::domain::{Decision, Effect, EffectKey, Event, LedgerRow, Run, Timestamp, decide, open};
use std::collections::BTreeMap;

/// State of a replay.
#[derive(Default)]
pub(super) struct Replay {
    /// The state after the last event.
    pub run: Option<Run>,
    /// Number of the last event.
    pub seq: i64,
    /// Its time.
    pub at: i64,
    /// Highest epoch so far.
    pub epoch: i64,
    /// Effects that have not ended.
    pub pending: BTreeMap<EffectKey, Effect>,
    /// The newest row of each attempt.
    pub ledger: BTreeMap<u32, LedgerRow>,
    /// Why it cannot continue.
    pub broken: Option<String>,
}

impl Replay {
    /// Takes the next event of the journal.
    pub fn apply(&mut self, event: &Event, at: i64) -> Result<(), String> {
        let refused = |e: crate::domain::Refusal| format!("it does not fit the state before it: {e}");
        let decision = match (&self.run, event) {
            (None, Event::Opened(opened)) => open(opened, Timestamp(at)).map_err(refused)?,
            (None, _) => return Err("it is the first one, but does not open the run".to_owned()),
            (Some(run), event) => decide(run, event, Timestamp(at)).map_err(refused)?,
        };
        let Decision { run, effects, finished, ledger_rows } = decision;
        self.pending.extend(effects);
        for key in &finished {
            self.pending.remove(key);
        }
        self.ledger.extend(ledger_rows.into_iter().map(|row| (row.attempt.0, row)));
        (self.run, self.at) = (Some(run), at);
        Ok(())
    }
}

/// Returns the names of the fields in which two states differ.
pub(super) fn differences(one: &Run, other: &Run) -> Vec<String> {
    let fields = |run: &Run| match serde_json::to_value(run) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (one, other) = (fields(one), fields(other));
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    names.filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}
