//! One try at a step.

use crate::domain::artifact::ArtifactRef;
use crate::domain::budget::shared_budget::SharedBudget;
use crate::domain::budget::{BudgetKind, ModelUse, Usage};
use crate::domain::id::{AttemptId, Sha, TaskId, Timestamp};
use crate::domain::open_work::AGENT;
use crate::domain::order::{EngineSpec, Step};
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
    /// The attempt whose question this one answers, for an `Explore` on request. Such an attempt counts no tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AttemptId>,
    /// The engine, `KIND` or `KIND:ARG`.
    pub engine: String,
    /// When it was ordered.
    pub started_at: Timestamp,
    /// Rounds of rework before it.
    #[serde(default)]
    pub round: u32,
    /// The unfinished work of an earlier attempt that it continues; `None` = it starts clean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Sha>,
    /// Its reservation.
    pub reserved: Usage,
    /// Shared budgets that cut the reservation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limited_by: Vec<SharedBudget>,
    /// The engine session that outlives this process, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumable: Option<Resumable>,
    /// Version of the prompt it was given: the digest of its template files. `None` for an engine without a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_digest: Option<String>,
    /// Its end; `None` = live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// An engine session that can be resumed after its process is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumable {
    /// The engine's name for the session.
    pub session: String,
    /// Number of resumes so far.
    #[serde(default)]
    pub resumes: u32,
    /// Milliseconds of the attempt's time that had elapsed at the last resume.
    #[serde(default)]
    pub elapsed_ms: u64,
}

impl Resumable {
    /// Upper bound on resumes of one attempt, so that an attempt that kills its process is not resumed forever.
    pub const MAX_RESUMES: u32 = 3;
    /// Minimum remaining time, in milliseconds, for a resume to be worth it.
    pub const MIN_LEFT_MS: u64 = 5_000;
    /// Upper bound on the bytes of a session's name.
    pub const MAX_SESSION_BYTES: usize = 200;
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When it ended.
    pub at: Timestamp,
    /// How it ended.
    pub ending: Ending,
    /// Reason or summary, capped.
    pub why: String,
    /// Amount charged.
    pub charged: Usage,
    /// The engine's session, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Its artifacts.
    #[serde(default)]
    pub artifacts: Vec<ArtifactRef>,
    /// Usage by model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage_by_model: Vec<ModelUse>,
    /// Names of the vault secrets it received.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// The part of its reservation that was used up, if it ended for that reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhausted: Option<BudgetKind>,
}

/// Ending of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It reported what was asked, and the report was accepted.
    Succeeded,
    /// It failed, or its report was refused.
    Failed,
    /// It asked a question instead.
    Asked,
    /// It died.
    Lost,
    /// It was stopped.
    Stopped,
    /// Its engine was unavailable. Says nothing about the work.
    Unavailable,
    /// It was never started: a shared budget was exhausted, or the run was held before the attempt could begin.
    NotStarted,
}

impl Ending {
    /// Returns whether the attempt counts against the run's limit.
    pub fn counts(self) -> bool {
        !matches!(self, Ending::Unavailable | Ending::NotStarted)
    }
}

/// Longest time of an attempt whose engine is `open`, in milliseconds: 90 days. Its offer ends it much earlier.
pub const MAX_OPEN_MS: u64 = 90 * 24 * 3_600_000;

impl Attempt {
    /// Returns whether it is offered to outside agents. Such an attempt uses none of the run's budgets: it only waits.
    pub fn is_open(&self) -> bool {
        EngineSpec::parse(&self.engine).is_open()
    }

    /// Returns the outside agent that did the work, as `agent:<name>`; `None` = the engine did it itself.
    pub fn agent(&self) -> Option<&str> {
        let session = self.ended.as_ref().and_then(|ended| ended.session.as_deref());
        session.filter(|session| self.is_open() && session.starts_with(AGENT))
    }

    /// Returns whether it is still in progress.
    pub fn live(&self) -> bool {
        self.ended.is_none()
    }

    /// Returns the milliseconds from its order to `at`, at most the reservation: all that is known of the time used by a
    /// process that is gone.
    pub fn elapsed_ms(&self, at: Timestamp) -> u64 {
        u64::try_from(at.0.saturating_sub(self.started_at.0)).unwrap_or(0).min(self.reserved.wall_ms)
    }
}
