//! Verified outcomes. The journal writes the rows of a run with its last event.

use super::PortResult;
use crate::domain::{OutcomeRow, OutcomeWord, ProjectName, RunId, Timestamp};
use async_trait::async_trait;

/// Outcomes to list.
#[derive(Clone, Debug, Default)]
pub struct OutcomeFilter {
    /// Only of this project.
    pub project: Option<ProjectName>,
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only with this word.
    pub word: Option<OutcomeWord>,
    /// Only from this moment on.
    pub since: Option<Timestamp>,
    /// Only of runs older than this one, for paging.
    pub before: Option<RunId>,
    /// Maximum number of rows.
    pub limit: u64,
}

/// Outcomes of all runs.
#[async_trait]
pub trait Outcomes: Send + Sync {
    /// Lists outcomes: newest run first, the run as a whole before its attempts.
    async fn list_outcomes(&self, filter: &OutcomeFilter) -> PortResult<Vec<OutcomeRow>>;
    /// Replaces the outcomes of an ended run by these, which were derived from its journal again.
    async fn replace_outcomes(&self, run: RunId, rows: &[OutcomeRow]) -> PortResult<()>;
}
