//! Watches over base branches after runs have landed there.

use super::PortResult;
use crate::domain::{LandingWatch, RunId};
use async_trait::async_trait;

/// Stored watches of one data directory, which one process uses at a time.
#[async_trait]
pub trait LandingWatches: Send + Sync {
    /// Returns the watch over what a run has landed; `None` = there is none.
    async fn landing_watch(&self, run: RunId) -> PortResult<Option<LandingWatch>>;
    /// Stores a watch, replacing that of the same run.
    async fn put_landing_watch(&self, watch: &LandingWatch) -> PortResult<()>;
    /// Returns the watches that have not ended, oldest first.
    async fn open_landing_watches(&self) -> PortResult<Vec<LandingWatch>>;
}
