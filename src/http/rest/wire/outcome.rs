//! Verified outcomes.

use super::engine::written;
use super::{Timestamp, Usage};
use crate::domain::OutcomeRow;
use crate::service::outcomes::Rebuilt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Verified outcome of an attempt, or of a run as a whole.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VerifiedOutcome {
    /// The run.
    pub run: String,
    /// Its project.
    pub project: String,
    /// The attempt; absent = the run as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "a2")]
    pub attempt: Option<String>,
    /// `landed`, `landed_late`, `unlanded`, `void`, `red`, `unusable`, `confirmed`, `refuted` or `missed`.
    #[schema(example = "landed")]
    pub word: String,
    /// Step of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "develop")]
    pub step: Option<String>,
    /// Engine of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Digest of the prompt of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_digest: Option<String>,
    /// Rounds of rework before the attempt; of a run, all its rounds.
    pub round: u32,
    /// What the attempt was charged; of a run, everything it used.
    pub usage: Usage,
    /// What proves it: `seq:N` is event N of the run, `sha:COMMIT` a commit on the base branch.
    #[schema(example = "seq:41")]
    pub evidence: String,
    /// Time of the proof.
    pub at: Timestamp,
}

impl From<OutcomeRow> for VerifiedOutcome {
    fn from(row: OutcomeRow) -> VerifiedOutcome {
        VerifiedOutcome {
            run: row.run.to_string(),
            project: row.project.to_string(),
            attempt: row.attempt.map(|id| id.to_string()),
            word: row.word.name().to_owned(),
            step: row.step.map(|step| step.name().to_owned()),
            engine: Some(written(&row.engine)).filter(|engine| !engine.is_empty()),
            prompt_digest: row.prompt_digest,
            round: row.round,
            usage: row.usage.into(),
            evidence: row.evidence.to_string(),
            at: row.at.into(),
        }
    }
}

/// Result of deriving the outcomes of all ended runs again.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RebuiltOutcomes {
    /// Runs whose outcomes were derived.
    pub runs: u64,
    /// Their outcomes.
    pub rows: u64,
    /// Runs whose journal cannot be replayed; their outcomes stay as they were.
    pub failed: u64,
    /// Some of them, with the reason.
    pub failures: Vec<String>,
}

impl From<Rebuilt> for RebuiltOutcomes {
    fn from(rebuilt: Rebuilt) -> RebuiltOutcomes {
        let Rebuilt { runs, rows, failed, failures } = rebuilt;
        RebuiltOutcomes { runs, rows, failed, failures }
    }
}
