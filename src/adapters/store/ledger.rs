//! The books: a line for each attempt, written as it goes on, and what they sum up to.

use super::SeaStore;
use crate::domain::{Day, LedgerRow, ProjectName, RunId};
use crate::ports::PortResult;
use crate::ports::store::{Spending, SpendingBy, SpendingFilter};
use sea_orm::{DbBackend, DbErr, QueryResult, Value};

/// A line is rewritten as its attempt goes on.
pub(super) const CHARGE: &str = "INSERT INTO charge (run, attempt, project, role, engine, tokens, cost_micros, turns, wall_ms, \
    settled, day, at, models, round) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
    ON CONFLICT (run, attempt) DO UPDATE SET tokens = excluded.tokens, cost_micros = excluded.cost_micros, \
    turns = excluded.turns, wall_ms = excluded.wall_ms, settled = excluded.settled, at = excluded.at, models = excluded.models";

/// The sums of lines `c`, of the amounts in `of`: `c` itself, or its parts `a`.
fn sums(of: &str) -> String {
    let sum = |column: &str, settled: bool, name: &str| {
        format!("CAST(sum(CASE WHEN c.settled = {settled} THEN {of}.{column} ELSE 0 END) AS bigint) AS {name}")
    };
    let used = ["tokens", "cost_micros", "turns", "wall_ms"].map(|column| sum(column, true, column));
    let aside = [sum("tokens", false, "reserved_tokens"), sum("cost_micros", false, "reserved_cost")];
    format!("{}, {}, {COUNTS}", used.join(", "), aside.join(", "))
}
const COUNTS: &str = "count(DISTINCT c.run || '/' || CAST(c.attempt AS text)) AS attempts, \
    count(DISTINCT CASE WHEN c.round > 0 THEN c.run || '/' || CAST(c.round AS text) END) AS rounds";
const LINES: &str = "CAST(0 AS bigint) AS unpriced FROM charge AS c";
const PARTS_POSTGRES: &str = "CAST(sum(CASE WHEN a.priced THEN 0 ELSE 1 END) AS bigint) AS unpriced FROM charge AS c, \
    LATERAL json_to_recordset(c.models::json) AS a (model text, tokens bigint, cost_micros bigint, turns bigint, \
    wall_ms bigint, priced boolean)";
const PARTS_SQLITE: &str = "CAST(sum(CASE WHEN a.priced THEN 0 ELSE 1 END) AS bigint) AS unpriced FROM charge AS c, \
    (SELECT run, attempt, value ->> 'model' AS model, value ->> 'tokens' AS tokens, value ->> 'turns' AS turns, \
    value ->> 'cost_micros' AS cost_micros, value ->> 'wall_ms' AS wall_ms, value ->> 'priced' AS priced \
    FROM charge AS all_lines, json_each(all_lines.models)) AS a";

/// An amount as the databases count.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A line of the books as it is written; the names are the columns'.
#[derive(serde::Serialize)]
pub(super) struct LedgerRecord {
    pub run: String,
    pub attempt: i64,
    pub project: String,
    pub role: &'static str,
    pub engine: String,
    pub tokens: i64,
    pub cost_micros: i64,
    pub turns: i64,
    pub wall_ms: i64,
    pub settled: bool,
    pub day: i64,
    pub at: i64,
    /// Its parts, as JSON.
    pub models: String,
    pub round: i64,
}

impl LedgerRecord {
    pub(super) fn of(run: RunId, project: &ProjectName, charge: &LedgerRow) -> serde_json::Result<LedgerRecord> {
        Ok(LedgerRecord {
            run: run.to_string(),
            attempt: i64::from(charge.attempt.0),
            project: project.as_str().to_owned(),
            role: charge.role.name(),
            engine: charge.engine.clone(),
            tokens: signed(charge.amount.tokens),
            cost_micros: signed(charge.amount.cost_micros),
            turns: signed(charge.amount.turns),
            wall_ms: signed(charge.amount.wall_ms),
            settled: charge.settled,
            day: charge.day.0,
            at: charge.at.0,
            models: serde_json::to_string(&charge.parts())?,
            round: i64::from(charge.round),
        })
    }

    /// For [`CHARGE`].
    pub(super) fn values(&self) -> Vec<Value> {
        vec![
            self.run.as_str().into(),
            self.attempt.into(),
            self.project.as_str().into(),
            self.role.into(),
            self.engine.as_str().into(),
            self.tokens.into(),
            self.cost_micros.into(),
            self.turns.into(),
            self.wall_ms.into(),
            self.settled.into(),
            self.day.into(),
            self.at.into(),
            self.models.as_str().into(),
            self.round.into(),
        ]
    }
}

pub(super) fn number(row: &QueryResult, column: &str) -> Result<u64, DbErr> {
    row.try_get::<i64>("", column).map(|n| u64::try_from(n).unwrap_or(0))
}

impl SeaStore {
    pub(super) async fn sum_spending(&self, filter: &SpendingFilter) -> PortResult<Vec<Spending>> {
        let (mut wheres, mut values) = (Vec::new(), Vec::new());
        let mut only = |column: &str, value: Value| {
            values.push(value);
            wheres.push(format!("c.{column} = ${}", values.len()));
        };
        if let Some(run) = filter.run {
            only("run", run.to_string().into());
        }
        if let Some(project) = &filter.project {
            only("project", project.as_str().into());
        }
        if let Some(day) = filter.day {
            only("day", day.0.into());
        }
        let key = match filter.by {
            SpendingBy::Run => "c.run",
            SpendingBy::Project => "c.project",
            SpendingBy::Role => "c.role",
            SpendingBy::Day => "CAST(c.day AS text)",
            SpendingBy::Model => "a.model",
        };
        let from = match (filter.by, self.backend()) {
            (SpendingBy::Model, DbBackend::Postgres) => PARTS_POSTGRES,
            (SpendingBy::Model, _) => {
                wheres.extend(["a.run = c.run".to_owned(), "a.attempt = c.attempt".to_owned()]);
                PARTS_SQLITE
            }
            _ => LINES,
        };
        let wheres = if wheres.is_empty() { String::new() } else { format!(" WHERE {}", wheres.join(" AND ")) };
        values.push(signed(filter.limit.clamp(1, Spending::ROWS_MAX)).into());
        // Newest first where keys are in the order of time, else the dearest.
        let order = match filter.by {
            SpendingBy::Run | SpendingBy::Day => "key DESC",
            _ => "cost_micros DESC, tokens DESC, key",
        };
        let sums = sums(if filter.by == SpendingBy::Model { "a" } else { "c" });
        let sql = format!(
            "SELECT {key} AS key, {sums}, {from}{wheres} GROUP BY {key} ORDER BY {order} LIMIT ${}",
            values.len()
        );
        let rows = self.read(&sql, values).await?;
        rows.iter().map(|row| spending_from(row, filter.by).map_err(|e| self.reading(&e))).collect()
    }
}

fn spending_from(row: &QueryResult, by: SpendingBy) -> Result<Spending, DbErr> {
    let key: String = row.try_get("", "key")?;
    let key = match by {
        SpendingBy::Day => key.parse().map_or(key, |day| Day(day).to_string()),
        _ => key,
    };
    Ok(Spending {
        key,
        tokens: number(row, "tokens")?,
        cost_micros: number(row, "cost_micros")?,
        turns: number(row, "turns")?,
        wall_ms: number(row, "wall_ms")?,
        reserved_tokens: number(row, "reserved_tokens")?,
        reserved_cost_micros: number(row, "reserved_cost")?,
        attempts: number(row, "attempts")?,
        rounds: number(row, "rounds")?,
        unpriced: number(row, "unpriced")?,
    })
}
