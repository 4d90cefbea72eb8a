//! What became of schedules, and when they are due next.

use super::PortResult;
use crate::domain::{RunId, Timestamp};
use async_trait::async_trait;

/// State of a schedule in one data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleState {
    /// The schedule.
    pub name: String,
    /// The times that `next_at` was computed from.
    pub timing: String,
    /// When it is due next.
    pub next_at: Timestamp,
    /// The run that is being opened for `next_at`.
    pub starting: Option<RunId>,
    /// The last time for which a run was started or could not be.
    pub last_at: Option<Timestamp>,
    /// The last run it started.
    pub last_run: Option<RunId>,
    /// Why the last run could not be started; `None` = it was.
    pub last_error: Option<String>,
}

/// States of the schedules of one data directory, which one process uses at a time.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Returns all states, by name.
    async fn schedules(&self) -> PortResult<Vec<ScheduleState>>;
    /// Stores a state, replacing an earlier one of the same name.
    async fn put_schedule(&self, state: &ScheduleState) -> PortResult<()>;
    /// Deletes the state of a schedule that is no longer configured.
    async fn remove_schedule(&self, name: &str) -> PortResult<()>;
}
