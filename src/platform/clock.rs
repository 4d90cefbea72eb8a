//! The system's clock, and run ids drawn from it.

use crate::domain::{RunId, Timestamp};
use crate::ports::Clock;

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(chrono::Utc::now().timestamp_millis())
    }
    fn new_run_id(&self) -> RunId {
        RunId(uuid::Uuid::now_v7())
    }
}
