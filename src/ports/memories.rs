//! Memory: rows about what ended runs have shown, and which attempts were given them.

use super::PortResult;
use crate::domain::memory::{Memory, MemoryId, MemoryKind, MemoryState, Record};
use crate::domain::{AttemptId, Principal, ProjectName, RunId, Timestamp};
use async_trait::async_trait;

/// Rows to list.
#[derive(Clone, Debug, Default)]
pub struct MemoryFilter {
    /// Only of this project.
    pub project: Option<ProjectName>,
    /// Only with this id.
    pub id: Option<MemoryId>,
    /// Only of this kind.
    pub kind: Option<MemoryKind>,
    /// Only in this state; `None` = all but forgotten ones.
    pub state: Option<MemoryState>,
    /// Maximum number of rows.
    pub limit: u64,
}

/// Rows to forget: those that fit every condition that is given.
#[derive(Clone, Debug, Default)]
pub struct Forget {
    /// Only of this project.
    pub project: Option<ProjectName>,
    /// The row with this id.
    pub id: Option<MemoryId>,
    /// Rows that a run showed last.
    pub run: Option<RunId>,
    /// Rows that cite this file.
    pub path: Option<String>,
    /// Rows stated by this author.
    pub author: Option<Principal>,
}

/// What a run has shown.
#[derive(Clone, Debug, Default)]
pub struct NewMemories {
    /// Rows to store.
    pub rows: Vec<Memory>,
    /// Rows that no longer hold, each with the time that shows it.
    pub ended: Vec<(MemoryId, Timestamp)>,
}

/// A row that an attempt was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenMemory {
    /// The run.
    pub run: RunId,
    /// The attempt.
    pub attempt: AttemptId,
    /// The row, whether or not it still exists.
    pub memory: MemoryId,
}

/// Stored memory.
#[async_trait]
pub trait Memories: Send + Sync {
    /// Stores what a run of the project has shown. A row that exists already is replaced if it was seen earlier, and then
    /// lives on; one that was forgotten stays so. Storing the same again changes nothing. If something is stored, rows that
    /// expired before `now` are removed, and those seen longest ago if there are more than [`Memory::MAX_ROWS`].
    async fn remember(&self, project: &ProjectName, new: &NewMemories, now: Timestamp) -> PortResult<()>;
    /// Returns the live rows of a project that have not expired, by id, each with what became of the runs that were given
    /// it.
    async fn recall(&self, project: &ProjectName, now: Timestamp) -> PortResult<Vec<(Memory, Record)>>;
    /// Lists rows: those seen last first.
    async fn list_memories(&self, filter: &MemoryFilter) -> PortResult<Vec<Memory>>;
    /// Forgets rows: their text is removed, and they are not made again. Returns their ids. Without any condition but the
    /// project it forgets nothing.
    async fn forget(&self, which: &Forget) -> PortResult<Vec<MemoryId>>;
    /// Deletes every row of a project, those that were forgotten included: they are about another repository now.
    async fn forget_project(&self, project: &ProjectName) -> PortResult<()>;
    /// Marks rows as stale.
    async fn mark_stale(&self, ids: &[MemoryId]) -> PortResult<()>;
    /// Records what an attempt is given. Recording the same again changes nothing.
    async fn give(&self, project: &ProjectName, given: &[GivenMemory]) -> PortResult<()>;
    /// Returns what the attempts of a run were given, by attempt and id.
    async fn given(&self, run: RunId) -> PortResult<Vec<GivenMemory>>;
}
