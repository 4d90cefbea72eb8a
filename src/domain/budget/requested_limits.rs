//! Limits that a person asks for when a run starts, or gives it later, in place of those it has.

use super::{BudgetKind, Limits};
use serde::{Deserialize, Serialize};

/// Limits asked for; `None` = not asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestedLimits {
    /// Tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Cost in micro-USD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    /// Model calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
    /// Seconds of wall time of attempts and checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_secs: Option<u64>,
    /// Rounds of rework; 0 = a person is asked before the first.
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

    /// Returns the amounts asked for: micro-USD for the cost, seconds for the time.
    pub fn amounts(&self) -> Vec<(BudgetKind, u64)> {
        let RequestedLimits { tokens, cost_micros, turns, timeout_secs, rounds, attempts } = *self;
        let all = [
            (BudgetKind::Tokens, tokens),
            (BudgetKind::Cost, cost_micros),
            (BudgetKind::Turns, turns),
            (BudgetKind::Time, timeout_secs),
            (BudgetKind::Rounds, rounds.map(u64::from)),
            (BudgetKind::Attempts, attempts.map(u64::from)),
        ];
        all.into_iter().filter_map(|(kind, amount)| Some((kind, amount?))).collect()
    }

    /// Returns `own` with the limits asked for in place of its own.
    pub fn over(&self, own: Limits) -> Limits {
        Limits {
            tokens: self.tokens.or(own.tokens),
            cost_micros: self.cost_micros.or(own.cost_micros),
            turns: self.turns.or(own.turns),
            timeout_secs: self.timeout_secs.unwrap_or(own.timeout_secs),
            rounds: self.rounds.unwrap_or(own.rounds),
            attempts: self.attempts.unwrap_or(own.attempts),
        }
    }

    /// Returns these requests, and those of `earlier` where these name nothing.
    pub fn or(&self, earlier: RequestedLimits) -> RequestedLimits {
        RequestedLimits {
            tokens: self.tokens.or(earlier.tokens),
            cost_micros: self.cost_micros.or(earlier.cost_micros),
            turns: self.turns.or(earlier.turns),
            timeout_secs: self.timeout_secs.or(earlier.timeout_secs),
            rounds: self.rounds.or(earlier.rounds),
            attempts: self.attempts.or(earlier.attempts),
        }
    }

    /// Returns the first limit that exceeds the one in `own`.
    pub fn exceeding(&self, own: &Limits) -> Option<BudgetKind> {
        let is_more = |(kind, amount): &(BudgetKind, u64)| own.of(*kind).is_some_and(|limit| *amount > limit);
        self.amounts().into_iter().find(is_more).map(|(kind, _)| kind)
    }

    /// Returns a limit of zero that would leave a run without anything to work with.
    pub fn unusable(&self) -> Option<BudgetKind> {
        let is_zero = |(kind, amount): &(BudgetKind, u64)| *amount == 0 && *kind != BudgetKind::Rounds;
        self.amounts().into_iter().find(is_zero).map(|(kind, _)| kind)
    }
}

impl Limits {
    /// Returns the limit of a budget of a whole run, in the units of [`RequestedLimits::amounts`]; `None` = unlimited.
    pub fn of(&self, kind: BudgetKind) -> Option<u64> {
        match kind {
            BudgetKind::Tokens => self.tokens,
            BudgetKind::Cost => self.cost_micros,
            BudgetKind::Turns => self.turns,
            BudgetKind::Time => Some(self.timeout_secs),
            BudgetKind::Rounds => Some(self.rounds.into()),
            BudgetKind::Attempts => Some(self.attempts.into()),
            BudgetKind::StepTime => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_asked_for_replace_only_their_own() {
        let own = Limits { tokens: Some(100), rounds: 3, ..Limits::default() };
        let asked = RequestedLimits { rounds: Some(0), cost_micros: Some(5), ..RequestedLimits::default() };
        assert_eq!(asked.over(own), Limits { cost_micros: Some(5), rounds: 0, ..own });
        let earlier = RequestedLimits { rounds: Some(9), attempts: Some(4), ..RequestedLimits::default() };
        assert_eq!(asked.or(earlier), RequestedLimits { attempts: Some(4), ..asked });
    }

    #[test]
    fn only_a_limit_above_an_existing_one_exceeds_it() {
        let own = Limits { tokens: Some(100), ..Limits::default() };
        let tokens = |n| RequestedLimits { tokens: Some(n), cost_micros: Some(1), ..RequestedLimits::default() };
        assert_eq!((tokens(100).exceeding(&own), tokens(101).exceeding(&own)), (None, Some(BudgetKind::Tokens)));
        assert_eq!(tokens(0).unusable(), Some(BudgetKind::Tokens));
        let rounds = RequestedLimits { rounds: Some(0), ..RequestedLimits::default() };
        assert_eq!(rounds.unusable(), None, "no rework at all is a rule that a person may want");
    }
}
