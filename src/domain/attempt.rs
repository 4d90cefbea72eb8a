//! One try at a step.

use super::artifact::ArtifactRef;
use super::budget::{ModelUse, Usage};
use super::id::{AttemptId, TaskId, Timestamp};
use super::order::Step;
use super::shared_budget::SharedBudget;
use serde::{Deserialize, Serialize};

/// An attempt: numbered, never reused, with one reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number in the run.
    pub id: AttemptId,
    /// The step.
    pub step: Step,
    /// The task, for `Develop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The attempt whose question it looks into, for an `Explore` that somebody asked for. It has no tries of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AttemptId>,
    /// The engine, `KIND` or `KIND:ARG`.
    pub engine: String,
    /// When it was ordered.
    pub started_at: Timestamp,
    /// Rounds of rework before it.
    #[serde(default)]
    pub round: u32,
    /// What was set aside for it.
    pub reserved: Usage,
    /// Shared budgets that had no more to give it than that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut_by: Vec<SharedBudget>,
    /// The conversation of its engine that outlives this process, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumable: Option<Resumable>,
    /// How it ended; `None` = live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// A conversation that can be taken up again after its process is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumable {
    /// Its name with the engine.
    pub session: String,
    /// How often it was taken up again.
    #[serde(default)]
    pub times: u32,
    /// Milliseconds of the attempt's time that had passed when it was taken up the last time.
    #[serde(default)]
    pub before_ms: u64,
}

impl Resumable {
    /// How often an attempt is taken up again at most: what ends its process each time must not do so for ever.
    pub const TIMES_MAX: u32 = 3;
    /// With less time left than this an attempt is not taken up again, in milliseconds.
    pub const LEFT_MS_MIN: u64 = 5_000;
    /// The most bytes of a session's name.
    pub const SESSION_BYTES_MAX: usize = 200;
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// How.
    pub ending: Ending,
    /// Why, or what it said of itself; capped.
    pub why: String,
    /// What was charged.
    pub charged: Usage,
    /// The engine's session, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What it left.
    #[serde(default)]
    pub artifacts: Vec<ArtifactRef>,
    /// Which models it used for what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bill: Vec<ModelUse>,
    /// The secrets of the vault it was given, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<String>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It reported what was asked and was believed.
    Succeeded,
    /// It failed, or what it reported was refused.
    Failed,
    /// It asked instead.
    Asked,
    /// It died.
    Lost,
    /// It was told to stop.
    Stopped,
    /// Its engine could not be used. Says nothing about the work.
    Unavailable,
    /// It was never started: a shared budget did not have what it needs, or the run was held before it could begin.
    NotStarted,
}

impl Ending {
    /// Whether such an attempt counts as one of the run's.
    pub fn counts(self) -> bool {
        !matches!(self, Ending::Unavailable | Ending::NotStarted)
    }
}

impl Attempt {
    /// Whether it is still going.
    pub fn live(&self) -> bool {
        self.ended.is_none()
    }

    /// Milliseconds since it was ordered, but never more than were set aside: all that is known of the time a process used that is gone.
    pub fn passed_ms(&self, at: Timestamp) -> u64 {
        u64::try_from(at.0.saturating_sub(self.started_at.0)).unwrap_or(0).min(self.reserved.wall_ms)
    }
}
