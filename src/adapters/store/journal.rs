//! Group commit: turns transitions into rows, and answers each of them.
//!
//! Invariant: nothing here writes. `journal_sqlite` and `journal_postgres` do, and each tells which transitions the fence let
//! through.

use super::SeaStore;
use super::error::again;
use super::ledger::LedgerRecord;
use crate::domain::run::SNAPSHOT_VERSION;
use crate::domain::{Event, status};
use crate::ports::store::Transition;
use crate::ports::{PortError, PortResult};
use sea_orm::DbBackend;

/// The most bytes of one row's payload. A run that outgrows it has gone wrong long before.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most effects of one transition; `ord` counts within it.
const EFFECTS_MAX: usize = 10_000;
/// `ord` is the deciding event's number times this, plus the place in its decision: the order of decision over the run's life.
const ORD_STEP: i64 = 65_536;
/// How long a process that opens a run with an epoch of its own holds it before it must renew.
pub(super) const FIRST_LEASE_SECS: i64 = 30;

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
    pub finished: Vec<String>,
    pub wake_at: Option<i64>,
    pub waits: Option<String>,
    pub ledger_rows: Vec<LedgerRecord>,
}

impl Row {
    /// The first transition makes the run's row; the others find it.
    pub(super) fn opens(&self) -> bool {
        self.seq == 1
    }
    /// The id backwards.
    pub(super) fn tail(&self) -> String {
        self.run.chars().rev().collect()
    }
    /// Whose the new run is: nobody's, unless it was opened with an epoch.
    pub(super) fn first_owner(&self) -> Option<&str> {
        (self.epoch > 0).then_some(self.owner.as_str())
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is in the journal, from now or from before.
    Written,
    /// The lease is not (or no longer) the one it carries, or the journal is elsewhere.
    Fenced,
}

impl SeaStore {
    /// Writes a batch in one transaction. See [`crate::ports::Store::commit`].
    pub(super) async fn commit_batch(&self, batch: &[Transition]) -> Vec<PortResult<()>> {
        let mut answers: Vec<PortResult<()>> = Vec::with_capacity(batch.len());
        let mut rows = Vec::with_capacity(batch.len());
        let mut places = Vec::with_capacity(batch.len());
        for (place, transition) in batch.iter().enumerate() {
            match row_of(transition) {
                Ok(row) => {
                    rows.push(row);
                    places.push(place);
                    answers.push(Ok(()));
                }
                Err(e) => answers.push(Err(e)),
            }
        }
        let fates = self.commit_rows(&rows).await;
        for ((place, row), fate) in places.into_iter().zip(&rows).zip(fates) {
            if let Some(answer) = answers.get_mut(place) {
                *answer = fate.and_then(|fate| match fate {
                    Fate::Written => Ok(()),
                    Fate::Fenced => Err(fenced(row)),
                });
            }
        }
        answers
    }

    async fn commit_rows(&self, rows: &[Row]) -> Vec<PortResult<Fate>> {
        if rows.is_empty() {
            return Vec::new();
        }
        match self.write_rows(rows).await {
            Ok(fates) => fates.into_iter().map(Ok).collect(),
            // One row the database will not have must not hold up the others: each by itself then.
            Err(PortError::Permanent { .. }) if rows.len() > 1 => {
                let mut fates = Vec::with_capacity(rows.len());
                for row in rows {
                    let alone = self.write_rows(std::slice::from_ref(row)).await;
                    fates.push(alone.map(|f| f.first().copied().unwrap_or(Fate::Fenced)));
                }
                fates
            }
            Err(e) => rows.iter().map(|_| Err(again(&e))).collect(),
        }
    }

    async fn write_rows(&self, rows: &[Row]) -> PortResult<Vec<Fate>> {
        match self.backend() {
            DbBackend::Postgres => self.write_rows_postgres(rows).await,
            _ => self.write_rows_sqlite(rows).await,
        }
    }
}

fn fenced(row: &Row) -> PortError {
    PortError::Fenced {
        what: format!(
            "run {}: event {} may not be written by {} under epoch {}",
            row.run, row.seq, row.owner, row.epoch
        ),
    }
}

fn row_of(t: &Transition) -> PortResult<Row> {
    let run = &t.run;
    let wrong = |why: String| {
        PortError::permanent(
            format!("run {}: event {} cannot be written: {why}", run.id, run.seq),
            "this is a fault of Skep: report it, with the message",
        )
    };
    if t.lease.run != run.id {
        return Err(wrong(format!("its lease is on run {}", t.lease.run)));
    }
    if matches!(t.event, Event::Opened(_)) != (run.seq == 1) {
        return Err(wrong(format!("{:?} must be the first event, and no other", t.event.name())));
    }
    if run.version != SNAPSHOT_VERSION {
        return Err(wrong(format!("its snapshot is of form {}, not {SNAPSHOT_VERSION}", run.version)));
    }
    if t.effects.len() > EFFECTS_MAX {
        return Err(wrong(format!("it has {} effects, more than {EFFECTS_MAX}", t.effects.len())));
    }
    let json = |what: &str, text: serde_json::Result<String>| match text {
        Ok(text) if text.len() > PAYLOAD_BYTES_MAX => {
            Err(wrong(format!("its {what} has {} bytes, more than {PAYLOAD_BYTES_MAX}", text.len())))
        }
        Ok(text) => Ok(text),
        Err(e) => Err(wrong(format!("its {what} is no JSON: {e}"))),
    };
    let seq = i64::try_from(run.seq).map_err(|_| wrong("its number is too large".to_owned()))?;
    let mut effects = Vec::with_capacity(t.effects.len());
    for (place, (key, effect)) in (0i64..).zip(&t.effects) {
        let ord = seq.saturating_mul(ORD_STEP).saturating_add(place);
        effects.push((key.0.clone(), ord, json("effect", serde_json::to_string(effect))?));
    }
    let mut ledger_rows = Vec::with_capacity(t.ledger_rows.len());
    for c in &t.ledger_rows {
        let line = LedgerRecord::of(run.id, &run.project, c)
            .map_err(|e| wrong(format!("its list of models is no JSON: {e}")))?;
        ledger_rows.push(line);
    }
    let codes: Vec<&str> = run.blocks.iter().map(|b| b.kind.code()).collect();
    Ok(Row {
        run: run.id.to_string(),
        owner: t.lease.owner.0.clone(),
        epoch: t.lease.epoch,
        seq,
        at: t.at.0,
        name: t.event.name(),
        event: json("event", serde_json::to_string(&t.event))?,
        project: run.project.as_str().to_owned(),
        phase: run.phase.name(),
        status: status::of_run(run).word(),
        ended: run.ended(),
        change_number: run.change.as_ref().and_then(|c| i64::try_from(c.number.0).ok()),
        title: run.goal.title(),
        blocks: json("list of blocks", serde_json::to_string(&codes))?,
        version: i64::from(run.version),
        opened_at: run.opened_at.0,
        snapshot: json("snapshot", serde_json::to_string(run))?,
        effects,
        finished: t.finished.iter().map(|key| key.0.clone()).collect(),
        wake_at: run.wake_at().filter(|_| !run.ended()).map(|at| at.0),
        waits: run.wait.as_ref().map(|w| w.reason.to_string()),
        ledger_rows,
    })
}
