//! Events, snapshots and the outbox: group commit, and the reads by run.
//!
//! Invariant: a batch is written by `journal_sqlite` or `journal_postgres`, which report the transitions that passed
//! the fence.

use super::SeaStore;
use super::codec;
use super::error::duplicate;
use super::row::Row;
use super::run_index::{bounded, text_of};
use super::snapshot;
use crate::domain::{EffectKey, Event, Run, RunId, Timestamp};
use crate::ports::journal::{Journal, JournalRow, Transition};
use crate::ports::leases::Lease;
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use sea_orm::{DbBackend, QueryResult};
use std::sync::Arc;

/// Duration of the first lease, in seconds. A process that opens a run under its own epoch must renew the lease within
/// it.
pub(super) const FIRST_LEASE_SECS: i64 = 30;
/// Upper bound of journal rows in one answer.
const MAX_EVENTS: u64 = 1_000;
/// Journal rows that are read at once where all of them are wanted.
const HISTORY_PAGE: u64 = 500;

/// Reading the lease locks the run's row, so that no other owner acquires it between the check and the count.
const BEGIN_POSTGRES: &str = "WITH mine AS (SELECT id FROM run WHERE id = $1 AND owner = $2 AND epoch = $3 FOR SHARE) \
    UPDATE outbox SET begun = begun + 1 FROM mine WHERE outbox.run = mine.id AND outbox.key = $4 RETURNING begun";
/// SQLite has one writer at a time, so the check and the count are atomic.
const BEGIN_SQLITE: &str = "UPDATE outbox SET begun = begun + 1 WHERE run = $1 AND key = $4 \
    AND EXISTS (SELECT 1 FROM run WHERE id = $1 AND owner = $2 AND epoch = $3) RETURNING begun";
const WITHDRAW: &str = "UPDATE outbox SET begun = begun - 1 WHERE run = $1 AND key = $4 AND begun > 0 \
    AND EXISTS (SELECT 1 FROM run WHERE id = $1 AND owner = $2 AND epoch = $3) RETURNING begun";
const MINE: &str = "SELECT 1 AS one FROM run WHERE id = $1 AND owner = $2 AND epoch = $3";
const EVENTS: &str =
    "SELECT seq, at, name, epoch, version, body FROM event WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3";

/// The outcome of writing a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// The row is in the journal, written now or earlier.
    Written,
    /// The transition's lease was lost, or the journal is not at the event that the transition follows.
    Fenced,
}

#[async_trait]
impl Journal for SeaStore {
    async fn commit(&self, batch: Vec<Arc<Transition>>) -> Vec<PortResult<()>> {
        let mut answers: Vec<PortResult<()>> = Vec::with_capacity(batch.len());
        let mut rows = Vec::with_capacity(batch.len());
        let mut indexes = Vec::with_capacity(batch.len());
        for (index, transition) in batch.iter().enumerate() {
            match Row::of(transition, &self.openings) {
                Ok(row) => {
                    rows.push(row);
                    indexes.push(index);
                    answers.push(Ok(()));
                }
                Err(e) => answers.push(Err(e)),
            }
        }
        let outcomes = self.commit_rows(&rows).await;
        for ((index, row), outcome) in indexes.into_iter().zip(&rows).zip(outcomes) {
            if let Some(answer) = answers.get_mut(index) {
                *answer = outcome.and_then(|outcome| match outcome {
                    WriteOutcome::Written => Ok(()),
                    WriteOutcome::Fenced => Err(fenced(row)),
                });
            }
        }
        answers
    }

    async fn begin_effect(&self, lease: &Lease, key: &EffectKey) -> PortResult<u32> {
        let sql = if self.backend() == DbBackend::Postgres { BEGIN_POSTGRES } else { BEGIN_SQLITE };
        let mine = || [lease.run.to_string().into(), lease.owner.0.as_str().into(), lease.epoch.into()];
        let rows = self.write(sql, mine().into_iter().chain([key.as_str().into()])).await?;
        if let Some(row) = rows.first() {
            let begun: i64 = row.try_get("", "begun").map_err(|e| self.reading(&e))?;
            return Ok(u32::try_from(begun).unwrap_or(u32::MAX));
        }
        if self.read(MINE, mine()).await?.is_empty() {
            return Err(PortError::Fenced {
                what: format!(
                    "run {}: {} no longer holds its lease under epoch {}",
                    lease.run, lease.owner.0, lease.epoch
                ),
            });
        }
        Err(PortError::permanent(
            format!("run {}: effect {key} is not pending", lease.run),
            "nothing to do: the effect has ended, or was never decided",
        ))
    }

    async fn withdraw_effect(&self, lease: &Lease, key: &EffectKey) -> PortResult<()> {
        let mine = [lease.run.to_string().into(), lease.owner.0.as_str().into(), lease.epoch.into()];
        self.write(WITHDRAW, mine.into_iter().chain([key.as_str().into()])).await.map(|_| ())
    }

    async fn load(&self, run: RunId) -> PortResult<Option<Run>> {
        let sql = format!("SELECT {} FROM run WHERE id = $1", snapshot::COLUMNS);
        let rows = self.read(&sql, [run.to_string().into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        snapshot::read(row).map(Some).map_err(|why| {
            PortError::permanent(
                format!("cannot read run {run}: {why}"),
                "use the Skep version that wrote it, or restore a backup; other runs are not affected",
            )
        })
    }

    async fn events(&self, run: RunId, after: u64, limit: u64) -> PortResult<Vec<JournalRow>> {
        let values = [
            run.to_string().into(),
            i64::try_from(after).unwrap_or(i64::MAX).into(),
            bounded(limit, MAX_EVENTS).into(),
        ];
        let rows = self.read(EVENTS, values).await?;
        rows.iter().map(|row| self.journal_row(run, row)).collect()
    }

    async fn history(&self, run: RunId) -> PortResult<Result<Vec<(Event, Timestamp)>, String>> {
        let mut history = Vec::new();
        loop {
            let after = i64::try_from(history.len()).unwrap_or(i64::MAX);
            let values = [run.to_string().into(), after.into(), bounded(HISTORY_PAGE, MAX_EVENTS).into()];
            let rows = self.read(EVENTS, values).await?;
            for row in &rows {
                let unreadable =
                    |why: String| format!("event {} of its journal cannot be read: {why}", history.len() + 1);
                match event_of(row) {
                    Ok(event) => history.push(event),
                    Err(why) => return Ok(Err(unreadable(why))),
                }
            }
            if (rows.len() as u64) < HISTORY_PAGE {
                return Ok(Ok(history));
            }
        }
    }
}

impl SeaStore {
    async fn commit_rows(&self, rows: &[Row]) -> Vec<PortResult<WriteOutcome>> {
        if rows.is_empty() {
            return Vec::new();
        }
        match self.write_rows(rows).await {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            // A row that the database rejects must not hold up the others: each is then written separately.
            Err(PortError::Permanent { .. }) if rows.len() > 1 => {
                let mut outcomes = Vec::with_capacity(rows.len());
                for row in rows {
                    let alone = self.write_rows(std::slice::from_ref(row)).await;
                    outcomes.push(alone.map(|o| o.first().copied().unwrap_or(WriteOutcome::Fenced)));
                }
                outcomes
            }
            Err(e) => rows.iter().map(|_| Err(duplicate(&e))).collect(),
        }
    }

    async fn write_rows(&self, rows: &[Row]) -> PortResult<Vec<WriteOutcome>> {
        match self.backend() {
            DbBackend::Postgres => self.write_rows_postgres(rows).await,
            _ => self.write_rows_sqlite(rows).await,
        }
    }

    /// Reads a journal row. Its number must be readable, because it is the row's position; everything else may be
    /// damaged.
    fn journal_row(&self, run: RunId, row: &QueryResult) -> PortResult<JournalRow> {
        let seq: i64 = row.try_get("", "seq").map_err(|e| self.reading(&e))?;
        let version: i64 = row.try_get("", "version").unwrap_or(i64::MAX);
        let event = text_of(row, "body").and_then(|body| codec::event_json(version, &body)).inspect_err(|why| {
            tracing::warn!("{}: cannot read event {seq} of run {}: {why}", self.location, run.abbrev());
        });
        Ok(JournalRow {
            run,
            seq: u64::try_from(seq).unwrap_or(0),
            at: Timestamp(row.try_get("", "at").unwrap_or(0)),
            name: text_of(row, "name").unwrap_or_else(|_| "unreadable".to_owned()),
            epoch: row.try_get("", "epoch").unwrap_or(0),
            event: event.ok(),
        })
    }
}

/// Reads the event of a journal row, and its time.
fn event_of(row: &QueryResult) -> Result<(Event, Timestamp), String> {
    let number = |column: &str| row.try_get::<i64>("", column).map_err(|e| e.to_string());
    let event = codec::decode_event(number("version")?, &text_of(row, "body")?)?;
    Ok((event, Timestamp(number("at")?)))
}

fn fenced(row: &Row) -> PortError {
    PortError::Fenced {
        what: format!(
            "run {}: event {} may not be written by {} under epoch {}",
            row.run, row.seq, row.owner, row.epoch
        ),
    }
}
