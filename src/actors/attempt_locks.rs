//! One session at a time for an attempt: the next begins when everything of the one before is gone.
//!
//! A supervisor that is started again takes its attempts up while the sessions of the old one may still be ending.

use crate::domain::{AttemptId, RunId};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// The seats of this process.
#[derive(Clone, Debug, Default)]
pub struct AttemptLocks(Arc<watch::Sender<BTreeSet<(RunId, AttemptId)>>>);

/// A seat that is taken. Free again when dropped.
pub(super) struct AttemptLock {
    attempt_locks: AttemptLocks,
    of: (RunId, AttemptId),
}

impl AttemptLocks {
    /// Takes an attempt's seat, once it is free.
    pub(super) async fn take(&self, run: RunId, attempt: AttemptId) -> AttemptLock {
        let of = (run, attempt);
        let mut taken = self.0.subscribe();
        while !self.0.send_if_modified(|attempt_locks| attempt_locks.insert(of)) {
            // The sender is here, so this ends only when it is free.
            let _free = taken.wait_for(|attempt_locks| !attempt_locks.contains(&of)).await;
        }
        AttemptLock { attempt_locks: self.clone(), of }
    }
}

impl Drop for AttemptLock {
    fn drop(&mut self) {
        self.attempt_locks.0.send_if_modified(|attempt_locks| attempt_locks.remove(&self.of));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_seat_is_taken_once_and_given_on() {
        let (attempt_locks, run) = (AttemptLocks::default(), RunId::try_from("0".repeat(31) + "1").unwrap());
        let first = attempt_locks.take(run, AttemptId(1)).await;
        let _other = attempt_locks.take(run, AttemptId(2)).await;
        let mut next = Box::pin(attempt_locks.take(run, AttemptId(1)));
        assert!(futures::poll!(&mut next).is_pending());
        drop(first);
        let _next = next.await;
    }
}
