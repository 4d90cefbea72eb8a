//! The ledger of a run: amounts are reserved before an attempt and settled after it. Spending never exceeds a limit by
//! more than the calls in flight.

pub mod ledger_row;
pub mod requested_limits;
pub mod shared_budget;

use crate::domain::id::{AttemptId, Timestamp};
use crate::domain::policy::StepLimits;
use serde::{Deserialize, Serialize};
use shared_budget::BudgetScope;
use std::collections::BTreeMap;

/// Quantity that a budget limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetKind {
    /// Tokens, in and out.
    Tokens,
    /// Cost in micro-USD.
    Cost,
    /// Model calls.
    Turns,
    /// Wall time of attempts and checks.
    Time,
    /// Wall time of one attempt at a step.
    StepTime,
    /// Attempts of all roles.
    Attempts,
    /// Rounds of rework.
    Rounds,
}

impl BudgetKind {
    /// Returns the name used in commands, JSON and logs.
    pub fn name(self) -> &'static str {
        match self {
            BudgetKind::Tokens => "tokens",
            BudgetKind::Cost => "cost",
            BudgetKind::Turns => "turns",
            BudgetKind::Time => "time",
            BudgetKind::StepTime => "step",
            BudgetKind::Attempts => "attempts",
            BudgetKind::Rounds => "rounds",
        }
    }
}

/// Upper bound on an amount of tokens, micro-USD, calls or milliseconds. Nine million of them still add up in the 64 bits
/// of a database.
pub const MAX_AMOUNT: u64 = 1_000_000_000_000;

impl BudgetKind {
    /// Returns the largest amount that may be asked for: seconds of time, micro-USD of cost. More is a mistake.
    pub fn maximum(self) -> u64 {
        match self {
            BudgetKind::Tokens | BudgetKind::Cost | BudgetKind::Turns => MAX_AMOUNT,
            BudgetKind::Time | BudgetKind::StepTime => 30 * 24 * 3_600,
            BudgetKind::Attempts => 10_000,
            BudgetKind::Rounds => 100,
        }
    }
}

/// Limits of a whole run. A round is one return to work after a review by the reviewer or a person, red checks at the
/// head, red CI, or a conflict with the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Tokens; `None` = unlimited (engines without a model use none).
    pub tokens: Option<u64>,
    /// Cost in micro-USD; `None` = unlimited.
    pub cost_micros: Option<u64>,
    /// Model calls; `None` = unlimited.
    pub turns: Option<u64>,
    /// Sum of the wall time of attempts and checks, in seconds. Waiting for people is free.
    pub timeout_secs: u64,
    /// Rounds of rework before a person is asked.
    pub rounds: u32,
    /// Attempts of all roles together.
    pub attempts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tokens: None, cost_micros: None, turns: None, timeout_secs: 4 * 3600, rounds: 3, attempts: 64 }
    }
}

/// An amount used or reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens, in and out.
    pub tokens: u64,
    /// Micro-USD.
    pub cost_micros: u64,
    /// Milliseconds of wall time.
    pub wall_ms: u64,
    /// Model calls. In a reservation this is the upper bound, where 0 = unlimited.
    #[serde(default)]
    pub turns: u64,
}

/// Usage of one model in an attempt, as read from the wire. `input` includes `cached`; `output` includes `reasoning`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUse {
    /// The model, as `provider/name`.
    pub model: String,
    /// Calls answered (or paid for).
    pub calls: u64,
    /// Tokens sent.
    pub input: u64,
    /// Tokens of `input` read from the provider's cache.
    #[serde(default)]
    pub cached: u64,
    /// Tokens of `input` written to the provider's cache.
    #[serde(default)]
    pub cache_written: u64,
    /// Tokens received.
    pub output: u64,
    /// Tokens of `output` spent on reasoning.
    #[serde(default)]
    pub reasoning: u64,
    /// Micro-USD; meaningless unless `priced`.
    pub cost_micros: u64,
    /// Whether the price was known. If not, the cost is unknown, never zero.
    pub priced: bool,
}

/// Usage metered while an attempt's calls were made. It is stored apart from the attempt, which may die before it can
/// report. Calls still in flight are included at their worst case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metered {
    /// Total without wall time.
    pub used: Usage,
    /// The same by model.
    #[serde(default)]
    pub usage_by_model: Vec<ModelUse>,
}

impl ModelUse {
    /// Upper bound on the models recorded per attempt.
    pub const MAX_MODELS: usize = 16;
    /// Upper bound on a plausible amount; a larger one is a false report or a defect.
    const MAX_AMOUNT: u64 = 10_000_000_000;

    /// Returns the usage as it is stored: bounded in length, texts and amounts. Usage of models beyond the bound is
    /// still part of the attempt's total.
    pub fn bounded(usage_by_model: &[ModelUse]) -> Vec<ModelUse> {
        let amount = |n: u64| n.min(Self::MAX_AMOUNT);
        let name = |text: &str| text.chars().filter(|c| !c.is_control()).take(120).collect::<String>();
        let one = |m: &ModelUse| ModelUse {
            model: name(&m.model),
            calls: amount(m.calls),
            input: amount(m.input),
            cached: amount(m.cached),
            cache_written: amount(m.cache_written),
            output: amount(m.output),
            reasoning: amount(m.reasoning),
            cost_micros: if m.priced { amount(m.cost_micros) } else { 0 },
            priced: m.priced,
        };
        usage_by_model.iter().take(Self::MAX_MODELS).map(one).collect()
    }
}

impl Usage {
    /// Returns the sum over all models, without wall time. A model without a price adds nothing to the cost.
    pub fn of_models(usage_by_model: &[ModelUse]) -> Usage {
        usage_by_model.iter().fold(Usage::default(), |sum, m| {
            sum.plus(Usage {
                tokens: m.input.saturating_add(m.output),
                cost_micros: if m.priced { m.cost_micros } else { 0 },
                wall_ms: 0,
                turns: m.calls,
            })
        })
    }

    /// Returns the difference, or `None` if `o` is larger in any field.
    pub fn less(self, o: Usage) -> Option<Usage> {
        Some(Usage {
            tokens: self.tokens.checked_sub(o.tokens)?,
            cost_micros: self.cost_micros.checked_sub(o.cost_micros)?,
            wall_ms: self.wall_ms.checked_sub(o.wall_ms)?,
            turns: self.turns.checked_sub(o.turns)?,
        })
    }

    /// Returns the larger value of each field.
    pub fn max(self, o: Usage) -> Usage {
        Usage {
            tokens: self.tokens.max(o.tokens),
            cost_micros: self.cost_micros.max(o.cost_micros),
            wall_ms: self.wall_ms.max(o.wall_ms),
            turns: self.turns.max(o.turns),
        }
    }

    /// Returns whether the amount exceeds what a single attempt can use (ten billion tokens, ten thousand dollars).
    /// Such a report is false or a defect and counts as no report.
    pub fn is_absurd(&self) -> bool {
        let max = ModelUse::MAX_AMOUNT;
        self.tokens > max || self.cost_micros > max || self.turns > max
    }

    /// Returns the sum. It saturates, so that a false report cannot overflow the ledger.
    pub fn plus(self, o: Usage) -> Usage {
        Usage {
            tokens: self.tokens.saturating_add(o.tokens),
            cost_micros: self.cost_micros.saturating_add(o.cost_micros),
            wall_ms: self.wall_ms.saturating_add(o.wall_ms),
            turns: self.turns.saturating_add(o.turns),
        }
    }
}

/// Additional budget granted by a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raise {
    /// Additional tokens.
    pub tokens: u64,
    /// Additional micro-USD.
    pub cost_micros: u64,
    /// Additional model calls.
    pub turns: u64,
    /// Additional seconds of wall time.
    pub time_secs: u64,
    /// Additional rounds.
    pub rounds: u32,
    /// Additional attempts.
    pub attempts: u32,
    /// Additional seconds for each attempt at the step that ran out of time.
    #[serde(skip_serializing_if = "is_zero")]
    pub step_secs: u64,
}

impl Raise {
    /// Returns the amounts added: micro-USD for the cost, seconds for times.
    pub fn amounts(&self) -> [(BudgetKind, u64); 7] {
        [
            (BudgetKind::Tokens, self.tokens),
            (BudgetKind::Cost, self.cost_micros),
            (BudgetKind::Turns, self.turns),
            (BudgetKind::Time, self.time_secs),
            (BudgetKind::Rounds, u64::from(self.rounds)),
            (BudgetKind::Attempts, u64::from(self.attempts)),
            (BudgetKind::StepTime, self.step_secs),
        ]
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Limits {
    /// Returns these limits plus `r`.
    pub fn raised(self, r: &Raise) -> Limits {
        Limits {
            tokens: self.tokens.map(|t| t.saturating_add(r.tokens)),
            cost_micros: self.cost_micros.map(|c| c.saturating_add(r.cost_micros)),
            turns: self.turns.map(|t| t.saturating_add(r.turns)),
            timeout_secs: self.timeout_secs.saturating_add(r.time_secs),
            rounds: self.rounds.saturating_add(r.rounds),
            attempts: self.attempts.saturating_add(r.attempts),
        }
    }
}

/// An alert that people were notified of: a budget reached one of the policy's thresholds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Scope of a shared budget; `None` = the run's own budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<BudgetScope>,
    /// What the budget limits.
    pub budget: BudgetKind,
    /// The threshold that was reached, in percent.
    pub percent: u8,
    /// When it was reached.
    pub at: Timestamp,
}

impl Alert {
    /// Upper bound on a policy's thresholds.
    const MAX_THRESHOLDS: usize = 8;

    /// Returns the highest threshold that `used` has reached of `limit`.
    pub fn reached(thresholds: &[u8], used: u64, limit: u64) -> Option<u8> {
        let percent = u128::from(used) * 100;
        let usable = thresholds.iter().take(Self::MAX_THRESHOLDS).filter(|t| **t > 0);
        usable.copied().filter(|t| limit > 0 && percent >= u128::from(limit) * u128::from(*t)).max()
    }

    /// Returns whether the alert is about this budget.
    pub fn is_of(&self, scope: Option<BudgetScope>, budget: BudgetKind) -> bool {
        (self.scope, self.budget) == (scope, budget)
    }
}

/// Spending and reservations of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Settled usage.
    pub spent: Usage,
    /// Reservations by attempt.
    pub reserved: BTreeMap<AttemptId, Usage>,
}

impl Ledger {
    /// Returns settled usage plus all reservations.
    pub fn committed(&self) -> Usage {
        self.reserved.values().fold(self.spent, |sum, r| sum.plus(*r))
    }

    /// Returns the worst case an attempt at `step` may cost within `limits`.
    ///
    /// The grant is the step's own limit cut to the remaining budget, so that the attempt's order carries a cap that
    /// holds the run inside its limits. In a grant 0 means "unlimited", so a limited amount is never granted as 0: an
    /// exhausted budget is an error, and a step's own limit of 0 is granted as 1.
    ///
    /// # Errors
    ///
    /// Returns the budget that is exhausted.
    pub fn grant(&self, step: &StepLimits, limits: &Limits) -> Result<Usage, BudgetKind> {
        let used = self.committed();
        let left_ms = (limits.timeout_secs.saturating_mul(1000)).saturating_sub(used.wall_ms);
        if left_ms == 0 {
            return Err(BudgetKind::Time);
        }
        let cut = |limit: Option<u64>, used: u64, step: Option<u64>, kind| match limit {
            None => Ok(step.map_or(0, |s| s.max(1))),
            Some(limit) => match limit.saturating_sub(used) {
                0 => Err(kind),
                left => Ok(step.unwrap_or(left).clamp(1, left)),
            },
        };
        Ok(Usage {
            tokens: cut(limits.tokens, used.tokens, step.tokens, BudgetKind::Tokens)?,
            cost_micros: cut(limits.cost_micros, used.cost_micros, step.cost_micros, BudgetKind::Cost)?,
            wall_ms: step.timeout_secs.saturating_mul(1000).min(left_ms),
            turns: cut(limits.turns, used.turns, step.turns, BudgetKind::Turns)?,
        })
    }

    /// Returns the settled usage and the limit of each limited budget.
    pub fn levels(&self, limits: &Limits) -> Vec<(BudgetKind, u64, u64)> {
        let all = [
            (BudgetKind::Tokens, self.spent.tokens, limits.tokens),
            (BudgetKind::Cost, self.spent.cost_micros, limits.cost_micros),
            (BudgetKind::Turns, self.spent.turns, limits.turns),
            (BudgetKind::Time, self.spent.wall_ms, Some(limits.timeout_secs.saturating_mul(1000))),
        ];
        all.into_iter().filter_map(|(kind, used, limit)| Some((kind, used, limit?))).collect()
    }

    /// Reserves `amount` for an attempt.
    pub fn reserve(&mut self, attempt: AttemptId, amount: Usage) {
        self.reserved.insert(attempt, amount);
    }

    /// Turns a reservation into spending: the reported usage, or the whole reservation if there was no report.
    pub fn settle(&mut self, attempt: AttemptId, usage: Option<Usage>) -> Usage {
        let Some(reserved) = self.reserved.remove(&attempt) else { return Usage::default() };
        let amount = usage.unwrap_or(reserved);
        self.spent = self.spent.plus(amount);
        amount
    }
}
