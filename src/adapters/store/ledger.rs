//! The ledger: one row per attempt, rewritten as the attempt proceeds, and the reports over all rows.

use super::SeaStore;
use crate::domain::{Day, LedgerRow, MAX_AMOUNT, ProjectName, ProjectSet, RunId, Usage};
use crate::ports::ledger::{BudgetRaise, Ledger, Reservation, ReserveOutcome, Spending, SpendingBy, SpendingFilter};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use sea_orm::{DbBackend, DbErr, QueryResult, Value};

/// Inserts an attempt's row, or rewrites the amounts of an existing one.
pub(super) const PUT_ROW: &str = "INSERT INTO ledger_row (run, attempt, project, role, engine, tokens, cost_micros, turns, \
    wall_ms, settled, day, at, usage_by_model, round, prompt_digest) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
    ON CONFLICT (run, attempt) DO UPDATE SET tokens = excluded.tokens, cost_micros = excluded.cost_micros, \
    turns = excluded.turns, wall_ms = excluded.wall_ms, settled = excluded.settled, at = excluded.at, \
    usage_by_model = excluded.usage_by_model, prompt_digest = excluded.prompt_digest";

/// Returns the sums over rows `l` of the amounts in `of`: `l` itself, or its parts by model `m`.
fn sums(by: SpendingBy) -> String {
    let (of, attempts) = match by {
        SpendingBy::Model => ("m", ATTEMPTS_OF_MODELS),
        _ => ("l", ATTEMPTS),
    };
    let sum = |column: &str, settled: bool, name: &str| {
        format!("CAST(sum(CASE WHEN l.settled = {settled} THEN {of}.{column} ELSE 0 END) AS bigint) AS {name}")
    };
    let used = ["tokens", "cost_micros", "turns", "wall_ms"].map(|column| sum(column, true, column));
    let reserved = [sum("tokens", false, "reserved_tokens"), sum("cost_micros", false, "reserved_cost")];
    format!("{}, {}, {attempts}, {ROUNDS}", used.join(", "), reserved.join(", "))
}
/// A row of the ledger is an attempt, but an attempt may have used several models.
const ATTEMPTS: &str = "count(*) AS attempts";
const ATTEMPTS_OF_MODELS: &str = "count(DISTINCT l.run || '/' || CAST(l.attempt AS text)) AS attempts";
const ROUNDS: &str = "count(DISTINCT CASE WHEN l.round > 0 THEN l.run || '/' || CAST(l.round AS text) END) AS rounds";
const ROWS: &str = "CAST(0 AS bigint) AS unpriced FROM ledger_row AS l";
const BY_MODEL_POSTGRES: &str = "CAST(sum(CASE WHEN m.priced THEN 0 ELSE 1 END) AS bigint) AS unpriced \
    FROM ledger_row AS l, LATERAL json_to_recordset(l.usage_by_model::json) AS m (model text, tokens bigint, cost_micros bigint, turns bigint, \
    wall_ms bigint, priced boolean)";
const BY_MODEL_SQLITE: &str = "CAST(sum(CASE WHEN m.priced THEN 0 ELSE 1 END) AS bigint) AS unpriced FROM ledger_row AS l, \
    (SELECT run, attempt, value ->> 'model' AS model, value ->> 'tokens' AS tokens, value ->> 'turns' AS turns, \
    value ->> 'cost_micros' AS cost_micros, value ->> 'wall_ms' AS wall_ms, value ->> 'priced' AS priced \
    FROM ledger_row AS all_rows, json_each(all_rows.usage_by_model)) AS m";

/// Converts an amount to the databases' integer type.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Converts an amount of one attempt. What an engine or a provider reports may be anything, and sums must not overflow.
fn amount(n: u64) -> i64 {
    signed(n.min(MAX_AMOUNT))
}

/// A ledger row as it is written; the field names are the column names.
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
    /// The amounts by model, as JSON.
    pub usage_by_model: String,
    pub round: i64,
    pub prompt_digest: Option<String>,
}

impl LedgerRecord {
    pub(super) fn of(run: RunId, project: &ProjectName, row: &LedgerRow) -> serde_json::Result<LedgerRecord> {
        let mut parts = row.parts();
        for Usage { tokens, cost_micros, wall_ms, turns } in parts.iter_mut().map(|part| &mut part.amount) {
            for n in [tokens, cost_micros, wall_ms, turns] {
                *n = (*n).min(MAX_AMOUNT);
            }
        }
        Ok(LedgerRecord {
            run: run.to_string(),
            attempt: i64::from(row.attempt.0),
            project: project.as_str().to_owned(),
            role: row.role.name(),
            engine: row.engine.clone(),
            tokens: amount(row.amount.tokens),
            cost_micros: amount(row.amount.cost_micros),
            turns: amount(row.amount.turns),
            wall_ms: amount(row.amount.wall_ms),
            settled: row.settled,
            day: row.day.0,
            at: row.at.0,
            usage_by_model: serde_json::to_string(&parts)?,
            round: i64::from(row.round),
            prompt_digest: row.prompt_digest.clone(),
        })
    }

    /// Returns the values for [`PUT_ROW`].
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
            self.usage_by_model.as_str().into(),
            self.round.into(),
            self.prompt_digest.as_deref().into(),
        ]
    }
}

/// Reads an amount.
pub(super) fn number(row: &QueryResult, column: &str) -> Result<u64, DbErr> {
    row.try_get::<i64>("", column).map(|n| u64::try_from(n).unwrap_or(0))
}

#[async_trait]
impl Ledger for SeaStore {
    async fn reserve(&self, reservation: &Reservation) -> PortResult<ReserveOutcome> {
        let tx = self.exclusive().await?;
        let outcome = self.reserve_in(&tx, reservation).await;
        let lease = &reservation.lease;
        self.end(tx, outcome).await?.ok_or_else(|| PortError::Fenced {
            what: format!("run {}: {} no longer holds its lease", lease.run, lease.owner.0),
        })
    }

    async fn raise_budget(&self, raise: &BudgetRaise) -> PortResult<()> {
        let tx = self.exclusive().await?;
        let raised = self.raise_in(&tx, raise).await;
        self.end(tx, raised).await
    }

    async fn spending(&self, filter: &SpendingFilter) -> PortResult<Vec<Spending>> {
        let (mut wheres, mut values) = (Vec::new(), Vec::new());
        let mut filter_by = |column: &str, value: Value| {
            values.push(value);
            wheres.push(format!("l.{column} = ${}", values.len()));
        };
        if let Some(run) = filter.run {
            filter_by("run", run.to_string().into());
        }
        if let Some(day) = filter.day {
            filter_by("day", day.0.into());
        }
        if let ProjectSet::Only(projects) = &filter.projects {
            let first = values.len() + 1;
            values.extend(projects.iter().map(|project| Value::from(project.as_str())));
            let places: Vec<String> = (first..=values.len()).map(|n| format!("${n}")).collect();
            wheres.push(format!("l.project IN ({})", places.join(", ")));
        }
        let key = match filter.by {
            SpendingBy::Run => "l.run",
            SpendingBy::Project => "l.project",
            SpendingBy::Role => "l.role",
            SpendingBy::Day => "CAST(l.day AS text)",
            SpendingBy::Model => "m.model",
        };
        let from = match (filter.by, self.backend()) {
            (SpendingBy::Model, DbBackend::Postgres) => BY_MODEL_POSTGRES,
            (SpendingBy::Model, _) => {
                wheres.extend(["m.run = l.run".to_owned(), "m.attempt = l.attempt".to_owned()]);
                BY_MODEL_SQLITE
            }
            _ => ROWS,
        };
        let wheres = if wheres.is_empty() { String::new() } else { format!(" WHERE {}", wheres.join(" AND ")) };
        values.push(signed(filter.limit.clamp(1, Spending::MAX_ROWS)).into());
        // Newest first where keys are in the order of time, else most expensive first.
        let order = match filter.by {
            SpendingBy::Run | SpendingBy::Day => "key DESC",
            _ => "cost_micros DESC, tokens DESC, key",
        };
        let sums = sums(filter.by);
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
