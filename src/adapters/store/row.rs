//! Transitions as the rows that are written for them.

use super::codec;
use super::ledger::LedgerRecord;
use super::outcomes::OutcomeRecord;
use super::snapshot::{self, OpeningSettings};
use crate::domain::{Event, status};
use crate::ports::journal::Transition;
use crate::ports::{PortError, PortResult};

/// Upper bound of one row's payload, in bytes. Only a defective run exceeds it.
const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;
/// Upper bound of effects of one transition. `ord` counts within it.
const MAX_EFFECTS: usize = 10_000;
/// `ord` is the number of the deciding event times this, plus the index in its decision: the order of decision over the
/// run's life.
pub(super) const ORD_STEP: i64 = 65_536;

/// A transition as it is written.
pub(super) struct Row {
    pub run: String,
    pub owner: String,
    pub epoch: i64,
    pub seq: i64,
    pub at: i64,
    pub name: &'static str,
    pub event: String,
    pub project: String,
    pub phase: &'static str,
    pub status: &'static str,
    pub ended: bool,
    pub change_number: Option<i64>,
    pub title: String,
    pub blocks: String,
    pub version: i64,
    pub opened_at: i64,
    pub snapshot: String,
    /// New outbox rows: key, order, effect.
    pub effects: Vec<(String, i64, String)>,
    /// Keys of the outbox rows to remove.
    pub finished: Vec<String>,
    pub wake_at: Option<i64>,
    pub wait_reason: Option<String>,
    pub ledger: Vec<LedgerRecord>,
    pub outcomes: Vec<OutcomeRecord>,
}

impl Row {
    /// Returns whether the transition creates the run's row; later ones update it.
    pub(super) fn opens(&self) -> bool {
        self.seq == 1
    }
    /// Returns the run's id with its digits in reverse order.
    pub(super) fn reversed_id(&self) -> String {
        self.run.chars().rev().collect()
    }
    /// Returns the owner of a new run: none, unless the run was opened with an epoch.
    pub(super) fn first_owner(&self) -> Option<&str> {
        (self.epoch > 0).then_some(self.owner.as_str())
    }

    /// Converts a transition, or explains why it cannot be written.
    pub(super) fn of(t: &Transition, openings: &OpeningSettings) -> PortResult<Row> {
        let run = &t.run;
        let invalid = |why: String| {
            PortError::permanent(
                format!("run {}: cannot write event {}: {why}", run.id, run.seq),
                "this is a bug in Skep: report it with this message",
            )
        };
        if t.lease.run != run.id {
            return Err(invalid(format!("its lease is on run {}", t.lease.run)));
        }
        if matches!(t.event, Event::Opened(_)) != (run.seq == 1) {
            return Err(invalid(format!("{:?} must be the first event, and no other may be", t.event.name())));
        }
        if t.effects.len() > MAX_EFFECTS {
            return Err(invalid(format!("it has {} effects, more than {MAX_EFFECTS}", t.effects.len())));
        }
        let payload = |what: &str, json: Result<String, String>| match json {
            Ok(json) if json.len() > MAX_PAYLOAD_BYTES => {
                Err(invalid(format!("its {what} has {} bytes, more than {MAX_PAYLOAD_BYTES}", json.len())))
            }
            Ok(json) => Ok(json),
            Err(why) => Err(invalid(why)),
        };
        let seq = i64::try_from(run.seq).map_err(|_| invalid("its sequence number is too large".to_owned()))?;
        let mut effects = Vec::with_capacity(t.effects.len());
        for (index, (key, effect)) in (0i64..).zip(&t.effects) {
            let ord = seq.saturating_mul(ORD_STEP).saturating_add(index);
            effects.push((key.0.clone(), ord, payload("effect", codec::encode_effect(effect))?));
        }
        let mut ledger = Vec::with_capacity(t.ledger_rows.len());
        for row in &t.ledger_rows {
            let record = LedgerRecord::of(run.id, &run.project, row)
                .map_err(|e| invalid(format!("cannot serialize its usage by model: {e}")))?;
            ledger.push(record);
        }
        let codes: Vec<&str> = run.blocks.iter().map(|b| b.kind.code()).collect();
        let codes =
            serde_json::to_string(&codes).map_err(|e| invalid(format!("cannot serialize its list of blocks: {e}")))?;
        Ok(Row {
            run: run.id.to_string(),
            owner: t.lease.owner.0.clone(),
            epoch: t.lease.epoch,
            seq,
            at: t.at.0,
            name: t.event.name(),
            event: payload("event", codec::encode_event(&t.event))?,
            project: run.project.as_str().to_owned(),
            phase: run.phase.name(),
            status: status::of_run(run).word(),
            ended: run.ended(),
            change_number: run.change.as_ref().and_then(|c| i64::try_from(c.number.0).ok()),
            title: run.goal.title(),
            blocks: codes,
            version: codec::VERSION,
            opened_at: run.opened_at.0,
            snapshot: payload("snapshot", snapshot::encode(t, openings))?,
            effects,
            finished: t.finished.iter().map(|key| key.0.clone()).collect(),
            wake_at: run.wake_at().filter(|_| !run.ended()).map(|at| at.0),
            wait_reason: run.wait.as_ref().map(|w| w.reason.to_string()),
            ledger,
            outcomes: t.outcomes.iter().map(OutcomeRecord::of).collect(),
        })
    }
}
