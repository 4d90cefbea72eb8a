//! The books: what attempts cost, the budgets runs share, and more of them given by people.
//!
//! Invariant: between two processes one of them asks first. What it is given stands in the books before the other is answered.

use super::SeaStore;
use crate::domain::budget::{Level, Share, SharedLimits, Usage};
use crate::domain::{Charge, Day, ModelUse, describe};
use crate::ports::store::{Reservation, Room, SharedRaise, Spending, SpendingBy, SpendingFilter};
use crate::ports::{PortError, PortResult};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult, SqliteTransactionMode, TransactionOptions,
    TransactionTrait, Value,
};

/// One at a time for all shared budgets of a database: reservations are rare, one for each attempt.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7377)";
const MINE: &str = "SELECT 1 AS one FROM run WHERE id = $1 AND owner = $2 AND epoch = $3";
const KNOWN: &str = "SELECT tokens, cost_micros, turns, wall_ms FROM charge WHERE run = $1 AND attempt = $2";
const USED_BY_PROJECT: &str = "SELECT CAST(coalesce(sum(tokens), 0) AS bigint) AS tokens, \
    CAST(coalesce(sum(cost_micros), 0) AS bigint) AS cost_micros, \
    CAST(coalesce(sum(CASE WHEN settled THEN 0 ELSE tokens END), 0) AS bigint) AS open_tokens, \
    CAST(coalesce(sum(CASE WHEN settled THEN 0 ELSE cost_micros END), 0) AS bigint) AS open_cost \
    FROM charge WHERE project = $1";
const USED_BY_DAY: &str = "SELECT CAST(coalesce(sum(tokens), 0) AS bigint) AS tokens, \
    CAST(coalesce(sum(cost_micros), 0) AS bigint) AS cost_micros, \
    CAST(coalesce(sum(CASE WHEN settled THEN 0 ELSE tokens END), 0) AS bigint) AS open_tokens, \
    CAST(coalesce(sum(CASE WHEN settled THEN 0 ELSE cost_micros END), 0) AS bigint) AS open_cost \
    FROM charge WHERE day = $1";
const RAISED: &str = "SELECT CAST(coalesce(sum(tokens), 0) AS bigint) AS tokens, \
    CAST(coalesce(sum(cost_micros), 0) AS bigint) AS cost_micros FROM shared_raise WHERE share = $1 AND key = $2";
const RAISE: &str = "INSERT INTO shared_raise (share, key, tokens, cost_micros, given_by, at) \
    VALUES ($1, $2, $3, $4, $5, $6) RETURNING id";
/// A line is rewritten as its attempt goes on.
pub(super) const CHARGE: &str = "INSERT INTO charge (run, attempt, project, role, engine, tokens, cost_micros, turns, wall_ms, \
    settled, day, at, models) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
    ON CONFLICT (run, attempt) DO UPDATE SET tokens = excluded.tokens, cost_micros = excluded.cost_micros, \
    turns = excluded.turns, wall_ms = excluded.wall_ms, settled = excluded.settled, at = excluded.at, models = excluded.models";

const SUMS: &str = "CAST(sum(CASE WHEN settled THEN tokens ELSE 0 END) AS bigint) AS tokens, \
    CAST(sum(CASE WHEN settled THEN cost_micros ELSE 0 END) AS bigint) AS cost_micros, \
    CAST(sum(CASE WHEN settled THEN turns ELSE 0 END) AS bigint) AS turns, \
    CAST(sum(CASE WHEN settled THEN wall_ms ELSE 0 END) AS bigint) AS wall_ms, \
    CAST(sum(CASE WHEN settled THEN 0 ELSE tokens END) AS bigint) AS reserved_tokens, \
    CAST(sum(CASE WHEN settled THEN 0 ELSE cost_micros END) AS bigint) AS reserved_cost, \
    count(*) AS attempts, CAST(0 AS bigint) AS unpriced FROM charge AS c";
const MODEL_SUMS: &str = "CAST(sum(m.input + m.output) AS bigint) AS tokens, CAST(sum(m.cost_micros) AS bigint) AS cost_micros, \
    CAST(sum(m.calls) AS bigint) AS turns, CAST(0 AS bigint) AS wall_ms, CAST(0 AS bigint) AS reserved_tokens, \
    CAST(0 AS bigint) AS reserved_cost, count(*) AS attempts, \
    CAST(sum(CASE WHEN m.priced THEN 0 ELSE 1 END) AS bigint) AS unpriced FROM charge AS c, ";
const MODELS_POSTGRES: &str = "LATERAL json_to_recordset(c.models::json) AS m (model text, calls bigint, input bigint, \
    output bigint, cost_micros bigint, priced boolean)";
const MODELS_SQLITE: &str = "(SELECT run, attempt, value ->> 'model' AS model, value ->> 'calls' AS calls, \
    value ->> 'input' AS input, value ->> 'output' AS output, value ->> 'cost_micros' AS cost_micros, \
    value ->> 'priced' AS priced FROM charge AS all_lines, json_each(all_lines.models)) AS m";

/// An amount as the databases count.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The models of a line as they are kept. What no model was named for is the engine's own, so that all lines add up by model too.
pub(super) fn models(charge: &Charge) -> serde_json::Result<String> {
    if charge.settled && charge.models.is_empty() {
        return serde_json::to_string(&[ModelUse {
            model: charge.engine.clone(),
            calls: charge.amount.turns,
            input: charge.amount.tokens,
            cost_micros: charge.amount.cost_micros,
            priced: true,
            ..ModelUse::default()
        }]);
    }
    serde_json::to_string(&charge.models)
}

fn number(row: &QueryResult, column: &str) -> Result<u64, DbErr> {
    row.try_get::<i64>("", column).map(|n| u64::try_from(n).unwrap_or(0))
}

impl SeaStore {
    pub(super) async fn reserve_shared(&self, ask: &Reservation) -> PortResult<Room> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        let tx = self.write.begin_with_options(options).await.map_err(|e| self.writing(&e))?;
        match self.reserve_in(&tx, ask).await {
            Ok(Some(room)) => tx.commit().await.map(|()| room).map_err(|e| self.writing(&e)),
            Ok(None) => {
                // Nothing was written: how the transaction ends does not matter.
                let _ended = tx.rollback().await;
                Err(PortError::Fenced {
                    what: format!("run {}: {} no longer has it", ask.lease.run, ask.lease.owner.0),
                })
            }
            Err(e) => {
                let error = self.writing(&e);
                let _ended = tx.rollback().await;
                Err(error)
            }
        }
    }

    async fn rows(
        &self,
        tx: &DatabaseTransaction,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>, DbErr> {
        tx.query_all_raw(self.statement(sql, values)).await
    }

    /// `None` = the lease is another's.
    async fn reserve_in(&self, tx: &DatabaseTransaction, ask: &Reservation) -> Result<Option<Room>, DbErr> {
        let postgres = self.backend() == DbBackend::Postgres;
        let run = || Value::from(ask.lease.run.to_string());
        if postgres {
            self.rows(tx, LOCK, []).await?;
        }
        let mine = if postgres { format!("{MINE} FOR SHARE") } else { MINE.to_owned() };
        let holder = [run(), ask.lease.owner.0.as_str().into(), ask.lease.epoch.into()];
        if self.rows(tx, &mine, holder).await?.is_empty() {
            return Ok(None);
        }
        let attempt = || Value::from(i64::from(ask.attempt.0));
        if let Some(row) = self.rows(tx, KNOWN, [run(), attempt()]).await?.first() {
            let caps = Usage {
                tokens: number(row, "tokens")?,
                cost_micros: number(row, "cost_micros")?,
                turns: number(row, "turns")?,
                wall_ms: number(row, "wall_ms")?,
            };
            return Ok(Some(Room::Reserved { caps, levels: Vec::new() }));
        }
        let day = Day::of(ask.at);
        let (mut caps, mut levels) = (ask.caps, Vec::new());
        let shared = &ask.shared;
        let limits = [
            (Share::Project, shared.project_tokens, shared.project_cost_micros),
            (Share::Day, shared.day_tokens, shared.day_cost_micros),
        ];
        for (share, tokens, money) in limits.into_iter().filter(|(_, t, m)| t.is_some() || m.is_some()) {
            let (used, key) = match share {
                Share::Project => (
                    self.rows(tx, USED_BY_PROJECT, [ask.project.as_str().into()]).await?,
                    ask.project.as_str().to_owned(),
                ),
                Share::Day => (self.rows(tx, USED_BY_DAY, [day.0.into()]).await?, day.0.to_string()),
            };
            let raised = self.rows(tx, RAISED, [share.name().into(), key.into()]).await?;
            let read = |rows: &[QueryResult], column: &str| rows.first().map_or(Ok(0), |row| number(row, column));
            let kinds = [(false, tokens, "tokens", "open_tokens"), (true, money, "cost_micros", "open_cost")];
            for (money, limit, column, open) in kinds {
                let Some(limit) = limit else { continue };
                let limit = limit.saturating_add(read(&raised, column)?);
                let (set_aside, used) = (read(&used, open)?, read(&used, column)?);
                let left = limit.saturating_sub(used);
                if left == 0 {
                    // What is spent may be all of it, whatever is set aside besides.
                    let set_aside = if used.saturating_sub(set_aside) < limit { set_aside } else { 0 };
                    return Ok(Some(Room::Short { level: Level { share, money, used, limit }, set_aside }));
                }
                let cap = if money { &mut caps.cost_micros } else { &mut caps.tokens };
                *cap = SharedLimits::cap(*cap, left, money);
                levels.push(Level { share, money, used, limit });
            }
        }
        for level in &mut levels {
            level.used = level.used.saturating_add(if level.money { caps.cost_micros } else { caps.tokens });
        }
        let line = vec![
            run(),
            attempt(),
            ask.project.as_str().into(),
            ask.role.name().into(),
            ask.engine.as_str().into(),
            signed(caps.tokens).into(),
            signed(caps.cost_micros).into(),
            signed(caps.turns).into(),
            signed(caps.wall_ms).into(),
            false.into(),
            day.0.into(),
            ask.at.0.into(),
            "[]".into(),
        ];
        tx.execute_raw(self.statement(CHARGE, line)).await?;
        Ok(Some(Room::Reserved { caps, levels }))
    }

    pub(super) async fn give_more(&self, raise: &SharedRaise) -> PortResult<()> {
        let values = [
            raise.share.name().into(),
            raise.key.as_str().into(),
            signed(raise.tokens).into(),
            signed(raise.cost_micros).into(),
            raise.by.as_str().into(),
            raise.at.0.into(),
        ];
        self.write(RAISE, values).await.map(|_| ())
    }

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
            SpendingBy::Model => "m.model",
        };
        let sums = match (filter.by, self.backend()) {
            (SpendingBy::Model, DbBackend::Postgres) => format!("{MODEL_SUMS}{MODELS_POSTGRES}"),
            (SpendingBy::Model, _) => {
                wheres.extend(["m.run = c.run".to_owned(), "m.attempt = c.attempt".to_owned()]);
                format!("{MODEL_SUMS}{MODELS_SQLITE}")
            }
            _ => SUMS.to_owned(),
        };
        let wheres = if wheres.is_empty() { String::new() } else { format!(" WHERE {}", wheres.join(" AND ")) };
        values.push(signed(filter.limit.clamp(1, Spending::ROWS_MAX)).into());
        // Newest first where keys are in the order of time, else the dearest.
        let order = match filter.by {
            SpendingBy::Run | SpendingBy::Day => "key DESC",
            _ => "cost_micros DESC, tokens DESC, key",
        };
        let sql =
            format!("SELECT {key} AS key, {sums}{wheres} GROUP BY {key} ORDER BY {order} LIMIT ${}", values.len());
        let rows = self.read(&sql, values).await?;
        rows.iter().map(|row| spending_from(row, filter.by).map_err(|e| self.reading(&e))).collect()
    }
}

fn spending_from(row: &QueryResult, by: SpendingBy) -> Result<Spending, DbErr> {
    let key: String = row.try_get("", "key")?;
    let key = match by {
        SpendingBy::Day => key.parse().map_or(key, |day| describe::date(Day(day))),
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
        unpriced: number(row, "unpriced")?,
    })
}
