//! What the books show of an attempt: set aside when it starts, settled when it ends. One line each, rewritten, never added twice.

use super::budget::{ModelUse, Usage};
use super::id::{At, AttemptId};
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
    pub fn of(at: At) -> Day {
        Day(at.0.div_euclid(DAY_MS))
    }
    /// The first moment after it.
    pub fn end(self) -> At {
        At(self.0.saturating_add(1).saturating_mul(DAY_MS))
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
    /// Set aside, or used.
    pub amount: Usage,
    /// Whether it is over: `amount` is what was used.
    pub settled: bool,
    /// Which models that was.
    pub models: Vec<ModelUse>,
    /// The day it is charged to: the one it was ordered on.
    pub day: Day,
    /// When the line was written.
    pub at: At,
}

impl Charge {
    /// The line of a run's attempt as it is now.
    pub fn of(run: &Run, id: AttemptId, at: At) -> Option<Charge> {
        let attempt = run.attempt(id)?;
        let ended = attempt.ended.as_ref();
        Some(Charge {
            attempt: id,
            role: attempt.step.role(),
            engine: EngineSpec::parse(&attempt.engine).named(),
            amount: ended.map_or(attempt.reserved, |e| e.charged),
            settled: ended.is_some(),
            models: ended.map(|e| e.bill.clone()).unwrap_or_default(),
            day: Day::of(attempt.started_at),
            at,
        })
    }
}
