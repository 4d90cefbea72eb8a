//! Acceptance criteria of a run.

use super::word::words;
use crate::domain::spec::{self, CriterionRecord};
use crate::render;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// State of an acceptance criterion at the run's head.
    CriterionState = spec::CriterionState {
        /// Not tested or judged yet.
        Pending = "pending",
        /// Met.
        Met = "met",
        /// Not met.
        Unmet = "unmet",
        /// Not met, and a person decided to continue anyway.
        Waived = "waived",
    }
}

/// Acceptance criterion, and what is known about it at the run's head.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Criterion {
    /// Name.
    #[schema(example = "valid-json")]
    pub id: String,
    /// What must be true.
    pub text: String,
    /// Command that tests it; absent if it is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// State.
    pub state: CriterionState,
    /// State and its reason, in words.
    #[schema(example = "met, tested")]
    pub words: String,
    /// Whether its command succeeded at the base as well; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met_at_base: Option<bool>,
}

impl From<CriterionRecord<'_>> for Criterion {
    fn from(record: CriterionRecord<'_>) -> Criterion {
        Criterion {
            id: record.criterion.id.clone(),
            text: record.criterion.text.clone(),
            command: record.criterion.test.as_ref().map(|test| test.command.clone()),
            state: record.state.into(),
            words: render::criterion_state(&record),
            met_at_base: record.met_at_base,
        }
    }
}
