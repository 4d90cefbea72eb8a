//! What the books show of an attempt: set aside when it starts, settled when it ends. One line each, rewritten, never added twice.

use super::budget::{ModelUse, Usage};
use super::id::{AttemptId, Timestamp};
use super::order::{EngineSpec, Role};
use super::run::Run;
use serde::{Deserialize, Serialize};

/// A UTC day, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub i64);

const DAY_MS: i64 = 24 * 3_600_000;

impl Day {
    /// The day of a moment.
    pub fn of(at: Timestamp) -> Day {
        Day(at.0.div_euclid(DAY_MS))
    }
    /// The first moment after it.
    pub fn end(self) -> Timestamp {
        Timestamp(self.0.saturating_add(1).saturating_mul(DAY_MS))
    }
}

/// A line of the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The attempt.
    pub attempt: AttemptId,
    /// Who did it.
    pub role: Role,
    /// The engine, as people call it.
    pub engine: String,
    /// Rounds of rework before it.
    pub round: u32,
    /// Set aside, or used.
    pub amount: Usage,
    /// Whether it is over: `amount` is what was used.
    pub settled: bool,
    /// Which models that was.
    pub models: Vec<ModelUse>,
    /// The day it is charged to: the one it was ordered on.
    pub day: Day,
    /// When the line was written.
    pub at: Timestamp,
}

impl Charge {
    /// The line of a run's attempt as it is now.
    pub fn of(run: &Run, id: AttemptId, at: Timestamp) -> Option<Charge> {
        let attempt = run.attempt(id)?;
        let ended = attempt.ended.as_ref();
        Some(Charge {
            attempt: id,
            role: attempt.step.role(),
            engine: EngineSpec::parse(&attempt.engine).named(),
            round: attempt.round,
            amount: ended.map_or(attempt.reserved, |e| e.charged),
            settled: ended.is_some(),
            models: ended.map(|e| e.bill.clone()).unwrap_or_default(),
            day: Day::of(attempt.started_at),
            at,
        })
    }

    /// What each model has of the line; the parts add up to it exactly. What is set aside is the model's the engine names. Of what was
    /// used, what no model was named for (time, and what was charged because nobody knows better) goes with a model whose price is not
    /// known, else with the engine's own, else with the first on the bill.
    pub fn parts(&self) -> Vec<Part> {
        let spec = EngineSpec::parse(&self.engine);
        let whole = |model: &str| Part { model: model.to_owned(), amount: self.amount, priced: true };
        if !self.settled {
            return vec![whole(spec.model().unwrap_or(Part::NOT_KNOWN))];
        }
        let part = |m: &ModelUse| Part {
            model: m.model.clone(),
            amount: Usage::billed(std::slice::from_ref(m)),
            priced: m.priced,
        };
        let mut parts: Vec<Part> = self.models.iter().map(part).collect();
        let Some(rest) = self.amount.less(Usage::billed(&self.models)) else {
            // A bill of more than was charged was not believed.
            return vec![whole(spec.model().unwrap_or(&self.engine))];
        };
        let unpriced = parts.iter().position(|p| !p.priced);
        let own = parts.iter().position(|p| Some(p.model.as_str()) == spec.model());
        match parts.get_mut(unpriced.or(own).unwrap_or(0)) {
            Some(home) => home.amount = home.amount.plus(rest),
            None => parts.push(whole(spec.model().unwrap_or(&self.engine))),
        }
        parts
    }
}

/// What one model has of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The model, `provider/name`; an engine where no model was named.
    pub model: String,
    /// Set aside, or used.
    #[serde(flatten)]
    pub amount: Usage,
    /// Whether its price was known.
    pub priced: bool,
}

impl Part {
    /// Where an engine names no model: it is set aside for whichever it will be.
    pub const NOT_KNOWN: &str = "not known yet";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(
        engine: &str,
        settled: bool,
        amount: (u64, u64, u64),
        bill: &[(&str, u64, u64, bool)],
    ) -> Vec<(String, u64, u64, u64)> {
        let models = bill.iter().map(|(model, input, cost_micros, priced)| ModelUse {
            model: (*model).to_owned(),
            calls: 1,
            input: *input,
            cost_micros: *cost_micros,
            priced: *priced,
            ..ModelUse::default()
        });
        let charge = Charge {
            attempt: AttemptId(1),
            role: Role::Dev,
            engine: engine.to_owned(),
            round: 0,
            amount: Usage { tokens: amount.0, cost_micros: amount.1, wall_ms: amount.2, turns: 9 },
            settled,
            models: models.collect(),
            day: Day(1),
            at: Timestamp(1),
        };
        let parts = charge.parts();
        let sum = parts.iter().fold(Usage::default(), |sum, p| sum.plus(p.amount));
        assert_eq!(sum, charge.amount, "the parts are the whole");
        parts.into_iter().map(|p| (p.model, p.amount.tokens, p.amount.cost_micros, p.amount.wall_ms)).collect()
    }

    #[test]
    fn the_parts_of_a_line_are_the_whole_of_it() {
        let one = |model: &str, tokens, cost, wall| vec![(model.to_owned(), tokens, cost, wall)];
        assert_eq!(line("llm:a/b", false, (10, 20, 30), &[]), one("a/b", 10, 20, 30));
        assert_eq!(line("acp:robot/b", false, (10, 20, 30), &[]), one("robot/b", 10, 20, 30));
        for nameless in ["acp:robot", "llm:a", "llm:a/", "command", "direct"] {
            assert_eq!(line(nameless, false, (10, 20, 30), &[]), one("not known yet", 10, 20, 30));
        }
        assert_eq!(line("command", true, (10, 20, 30), &[]), one("command", 10, 20, 30));
        assert_eq!(line("llm:a/b", true, (10, 20, 30), &[]), one("a/b", 10, 20, 30), "lost without a word");
        let two = [("a/x", 4, 8, true), ("a/b", 5, 1, true)];
        let (x, b) = (("a/x".to_owned(), 4, 8, 0), ("a/b".to_owned(), 6, 12, 30));
        assert_eq!(line("llm:a/b", true, (10, 20, 30), &two), [x, b], "its own model has what is over");
        let two = [("a/b", 5, 1, true), ("a/new", 5, 0, false)];
        let (b, new) = (("a/b".to_owned(), 5, 1, 0), ("a/new".to_owned(), 5, 19, 30));
        assert_eq!(line("llm:a/b", true, (10, 20, 30), &two), [b, new], "what is charged because a price is not known");
        let lie = [("a/x", 4_000, 8, true)];
        assert_eq!(line("cli:robot", true, (10, 20, 30), &lie), one("cli:robot", 10, 20, 30));
    }
}
