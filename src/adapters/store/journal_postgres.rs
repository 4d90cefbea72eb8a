//! Group commit on Postgres: the whole batch is one statement, thus one round trip and one commit.

use super::SeaStore;
use super::error::from_sqlx;
use super::journal::{FIRST_LEASE_SECS, Fate, Row};
use super::ledger::LedgerRecord;
use crate::ports::PortResult;
use sea_orm::sqlx::postgres::{PgConnection, PgRow};
use sea_orm::sqlx::{Connection, Error, Row as _, query};
use std::collections::BTreeSet;

/// The most rows of one statement; a larger batch is several statements in one transaction.
const WAVE_MAX: usize = 512;

/// `let_in` is what the fence let through: new runs, and runs whose row still has the owner, the epoch and the event number
/// the transition expects. Everything else is joined to it, so a fenced transition leaves no trace and the others stand.
const COMMIT: &str = r#"
WITH t AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[],
        $9::text[], $10::text[], $11::boolean[], $12::bigint[], $13::text[], $14::text[], $15::bigint[], $16::bigint[],
        $17::text[], $18::text[], $27::bigint[], $28::text[])
    AS t (run, owner, epoch, seq, at, name, event, project, phase, status, ended, change_number, title, blocks, version,
        opened_at, snapshot, tail, wake_at, waits)
), opened AS (
    INSERT INTO run (id, tail, project, seq, phase, status, ended, change_number, title, blocks, opened_at, updated_at,
        owner, epoch, lease_until, version, snapshot, home)
    SELECT run, tail, project, seq, phase, status, ended, change_number, title, blocks, opened_at, at,
        CASE WHEN epoch > 0 THEN owner END, epoch, (extract(epoch from clock_timestamp()) * 1000)::bigint + $19, version,
        snapshot, $26
    FROM t WHERE seq = 1
    ON CONFLICT (id) DO NOTHING
    RETURNING id
), moved AS (
    UPDATE run SET seq = t.seq, phase = t.phase, status = t.status, ended = t.ended, change_number = t.change_number,
        title = t.title, blocks = t.blocks, updated_at = t.at, version = t.version, snapshot = t.snapshot,
        wake_at = t.wake_at, waits = t.waits
    FROM t
    WHERE run.id = t.run AND t.seq > 1 AND run.owner = t.owner AND run.epoch = t.epoch AND run.seq = t.seq - 1
    RETURNING run.id
), let_in AS (
    SELECT id FROM opened UNION ALL SELECT id FROM moved
), journaled AS (
    INSERT INTO event (run, seq, epoch, at, name, body)
    SELECT t.run, t.seq, t.epoch, t.at, t.name, t.event FROM t JOIN let_in ON let_in.id = t.run
), put AS (
    INSERT INTO outbox (run, key, ord, body)
    SELECT e.run, e.key, e.ord, e.body
    FROM unnest($20::text[], $21::text[], $22::bigint[], $23::text[]) AS e (run, key, ord, body)
    JOIN let_in ON let_in.id = e.run
), finished AS (
    DELETE FROM outbox
    USING unnest($24::text[], $25::text[]) AS f (run, key), let_in
    WHERE outbox.run = f.run AND outbox.key = f.key AND let_in.id = f.run
), charged AS (
    INSERT INTO charge (run, attempt, project, role, engine, tokens, cost_micros, turns, wall_ms, settled, day, at, models,
        round)
    SELECT c.* FROM json_to_recordset($29::json) AS c (run text, attempt bigint, project text, role text, engine text,
        tokens bigint, cost_micros bigint, turns bigint, wall_ms bigint, settled boolean, day bigint, at bigint, models text,
        round bigint)
    JOIN let_in ON let_in.id = c.run
    ON CONFLICT (run, attempt) DO UPDATE SET tokens = excluded.tokens, cost_micros = excluded.cost_micros,
        turns = excluded.turns, wall_ms = excluded.wall_ms, settled = excluded.settled, at = excluded.at,
        models = excluded.models
)
SELECT id FROM let_in
"#;

const WRITTEN: &str = r#"
SELECT event.run FROM event
JOIN unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[]) AS t (run, seq, epoch, body)
    ON event.run = t.run AND event.seq = t.seq AND event.epoch = t.epoch AND event.body = t.body
"#;

impl SeaStore {
    pub(super) async fn write_rows_postgres(&self, rows: &[Row]) -> PortResult<Vec<Fate>> {
        let pool = self.write.get_postgres_connection_pool();
        let mut connection = pool.acquire().await.map_err(|e| self.noted(from_sqlx(&self.place, &e, false)))?;
        write_waves(&mut connection, rows, &self.home).await.map_err(|e| self.noted(from_sqlx(&self.place, &e, true)))
    }
}

async fn write_waves(connection: &mut PgConnection, rows: &[Row], home: &str) -> Result<Vec<Fate>, Error> {
    let waves = waves_of(rows);
    let mut fates = vec![Fate::Fenced; rows.len()];
    if let [wave] = waves.as_slice() {
        write_wave(connection, rows, wave, home, &mut fates).await?;
        return Ok(fates);
    }
    let mut tx = connection.begin().await?;
    for wave in &waves {
        write_wave(&mut tx, rows, wave, home, &mut fates).await?;
    }
    tx.commit().await?;
    Ok(fates)
}

/// Splits a batch so that no statement meets the same run twice: one statement sees each row as it was before it.
fn waves_of(rows: &[Row]) -> Vec<Vec<usize>> {
    let mut waves: Vec<Vec<usize>> = Vec::new();
    let mut current: Vec<usize> = Vec::new();
    let mut met = BTreeSet::new();
    for (place, row) in rows.iter().enumerate() {
        if current.len() >= WAVE_MAX || !met.insert(row.run.as_str()) {
            waves.push(std::mem::take(&mut current));
            met = BTreeSet::from([row.run.as_str()]);
        }
        current.push(place);
    }
    waves.push(current);
    waves
}

async fn write_wave(
    connection: &mut PgConnection,
    rows: &[Row],
    wave: &[usize],
    home: &str,
    fates: &mut [Fate],
) -> Result<(), Error> {
    let wave_rows: Vec<&Row> = wave.iter().filter_map(|place| rows.get(*place)).collect();
    let let_in = ids(bound_commit(&wave_rows, home).fetch_all(&mut *connection).await?)?;
    let missing: Vec<&Row> = wave_rows.iter().copied().filter(|row| !let_in.contains(&row.run)).collect();
    // Rare: an acknowledgement was lost and the transition came again, or another process has the run.
    let before = if missing.is_empty() { BTreeSet::new() } else { written_before(connection, &missing).await? };
    for place in wave {
        if let (Some(row), Some(fate)) = (rows.get(*place), fates.get_mut(*place))
            && (let_in.contains(&row.run) || before.contains(&row.run))
        {
            *fate = Fate::Written;
        }
    }
    Ok(())
}

async fn written_before(connection: &mut PgConnection, rows: &[&Row]) -> Result<BTreeSet<String>, Error> {
    let found = query(WRITTEN)
        .bind(each(rows, |r| r.run.as_str()))
        .bind(each(rows, |r| r.seq))
        .bind(each(rows, |r| r.epoch))
        .bind(each(rows, |r| r.event.as_str()))
        .fetch_all(connection)
        .await?;
    ids(found)
}

fn ids(rows: Vec<PgRow>) -> Result<BTreeSet<String>, Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn each<'a, T>(rows: &[&'a Row], take: impl Fn(&'a Row) -> T) -> Vec<T> {
    rows.iter().map(|row| take(row)).collect()
}

type Bound<'q> = sea_orm::sqlx::query::Query<'q, sea_orm::sqlx::Postgres, sea_orm::sqlx::postgres::PgArguments>;

fn bound_commit<'q>(rows: &[&'q Row], home: &'q str) -> Bound<'q> {
    let effects: Vec<(&str, &(String, i64, String))> =
        rows.iter().flat_map(|r| r.effects.iter().map(|e| (r.run.as_str(), e))).collect();
    let lines: Vec<&LedgerRecord> = rows.iter().flat_map(|r| &r.ledger_rows).collect();
    // Texts and numbers: they are JSON always.
    let lines = serde_json::to_string(&lines).unwrap_or_else(|_| "[]".to_owned());
    let finished: Vec<(&str, &str)> =
        rows.iter().flat_map(|r| r.finished.iter().map(|key| (r.run.as_str(), key.as_str()))).collect();
    query(COMMIT)
        .bind(each(rows, |r| r.run.as_str()))
        .bind(each(rows, |r| r.owner.as_str()))
        .bind(each(rows, |r| r.epoch))
        .bind(each(rows, |r| r.seq))
        .bind(each(rows, |r| r.at))
        .bind(each(rows, |r| r.name))
        .bind(each(rows, |r| r.event.as_str()))
        .bind(each(rows, |r| r.project.as_str()))
        .bind(each(rows, |r| r.phase))
        .bind(each(rows, |r| r.status))
        .bind(each(rows, |r| r.ended))
        .bind(each(rows, |r| r.change_number))
        .bind(each(rows, |r| r.title.as_str()))
        .bind(each(rows, |r| r.blocks.as_str()))
        .bind(each(rows, |r| r.version))
        .bind(each(rows, |r| r.opened_at))
        .bind(each(rows, |r| r.snapshot.as_str()))
        .bind(each(rows, |r| r.tail()))
        .bind(FIRST_LEASE_SECS * 1000)
        .bind(effects.iter().map(|(run, _)| *run).collect::<Vec<_>>())
        .bind(effects.iter().map(|(_, e)| e.0.as_str()).collect::<Vec<_>>())
        .bind(effects.iter().map(|(_, e)| e.1).collect::<Vec<_>>())
        .bind(effects.iter().map(|(_, e)| e.2.as_str()).collect::<Vec<_>>())
        .bind(finished.iter().map(|(run, _)| *run).collect::<Vec<_>>())
        .bind(finished.iter().map(|(_, key)| *key).collect::<Vec<_>>())
        .bind(home)
        .bind(each(rows, |r| r.wake_at))
        .bind(each(rows, |r| r.waits.as_deref()))
        .bind(lines)
}
