//! Time and new ids: the only places they come from, so that tests can hold them still.

use crate::domain::{RunId, Timestamp};

/// The clock and the source of run ids.
pub trait Clock: Send + Sync {
    /// Now, in milliseconds since the Unix epoch.
    fn now(&self) -> Timestamp;
    /// A new run id (UUIDv7).
    fn new_run_id(&self) -> RunId;
}

impl std::fmt::Debug for dyn Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
