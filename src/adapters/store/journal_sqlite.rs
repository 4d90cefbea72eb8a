//! Group commit on SQLite: one immediate transaction for the batch, and one prepared text for each transition.
//!
//! A statement that is sent alone costs two switches between threads, because SQLite works in a thread of its own. So
//! the statements of a transition are sent as one text; each of them holds only while the run's row passes the fence,
//! and the row itself is written last.

use super::SeaStore;
use super::journal::{FIRST_LEASE_SECS, WriteOutcome};
use super::ledger::PUT_ROW;
use super::outcomes::ADD_OUTCOME;
use super::row::Row;
use crate::ports::PortResult;
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbErr, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait, Value,
};

const UPDATE: &str = "UPDATE run SET seq = $5, phase = $6, status = $7, ended = $8, change_number = $9, title = $10, \
    blocks = $11, updated_at = $12, version = $13, snapshot = $14, wake_at = $15, wait_reason = $16, \
    ended_at = CASE WHEN $8 THEN coalesce(ended_at, $12) END \
    WHERE id = $1 AND owner = $2 AND epoch = $3 AND seq = $4";
const OPEN: &str = "INSERT INTO run (id, reversed_id, project, seq, phase, status, ended, change_number, title, blocks, opened_at, \
    updated_at, owner, epoch, lease_until, version, snapshot, home) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
    CAST(unixepoch('subsec') * 1000 AS INTEGER) + $15, $16, $17, $18) ON CONFLICT (id) DO NOTHING";
const ADD_EVENT: &str =
    "INSERT INTO event (run, seq, epoch, at, name, version, body) VALUES ($1, $2, $3, $4, $5, $6, $7)";
const ADD_EFFECT: &str = "INSERT INTO outbox (run, key, ord, version, body) VALUES ($1, $2, $3, $4, $5)";
/// Whether the run is still owned as the transition expects, and at the event that it follows; with the values of
/// [`UPDATE`].
const FENCE: &str = "EXISTS (SELECT 1 FROM run WHERE id = $1 AND owner = $2 AND epoch = $3 AND seq = $4)";
const WRITTEN: &str = "SELECT 1 FROM event WHERE run = $1 AND seq = $2 AND epoch = $3 AND body = $4";

impl SeaStore {
    pub(super) async fn write_rows_sqlite(&self, rows: &[Row]) -> PortResult<Vec<WriteOutcome>> {
        self.written(self.write_rows_in_tx(rows).await)
    }

    async fn write_rows_in_tx(&self, rows: &[Row]) -> Result<Vec<WriteOutcome>, DbErr> {
        // Immediate: a transaction that reads first and writes later fails immediately while another one writes.
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        let tx = self.write.begin_with_options(options).await?;
        let mut outcomes = Vec::with_capacity(rows.len());
        for row in rows {
            outcomes.push(self.write_row(&tx, row).await?);
        }
        tx.commit().await?;
        Ok(outcomes)
    }

    async fn write_row(&self, tx: &DatabaseTransaction, row: &Row) -> Result<WriteOutcome, DbErr> {
        let is_let_in = match row.opens() {
            true => self.open_run(tx, row).await?,
            false => {
                let (sql, values) = moving(row);
                self.run_statement(tx, &sql, values).await? > 0
            }
        };
        if !is_let_in {
            let identity = [row.run.as_str().into(), row.seq.into(), row.epoch.into(), row.event.as_str().into()];
            let statement = Statement::from_sql_and_values(self.backend(), WRITTEN, identity);
            let written = !tx.query_all_raw(statement).await?.is_empty();
            return Ok(if written { WriteOutcome::Written } else { WriteOutcome::Fenced });
        }
        for ledger_row in &row.ledger {
            self.run_statement(tx, PUT_ROW, ledger_row.values()).await?;
        }
        for outcome in &row.outcomes {
            self.run_statement(tx, ADD_OUTCOME, outcome.values()).await?;
        }
        Ok(WriteOutcome::Written)
    }

    /// Writes the first transition of a run, unless the run exists.
    async fn open_run(&self, tx: &DatabaseTransaction, row: &Row) -> Result<bool, DbErr> {
        if self.run_statement(tx, OPEN, [opening(row), vec![self.home()]].concat()).await? == 0 {
            return Ok(false);
        }
        let run = || Value::from(row.run.as_str());
        let event = vec![
            run(),
            row.seq.into(),
            row.epoch.into(),
            row.at.into(),
            row.name.into(),
            row.version.into(),
            row.event.as_str().into(),
        ];
        self.run_statement(tx, ADD_EVENT, event).await?;
        for (key, ord, body) in &row.effects {
            let effect = vec![run(), key.as_str().into(), (*ord).into(), row.version.into(), body.as_str().into()];
            self.run_statement(tx, ADD_EFFECT, effect).await?;
        }
        Ok(true)
    }

    async fn run_statement(&self, tx: &DatabaseTransaction, sql: &str, values: Vec<Value>) -> Result<u64, DbErr> {
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        Ok(tx.execute_raw(statement).await?.rows_affected())
    }
}

/// Returns the statements of a later transition as one text. No row is changed if the fence does not hold.
fn moving(row: &Row) -> (String, Vec<Value>) {
    let mut values = updating(row);
    let mut place = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    let (name, body) = (place(row.name.into()), place(row.event.as_str().into()));
    let mut sql = format!(
        "INSERT INTO event (run, seq, epoch, at, name, version, body) \
         SELECT $1, $5, $3, $12, {name}, $13, {body} WHERE {FENCE}; "
    );
    for (key, ord, body) in &row.effects {
        let (key, ord, body) = (place(key.as_str().into()), place((*ord).into()), place(body.as_str().into()));
        sql += &format!(
            "INSERT INTO outbox (run, key, ord, version, body) SELECT $1, {key}, {ord}, $13, {body} WHERE {FENCE}; "
        );
    }
    for key in &row.finished {
        let key = place(key.as_str().into());
        sql += &format!("DELETE FROM outbox WHERE run = $1 AND key = {key} AND {FENCE}; ");
    }
    (sql + UPDATE, values)
}

/// Returns the values of [`UPDATE`].
fn updating(row: &Row) -> Vec<Value> {
    vec![
        row.run.as_str().into(),
        row.owner.as_str().into(),
        row.epoch.into(),
        (row.seq - 1).into(),
        row.seq.into(),
        row.phase.into(),
        row.status.into(),
        row.ended.into(),
        row.change_number.into(),
        row.title.as_str().into(),
        row.blocks.as_str().into(),
        row.at.into(),
        row.version.into(),
        row.snapshot.as_str().into(),
        row.wake_at.into(),
        row.wait_reason.as_deref().into(),
    ]
}

fn opening(row: &Row) -> Vec<Value> {
    vec![
        row.run.as_str().into(),
        row.reversed_id().into(),
        row.project.as_str().into(),
        row.seq.into(),
        row.phase.into(),
        row.status.into(),
        row.ended.into(),
        row.change_number.into(),
        row.title.as_str().into(),
        row.blocks.as_str().into(),
        row.opened_at.into(),
        row.at.into(),
        row.first_owner().into(),
        row.epoch.into(),
        (FIRST_LEASE_SECS * 1000).into(),
        row.version.into(),
        row.snapshot.as_str().into(),
    ]
}
