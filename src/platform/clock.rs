//! The system clock, and run ids drawn from it.

use crate::domain::{RunId, Timestamp};
use crate::ports::Clock;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Start of monotonic time.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The system clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(chrono::Utc::now().timestamp_millis())
    }
    fn monotonic(&self) -> Duration {
        START.elapsed()
    }
    fn new_run_id(&self) -> RunId {
        RunId(uuid::Uuid::now_v7())
    }
}
