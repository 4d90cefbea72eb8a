//! The index of runs: lists and counts for people, and the runs with something to do. A damaged row is shown as such
//! and hides no other.

use super::SeaStore;
use super::codec;
use super::entity::run::{Column, Entity};
use super::row::ORD_STEP;
use crate::domain::{ProjectName, ProjectSet, RunId, Timestamp};
use crate::ports::PortResult;
use crate::ports::leases::Owner;
use crate::ports::run_index::{Counts, RunFilter, RunIndex, RunMatch, RunRow, Totals};
use async_trait::async_trait;
use sea_orm::sea_query::{Expr, ExprTrait, SelectStatement};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QueryResult, QuerySelect,
    QueryTrait, Value,
};

/// Status shown for a quarantined run.
const QUARANTINED: &str = "quarantined";
/// Upper bound of rows of a list.
const MAX_ROWS: u64 = 500;
/// Upper bound of ids in one answer.
const MAX_IDS: u64 = 10_000;
/// Minimum number of digits to find a run by; fewer match too many runs.
const MIN_FIND_DIGITS: usize = 4;
/// Upper bound of matches returned.
const MAX_MATCHES: u64 = 8;

const UNFINISHED: &str = "SELECT id FROM run WHERE quarantined IS NULL AND home = $3 \
    AND (owner IS NULL OR owner = $1 OR lease_until <= {now}) \
    AND id IN (SELECT run FROM outbox) ORDER BY id LIMIT $2";
const QUEUED: &str = "SELECT id FROM run WHERE NOT ended AND quarantined IS NULL AND phase = 'queued' AND home = $2 \
    ORDER BY id LIMIT $1";
const QUEUE_LENGTH: &str =
    "SELECT count(*) AS runs FROM run WHERE NOT ended AND quarantined IS NULL AND phase = 'queued' AND home = $1";
/// Least recently written first, so that the limit starves no run that changes.
const WAITING: &str = "SELECT id FROM run WHERE NOT ended AND quarantined IS NULL AND phase <> 'queued' AND home = $2 \
    AND change_number IS NOT NULL AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.run = run.id) \
    ORDER BY updated_at, id LIMIT $1";
const DUE: &str = "SELECT id, wake_at FROM run WHERE wake_at <= $1 AND NOT ended AND quarantined IS NULL AND home = $3 \
    ORDER BY wake_at, id LIMIT $2";
const COUNTS: &str = "SELECT count(*) AS admitted, \
    coalesce(sum(CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE outbox.run = run.id) THEN 1 ELSE 0 END), 0) AS live \
    FROM run WHERE NOT ended AND quarantined IS NULL AND phase <> 'queued' AND home = $1";
const OPEN: &str = "SELECT project, phase, count(*) AS runs FROM run \
    WHERE NOT ended AND quarantined IS NULL AND home = $1 GROUP BY project, phase ORDER BY project, phase LIMIT 10000";
const QUARANTINED_RUNS: &str = "SELECT count(*) AS runs FROM run WHERE quarantined IS NOT NULL AND home = $1";
/// An effect was decided with the event whose number its order is built from ([`super::row::ORD_STEP`]).
const OLDEST_EFFECT: &str = "SELECT min(event.at) AS at FROM outbox \
    JOIN run ON run.id = outbox.run JOIN event ON event.run = outbox.run AND event.seq = outbox.ord / $2 \
    WHERE run.home = $1 AND run.quarantined IS NULL \
    AND outbox.body NOT LIKE '{\"effect\":\"start\"%' AND outbox.body NOT LIKE '{\"effect\":\"check\"%'";
const PROJECT_OF: &str = "SELECT project FROM run WHERE id = $1";
const ASKING: &str = "SELECT id, seq FROM run WHERE NOT ended AND quarantined IS NULL AND blocks <> '[]' AND home = $2 \
    ORDER BY updated_at, id LIMIT $1";
/// 'g' follows the last hex digit: a prefix is a range of an index, on the id or on the reversed id.
const FIND: &str = "SELECT id FROM run WHERE id >= $1 AND id < $2{in_projects} \
    UNION SELECT id FROM run WHERE reversed_id >= $3 AND reversed_id < $4{in_projects} ORDER BY id DESC LIMIT $5";

/// The digits that people see are the last eight: a run is found by the beginning of those, too.
const FIND_SHOWN: &str =
    "SELECT id FROM run WHERE substr(id, 25) >= $1 AND substr(id, 25) < $2{in_projects} ORDER BY id DESC LIMIT $3";
/// Number of digits that people see.
const SHOWN_DIGITS: usize = 8;

/// Reads a text column, or explains why it cannot be read (SQLite stores any bytes in a text column).
pub(super) fn text_of(row: &QueryResult, column: &str) -> Result<String, String> {
    row.try_get("", column).map_err(|e| format!("column {column}: {e}"))
}

pub(super) fn id_of(row: &QueryResult) -> Result<RunId, String> {
    RunId::try_from(text_of(row, "id")?).map_err(|e| e.to_string())
}

#[async_trait]
impl RunIndex for SeaStore {
    async fn list(&self, filter: &RunFilter) -> PortResult<Vec<RunRow>> {
        let quarantined =
            Condition::any().add(Column::Quarantined.is_not_null()).add(Column::Version.gt(codec::VERSION));
        let mut find = Entity::find();
        if let ProjectSet::Only(projects) = &filter.projects {
            find = find.filter(Column::Project.is_in(projects.iter().map(ProjectName::as_str)));
        }
        match filter.status.as_deref() {
            None => {}
            // By subqueries: sorted by id, a database reads all runs to find the few among them.
            Some(QUARANTINED) => {
                let ids = |condition| Column::Id.in_subquery(ids_where(condition));
                let unreadable = ids(Column::Version.gt(codec::VERSION));
                find = find.filter(ids(Column::Quarantined.is_not_null()).or(unreadable));
            }
            Some(word) => find = find.filter(Column::Status.eq(word)).filter(quarantined.not()),
        }
        if filter.open_only {
            find = find.filter(Column::Ended.into_expr().not());
        }
        if filter.own_only {
            find = find.filter(Column::Home.eq(&*self.home));
        }
        if let Some(before) = filter.before {
            find = find.filter(Column::Id.lt(before.to_string()));
        }
        let find = find.order_by_desc(Column::Id).limit(filter.limit.clamp(1, MAX_ROWS));
        let rows = self.read.query_all_raw(find.build(self.backend())).await.map_err(|e| self.reading(&e))?;
        Ok(rows.iter().filter_map(|row| self.run_row(row)).collect())
    }

    async fn find(&self, text: &str, projects: &ProjectSet) -> PortResult<RunMatch> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        if !(MIN_FIND_DIGITS..=32).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(RunMatch::None);
        }
        if digits.len() <= SHOWN_DIGITS {
            let values =
                vec![digits.as_str().into(), format!("{digits}g").into(), bounded(MAX_MATCHES, MAX_MATCHES).into()];
            match self.ids_in(projects, FIND_SHOWN, values).await?.as_slice() {
                [] => {}
                [one] => return Ok(RunMatch::One(*one)),
                several => return Ok(RunMatch::Several(several.to_vec())),
            }
        }
        let reversed: String = digits.chars().rev().collect();
        let values = vec![
            digits.as_str().into(),
            format!("{digits}g").into(),
            reversed.as_str().into(),
            format!("{reversed}g").into(),
            bounded(MAX_MATCHES, MAX_MATCHES).into(),
        ];
        let found = self.ids_in(projects, FIND, values).await?;
        Ok(match found.as_slice() {
            [] => RunMatch::None,
            [one] => RunMatch::One(*one),
            _ => RunMatch::Several(found),
        })
    }

    async fn project_of(&self, run: RunId) -> PortResult<Option<ProjectName>> {
        let rows = self.read(PROJECT_OF, [run.to_string().into()]).await?;
        // A damaged name is nobody's project.
        Ok(rows.first().and_then(|row| ProjectName::new(&text_of(row, "project").ok()?).ok()))
    }

    async fn counts(&self) -> PortResult<Counts> {
        let rows = self.read(COUNTS, [self.home()]).await?;
        let Some(row) = rows.first() else { return Ok(Counts::default()) };
        let number = |column: &str| -> PortResult<u32> {
            let n: i64 = row.try_get("", column).map_err(|e| self.reading(&e))?;
            Ok(u32::try_from(n).unwrap_or(u32::MAX))
        };
        let (admitted, live) = (number("admitted")?, number("live")?);
        Ok(Counts { live, waiting: admitted.saturating_sub(live) })
    }

    async fn totals(&self) -> PortResult<Totals> {
        let mut totals = Totals::default();
        for row in self.read(OPEN, [self.home()]).await? {
            let runs: i64 = row.try_get("", "runs").map_err(|e| self.reading(&e))?;
            let (project, phase) = (text_of(&row, "project"), text_of(&row, "phase"));
            // A damaged row is listed as such elsewhere.
            let (Ok(project), Ok(phase)) = (project, phase) else { continue };
            totals.open.push((project, phase, u64::try_from(runs).unwrap_or(0)));
        }
        totals.quarantined = self.number(QUARANTINED_RUNS).await?;
        if let Some(row) = self.read(OLDEST_EFFECT, [self.home(), ORD_STEP.into()]).await?.first() {
            let at: Option<i64> = row.try_get("", "at").map_err(|e| self.reading(&e))?;
            totals.oldest_effect = at.map(Timestamp);
        }
        Ok(totals)
    }

    async fn asking(&self, limit: u64) -> PortResult<Vec<(RunId, u64)>> {
        let rows = self.read(ASKING, [bounded(limit, MAX_IDS).into(), self.home()]).await?;
        let readable = |row: &QueryResult| {
            let id = id_of(row).inspect_err(|why| tracing::warn!("{}: cannot read a run id: {why}", self.location));
            let seq: i64 = row.try_get("", "seq").unwrap_or(0);
            Some((id.ok()?, u64::try_from(seq).unwrap_or(0)))
        };
        Ok(rows.iter().filter_map(readable).collect())
    }

    async fn queued(&self, limit: u64) -> PortResult<Vec<RunId>> {
        self.ids(QUEUED, vec![bounded(limit, MAX_IDS).into(), self.home()]).await
    }

    async fn queue_length(&self) -> PortResult<u64> {
        self.number(QUEUE_LENGTH).await
    }

    async fn waiting(&self, limit: u64) -> PortResult<Vec<RunId>> {
        self.ids(WAITING, vec![bounded(limit, MAX_IDS).into(), self.home()]).await
    }

    async fn unfinished(&self, owner: &Owner) -> PortResult<Vec<RunId>> {
        self.ids(UNFINISHED, vec![owner.0.as_str().into(), bounded(MAX_IDS, MAX_IDS).into(), self.home()]).await
    }

    async fn due(&self, until: Timestamp, limit: u64) -> PortResult<Vec<(RunId, Timestamp)>> {
        let rows = self.read(DUE, [until.0.into(), bounded(limit, MAX_IDS).into(), self.home()]).await?;
        let readable = |row: &QueryResult| {
            let id = id_of(row).inspect_err(|why| tracing::warn!("{}: cannot read a run id: {why}", self.location));
            let id = id.ok()?;
            let at = row.try_get("", "wake_at").inspect_err(|why| {
                tracing::warn!("{}: cannot read when run {} is due: {why}", self.location, id.abbrev());
            });
            Some((id, Timestamp(at.ok()?)))
        };
        Ok(rows.iter().filter_map(readable).collect())
    }
}

impl SeaStore {
    /// Returns the ids of a statement's rows. A value that is not an id belongs to no run; it is logged and skipped.
    /// Returns the ids that a statement with `{in_projects}` selects of these projects.
    async fn ids_in(&self, projects: &ProjectSet, sql: &str, mut values: Vec<Value>) -> PortResult<Vec<RunId>> {
        let condition = match projects {
            ProjectSet::All => String::new(),
            ProjectSet::Only(names) if names.is_empty() => return Ok(Vec::new()),
            ProjectSet::Only(names) => {
                let first = values.len() + 1;
                values.extend(names.iter().map(|name| name.as_str().into()));
                let places: Vec<String> = (first..=values.len()).map(|place| format!("${place}")).collect();
                format!(" AND project IN ({})", places.join(", "))
            }
        };
        self.ids(&sql.replace("{in_projects}", &condition), values).await
    }

    async fn ids(&self, sql: &str, values: Vec<Value>) -> PortResult<Vec<RunId>> {
        let rows = self.read(sql, values).await?;
        let readable = |row: &QueryResult| {
            id_of(row).inspect_err(|why| tracing::warn!("{}: cannot read a run id: {why}", self.location)).ok()
        };
        Ok(rows.iter().filter_map(readable).collect())
    }

    /// Returns the number of runs of this data directory that a statement counts.
    async fn number(&self, sql: &str) -> PortResult<u64> {
        let rows = self.read(sql, [self.home()]).await?;
        let Some(row) = rows.first() else { return Ok(0) };
        let runs: i64 = row.try_get("", "runs").map_err(|e| self.reading(&e))?;
        Ok(u64::try_from(runs).unwrap_or(0))
    }

    fn run_row(&self, row: &QueryResult) -> Option<RunRow> {
        let run =
            id_of(row).inspect_err(|why| tracing::warn!("{}: cannot read a run id: {why}", self.location)).ok()?;
        let mut unusable: Option<String> = row.try_get("", "quarantined").unwrap_or_else(|e| Some(e.to_string()));
        let mut note = |why: String| {
            unusable.get_or_insert(why);
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
        let wake_at = row.try_get::<Option<i64>>("", "wake_at").unwrap_or_else(|e| {
            note(e.to_string());
            None
        });
        let waits = row.try_get("", "wait_reason").unwrap_or_else(|e| {
            note(e.to_string());
            None
        });
        let blocks = serde_json::from_str(&blocks).unwrap_or_else(|e| {
            note(format!("cannot read its list of blocks: {e}"));
            Vec::new()
        });
        if let Err(why) = codec::check_version(version) {
            note(why);
        }
        Some(RunRow {
            run,
            project,
            title,
            status: if unusable.is_some() { QUARANTINED.to_owned() } else { status },
            phase,
            seq: u64::try_from(seq).unwrap_or(0),
            blocks,
            wake_at: wake_at.map(Timestamp),
            waits,
            opened_at: Timestamp(opened_at),
            updated_at: Timestamp(updated_at),
            quarantined: unusable,
        })
    }
}

/// Clamps a limit, as a value of a statement.
pub(super) fn bounded(limit: u64, max: u64) -> i64 {
    i64::try_from(limit.clamp(1, max)).unwrap_or(i64::MAX)
}

/// Returns a query for the ids of runs.
fn ids_where(condition: Expr) -> SelectStatement {
    Entity::find().select_only().column(Column::Id).filter(condition).into_query()
}
