//! Budgets that runs share: the budget of their project, and the budget of a UTC day.

use super::BudgetKind;
use serde::{Deserialize, Serialize};

/// Limits shared by runs: by all runs of a project over its lifetime, and by all runs of a UTC day. `None` = unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SharedLimits {
    /// Tokens of all runs of the project.
    pub project_tokens: Option<u64>,
    /// Cost of all runs of the project, in micro-USD.
    pub project_cost_micros: Option<u64>,
    /// Tokens of all runs of a day.
    pub day_tokens: Option<u64>,
    /// Cost of all runs of a day, in micro-USD.
    pub day_cost_micros: Option<u64>,
}

impl SharedLimits {
    /// Remainders up to this size, in tokens and micro-USD, are granted whole, because smaller portions would be
    /// useless.
    const WHOLE: (u64, u64) = (200_000, 1_000_000);

    /// Returns whether any limit is set.
    pub fn any(&self) -> bool {
        *self != SharedLimits::default()
    }

    /// Returns the cap of an attempt that asks for `asked` (0 = no stated amount) when `left` (more than 0) remains. An
    /// attempt that states no amount is granted a quarter, so that others need not wait for it.
    pub fn cap(asked: u64, left: u64, unit: BudgetUnit) -> u64 {
        let whole = match unit {
            BudgetUnit::Tokens => Self::WHOLE.0,
            BudgetUnit::Cost => Self::WHOLE.1,
        };
        match asked {
            0 => (left / 4).max(whole).min(left),
            asked => asked.min(left),
        }
    }
}

/// The runs that share a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// All runs of a project, over its lifetime.
    Project,
    /// All runs of a UTC day.
    Day,
}

impl BudgetScope {
    /// Returns the name used in requests, rows and commands.
    pub fn name(self) -> &'static str {
        match self {
            BudgetScope::Project => "project",
            BudgetScope::Day => "day",
        }
    }
}

/// The unit of a shared budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetUnit {
    /// Tokens.
    Tokens,
    /// Micro-USD.
    Cost,
}

impl BudgetUnit {
    /// Both units, in the order they are checked.
    pub const ALL: [BudgetUnit; 2] = [BudgetUnit::Tokens, BudgetUnit::Cost];

    /// Returns what a budget of this unit limits.
    pub fn kind(self) -> BudgetKind {
        match self {
            BudgetUnit::Tokens => BudgetKind::Tokens,
            BudgetUnit::Cost => BudgetKind::Cost,
        }
    }
}

/// An exhausted shared budget that stops a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SharedBudget {
    /// The runs that share it.
    pub scope: BudgetScope,
    /// Its unit.
    pub unit: BudgetUnit,
    /// Amount already used above the limit: limits were lowered, or a call in flight took more than its reservation.
    #[serde(default)]
    pub over: u64,
}

impl SharedBudget {
    /// Returns whether `other` is the same budget, whatever the overrun.
    pub fn same(&self, other: &SharedBudget) -> bool {
        (self.scope, self.unit) == (other.scope, other.unit)
    }

    /// Returns the suggested raise: a round amount that lifts the limit above the usage.
    pub fn suggested(&self) -> u64 {
        let round = match self.unit {
            BudgetUnit::Tokens => 1_000_000,
            BudgetUnit::Cost => 5_000_000,
        };
        (self.over / round).saturating_add(1).saturating_mul(round)
    }
}

/// Fill level of a shared budget after a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// The runs that share the budget.
    pub scope: BudgetScope,
    /// Its unit.
    pub unit: BudgetUnit,
    /// Spent and reserved by all runs.
    pub used: u64,
    /// The part of `used` that is only reserved for attempts in progress.
    #[serde(default)]
    pub reserved: u64,
    /// The limit.
    pub limit: u64,
    /// The alert threshold, in percent, that this run reports because it is the first to reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert_percent: Option<u8>,
}

impl Level {
    /// Returns the settled amount.
    pub fn spent(&self) -> u64 {
        self.used.saturating_sub(self.reserved)
    }

    /// Returns the budget if it is exhausted.
    pub fn exhausted(&self) -> Option<SharedBudget> {
        let over = self.used.checked_sub(self.limit)?;
        Some(SharedBudget { scope: self.scope, unit: self.unit, over })
    }
}

/// Spending from a shared budget of one role or model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedSpending {
    /// The budget.
    pub scope: BudgetScope,
    /// The role or model.
    pub name: String,
    /// Tokens spent.
    pub tokens: u64,
    /// Micro-USD spent.
    pub cost_micros: u64,
}

impl SharedSpending {
    /// Upper bound on the rows a block carries.
    pub const MAX_ROWS: usize = 80;
}
