//! Budgets that runs share: of their project, of a UTC day.

use serde::{Deserialize, Serialize};

/// Limits that runs share: of their project over its whole life, and of a UTC day over all projects. `None` = not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SharedLimits {
    /// Tokens of all the project's runs.
    pub project_tokens: Option<u64>,
    /// Cost of all the project's runs, in micro-USD.
    pub project_cost_micros: Option<u64>,
    /// Tokens of all runs of a day.
    pub day_tokens: Option<u64>,
    /// Cost of all runs of a day, in micro-USD.
    pub day_cost_micros: Option<u64>,
}

impl SharedLimits {
    /// What is left of a shared limit and given away whole, in tokens and in micro-USD: smaller pieces would be too small to do
    /// anything with.
    const WHOLE: (u64, u64) = (200_000, 1_000_000);

    /// Whether there is any.
    pub fn any(&self) -> bool {
        *self != SharedLimits::default()
    }

    /// The cap of an attempt that asks for `asked` (0 = as much as it takes) where `left`, more than 0, is left for all. One that does
    /// not say how much it takes is given a quarter, so that the others need not wait for it.
    pub fn cap(asked: u64, left: u64, money: bool) -> u64 {
        let whole = if money { Self::WHOLE.1 } else { Self::WHOLE.0 };
        match asked {
            0 => (left / 4).max(whole).min(left),
            asked => asked.min(left),
        }
    }
}

/// Who shares a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// All runs of a project, for ever.
    Project,
    /// All runs of a UTC day.
    Day,
}

impl BudgetScope {
    /// Its name in requests, rows and commands.
    pub fn name(self) -> &'static str {
        match self {
            BudgetScope::Project => "project",
            BudgetScope::Day => "day",
        }
    }
    /// What a run is out of when this is used up.
    pub fn budget(self) -> &'static str {
        match self {
            BudgetScope::Project => "project budget",
            BudgetScope::Day => "day budget",
        }
    }
}

/// A shared budget that keeps a run from going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SharedBudget {
    /// Who shares it.
    pub share: BudgetScope,
    /// Whether it is its money; else its tokens.
    pub money: bool,
    /// By how much it is passed already: limits were lowered, or a call in flight took more than was set aside.
    #[serde(default)]
    pub over: u64,
}

impl SharedBudget {
    /// Whether it is the same budget, however far it is passed.
    pub fn same(&self, other: &SharedBudget) -> bool {
        (self.share, self.money) == (other.share, other.money)
    }
    /// How much more is suggested: a round amount that brings it above what is used.
    pub fn suggested(&self) -> u64 {
        let round = if self.money { 5_000_000 } else { 1_000_000 };
        (self.over / round).saturating_add(1).saturating_mul(round)
    }
}

/// Their names for people: `the project budget and the day budget`.
pub fn names(budgets: &[SharedBudget]) -> String {
    let mut names: Vec<&str> = budgets.iter().map(|b| b.share.budget()).collect();
    names.dedup();
    names.iter().map(|name| format!("the {name}")).collect::<Vec<_>>().join(" and ")
}

/// How full a shared budget is, after a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Who shares it.
    pub share: BudgetScope,
    /// Whether of its money; else of its tokens.
    pub money: bool,
    /// Spent and set aside by all.
    pub used: u64,
    /// Of that, set aside for attempts at work.
    #[serde(default)]
    pub set_aside: u64,
    /// Allowed.
    pub limit: u64,
    /// The share of it, in percent, that is spent and that this asker is the first of all to find: people are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<u8>,
}

impl Level {
    /// What is spent.
    pub fn spent(&self) -> u64 {
        self.used.saturating_sub(self.set_aside)
    }
    /// The budget, where nothing is left of it.
    pub fn used_up(&self) -> Option<SharedBudget> {
        let over = self.used.checked_sub(self.limit)?;
        Some(SharedBudget { share: self.share, money: self.money, over })
    }
    /// As alerts name it: `day budget: money`.
    pub fn name(&self) -> String {
        format!("{}: {}", self.share.budget(), if self.money { "money" } else { "tokens" })
    }
}
