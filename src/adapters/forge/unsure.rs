//! Writes whose answer was lost, on a forge that cannot refuse the second one.

use crate::ports::{PortError, PortResult};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How old the forge's lists may be. A write whose answer was lost is not repeated before.
const MAX_LIST_AGE: Duration = Duration::from_secs(30);
/// Upper bound on writes whose answer was lost, in memory.
const MAX_UNSURE: usize = 1_000;

/// Comments that may have been written, because the answer was lost, and when.
#[derive(Default)]
pub(super) struct UnsureWrites(Mutex<HashMap<String, Instant>>);

impl UnsureWrites {
    /// Checks that a write that the forge's list does not show was not sent a moment ago.
    ///
    /// # Errors
    /// Transient until the list must show it.
    pub fn check(&self, key: &str, doing: &str) -> PortResult<()> {
        let written = self.all().get(key).copied();
        match written.and_then(|at| MAX_LIST_AGE.checked_sub(at.elapsed())) {
            None => Ok(()),
            Some(wait) => Err(PortError::Transient {
                what: format!("cannot {doing}: it may have been written, and the forge's list may be old"),
                after: Some(wait.min(Duration::from_secs(5)).max(Duration::from_millis(100))),
            }),
        }
    }

    /// Notes that the answer to a write was lost.
    pub fn note(&self, key: String) {
        let mut unsure = self.all();
        if unsure.len() >= MAX_UNSURE {
            unsure.retain(|_, at| at.elapsed() < MAX_LIST_AGE);
        }
        unsure.insert(key, Instant::now());
    }

    /// Forgets a lost answer: what was written is there.
    pub fn forget(&self, key: &str) {
        self.all().remove(key);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
