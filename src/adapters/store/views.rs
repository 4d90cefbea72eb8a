//! What people and the sweep read: lists, counts, journals, single runs. A bad row is shown as bad and hides no other.

use super::SeaStore;
use super::entity::run::{Column, Entity};
use crate::domain::run::SNAPSHOT_VERSION;
use crate::domain::{Run, RunId, Timestamp};
use crate::ports::store::{Counts, Found, JournalRow, Owner, RunFilter, RunRow};
use crate::ports::{PortError, PortResult};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QueryResult, QuerySelect, QueryTrait,
};

/// The word of a run that is put aside, in place of its status.
const QUARANTINED: &str = "quarantined";
const LIST_MAX: u64 = 500;
const JOURNAL_MAX: u64 = 1_000;
const RUNS_MAX: u64 = 10_000;
/// Fewer digits find too much.
const FIND_DIGITS_MIN: usize = 4;
const FIND_SHOWN: u64 = 8;

const UNFINISHED: &str = "SELECT id FROM run WHERE quarantined IS NULL AND home = $3 \
    AND (owner IS NULL OR owner = $1 OR lease_until <= {now}) \
    AND id IN (SELECT run FROM outbox) ORDER BY id LIMIT $2";
const QUEUED: &str = "SELECT id FROM run WHERE NOT ended AND quarantined IS NULL AND phase = 'queued' AND home = $2 \
    ORDER BY id LIMIT $1";
/// Those not written for longest come first, so that a limit starves none that changes.
const WAITING: &str = "SELECT id FROM run WHERE NOT ended AND quarantined IS NULL AND phase <> 'queued' AND home = $2 \
    AND change_number IS NOT NULL AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.run = run.id) \
    ORDER BY updated_at, id LIMIT $1";
const DUE: &str = "SELECT id, wake_at FROM run WHERE wake_at <= $1 AND NOT ended AND quarantined IS NULL AND home = $3 \
    ORDER BY wake_at, id LIMIT $2";
const COUNTS: &str = "SELECT count(*) AS admitted, \
    coalesce(sum(CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE outbox.run = run.id) THEN 1 ELSE 0 END), 0) AS live \
    FROM run WHERE NOT ended AND quarantined IS NULL AND phase <> 'queued' AND home = $1";
const LOAD: &str = "SELECT version, snapshot FROM run WHERE id = $1";
const JOURNAL: &str = "SELECT seq, at, name, epoch, body FROM event WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3";
/// 'g' follows the last hex digit: a beginning is a range of an index, on the id or on the id backwards.
const FIND: &str = "SELECT id FROM run WHERE id >= $1 AND id < $2 \
    UNION SELECT id FROM run WHERE tail >= $3 AND tail < $4 ORDER BY id DESC LIMIT $5";

/// A text column, or why it cannot be read (SQLite keeps any bytes in a text column).
pub(super) fn text_of(row: &QueryResult, column: &str) -> Result<String, String> {
    row.try_get("", column).map_err(|e| format!("column {column}: {e}"))
}

/// The state in a row's `version` and `snapshot`, or why it cannot be used.
pub(super) fn run_from(row: &QueryResult) -> Result<Run, String> {
    let version: i64 = row.try_get("", "version").map_err(|e| e.to_string())?;
    if version > i64::from(SNAPSHOT_VERSION) {
        return Err(newer(version));
    }
    let run: Run =
        serde_json::from_str(&text_of(row, "snapshot")?).map_err(|e| format!("its snapshot cannot be read: {e}"))?;
    if run.version > SNAPSHOT_VERSION {
        return Err(newer(i64::from(run.version)));
    }
    Ok(run)
}

fn newer(version: i64) -> String {
    format!("its snapshot is of form {version}, this Skep knows forms up to {SNAPSHOT_VERSION}")
}

fn id_of(row: &QueryResult) -> Result<RunId, String> {
    RunId::try_from(text_of(row, "id")?).map_err(|e| e.to_string())
}

impl SeaStore {
    /// The ids of a statement's rows. One that is no id belongs to no run; it is told in the log.
    async fn ids(&self, sql: &str, values: Vec<sea_orm::Value>) -> PortResult<Vec<RunId>> {
        let rows = self.read(sql, values).await?;
        let good = |row: &QueryResult| {
            id_of(row).inspect_err(|why| tracing::warn!("{}: a run's id cannot be read: {why}", self.place)).ok()
        };
        Ok(rows.iter().filter_map(good).collect())
    }

    pub(super) async fn unfinished_runs(&self, owner: &Owner) -> PortResult<Vec<RunId>> {
        self.ids(UNFINISHED, vec![owner.0.as_str().into(), bounded(RUNS_MAX, RUNS_MAX).into(), self.home()]).await
    }

    pub(super) async fn queued_runs(&self, limit: u64) -> PortResult<Vec<RunId>> {
        self.ids(QUEUED, vec![bounded(limit, RUNS_MAX).into(), self.home()]).await
    }

    pub(super) async fn waiting_runs(&self, limit: u64) -> PortResult<Vec<RunId>> {
        self.ids(WAITING, vec![bounded(limit, RUNS_MAX).into(), self.home()]).await
    }

    pub(super) async fn due_runs(&self, until: Timestamp, limit: u64) -> PortResult<Vec<(RunId, Timestamp)>> {
        let rows = self.read(DUE, [until.0.into(), bounded(limit, RUNS_MAX).into(), self.home()]).await?;
        let good = |row: &QueryResult| {
            let at = row.try_get("", "wake_at").ok().map(Timestamp)?;
            let id = id_of(row).inspect_err(|why| tracing::warn!("{}: a run's id cannot be read: {why}", self.place));
            Some((id.ok()?, at))
        };
        Ok(rows.iter().filter_map(good).collect())
    }

    pub(super) async fn count_runs(&self) -> PortResult<Counts> {
        let rows = self.read(COUNTS, [self.home()]).await?;
        let Some(row) = rows.first() else { return Ok(Counts::default()) };
        let number = |column: &str| -> PortResult<u32> {
            let n: i64 = row.try_get("", column).map_err(|e| self.reading(&e))?;
            Ok(u32::try_from(n).unwrap_or(u32::MAX))
        };
        let (admitted, live) = (number("admitted")?, number("live")?);
        Ok(Counts { live, waiting: admitted.saturating_sub(live) })
    }

    pub(super) async fn load_run(&self, run: RunId) -> PortResult<Option<Run>> {
        let rows = self.read(LOAD, [run.to_string().into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        run_from(row).map(Some).map_err(|why| {
            PortError::permanent(
                format!("run {run} cannot be read: {why}"),
                "use the Skep that wrote it, or restore a backup; other runs are not touched",
            )
        })
    }

    pub(super) async fn list_runs(&self, filter: &RunFilter) -> PortResult<Vec<RunRow>> {
        let aside = Condition::any()
            .add(Column::Quarantined.is_not_null())
            .add(Column::Version.gt(i64::from(SNAPSHOT_VERSION)));
        let mut find = Entity::find();
        if let Some(project) = &filter.project {
            find = find.filter(Column::Project.eq(project.as_str()));
        }
        match filter.status.as_deref() {
            None => {}
            Some(QUARANTINED) => find = find.filter(aside),
            Some(word) => find = find.filter(Column::Status.eq(word)).filter(aside.not()),
        }
        if filter.open_only {
            find = find.filter(Column::Ended.eq(false));
        }
        if filter.own_only {
            find = find.filter(Column::Home.eq(&*self.home));
        }
        if let Some(before) = filter.before {
            find = find.filter(Column::Id.lt(before.to_string()));
        }
        let find = find.order_by_desc(Column::Id).limit(filter.limit.clamp(1, LIST_MAX));
        let rows = self.read.query_all_raw(find.build(self.backend())).await.map_err(|e| self.reading(&e))?;
        Ok(rows.iter().filter_map(|row| self.run_row(row)).collect())
    }

    fn run_row(&self, row: &QueryResult) -> Option<RunRow> {
        let run =
            id_of(row).inspect_err(|why| tracing::warn!("{}: a run's id cannot be read: {why}", self.place)).ok()?;
        let mut bad: Option<String> = row.try_get("", "quarantined").unwrap_or_else(|e| Some(e.to_string()));
        let mut note = |why: String| {
            bad.get_or_insert(why);
        };
        let mut text = |column: &str| {
            text_of(row, column).unwrap_or_else(|why| {
                note(why);
                String::new()
            })
        };
        let (project, title, phase) = (text("project"), text("title"), text("phase"));
        let (status, blocks) = (text("status"), text("blocks"));
        let mut number = |column: &str| {
            row.try_get::<i64>("", column).unwrap_or_else(|e| {
                note(e.to_string());
                0
            })
        };
        let (seq, opened_at, updated_at) = (number("seq"), number("opened_at"), number("updated_at"));
        let version = number("version");
        let blocks = serde_json::from_str(&blocks).unwrap_or_else(|e| {
            note(format!("its list of blocks cannot be read: {e}"));
            Vec::new()
        });
        if version > i64::from(SNAPSHOT_VERSION) {
            note(newer(version));
        }
        Some(RunRow {
            run,
            project,
            title,
            status: if bad.is_some() { QUARANTINED.to_owned() } else { status },
            phase,
            seq: u64::try_from(seq).unwrap_or(0),
            blocks,
            wake_at: row.try_get::<Option<i64>>("", "wake_at").unwrap_or_default().map(Timestamp),
            waits: row.try_get("", "waits").unwrap_or_default(),
            opened_at: Timestamp(opened_at),
            updated_at: Timestamp(updated_at),
            quarantined: bad,
        })
    }

    pub(super) async fn find_run(&self, text: &str) -> PortResult<Found> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        if !(FIND_DIGITS_MIN..=32).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Found::None);
        }
        let tail: String = digits.chars().rev().collect();
        let values = vec![
            digits.as_str().into(),
            format!("{digits}g").into(),
            tail.as_str().into(),
            format!("{tail}g").into(),
            bounded(FIND_SHOWN, FIND_SHOWN).into(),
        ];
        let found = self.ids(FIND, values).await?;
        Ok(match found.as_slice() {
            [] => Found::None,
            [one] => Found::One(*one),
            _ => Found::Several(found),
        })
    }

    pub(super) async fn journal_rows(&self, run: RunId, after: u64, limit: u64) -> PortResult<Vec<JournalRow>> {
        let values = [
            run.to_string().into(),
            i64::try_from(after).unwrap_or(i64::MAX).into(),
            bounded(limit, JOURNAL_MAX).into(),
        ];
        let rows = self.read(JOURNAL, values).await?;
        rows.iter().map(|row| self.journal_row(run, row)).collect()
    }

    /// The number must be readable, since it is the row's place; everything else may be damaged.
    fn journal_row(&self, run: RunId, row: &QueryResult) -> PortResult<JournalRow> {
        let seq: i64 = row.try_get("", "seq").map_err(|e| self.reading(&e))?;
        Ok(JournalRow {
            run,
            seq: u64::try_from(seq).unwrap_or(0),
            at: Timestamp(row.try_get("", "at").unwrap_or(0)),
            name: text_of(row, "name").unwrap_or_else(|_| "unreadable".to_owned()),
            epoch: row.try_get("", "epoch").unwrap_or(0),
            event: text_of(row, "body").ok().and_then(|body| serde_json::from_str(&body).ok()),
        })
    }
}

fn bounded(limit: u64, most: u64) -> i64 {
    i64::try_from(limit.clamp(1, most)).unwrap_or(i64::MAX)
}
