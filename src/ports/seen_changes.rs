//! Which changes of a run each person saw last, so that a page can show what is new to them.

use super::PortResult;
use crate::domain::{Principal, RunId, Sha, Timestamp};
use async_trait::async_trait;

/// Version of a run's changes that a person saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenChange {
    /// Commit that the changes are based on.
    pub base: Sha,
    /// Newest commit.
    pub head: Sha,
    /// When the person saw it first.
    pub at: Timestamp,
}

/// What people saw, of one data directory.
#[async_trait]
pub trait SeenChanges: Send + Sync {
    /// Records that a person sees the changes of a run, and returns the version that they saw before this one. Seeing
    /// the same version again changes nothing.
    async fn see(&self, who: &Principal, run: RunId, seen: &SeenChange) -> PortResult<Option<SeenChange>>;
    /// Forgets what was seen before a moment.
    async fn forget_seen(&self, before: Timestamp) -> PortResult<()>;
}
