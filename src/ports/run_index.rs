//! The index of runs: lists for people, and the queries that find runs with something to do.

use super::PortResult;
use super::leases::Owner;
use crate::domain::{ProjectName, ProjectSet, RunId, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// A row of the run list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// Its project.
    pub project: String,
    /// The title of its goal.
    pub title: String,
    /// Its status word; `quarantined` if its data cannot be used.
    pub status: String,
    /// Its phase.
    pub phase: String,
    /// Number of events so far.
    pub seq: u64,
    /// Open blocks, as their codes.
    pub blocks: Vec<String>,
    /// When it resumes by itself, if it waits for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_at: Option<Timestamp>,
    /// What it waits for until then, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// Why it is quarantined, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

/// Which runs to list.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Only runs of these projects.
    pub projects: ProjectSet,
    /// Only runs with this status word.
    pub status: Option<String>,
    /// Only runs that have not ended.
    pub open_only: bool,
    /// Only runs that live in this process's data directory.
    pub own_only: bool,
    /// Only runs older than this one (for paging).
    pub before: Option<RunId>,
    /// Upper bound on rows (1 to 500).
    pub limit: u64,
}

/// Numbers of runs that matter for admission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs that are admitted, have not ended and have pending effects.
    pub live: u32,
    /// Runs that are admitted, have not ended and have no pending effects: they wait for a person or the forge.
    pub waiting: u32,
}

/// Totals over the runs of a data directory, for monitoring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Open runs by project and phase, without quarantined ones.
    pub open: Vec<(String, String, u64)>,
    /// Quarantined runs.
    pub quarantined: u64,
    /// When the oldest effect that has not ended was decided, without attempts and checks, which take long.
    pub oldest_effect: Option<Timestamp>,
}

/// Result of looking up a run by an abbreviated or full id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunMatch {
    /// Exactly one run matches.
    One(RunId),
    /// No run matches.
    None,
    /// Several runs match; some of them.
    Several(Vec<RunId>),
}

/// Queries over all runs.
#[async_trait]
pub trait RunIndex: Send + Sync {
    /// Lists runs, newest first. A row that cannot be read is shown as quarantined.
    async fn list(&self, filter: &RunFilter) -> PortResult<Vec<RunRow>>;
    /// Finds a run of these projects by its full id, or by at least 4 hex digits: the beginning of its abbreviation (the
    /// last 8 digits), else a unique beginning or end of the id.
    async fn find(&self, text: &str, projects: &ProjectSet) -> PortResult<RunMatch>;
    /// Returns the project of a run, also of one that cannot be read otherwise; `None` = there is no such run.
    async fn project_of(&self, run: RunId) -> PortResult<Option<ProjectName>>;
    /// Counts the runs that hold slots.
    async fn counts(&self) -> PortResult<Counts>;
    /// Sums up the runs of this data directory.
    async fn totals(&self) -> PortResult<Totals>;
    /// Returns the runs of this data directory with open questions, and how many events each has; least recently
    /// written first, at most `limit`.
    async fn asking(&self, limit: u64) -> PortResult<Vec<(RunId, u64)>>;
    /// Returns the queued runs of this data directory, oldest first, at most `limit`.
    async fn queued(&self, limit: u64) -> PortResult<Vec<RunId>>;
    /// Returns the number of queued runs of this data directory.
    async fn queue_length(&self) -> PortResult<u64>;
    /// Returns the admitted runs of this data directory that wait with an open change, for the sweep to observe; at
    /// most `limit`.
    async fn waiting(&self, limit: u64) -> PortResult<Vec<RunId>>;
    /// Returns the runs of this data directory that have pending effects and no valid lease of another owner, oldest
    /// first: a starting process resumes them.
    async fn unfinished(&self, owner: &Owner) -> PortResult<Vec<RunId>>;
    /// Returns the runs of this data directory that want to be woken before `until`, and when; earliest first, at most
    /// `limit`.
    async fn due(&self, until: Timestamp, limit: u64) -> PortResult<Vec<(RunId, Timestamp)>>;
}
