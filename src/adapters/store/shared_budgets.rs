//! The budgets runs share: set aside in them, more of them given by people, and what people were told of them.
//!
//! Invariant: between two processes one of them asks first. What it is given stands in the books before the other is answered.

use super::SeaStore;
use super::ledger::{CHARGE, LedgerRecord, number, signed};
use crate::domain::{Alert, BudgetScope, BudgetUnit, Day, LedgerRow, Level, RunId, SharedLimits, Usage};
use crate::ports::store::{Reservation, Room, SharedRaise};
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
    VALUES ($1, $2, $3, $4, $5, $6)";
/// What people were told of a budget; by its key that is of one day, or of the project's life.
const TOLD: &str = "SELECT percent, of_limit FROM shared_alert WHERE share = $1 AND key = $2 AND money = $3";
const TELL: &str = "INSERT INTO shared_alert (share, key, money, percent, of_limit, run, attempt, at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const TOLD_BY: &str = "SELECT share, money, percent FROM shared_alert WHERE run = $1 AND attempt = $2";
const UNTELL: &str = "DELETE FROM shared_alert WHERE share = $1 AND key = $2 AND money = $3 AND percent = $4";
const TOLD_OF: &str =
    "UPDATE shared_alert SET of_limit = $5 WHERE share = $1 AND key = $2 AND money = $3 AND percent = $4";
/// Time is charged as far as it has passed.
const OPEN: &str = "SELECT attempt, wall_ms, at, models FROM charge WHERE run = $1 AND NOT settled";
const SETTLE: &str = "UPDATE charge SET settled = true, wall_ms = $3, models = $4 WHERE run = $1 AND attempt = $2";

/// One thing of one shared budget.
struct Budget {
    scope: BudgetScope,
    key: String,
    unit: BudgetUnit,
}

/// Returns the value of the column `money`.
fn is_cost(unit: BudgetUnit) -> bool {
    unit == BudgetUnit::Cost
}

impl Budget {
    fn values(&self) -> Vec<Value> {
        vec![self.scope.name().into(), self.key.as_str().into(), is_cost(self.unit).into()]
    }
}

impl SeaStore {
    /// A transaction that nobody else's of this file runs beside.
    pub(super) async fn alone(&self) -> PortResult<DatabaseTransaction> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        let tx = self.write.begin_with_options(options).await.map_err(|e| self.writing(&e))?;
        if self.backend() == DbBackend::Postgres {
            self.rows(&tx, LOCK, []).await.map_err(|e| self.writing(&e))?;
        }
        Ok(tx)
    }

    /// Ends a transaction: written whole, or not at all.
    pub(super) async fn end<T>(&self, tx: DatabaseTransaction, done: Result<T, DbErr>) -> PortResult<T> {
        match done {
            Ok(done) => tx.commit().await.map(|()| done).map_err(|e| self.writing(&e)),
            Err(e) => {
                let error = self.writing(&e);
                // What it wrote is gone with it, however that ends.
                let _ended = tx.rollback().await;
                Err(error)
            }
        }
    }

    pub(super) async fn rows(
        &self,
        tx: &DatabaseTransaction,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>, DbErr> {
        tx.query_all_raw(self.statement(sql, values)).await
    }

    async fn act(
        &self,
        tx: &DatabaseTransaction,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<(), DbErr> {
        tx.execute_raw(self.statement(sql, values)).await.map(drop)
    }

    pub(super) async fn reserve_shared(&self, ask: &Reservation) -> PortResult<Room> {
        let tx = self.alone().await?;
        let room = self.reserve_in(&tx, ask).await;
        self.end(tx, room).await?.ok_or_else(|| PortError::Fenced {
            what: format!("run {}: {} no longer has it", ask.lease.run, ask.lease.owner.0),
        })
    }

    /// `None` = the lease is another's.
    async fn reserve_in(&self, tx: &DatabaseTransaction, ask: &Reservation) -> Result<Option<Room>, DbErr> {
        let run = || Value::from(ask.lease.run.to_string());
        let mine = if self.backend() == DbBackend::Postgres { format!("{MINE} FOR SHARE") } else { MINE.to_owned() };
        let holder = [run(), ask.lease.owner.0.as_str().into(), ask.lease.epoch.into()];
        if self.rows(tx, &mine, holder).await?.is_empty() {
            return Ok(None);
        }
        let known = match self.rows(tx, KNOWN, [run(), i64::from(ask.attempt.0).into()]).await?.first() {
            Some(row) => Some(Usage {
                tokens: number(row, "tokens")?,
                cost_micros: number(row, "cost_micros")?,
                turns: number(row, "turns")?,
                wall_ms: number(row, "wall_ms")?,
            }),
            None => None,
        };
        let (mut caps, mut levels, mut least) = (known.unwrap_or(ask.caps), Vec::new(), None);
        for (budget, limit) in limited(ask) {
            let raised = self.raised(tx, &budget).await?;
            let (used, reserved) = self.used(tx, &budget).await?;
            let limit = limit.saturating_add(raised);
            let left = limit.saturating_sub(used);
            if known.is_none() && left == 0 {
                // What is spent may be all of it, whatever is set aside besides.
                let back = if used.saturating_sub(reserved) < limit { reserved } else { 0 };
                least = Some(least.map_or(back, |least: u64| least.min(back)));
            } else if known.is_none() {
                let cap = match budget.unit {
                    BudgetUnit::Tokens => &mut caps.tokens,
                    BudgetUnit::Cost => &mut caps.cost_micros,
                };
                *cap = SharedLimits::cap(*cap, left, budget.unit);
            }
            let (scope, unit) = (budget.scope, budget.unit);
            levels.push((Level { scope, unit, used, reserved, limit, alert_percent: None }, budget));
        }
        let told = self.rows(tx, TOLD_BY, [run(), i64::from(ask.attempt.0).into()]).await?;
        for (level, budget) in &mut levels {
            // Asked again after a crash, it has the same to tell.
            level.alert_percent = match told_of(&told, level)? {
                Some(share) => Some(share),
                None => self.first_to_tell(tx, ask, level, budget).await?,
            };
        }
        if let Some(set_aside) = least {
            let levels = levels.into_iter().map(|(level, _)| level).collect();
            return Ok(Some(Room::Short { levels, set_aside }));
        }
        if known.is_none() {
            for (level, _) in &mut levels {
                let cap = match level.unit {
                    BudgetUnit::Tokens => caps.tokens,
                    BudgetUnit::Cost => caps.cost_micros,
                };
                level.used = level.used.saturating_add(cap);
                level.reserved = level.reserved.saturating_add(cap);
            }
            self.set_aside(tx, ask, caps).await?;
        }
        Ok(Some(Room::Reserved { caps, levels: levels.into_iter().map(|(level, _)| level).collect() }))
    }

    async fn set_aside(&self, tx: &DatabaseTransaction, ask: &Reservation, caps: Usage) -> Result<(), DbErr> {
        let charge = LedgerRow {
            attempt: ask.attempt,
            role: ask.role,
            engine: ask.engine.clone(),
            round: ask.round,
            amount: caps,
            settled: false,
            usage_by_model: Vec::new(),
            prompt_digest: None,
            day: Day::of(ask.at),
            at: ask.at,
        };
        let line = LedgerRecord::of(ask.lease.run, &ask.project, &charge).map_err(|e| DbErr::Custom(e.to_string()))?;
        self.act(tx, CHARGE, line.values()).await
    }

    /// The share of a budget that is spent, if nobody was told of it before. What is only set aside may come back: it is no news.
    async fn first_to_tell(
        &self,
        tx: &DatabaseTransaction,
        ask: &Reservation,
        level: &Level,
        budget: &Budget,
    ) -> Result<Option<u8>, DbErr> {
        let Some(share) = Alert::reached(&ask.alert_percent, level.spent(), level.limit) else { return Ok(None) };
        for row in self.rows(tx, TOLD, budget.values()).await? {
            if number(&row, "percent")? >= u64::from(share) {
                return Ok(None);
            }
        }
        let mut values = budget.values();
        values.extend([
            i64::from(share).into(),
            signed(level.limit).into(),
            ask.lease.run.to_string().into(),
            i64::from(ask.attempt.0).into(),
            ask.at.0.into(),
        ]);
        self.act(tx, TELL, values).await?;
        Ok(Some(share))
    }

    /// What is used and set aside of a budget, and how much of that is only set aside.
    async fn used(&self, tx: &DatabaseTransaction, budget: &Budget) -> Result<(u64, u64), DbErr> {
        let (sql, key) = match budget.scope {
            BudgetScope::Project => (USED_BY_PROJECT, Value::from(budget.key.as_str())),
            BudgetScope::Day => (USED_BY_DAY, Value::from(budget.key.parse::<i64>().unwrap_or_default())),
        };
        let rows = self.rows(tx, sql, [key]).await?;
        let read = |column: &str| rows.first().map_or(Ok(0), |row| number(row, column));
        match budget.unit {
            BudgetUnit::Tokens => Ok((read("tokens")?, read("open_tokens")?)),
            BudgetUnit::Cost => Ok((read("cost_micros")?, read("open_cost")?)),
        }
    }

    async fn raised(&self, tx: &DatabaseTransaction, budget: &Budget) -> Result<u64, DbErr> {
        let rows = self.rows(tx, RAISED, [budget.scope.name().into(), budget.key.as_str().into()]).await?;
        let column = match budget.unit {
            BudgetUnit::Tokens => "tokens",
            BudgetUnit::Cost => "cost_micros",
        };
        rows.first().map_or(Ok(0), |row| number(row, column))
    }

    pub(super) async fn give_more(&self, raise: &SharedRaise) -> PortResult<()> {
        let tx = self.alone().await?;
        let given = self.give_in(&tx, raise).await;
        self.end(tx, given).await
    }

    /// What was told of the old limit and is not true of the new one may be told again.
    async fn give_in(&self, tx: &DatabaseTransaction, raise: &SharedRaise) -> Result<(), DbErr> {
        let values = [
            raise.share.name().into(),
            raise.key.as_str().into(),
            signed(raise.tokens).into(),
            signed(raise.cost_micros).into(),
            raise.by.as_str().into(),
            raise.at.0.into(),
        ];
        self.act(tx, RAISE, values).await?;
        for (unit, more) in [(BudgetUnit::Tokens, raise.tokens), (BudgetUnit::Cost, raise.cost_micros)] {
            let budget = Budget { scope: raise.share, key: raise.key.clone(), unit };
            let told = if more == 0 { Vec::new() } else { self.rows(tx, TOLD, budget.values()).await? };
            let (used, aside) = if told.is_empty() { (0, 0) } else { self.used(tx, &budget).await? };
            for row in told {
                let (percent, limit) = (number(&row, "percent")?, number(&row, "of_limit")?.saturating_add(more));
                let share = u8::try_from(percent).unwrap_or(u8::MAX);
                let mut values = budget.values();
                values.push(signed(percent).into());
                if Alert::reached(&[share], used.saturating_sub(aside), limit).is_none() {
                    self.act(tx, UNTELL, values).await?;
                } else {
                    values.push(signed(limit).into());
                    self.act(tx, TOLD_OF, values).await?;
                }
            }
        }
        Ok(())
    }

    /// Charges what is set aside for a run's attempts: nobody will ever tell what they have used of it.
    pub(super) async fn charge_open(&self, tx: &DatabaseTransaction, run: RunId, now: i64) -> Result<(), DbErr> {
        for row in self.rows(tx, OPEN, [run.to_string().into()]).await? {
            let (attempt, at): (i64, i64) = (row.try_get("", "attempt")?, row.try_get("", "at")?);
            let passed = number(&row, "wall_ms")?.min(u64::try_from(now.saturating_sub(at)).unwrap_or(0));
            let mut parts: Vec<crate::domain::LedgerPart> =
                serde_json::from_str(&row.try_get::<String>("", "models")?).unwrap_or_default();
            parts.iter_mut().for_each(|part| part.amount.wall_ms = part.amount.wall_ms.min(passed));
            let models = serde_json::to_string(&parts).map_err(|e| DbErr::Custom(e.to_string()))?;
            let values = [run.to_string().into(), attempt.into(), signed(passed).into(), models.into()];
            self.act(tx, SETTLE, values).await?;
        }
        Ok(())
    }
}

/// What is limited for a reservation, and its limit before raises.
fn limited(ask: &Reservation) -> impl Iterator<Item = (Budget, u64)> {
    let shared = &ask.shared;
    let limits = [
        (BudgetScope::Project, BudgetUnit::Tokens, shared.project_tokens),
        (BudgetScope::Project, BudgetUnit::Cost, shared.project_cost_micros),
        (BudgetScope::Day, BudgetUnit::Tokens, shared.day_tokens),
        (BudgetScope::Day, BudgetUnit::Cost, shared.day_cost_micros),
    ];
    limits.into_iter().filter_map(|(scope, unit, limit)| {
        let key = match scope {
            BudgetScope::Project => ask.project.as_str().to_owned(),
            BudgetScope::Day => Day::of(ask.at).0.to_string(),
        };
        Some((Budget { scope, key, unit }, limit?))
    })
}

/// The highest share of a budget that these rows tell of.
fn told_of(rows: &[QueryResult], level: &Level) -> Result<Option<u8>, DbErr> {
    let mut highest = None;
    for row in rows {
        let (share, money): (String, bool) = (row.try_get("", "share")?, row.try_get("", "money")?);
        if share == level.scope.name() && money == is_cost(level.unit) {
            highest = highest.max(u8::try_from(number(row, "percent")?).ok());
        }
    }
    Ok(highest)
}
