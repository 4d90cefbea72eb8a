//! The ledger row of an attempt: written with its reservation, replaced when it is settled, never counted twice.

use super::{ModelUse, Usage};
use crate::domain::id::{AttemptId, Timestamp};
use crate::domain::order::{EngineSpec, Role};
use crate::domain::run::Run;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A UTC day, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub i64);

const DAY_MS: i64 = 24 * 3_600_000;

impl Day {
    /// Returns the day of a moment.
    pub fn of(at: Timestamp) -> Day {
        Day(at.0.div_euclid(DAY_MS))
    }
    /// Returns the first moment after the day.
    pub fn end(self) -> Timestamp {
        Timestamp(self.0.saturating_add(1).saturating_mul(DAY_MS))
    }
}

/// The calendar date: `2026-11-21`.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Counts in years that begin in March, so that the leap day comes last; year 0 began 719468 days before 1970.
        let days = self.0.clamp(-719_468, 2_932_896) + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day_of_month = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        write!(f, "{:04}-{month:02}-{day_of_month:02}", year + era * 400 + i64::from(month <= 2))
    }
}

/// Ledger row of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// The attempt.
    pub attempt: AttemptId,
    /// The role that does it.
    pub role: Role,
    /// The engine's display name ([`EngineSpec::named`]).
    pub engine: String,
    /// Rounds of rework before the attempt.
    pub round: u32,
    /// The reservation, or the usage once `settled`.
    pub amount: Usage,
    /// Whether the attempt has ended, so that `amount` is what was used.
    pub settled: bool,
    /// Usage by model.
    pub usage_by_model: Vec<ModelUse>,
    /// Digest of the prompt the attempt was given, if any.
    pub prompt_digest: Option<String>,
    /// The day that is charged: the day the attempt was ordered.
    pub day: Day,
    /// When the row was written.
    pub at: Timestamp,
}

impl LedgerRow {
    /// Returns the current row of an attempt.
    pub fn of(run: &Run, id: AttemptId, at: Timestamp) -> Option<LedgerRow> {
        let attempt = run.attempt(id)?;
        let ended = attempt.ended.as_ref();
        Some(LedgerRow {
            attempt: id,
            role: attempt.step.role(),
            engine: EngineSpec::parse(&attempt.engine).named(),
            round: attempt.round,
            amount: ended.map_or(attempt.reserved, |e| e.charged),
            settled: ended.is_some(),
            usage_by_model: ended.map(|e| e.usage_by_model.clone()).unwrap_or_default(),
            prompt_digest: attempt.prompt_digest.clone(),
            day: Day::of(attempt.started_at),
            at,
        })
    }

    /// Returns the row broken down by model; the parts add up to it exactly. A reservation belongs to the model the
    /// engine names. Usage without a named model (time, and charges for unknown usage) goes to a model with an unknown
    /// price, else to the engine's own model, else to the first one reported.
    pub fn parts(&self) -> Vec<LedgerPart> {
        let spec = EngineSpec::parse(&self.engine);
        let whole = |model: &str| LedgerPart { model: model.to_owned(), amount: self.amount, priced: true };
        if !self.settled {
            return vec![whole(spec.model().unwrap_or(LedgerPart::UNNAMED))];
        }
        let part = |m: &ModelUse| LedgerPart {
            model: m.model.clone(),
            amount: Usage::of_models(std::slice::from_ref(m)),
            priced: m.priced,
        };
        let mut parts: Vec<LedgerPart> = self.usage_by_model.iter().map(part).collect();
        let Some(remainder) = self.amount.less(Usage::of_models(&self.usage_by_model)) else {
            // The models add up to more than was charged, so their report was rejected.
            return vec![whole(spec.model().unwrap_or(&self.engine))];
        };
        let unpriced = parts.iter().position(|p| !p.priced);
        let own = parts.iter().position(|p| Some(p.model.as_str()) == spec.model());
        match parts.get_mut(unpriced.or(own).unwrap_or(0)) {
            Some(part) => part.amount = part.amount.plus(remainder),
            None => parts.push(whole(spec.model().unwrap_or(&self.engine))),
        }
        parts
    }
}

/// One model's part of a ledger row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerPart {
    /// The model as `provider/name`, or the engine where no model was named.
    pub model: String,
    /// Reserved or used amount.
    #[serde(flatten)]
    pub amount: Usage,
    /// Whether the model's price was known.
    pub priced: bool,
}

impl LedgerPart {
    /// Model of a reservation whose engine names none.
    pub const UNNAMED: &str = "not known yet";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts_of(
        engine: &str,
        settled: bool,
        amount: (u64, u64, u64),
        reported: &[(&str, u64, u64, bool)],
    ) -> Vec<(String, u64, u64, u64)> {
        let models = reported.iter().map(|(model, input, cost_micros, priced)| ModelUse {
            model: (*model).to_owned(),
            calls: 1,
            input: *input,
            cost_micros: *cost_micros,
            priced: *priced,
            ..ModelUse::default()
        });
        let row = LedgerRow {
            attempt: AttemptId(1),
            role: Role::Dev,
            engine: engine.to_owned(),
            round: 0,
            amount: Usage { tokens: amount.0, cost_micros: amount.1, wall_ms: amount.2, turns: 9 },
            settled,
            usage_by_model: models.collect(),
            prompt_digest: None,
            day: Day(1),
            at: Timestamp(1),
        };
        let parts = row.parts();
        let sum = parts.iter().fold(Usage::default(), |sum, p| sum.plus(p.amount));
        assert_eq!(sum, row.amount, "parts add up to the row");
        parts.into_iter().map(|p| (p.model, p.amount.tokens, p.amount.cost_micros, p.amount.wall_ms)).collect()
    }

    #[test]
    fn parts_add_up_to_the_row() {
        let one = |model: &str, tokens, cost, wall| vec![(model.to_owned(), tokens, cost, wall)];
        assert_eq!(parts_of("llm:a/b", false, (10, 20, 30), &[]), one("a/b", 10, 20, 30));
        assert_eq!(parts_of("acp:robot/b", false, (10, 20, 30), &[]), one("robot/b", 10, 20, 30));
        for nameless in ["acp:robot", "llm:a", "llm:a/", "command", "direct"] {
            assert_eq!(parts_of(nameless, false, (10, 20, 30), &[]), one("not known yet", 10, 20, 30));
        }
        assert_eq!(parts_of("command", true, (10, 20, 30), &[]), one("command", 10, 20, 30));
        assert_eq!(parts_of("llm:a/b", true, (10, 20, 30), &[]), one("a/b", 10, 20, 30), "lost without a report");
        let two = [("a/x", 4, 8, true), ("a/b", 5, 1, true)];
        let (x, b) = (("a/x".to_owned(), 4, 8, 0), ("a/b".to_owned(), 6, 12, 30));
        assert_eq!(
            parts_of("llm:a/b", true, (10, 20, 30), &two),
            [x, b],
            "the remainder goes to the engine's own model"
        );
        let two = [("a/b", 5, 1, true), ("a/new", 5, 0, false)];
        let (b, new) = (("a/b".to_owned(), 5, 1, 0), ("a/new".to_owned(), 5, 19, 30));
        assert_eq!(
            parts_of("llm:a/b", true, (10, 20, 30), &two),
            [b, new],
            "the remainder goes to the model without a price"
        );
        let lie = [("a/x", 4_000, 8, true)];
        assert_eq!(parts_of("cli:robot", true, (10, 20, 30), &lie), one("cli:robot", 10, 20, 30));
    }
}
