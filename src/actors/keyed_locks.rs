//! Locks by key: work on the same key is done one after the other, work on different keys at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Locks by key. A lock exists as long as someone holds it or waits for it.
#[derive(Clone, Debug)]
pub struct KeyedLocks<K>(Arc<Mutex<BTreeMap<K, Weak<AsyncMutex<()>>>>>);

impl<K> Default for KeyedLocks<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord> KeyedLocks<K> {
    /// Waits for the lock of a key and holds it until the guard is dropped.
    pub async fn lock(&self, key: K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(&key).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    locks.insert(key, Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn one_key_excludes_and_others_do_not() {
        let locks = KeyedLocks::default();
        let first = locks.lock("a").await;
        let blocked = timeout(Duration::from_millis(20), locks.lock("a")).await;
        assert!(blocked.is_err());
        timeout(Duration::from_secs(5), locks.lock("b")).await.expect("another key is free");
        drop(first);
        timeout(Duration::from_secs(5), locks.lock("a")).await.expect("the key is free again");
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }
}
