//! The budgets that runs share: reservations in them, raises by people, and the alerts that people were sent.
//!
//! Invariant: reservations are serialized across processes. One is in the ledger before the next one is answered.

use super::SeaStore;
use super::ledger::{LedgerRecord, PUT_ROW, number, signed};
use crate::domain::{Alert, BudgetScope, BudgetUnit, Day, LedgerPart, LedgerRow, Level, RunId, SharedLimits, Usage};
use crate::ports::ledger::{BudgetRaise, Reservation, ReserveOutcome};
use sea_orm::{DatabaseTransaction, DbBackend, DbErr, QueryResult, Value};

const MINE: &str = "SELECT 1 AS one FROM run WHERE id = $1 AND owner = $2 AND epoch = $3";
const EXISTING: &str = "SELECT tokens, cost_micros, turns, wall_ms FROM ledger_row WHERE run = $1 AND attempt = $2";
const USED_BY_PROJECT: &str = "SELECT CAST(coalesce(sum(tokens), 0) AS bigint) AS tokens, \
    CAST(coalesce(sum(cost_micros), 0) AS bigint) AS cost_micros, \
    CAST(coalesce(sum(CASE WHEN settled THEN 0 ELSE tokens END), 0) AS bigint) AS reserved_tokens, \
    CAST(coalesce(sum(CASE WHEN settled THEN 0 ELSE cost_micros END), 0) AS bigint) AS reserved_cost \
    FROM ledger_row WHERE project = $1";
const USED_BY_DAY: &str = "SELECT CAST(coalesce(sum(tokens), 0) AS bigint) AS tokens, \
    CAST(coalesce(sum(cost_micros), 0) AS bigint) AS cost_micros, \
    CAST(coalesce(sum(CASE WHEN settled THEN 0 ELSE tokens END), 0) AS bigint) AS reserved_tokens, \
    CAST(coalesce(sum(CASE WHEN settled THEN 0 ELSE cost_micros END), 0) AS bigint) AS reserved_cost \
    FROM ledger_row WHERE day = $1";
const RAISED: &str = "SELECT CAST(coalesce(sum(tokens), 0) AS bigint) AS tokens, \
    CAST(coalesce(sum(cost_micros), 0) AS bigint) AS cost_micros FROM budget_raise WHERE scope = $1 AND key = $2";
const RAISE: &str = "INSERT INTO budget_raise (scope, key, tokens, cost_micros, raised_by, at) \
    VALUES ($1, $2, $3, $4, $5, $6)";
/// The alerts of a budget. Its key makes that one day's, or those of the project's life.
const ALERTS: &str = "SELECT percent, of_limit FROM budget_alert WHERE scope = $1 AND key = $2 AND unit = $3";
const ADD_ALERT: &str = "INSERT INTO budget_alert (scope, key, unit, percent, of_limit, run, attempt, at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const ALERTS_BY_ATTEMPT: &str = "SELECT scope, unit, percent FROM budget_alert WHERE run = $1 AND attempt = $2";
const REMOVE_ALERT: &str = "DELETE FROM budget_alert WHERE scope = $1 AND key = $2 AND unit = $3 AND percent = $4";
const UPDATE_ALERT: &str =
    "UPDATE budget_alert SET of_limit = $5 WHERE scope = $1 AND key = $2 AND unit = $3 AND percent = $4";
const OPEN_RESERVATIONS: &str =
    "SELECT attempt, wall_ms, at, usage_by_model FROM ledger_row WHERE run = $1 AND NOT settled";
const SETTLE: &str =
    "UPDATE ledger_row SET settled = true, wall_ms = $3, usage_by_model = $4 WHERE run = $1 AND attempt = $2";

/// One limit of one shared budget.
struct Budget {
    scope: BudgetScope,
    key: String,
    unit: BudgetUnit,
}

impl Budget {
    fn values(&self) -> Vec<Value> {
        vec![self.scope.name().into(), self.key.as_str().into(), unit_word(self.unit).into()]
    }
}

/// Returns the unit of a limit, as it is stored.
fn unit_word(unit: BudgetUnit) -> &'static str {
    match unit {
        BudgetUnit::Tokens => "tokens",
        BudgetUnit::Cost => "cost",
    }
}

/// Returns the part of a reservation that this unit limits.
fn cap_of(caps: &mut Usage, unit: BudgetUnit) -> &mut u64 {
    match unit {
        BudgetUnit::Tokens => &mut caps.tokens,
        BudgetUnit::Cost => &mut caps.cost_micros,
    }
}

impl SeaStore {
    /// Reserves within a transaction; `None` = the lease was lost.
    pub(super) async fn reserve_in(
        &self,
        tx: &DatabaseTransaction,
        reservation: &Reservation,
    ) -> Result<Option<ReserveOutcome>, DbErr> {
        let run = || Value::from(reservation.lease.run.to_string());
        let mine = if self.backend() == DbBackend::Postgres { format!("{MINE} FOR SHARE") } else { MINE.to_owned() };
        let holder = [run(), reservation.lease.owner.0.as_str().into(), reservation.lease.epoch.into()];
        if self.query_in(tx, &mine, holder).await?.is_empty() {
            return Ok(None);
        }
        let attempt = || Value::from(i64::from(reservation.attempt.0));
        let existing = match self.query_in(tx, EXISTING, [run(), attempt()]).await?.first() {
            Some(row) => Some(Usage {
                tokens: number(row, "tokens")?,
                cost_micros: number(row, "cost_micros")?,
                turns: number(row, "turns")?,
                wall_ms: number(row, "wall_ms")?,
            }),
            None => None,
        };
        let (mut caps, mut levels) = (existing.unwrap_or(reservation.caps), Vec::new());
        // Smallest amount that may be returned, over all exhausted budgets.
        let mut exhausted: Option<u64> = None;
        for (budget, limit) in limited(reservation) {
            let limit = limit.saturating_add(self.raised(tx, &budget).await?);
            let (used, reserved) = self.used(tx, &budget).await?;
            let left = limit.saturating_sub(used);
            if existing.is_none() && left == 0 {
                // If the limit is already spent, a returned reservation does not help.
                let may_return = if used.saturating_sub(reserved) < limit { reserved } else { 0 };
                exhausted = Some(exhausted.map_or(may_return, |least| least.min(may_return)));
            } else if existing.is_none() {
                let cap = cap_of(&mut caps, budget.unit);
                *cap = SharedLimits::cap(*cap, left, budget.unit);
            }
            let (scope, unit) = (budget.scope, budget.unit);
            levels.push((Level { scope, unit, used, reserved, limit, alert_percent: None }, budget));
        }
        let earlier = self.query_in(tx, ALERTS_BY_ATTEMPT, [run(), attempt()]).await?;
        for (level, budget) in &mut levels {
            // Reserving again after a crash returns the same alerts.
            level.alert_percent = match highest_alert(&earlier, level)? {
                Some(percent) => Some(percent),
                None => self.new_alert(tx, reservation, level, budget).await?,
            };
        }
        if let Some(reserved) = exhausted {
            let levels = levels.into_iter().map(|(level, _)| level).collect();
            return Ok(Some(ReserveOutcome::Exhausted { levels, reserved }));
        }
        if existing.is_none() {
            for (level, _) in &mut levels {
                let cap = *cap_of(&mut caps, level.unit);
                level.used = level.used.saturating_add(cap);
                level.reserved = level.reserved.saturating_add(cap);
            }
            self.put_reservation(tx, reservation, caps).await?;
        }
        Ok(Some(ReserveOutcome::Reserved { caps, levels: levels.into_iter().map(|(level, _)| level).collect() }))
    }

    async fn put_reservation(
        &self,
        tx: &DatabaseTransaction,
        reservation: &Reservation,
        caps: Usage,
    ) -> Result<(), DbErr> {
        let row = LedgerRow {
            attempt: reservation.attempt,
            role: reservation.role,
            engine: reservation.engine.clone(),
            round: reservation.round,
            amount: caps,
            settled: false,
            usage_by_model: Vec::new(),
            prompt_digest: None,
            day: Day::of(reservation.at),
            at: reservation.at,
        };
        let record = LedgerRecord::of(reservation.lease.run, &reservation.project, &row)
            .map_err(|e| DbErr::Custom(e.to_string()))?;
        self.execute_in(tx, PUT_ROW, record.values()).await
    }

    /// Records and returns the threshold that a budget's spending has reached, unless people were already alerted to
    /// it. What is only reserved does not count, because it may be returned.
    async fn new_alert(
        &self,
        tx: &DatabaseTransaction,
        reservation: &Reservation,
        level: &Level,
        budget: &Budget,
    ) -> Result<Option<u8>, DbErr> {
        let Some(percent) = Alert::reached(&reservation.alert_percent, level.spent(), level.limit) else {
            return Ok(None);
        };
        for row in self.query_in(tx, ALERTS, budget.values()).await? {
            if number(&row, "percent")? >= u64::from(percent) {
                return Ok(None);
            }
        }
        let mut values = budget.values();
        values.extend([
            i64::from(percent).into(),
            signed(level.limit).into(),
            reservation.lease.run.to_string().into(),
            i64::from(reservation.attempt.0).into(),
            reservation.at.0.into(),
        ]);
        self.execute_in(tx, ADD_ALERT, values).await?;
        Ok(Some(percent))
    }

    /// Returns the used part of a budget, including reservations, and the reserved part of that.
    async fn used(&self, tx: &DatabaseTransaction, budget: &Budget) -> Result<(u64, u64), DbErr> {
        let (sql, key) = match budget.scope {
            BudgetScope::Project => (USED_BY_PROJECT, Value::from(budget.key.as_str())),
            BudgetScope::Day => {
                let day = budget.key.parse::<i64>();
                let day =
                    day.map_err(|e| DbErr::Custom(format!("cannot read the day {:?} of a budget: {e}", budget.key)));
                (USED_BY_DAY, Value::from(day?))
            }
        };
        let rows = self.query_in(tx, sql, [key]).await?;
        let read = |column: &str| rows.first().map_or(Ok(0), |row| number(row, column));
        match budget.unit {
            BudgetUnit::Tokens => Ok((read("tokens")?, read("reserved_tokens")?)),
            BudgetUnit::Cost => Ok((read("cost_micros")?, read("reserved_cost")?)),
        }
    }

    async fn raised(&self, tx: &DatabaseTransaction, budget: &Budget) -> Result<u64, DbErr> {
        let rows = self.query_in(tx, RAISED, [budget.scope.name().into(), budget.key.as_str().into()]).await?;
        let column = match budget.unit {
            BudgetUnit::Tokens => "tokens",
            BudgetUnit::Cost => "cost_micros",
        };
        rows.first().map_or(Ok(0), |row| number(row, column))
    }

    /// Raises a budget within a transaction. Alerts that no longer hold for the new limit are removed, so that they can
    /// be sent again.
    pub(super) async fn raise_in(&self, tx: &DatabaseTransaction, raise: &BudgetRaise) -> Result<(), DbErr> {
        let values = [
            raise.scope.name().into(),
            raise.key.as_str().into(),
            signed(raise.tokens).into(),
            signed(raise.cost_micros).into(),
            raise.by.as_str().into(),
            raise.at.0.into(),
        ];
        self.execute_in(tx, RAISE, values).await?;
        for (unit, amount) in [(BudgetUnit::Tokens, raise.tokens), (BudgetUnit::Cost, raise.cost_micros)] {
            let budget = Budget { scope: raise.scope, key: raise.key.clone(), unit };
            let alerts = if amount == 0 { Vec::new() } else { self.query_in(tx, ALERTS, budget.values()).await? };
            let (used, reserved) = if alerts.is_empty() { (0, 0) } else { self.used(tx, &budget).await? };
            for row in alerts {
                let (percent, limit) = (number(&row, "percent")?, number(&row, "of_limit")?.saturating_add(amount));
                let threshold = u8::try_from(percent).unwrap_or(u8::MAX);
                let mut values = budget.values();
                values.push(signed(percent).into());
                if Alert::reached(&[threshold], used.saturating_sub(reserved), limit).is_none() {
                    self.execute_in(tx, REMOVE_ALERT, values).await?;
                } else {
                    values.push(signed(limit).into());
                    self.execute_in(tx, UPDATE_ALERT, values).await?;
                }
            }
        }
        Ok(())
    }

    /// Charges the open reservations of a run in full, because their actual usage will never be known. Time is charged
    /// as far as it has passed.
    pub(super) async fn settle_reservations(
        &self,
        tx: &DatabaseTransaction,
        run: RunId,
        now: i64,
    ) -> Result<(), DbErr> {
        for row in self.query_in(tx, OPEN_RESERVATIONS, [run.to_string().into()]).await? {
            let (attempt, at): (i64, i64) = (row.try_get("", "attempt")?, row.try_get("", "at")?);
            let passed = number(&row, "wall_ms")?.min(u64::try_from(now.saturating_sub(at)).unwrap_or(0));
            let text: String = row.try_get("", "usage_by_model")?;
            let mut parts: Vec<LedgerPart> = serde_json::from_str(&text).unwrap_or_else(|error| {
                tracing::warn!(%run, attempt, %error, "cannot read the usage by model of a reservation; only its time is charged");
                Vec::new()
            });
            parts.iter_mut().for_each(|part| part.amount.wall_ms = part.amount.wall_ms.min(passed));
            let parts = serde_json::to_string(&parts).map_err(|e| DbErr::Custom(e.to_string()))?;
            let values = [run.to_string().into(), attempt.into(), signed(passed).into(), parts.into()];
            self.execute_in(tx, SETTLE, values).await?;
        }
        Ok(())
    }
}

/// Returns the shared limits that apply to a reservation, before raises.
fn limited(reservation: &Reservation) -> impl Iterator<Item = (Budget, u64)> {
    let shared = &reservation.shared;
    let limits = [
        (BudgetScope::Project, BudgetUnit::Tokens, shared.project_tokens),
        (BudgetScope::Project, BudgetUnit::Cost, shared.project_cost_micros),
        (BudgetScope::Day, BudgetUnit::Tokens, shared.day_tokens),
        (BudgetScope::Day, BudgetUnit::Cost, shared.day_cost_micros),
    ];
    limits.into_iter().filter_map(|(scope, unit, limit)| {
        let key = match scope {
            BudgetScope::Project => reservation.project.as_str().to_owned(),
            BudgetScope::Day => Day::of(reservation.at).0.to_string(),
        };
        Some((Budget { scope, key, unit }, limit?))
    })
}

/// Returns the highest threshold among alerts that concern the budget of this level.
fn highest_alert(alerts: &[QueryResult], level: &Level) -> Result<Option<u8>, DbErr> {
    let mut highest = None;
    for row in alerts {
        let (scope, alert_unit): (String, String) = (row.try_get("", "scope")?, row.try_get("", "unit")?);
        if scope == level.scope.name() && alert_unit == unit_word(level.unit) {
            highest = highest.max(u8::try_from(number(row, "percent")?).ok());
        }
    }
    Ok(highest)
}
