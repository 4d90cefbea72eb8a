//! Group commit on Postgres: the whole batch is one statement, so it costs one round trip and one commit.

use super::SeaStore;
use super::error::{Operation, from_sqlx};
use super::journal::{FIRST_LEASE_SECS, WriteOutcome};
use super::ledger::LedgerRecord;
use super::outcomes::OutcomeRecord;
use super::row::Row;
use crate::ports::PortResult;
use sea_orm::sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sea_orm::sqlx::query::Query;
use sea_orm::sqlx::{Connection, Error, Postgres, Row as _, query};
use std::collections::BTreeSet;

/// Upper bound of rows in one statement; a larger batch is written as several statements in one transaction.
const MAX_WAVE: usize = 512;

/// `let_in` holds the runs that passed the fence: new runs, and runs whose row still has the owner, the epoch and the
/// event number that the transition expects. Everything else is joined to it, so that a fenced transition leaves no
/// trace while the others are written.
///
/// The numbers of the values are in the order of `bound_commit`: $1 to $20 the transitions, $21 to $24 new effects, $25
/// and $26 finished effects, $27 ledger rows, $28 and $29 the first lease and the home of new runs, $30 outcomes.
const COMMIT: &str = r#"
WITH t AS (
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[],
        $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[],
        $11::text[], $12::boolean[], $13::bigint[], $14::text[], $15::text[],
        $16::bigint[], $17::bigint[], $18::text[], $19::bigint[], $20::text[])
    AS t (
        run, reversed_id, owner, epoch, seq,
        at, name, event, project, phase,
        status, ended, change_number, title, blocks,
        version, opened_at, snapshot, wake_at, wait_reason)
), opened AS (
    INSERT INTO run (id, reversed_id, project, seq, phase, status, ended, change_number, title, blocks, opened_at, updated_at,
        owner, epoch, lease_until, version, snapshot, home)
    SELECT run, reversed_id, project, seq, phase, status, ended, change_number, title, blocks, opened_at, at,
        CASE WHEN epoch > 0 THEN owner END, epoch, (extract(epoch from clock_timestamp()) * 1000)::bigint + $28, version,
        snapshot, $29
    FROM t WHERE seq = 1
    ON CONFLICT (id) DO NOTHING
    RETURNING id
), moved AS (
    UPDATE run SET seq = t.seq, phase = t.phase, status = t.status, ended = t.ended, change_number = t.change_number,
        title = t.title, blocks = t.blocks, updated_at = t.at, version = t.version, snapshot = t.snapshot,
        wake_at = t.wake_at, wait_reason = t.wait_reason, ended_at = CASE WHEN t.ended THEN coalesce(run.ended_at, t.at) END
    FROM t
    WHERE run.id = t.run AND t.seq > 1 AND run.owner = t.owner AND run.epoch = t.epoch AND run.seq = t.seq - 1
    RETURNING run.id
), let_in AS (
    SELECT id FROM opened UNION ALL SELECT id FROM moved
), journaled AS (
    INSERT INTO event (run, seq, epoch, at, name, version, body)
    SELECT t.run, t.seq, t.epoch, t.at, t.name, t.version, t.event FROM t JOIN let_in ON let_in.id = t.run
), decided AS (
    INSERT INTO outbox (run, key, ord, version, body)
    SELECT e.run, e.key, e.ord, t.version, e.body
    FROM unnest($21::text[], $22::text[], $23::bigint[], $24::text[]) AS e (run, key, ord, body)
    JOIN let_in ON let_in.id = e.run
    JOIN t ON t.run = e.run
), finished AS (
    DELETE FROM outbox
    USING unnest($25::text[], $26::text[]) AS f (run, key), let_in
    WHERE outbox.run = f.run AND outbox.key = f.key AND let_in.id = f.run
), charged AS (
    INSERT INTO ledger_row (run, attempt, project, role, engine, tokens, cost_micros, turns, wall_ms, settled, day, at,
        usage_by_model, round, prompt_digest)
    SELECT l.* FROM json_to_recordset($27::json) AS l (run text, attempt bigint, project text, role text, engine text,
        tokens bigint, cost_micros bigint, turns bigint, wall_ms bigint, settled boolean, day bigint, at bigint,
        usage_by_model text, round bigint, prompt_digest text)
    JOIN let_in ON let_in.id = l.run
    ON CONFLICT (run, attempt) DO UPDATE SET tokens = excluded.tokens, cost_micros = excluded.cost_micros,
        turns = excluded.turns, wall_ms = excluded.wall_ms, settled = excluded.settled, at = excluded.at,
        usage_by_model = excluded.usage_by_model, prompt_digest = excluded.prompt_digest
), proven AS (
    INSERT INTO outcome (run, attempt, word, project, step, engine, prompt_digest, round, tokens, cost_micros, turns,
        wall_ms, evidence, at)
    SELECT o.* FROM json_to_recordset($30::json) AS o (run text, attempt bigint, word text, project text, step text,
        engine text, prompt_digest text, round bigint, tokens bigint, cost_micros bigint, turns bigint, wall_ms bigint,
        evidence text, at bigint)
    JOIN let_in ON let_in.id = o.run
    ON CONFLICT (run, attempt, word) DO NOTHING
)
SELECT id FROM let_in
"#;

const WRITTEN: &str = r#"
SELECT event.run FROM event
JOIN unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[]) AS t (run, seq, epoch, body)
    ON event.run = t.run AND event.seq = t.seq AND event.epoch = t.epoch AND event.body = t.body
"#;

impl SeaStore {
    pub(super) async fn write_rows_postgres(&self, rows: &[Row]) -> PortResult<Vec<WriteOutcome>> {
        let failed = |e: Error, operation| self.failed_write(from_sqlx(&self.location, &e, operation));
        let pool = self.write.get_postgres_connection_pool();
        let mut connection = pool.acquire().await.map_err(|e| failed(e, Operation::Read))?;
        let outcomes = write_waves(&mut connection, rows, &self.home).await.map_err(|e| failed(e, Operation::Write))?;
        self.confirmed(outcomes)
    }
}

async fn write_waves(connection: &mut PgConnection, rows: &[Row], home: &str) -> Result<Vec<WriteOutcome>, Error> {
    let waves = waves_of(rows);
    let mut outcomes = vec![WriteOutcome::Fenced; rows.len()];
    if let [wave] = waves.as_slice() {
        write_wave(connection, rows, wave, home, &mut outcomes).await?;
        return Ok(outcomes);
    }
    let mut tx = connection.begin().await?;
    for wave in &waves {
        write_wave(&mut tx, rows, wave, home, &mut outcomes).await?;
    }
    tx.commit().await?;
    Ok(outcomes)
}

/// Splits a batch so that no statement has the same run twice, because a statement sees each row as it was before the
/// statement.
fn waves_of(rows: &[Row]) -> Vec<Vec<usize>> {
    let mut waves: Vec<Vec<usize>> = Vec::new();
    let mut current: Vec<usize> = Vec::new();
    let mut runs = BTreeSet::new();
    for (index, row) in rows.iter().enumerate() {
        if current.len() >= MAX_WAVE || !runs.insert(row.run.as_str()) {
            waves.push(std::mem::take(&mut current));
            runs = BTreeSet::from([row.run.as_str()]);
        }
        current.push(index);
    }
    waves.push(current);
    waves
}

async fn write_wave(
    connection: &mut PgConnection,
    rows: &[Row],
    wave: &[usize],
    home: &str,
    outcomes: &mut [WriteOutcome],
) -> Result<(), Error> {
    let wave_rows: Vec<&Row> = wave.iter().filter_map(|index| rows.get(*index)).collect();
    let let_in = ids(bound_commit(&wave_rows, home)?.fetch_all(&mut *connection).await?)?;
    let missing: Vec<&Row> = wave_rows.iter().copied().filter(|row| !let_in.contains(&row.run)).collect();
    // Rare: an acknowledgement was lost and the transition came again, or another process owns the run.
    let before = if missing.is_empty() { BTreeSet::new() } else { written_before(connection, &missing).await? };
    for index in wave {
        if let (Some(row), Some(outcome)) = (rows.get(*index), outcomes.get_mut(*index))
            && (let_in.contains(&row.run) || before.contains(&row.run))
        {
            *outcome = WriteOutcome::Written;
        }
    }
    Ok(())
}

async fn written_before(connection: &mut PgConnection, rows: &[&Row]) -> Result<BTreeSet<String>, Error> {
    let found = query(WRITTEN)
        .bind(column(rows, |r| r.run.as_str()))
        .bind(column(rows, |r| r.seq))
        .bind(column(rows, |r| r.epoch))
        .bind(column(rows, |r| r.event.as_str()))
        .fetch_all(connection)
        .await?;
    ids(found)
}

fn ids(rows: Vec<PgRow>) -> Result<BTreeSet<String>, Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Returns one column of all rows, as an array.
fn column<'a, T>(rows: &[&'a Row], value: impl Fn(&'a Row) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

/// Binds the values of [`COMMIT`], in the order of their numbers.
fn bound_commit<'q>(rows: &[&'q Row], home: &'q str) -> Result<Query<'q, Postgres, PgArguments>, Error> {
    let effects: Vec<(&str, &(String, i64, String))> =
        rows.iter().flat_map(|r| r.effects.iter().map(|e| (r.run.as_str(), e))).collect();
    let finished: Vec<(&str, &str)> =
        rows.iter().flat_map(|r| r.finished.iter().map(|key| (r.run.as_str(), key.as_str()))).collect();
    let ledger: Vec<&LedgerRecord> = rows.iter().flat_map(|r| &r.ledger).collect();
    let outcomes: Vec<&OutcomeRecord> = rows.iter().flat_map(|r| &r.outcomes).collect();
    let json = |rows: serde_json::Result<String>| rows.map_err(|error| Error::Encode(error.into()));
    let (ledger, outcomes) = (json(serde_json::to_string(&ledger))?, json(serde_json::to_string(&outcomes))?);
    let statement = query(COMMIT)
        // Transitions.
        .bind(column(rows, |r| r.run.as_str()))
        .bind(column(rows, |r| r.reversed_id()))
        .bind(column(rows, |r| r.owner.as_str()))
        .bind(column(rows, |r| r.epoch))
        .bind(column(rows, |r| r.seq))
        .bind(column(rows, |r| r.at))
        .bind(column(rows, |r| r.name))
        .bind(column(rows, |r| r.event.as_str()))
        .bind(column(rows, |r| r.project.as_str()))
        .bind(column(rows, |r| r.phase))
        .bind(column(rows, |r| r.status))
        .bind(column(rows, |r| r.ended))
        .bind(column(rows, |r| r.change_number))
        .bind(column(rows, |r| r.title.as_str()))
        .bind(column(rows, |r| r.blocks.as_str()))
        .bind(column(rows, |r| r.version))
        .bind(column(rows, |r| r.opened_at))
        .bind(column(rows, |r| r.snapshot.as_str()))
        .bind(column(rows, |r| r.wake_at))
        .bind(column(rows, |r| r.wait_reason.as_deref()))
        // New effects.
        .bind(effects.iter().map(|(run, _)| *run).collect::<Vec<_>>())
        .bind(effects.iter().map(|(_, e)| e.0.as_str()).collect::<Vec<_>>())
        .bind(effects.iter().map(|(_, e)| e.1).collect::<Vec<_>>())
        .bind(effects.iter().map(|(_, e)| e.2.as_str()).collect::<Vec<_>>())
        // Finished effects.
        .bind(finished.iter().map(|(run, _)| *run).collect::<Vec<_>>())
        .bind(finished.iter().map(|(_, key)| *key).collect::<Vec<_>>())
        // Ledger rows.
        .bind(ledger)
        // First lease and home of new runs.
        .bind(FIRST_LEASE_SECS * 1000)
        .bind(home)
        // Outcomes.
        .bind(outcomes);
    Ok(statement)
}
