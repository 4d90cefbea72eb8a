//! The only source of time and of new ids, so that tests can control both.

use crate::domain::{RunId, Timestamp};
use std::time::Duration;

/// The clock and the source of run ids.
pub trait Clock: Send + Sync {
    /// Returns the current time, in milliseconds since the Unix epoch.
    fn now(&self) -> Timestamp;
    /// Returns the time since an arbitrary moment, to measure durations. The system clock never goes back here, unlike
    /// in [`Clock::now`].
    fn monotonic(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.now().0).unwrap_or_default())
    }
    /// Draws a new run id (UUIDv7).
    fn new_run_id(&self) -> RunId;
}

impl std::fmt::Debug for dyn Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
