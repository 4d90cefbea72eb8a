//! The system clock, and run ids derived from it.

use crate::domain::{RunId, Timestamp};
use crate::ports::Clock;

/// The system clock.
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
