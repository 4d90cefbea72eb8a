//! Usage, limits, budgets and spending. Amounts of money are micro-USD.

use super::Timestamp;
use super::word::words;
use crate::domain;
use crate::ports::ledger;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Usage of an attempt or a run, or an amount reserved for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Input and output tokens.
    pub tokens: u64,
    /// Micro-USD.
    pub cost_micros: u64,
    /// Wall-clock time in milliseconds.
    pub wall_ms: u64,
    /// Model calls. In a reservation the upper bound; 0 means not limited.
    pub turns: u64,
}

impl From<domain::Usage> for Usage {
    fn from(usage: domain::Usage) -> Usage {
        let domain::Usage { tokens, cost_micros, wall_ms, turns } = usage;
        Usage { tokens, cost_micros, wall_ms, turns }
    }
}

impl From<Usage> for domain::Usage {
    fn from(usage: Usage) -> domain::Usage {
        let Usage { tokens, cost_micros, wall_ms, turns } = usage;
        domain::Usage { tokens, cost_micros, wall_ms, turns }
    }
}

/// Usage of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelUsage {
    /// Model.
    #[schema(example = "acme/large")]
    pub model: String,
    /// Calls.
    pub calls: u64,
    /// Input tokens, including those read from or written to the cache.
    pub input_tokens: u64,
    /// Input tokens read from the provider's cache.
    pub cached_tokens: u64,
    /// Input tokens written to the provider's cache.
    pub cache_written_tokens: u64,
    /// Output tokens, including those spent on reasoning.
    pub output_tokens: u64,
    /// Output tokens spent on reasoning.
    pub reasoning_tokens: u64,
    /// Micro-USD.
    pub cost_micros: u64,
    /// Whether the model's price is known. Without a price the full reservation is charged.
    pub priced: bool,
}

impl From<&domain::ModelUse> for ModelUsage {
    fn from(usage: &domain::ModelUse) -> ModelUsage {
        ModelUsage {
            model: usage.model.clone(),
            calls: usage.calls,
            input_tokens: usage.input,
            cached_tokens: usage.cached,
            cache_written_tokens: usage.cache_written,
            output_tokens: usage.output,
            reasoning_tokens: usage.reasoning,
            cost_micros: usage.cost_micros,
            priced: usage.priced,
        }
    }
}

/// Limits of a run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// Tokens; `null` means not limited.
    pub tokens: Option<u64>,
    /// Micro-USD; `null` means not limited.
    pub cost_micros: Option<u64>,
    /// Model calls; `null` means not limited.
    pub turns: Option<u64>,
    /// Wall-clock time of attempts and checks, in seconds.
    pub timeout_secs: u64,
    /// Rounds of rework before a person is asked.
    pub rounds: u32,
    /// Attempts of all roles together.
    pub attempts: u32,
}

impl From<domain::Limits> for Limits {
    fn from(limits: domain::Limits) -> Limits {
        let domain::Limits { tokens, cost_micros, turns, timeout_secs, rounds, attempts } = limits;
        Limits { tokens, cost_micros, turns, timeout_secs, rounds, attempts }
    }
}

/// Amounts to add to the limits of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Raise {
    /// Tokens.
    #[schema(default = 0)]
    pub tokens: u64,
    /// Micro-USD.
    #[schema(default = 0)]
    pub cost_micros: u64,
    /// Model calls.
    #[schema(default = 0)]
    pub turns: u64,
    /// Seconds of wall-clock time.
    #[schema(default = 0)]
    pub time_secs: u64,
    /// Rounds of rework.
    #[schema(default = 0)]
    pub rounds: u32,
    /// Attempts.
    #[schema(default = 0)]
    pub attempts: u32,
    /// Seconds for each attempt at the step that ran out of time.
    #[schema(default = 0)]
    pub step_secs: u64,
}

impl From<Raise> for domain::Raise {
    fn from(raise: Raise) -> domain::Raise {
        let Raise { tokens, cost_micros, turns, time_secs, rounds, attempts, step_secs } = raise;
        domain::Raise { tokens, cost_micros, turns, time_secs, rounds, attempts, step_secs }
    }
}

/// Limits of a run in place of those it would have; an absent one stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestedLimits {
    /// Tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Micro-USD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    /// Model calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
    /// Seconds of wall-clock time of attempts and checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_secs: Option<u64>,
    /// Rounds of rework before a person is asked; 0 asks before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
    /// Attempts of all roles together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
}

impl RequestedLimits {
    /// Returns whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == RequestedLimits::default()
    }
}

impl From<RequestedLimits> for domain::RequestedLimits {
    fn from(limits: RequestedLimits) -> domain::RequestedLimits {
        let RequestedLimits { tokens, cost_micros, turns, timeout_secs, rounds, attempts } = limits;
        domain::RequestedLimits { tokens, cost_micros, turns, timeout_secs, rounds, attempts }
    }
}

words! {
    /// Scope of a budget that several runs share.
    BudgetScope = domain::BudgetScope {
        /// All runs of a project.
        Project = "project",
        /// All runs of a UTC day.
        Day = "day",
    }
}

/// Resource that a budget limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Tokens.
    Tokens,
    /// Money.
    Cost,
}

/// Shared budget that is exhausted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SharedBudget {
    /// Scope.
    pub scope: BudgetScope,
    /// Resource.
    pub resource: Resource,
    /// Amount by which it is exceeded, in tokens or micro-USD.
    pub over: u64,
}

impl From<&domain::SharedBudget> for SharedBudget {
    fn from(budget: &domain::SharedBudget) -> SharedBudget {
        SharedBudget {
            scope: budget.scope.into(),
            resource: match budget.unit {
                domain::BudgetUnit::Tokens => Resource::Tokens,
                domain::BudgetUnit::Cost => Resource::Cost,
            },
            over: budget.over,
        }
    }
}

/// Limits of the budgets that runs share; `null` means not limited.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct SharedLimits {
    /// Tokens of all runs of the project.
    pub project_tokens: Option<u64>,
    /// Micro-USD of all runs of the project.
    pub project_cost_micros: Option<u64>,
    /// Tokens of all runs of a UTC day.
    pub day_tokens: Option<u64>,
    /// Micro-USD of all runs of a UTC day.
    pub day_cost_micros: Option<u64>,
}

impl From<domain::SharedLimits> for SharedLimits {
    fn from(limits: domain::SharedLimits) -> SharedLimits {
        let domain::SharedLimits { project_tokens, project_cost_micros, day_tokens, day_cost_micros } = limits;
        SharedLimits { project_tokens, project_cost_micros, day_tokens, day_cost_micros }
    }
}

/// Notice that a budget reached an alert threshold.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Scope of a shared budget; absent for the run's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<BudgetScope>,
    /// What the budget limits.
    #[schema(example = "cost")]
    pub budget: String,
    /// Threshold that was reached, in percent.
    pub percent: u8,
    /// When.
    pub at: Timestamp,
}

/// Budget of a run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Budget {
    /// Usage of ended attempts and of checks.
    pub spent: Usage,
    /// Reservations of running attempts.
    pub reserved: Usage,
    /// Limits in force.
    pub limits: Limits,
    /// Attempts that count against `limits.attempts`.
    pub attempts: u64,
    /// Limits shared with other runs, as they were when the run was opened.
    pub shared: SharedLimits,
    /// Alerts so far.
    pub alerts: Vec<Alert>,
}

impl From<&domain::Run> for Budget {
    fn from(run: &domain::Run) -> Budget {
        let reserved = run.ledger.reserved.values().fold(domain::Usage::default(), |sum, r| sum.plus(*r));
        let alert = |a: &domain::Alert| Alert {
            scope: a.scope.map(Into::into),
            budget: a.budget.name().to_owned(),
            percent: a.percent,
            at: a.at.into(),
        };
        Budget {
            spent: run.ledger.spent.into(),
            reserved: reserved.into(),
            limits: run.limits.into(),
            attempts: run.counted_attempts() as u64,
            shared: run.settings.policy.shared.into(),
            alerts: run.alerts.iter().map(alert).collect(),
        }
    }
}

words! {
    /// Attribute by which spending is summed up.
    SpendingBy = ledger::SpendingBy {
        /// By project.
        Project = "project",
        /// By role.
        Role = "role",
        /// By model.
        Model = "model",
        /// By UTC day.
        Day = "day",
        /// By run.
        Run = "run",
    }
}

/// Sum of what attempts cost. Checks are not included.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Spending {
    /// Project, role, model, day (`2026-11-21`) or run.
    #[schema(example = "reviewer")]
    pub key: String,
    /// Tokens used.
    pub tokens: u64,
    /// Micro-USD.
    pub cost_micros: u64,
    /// Model calls.
    pub turns: u64,
    /// Milliseconds. By model: of attempts whose engine named the model, or that started with it.
    pub wall_ms: u64,
    /// Tokens reserved for running attempts.
    pub reserved_tokens: u64,
    /// Micro-USD reserved for running attempts.
    pub reserved_cost_micros: u64,
    /// Attempts.
    pub attempts: u64,
    /// Rounds of rework they took part in.
    pub rounds: u64,
    /// By model: attempts charged their full reservation because the model's price is unknown.
    pub unpriced: u64,
}

impl From<ledger::Spending> for Spending {
    fn from(sum: ledger::Spending) -> Spending {
        Spending {
            key: sum.key,
            tokens: sum.tokens,
            cost_micros: sum.cost_micros,
            turns: sum.turns,
            wall_ms: sum.wall_ms,
            reserved_tokens: sum.reserved_tokens,
            reserved_cost_micros: sum.reserved_cost_micros,
            attempts: sum.attempts,
            rounds: sum.rounds,
            unpriced: sum.unpriced,
        }
    }
}

/// Amounts to add to a budget that runs share.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"scope": "project", "project": "tally", "cost_micros": 5_000_000}))]
#[serde(deny_unknown_fields)]
pub struct RaiseShared {
    /// `project`, or `day` for the current UTC day.
    #[schema(example = "day")]
    pub scope: BudgetScope,
    /// Project, for `project`.
    #[serde(default)]
    pub project: Option<String>,
    /// Tokens.
    #[serde(default)]
    pub tokens: u64,
    /// Micro-USD.
    #[serde(default)]
    pub cost_micros: u64,
}

/// Result of raising a shared budget.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Raised {
    /// Runs that were blocked by the budget and now continue.
    pub resumed: Vec<String>,
}
