//! The ledger: set aside before, settled after. What is spent never passes a limit by more than the calls in flight.

use super::id::AttemptId;
use super::policy::StepLimits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Limits of a whole run. Rounds are goings-back after review, red checks at the head, or CI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Tokens; `None` = not limited (engines without a model use none).
    pub tokens: Option<u64>,
    /// Cost in micro-USD; `None` = not limited.
    pub cost_micros: Option<u64>,
    /// Calls of models; `None` = not limited.
    pub turns: Option<u64>,
    /// Wall time of attempts and checks added up, in seconds. Waiting for people costs nothing.
    pub wall_secs: u64,
    /// Rounds of rework before a person is asked.
    pub rounds: u32,
    /// Attempts of all roles together.
    pub attempts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tokens: None, cost_micros: None, turns: None, wall_secs: 4 * 3600, rounds: 3, attempts: 64 }
    }
}

/// An amount used or set aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens, in and out.
    pub tokens: u64,
    /// Micro-USD.
    pub cost_micros: u64,
    /// Milliseconds of wall time.
    pub wall_ms: u64,
    /// Calls of a model. In a reservation: the most there may be, 0 = not limited.
    #[serde(default)]
    pub turns: u64,
}

/// What one model was used for in an attempt, as read from the wire. `input` contains `cached`, `output` contains `reasoning`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUse {
    /// The model, as `provider/name`.
    pub model: String,
    /// Calls answered (or paid for).
    pub calls: u64,
    /// Tokens sent.
    pub input: u64,
    /// Of these, read from the provider's cache.
    #[serde(default)]
    pub cached: u64,
    /// Of these, written to the provider's cache.
    #[serde(default)]
    pub cache_written: u64,
    /// Tokens received.
    pub output: u64,
    /// Of these, spent on reasoning.
    #[serde(default)]
    pub reasoning: u64,
    /// Micro-USD; meaningless unless `priced`.
    pub cost_micros: u64,
    /// Whether the price was known. When it was not, the cost is unknown, never zero.
    pub priced: bool,
}

/// What was counted of an attempt's calls as they were made: kept apart from the attempt, which may not live to tell it. Calls that were under
/// way are in it at their worst.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metered {
    /// Everything, time apart.
    pub used: Usage,
    /// By model.
    #[serde(default)]
    pub bill: Vec<ModelUse>,
}

impl ModelUse {
    /// The most models an attempt's bill keeps.
    pub const MOST: usize = 16;
    /// More of anything on a bill's line is a lie.
    const AMOUNT_MAX: u64 = 10_000_000_000;

    /// A bill as it is kept: bounded in length, texts and amounts. What a line too many used is in the usage all the same.
    pub fn bounded(bill: &[ModelUse]) -> Vec<ModelUse> {
        let amount = |n: u64| n.min(Self::AMOUNT_MAX);
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
        bill.iter().take(Self::MOST).map(one).collect()
    }
}

impl Usage {
    /// What a bill adds up to, time apart. A line without a price adds nothing to the cost.
    pub fn billed(bill: &[ModelUse]) -> Usage {
        bill.iter().fold(Usage::default(), |sum, m| {
            sum.plus(Usage {
                tokens: m.input.saturating_add(m.output),
                cost_micros: if m.priced { m.cost_micros } else { 0 },
                wall_ms: 0,
                turns: m.calls,
            })
        })
    }

    /// What is left of it without `o`; `None` where `o` has more of anything.
    pub fn less(self, o: Usage) -> Option<Usage> {
        Some(Usage {
            tokens: self.tokens.checked_sub(o.tokens)?,
            cost_micros: self.cost_micros.checked_sub(o.cost_micros)?,
            wall_ms: self.wall_ms.checked_sub(o.wall_ms)?,
            turns: self.turns.checked_sub(o.turns)?,
        })
    }

    /// The larger of each.
    pub fn max(self, o: Usage) -> Usage {
        Usage {
            tokens: self.tokens.max(o.tokens),
            cost_micros: self.cost_micros.max(o.cost_micros),
            wall_ms: self.wall_ms.max(o.wall_ms),
            turns: self.turns.max(o.turns),
        }
    }

    /// Whether no single attempt can have used this much (ten billion tokens, ten thousand dollars): a lie or a defect, which is
    /// worth as much as no word at all.
    pub fn is_absurd(&self) -> bool {
        let most = ModelUse::AMOUNT_MAX;
        self.tokens > most || self.cost_micros > most || self.turns > most
    }

    /// The sum, saturating: a lying engine must not wrap the ledger round.
    pub fn plus(self, o: Usage) -> Usage {
        Usage {
            tokens: self.tokens.saturating_add(o.tokens),
            cost_micros: self.cost_micros.saturating_add(o.cost_micros),
            wall_ms: self.wall_ms.saturating_add(o.wall_ms),
            turns: self.turns.saturating_add(o.turns),
        }
    }
}

/// More of something, given by a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raise {
    /// More tokens.
    pub tokens: u64,
    /// More micro-USD.
    pub cost_micros: u64,
    /// More calls of models.
    pub turns: u64,
    /// More seconds of wall time.
    pub wall_secs: u64,
    /// More rounds.
    pub rounds: u32,
    /// More attempts.
    pub attempts: u32,
}

impl Limits {
    /// These limits, raised.
    pub fn raised(self, r: &Raise) -> Limits {
        Limits {
            tokens: self.tokens.map(|t| t.saturating_add(r.tokens)),
            cost_micros: self.cost_micros.map(|c| c.saturating_add(r.cost_micros)),
            turns: self.turns.map(|t| t.saturating_add(r.turns)),
            wall_secs: self.wall_secs.saturating_add(r.wall_secs),
            rounds: self.rounds.saturating_add(r.rounds),
            attempts: self.attempts.saturating_add(r.attempts),
        }
    }
}

/// Something people were told of a budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Of which (`tokens`, `money`, `turns`, `wall time`, `day budget: money`, …).
    pub what: String,
    /// The share that was reached, in percent.
    pub share: u8,
    /// When.
    pub at: super::id::Timestamp,
}

impl Alert {
    /// The most shares of a policy that are told.
    const SHARES_MOST: usize = 8;

    /// The highest of the policy's shares that `used` has reached of `limit`.
    pub fn reached(shares: &[u8], used: u64, limit: u64) -> Option<u8> {
        let percent = u128::from(used) * 100;
        let told = shares.iter().take(Self::SHARES_MOST).filter(|s| **s > 0);
        told.copied().filter(|s| limit > 0 && percent >= u128::from(limit) * u128::from(*s)).max()
    }
}

/// What a run has spent and set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Settled.
    pub spent: Usage,
    /// Set aside, by attempt.
    pub reserved: BTreeMap<AttemptId, Usage>,
}

impl Ledger {
    /// Spent and set aside together.
    pub fn committed(&self) -> Usage {
        self.reserved.values().fold(self.spent, |sum, r| sum.plus(*r))
    }

    /// The worst case an attempt at `step` may cost within `limits`, or what ran out.
    ///
    /// The grant is the step's own limit cut to what is left, so that the attempt's order carries a cap that keeps the
    /// run inside its limit. In a grant 0 means "not limited", so what is limited is never granted as 0: a limited amount that is
    /// used up refuses, and a step's own limit of 0 is granted as the least there is.
    pub fn grant(&self, step: &StepLimits, limits: &Limits) -> Result<Usage, &'static str> {
        let used = self.committed();
        let left_ms = (limits.wall_secs.saturating_mul(1000)).saturating_sub(used.wall_ms);
        if left_ms == 0 {
            return Err("wall time");
        }
        let cut = |limit: Option<u64>, used: u64, step: Option<u64>, what| match limit {
            None => Ok(step.map_or(0, |s| s.max(1))),
            Some(limit) => match limit.saturating_sub(used) {
                0 => Err(what),
                left => Ok(step.unwrap_or(left).clamp(1, left)),
            },
        };
        Ok(Usage {
            tokens: cut(limits.tokens, used.tokens, step.tokens, "tokens")?,
            cost_micros: cut(limits.cost_micros, used.cost_micros, step.cost_micros, "money")?,
            wall_ms: step.wall_secs.saturating_mul(1000).min(left_ms),
            turns: cut(limits.turns, used.turns, step.turns, "turns")?,
        })
    }

    /// What is spent of each limited thing, and its limit.
    pub fn levels(&self, limits: &Limits) -> Vec<(&'static str, u64, u64)> {
        let wall = ("wall time", self.spent.wall_ms, Some(limits.wall_secs.saturating_mul(1000)));
        let all = [
            ("tokens", self.spent.tokens, limits.tokens),
            ("money", self.spent.cost_micros, limits.cost_micros),
            ("turns", self.spent.turns, limits.turns),
            wall,
        ];
        all.into_iter().filter_map(|(what, used, limit)| Some((what, used, limit?))).collect()
    }

    /// Sets `amount` aside for an attempt.
    pub fn reserve(&mut self, attempt: AttemptId, amount: Usage) {
        self.reserved.insert(attempt, amount);
    }

    /// Turns a reservation into spending: the usage reported, or all of it when none was.
    pub fn settle(&mut self, attempt: AttemptId, usage: Option<Usage>) -> Usage {
        let Some(reserved) = self.reserved.remove(&attempt) else { return Usage::default() };
        let amount = usage.unwrap_or(reserved);
        self.spent = self.spent.plus(amount);
        amount
    }
}
