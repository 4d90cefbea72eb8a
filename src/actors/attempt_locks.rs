//! One session at a time per attempt: the next one starts only when every process of the previous one is gone.
//!
//! A restarted supervisor resumes its attempts while the sessions of its predecessor may still be ending.

use crate::domain::{AttemptId, RunId};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// The locks of this process.
#[derive(Clone, Debug, Default)]
pub struct AttemptLocks(Arc<watch::Sender<BTreeSet<(RunId, AttemptId)>>>);

/// A held lock; dropping it releases the attempt.
pub(super) struct AttemptLock {
    locks: AttemptLocks,
    key: (RunId, AttemptId),
}

impl AttemptLocks {
    /// Acquires the lock of an attempt, waiting until it is free.
    pub(super) async fn acquire(&self, run: RunId, attempt: AttemptId) -> AttemptLock {
        let key = (run, attempt);
        let mut held = self.0.subscribe();
        while !self.0.send_if_modified(|locked| locked.insert(key)) {
            // `self` holds the sender, so the wait ends only when the lock is free.
            let _free = held.wait_for(|locked| !locked.contains(&key)).await;
        }
        AttemptLock { locks: self.clone(), key }
    }
}

impl Drop for AttemptLock {
    fn drop(&mut self) {
        self.locks.0.send_if_modified(|locked| locked.remove(&self.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_is_exclusive_and_released_on_drop() {
        let (locks, run) = (AttemptLocks::default(), RunId::try_from("0".repeat(31) + "1").unwrap());
        let first = locks.acquire(run, AttemptId(1)).await;
        let _other = locks.acquire(run, AttemptId(2)).await;
        let mut next = Box::pin(locks.acquire(run, AttemptId(1)));
        assert!(futures::poll!(&mut next).is_pending());
        drop(first);
        let _next = next.await;
    }
}
