//! Attempts at a step.

use super::engine::written;
use super::word::words;
use super::{Artifact, ModelUsage, SharedBudget, Timestamp, Usage};
use crate::domain;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// Step of a run that a role carries out.
    Step = domain::Step {
        /// The scout explores the repository.
        Explore = "explore",
        /// The manager plans.
        Plan = "plan",
        /// The dev changes the code.
        Develop = "develop",
        /// The reviewer judges the change.
        Review = "review",
    }
}

impl Step {
    /// Returns the role that carries out the step.
    pub fn role(self) -> &'static str {
        domain::Step::from(self).role().name()
    }
}

words! {
    /// Ending of an attempt.
    Ending = domain::Ending {
        /// It did what it was asked to do.
        Succeeded = "succeeded",
        /// It failed, or its result was refused.
        Failed = "failed",
        /// It asked a question.
        Asked = "asked",
        /// Its process died.
        Lost = "lost",
        /// It was stopped.
        Stopped = "stopped",
        /// Its engine could not be used.
        Unavailable = "unavailable",
        /// It was never started.
        NotStarted = "not_started",
    }
}

/// One try at a step.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Id in the run.
    #[serde(rename = "attempt")]
    #[schema(example = "a1")]
    pub id: String,
    /// Step.
    pub step: Step,
    /// Task (`t1`), for `develop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Attempt whose question this one answers (`a2`), for a scout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
    /// Engine, `KIND` or `KIND:ARG`.
    pub engine: String,
    /// Time it was ordered.
    pub started_at: Timestamp,
    /// Rounds of rework before it.
    pub round: u32,
    /// Commit with the unfinished work of an earlier attempt that it continues; absent = it starts clean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<String>,
    /// Reservation made for it.
    pub reserved: Usage,
    /// Shared budgets that had no more left and so limited the reservation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub limited_by: Vec<SharedBudget>,
    /// Engine session that survives a restart, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumable: Option<Resumable>,
    /// Digest of the prompt it was given; absent for an engine without a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_digest: Option<String>,
    /// How it ended; absent while it is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// Engine session that can be resumed after a restart.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Resumable {
    /// The engine's name for the session.
    pub session: String,
    /// How often it was resumed.
    pub resumes: u32,
    /// Milliseconds of its time limit used before it was last resumed.
    pub elapsed_ms: u64,
}

/// End of an attempt.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    /// When it ended.
    pub at: Timestamp,
    /// How it ended.
    pub ending: Ending,
    /// Summary, or the reason it failed. May contain text from outside.
    pub why: String,
    /// Usage charged to the budgets.
    pub charged: Usage,
    /// The engine's name for the session, if it reported one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Artifacts it left.
    pub artifacts: Vec<Artifact>,
    /// Usage by model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub usage_by_model: Vec<ModelUsage>,
    /// Names of the secrets its commands could read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub secrets: Vec<String>,
}

impl Attempt {
    /// Returns whether it is still running.
    pub fn is_live(&self) -> bool {
        self.ended.is_none()
    }
}

impl From<&domain::Attempt> for Attempt {
    fn from(attempt: &domain::Attempt) -> Attempt {
        Attempt {
            id: attempt.id.to_string(),
            step: attempt.step.into(),
            task: attempt.task.map(|id| id.to_string()),
            answers: attempt.answers.map(|id| id.to_string()),
            engine: written(&attempt.engine),
            started_at: attempt.started_at.into(),
            round: attempt.round,
            continues: attempt.continues.as_ref().map(ToString::to_string),
            reserved: attempt.reserved.into(),
            limited_by: attempt.limited_by.iter().map(Into::into).collect(),
            resumable: attempt.resumable.as_ref().map(|r| Resumable {
                session: r.session.clone(),
                resumes: r.resumes,
                elapsed_ms: r.elapsed_ms,
            }),
            prompt_digest: attempt.prompt_digest.clone(),
            ended: attempt.ended.as_ref().map(Into::into),
        }
    }
}

impl From<&domain::Ended> for Ended {
    fn from(ended: &domain::Ended) -> Ended {
        Ended {
            at: ended.at.into(),
            ending: ended.ending.into(),
            why: ended.why.clone(),
            charged: ended.charged.into(),
            session: ended.session.clone(),
            artifacts: ended.artifacts.iter().map(Into::into).collect(),
            usage_by_model: ended.usage_by_model.iter().map(Into::into).collect(),
            secrets: ended.secrets.clone(),
        }
    }
}
