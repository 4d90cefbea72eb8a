//! Locks that exclude both tasks of this process and other processes.

use crate::ports::{PortError, PortResult};
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Locks of one adapter, by path.
#[derive(Debug, Default)]
pub struct Locks {
    in_process: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
}

/// Holds a lock until dropped. The kernel releases the file lock when the process dies.
#[derive(Debug)]
pub struct LockGuard {
    _file: File,
    _in_process: tokio::sync::OwnedMutexGuard<()>,
}

impl Locks {
    /// Acquires the lock on a path.
    ///
    /// # Errors
    /// Transient when another holder has the lock for longer than `timeout`.
    pub async fn acquire(&self, path: &Path, timeout: Duration) -> PortResult<LockGuard> {
        let deadline = Instant::now() + timeout;
        let lock = {
            let mut in_process =
                self.in_process.lock().map_err(|_| PortError::transient("the lock table is poisoned"))?;
            in_process.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(in_process.entry(path.to_owned()).or_default())
        };
        let busy = || PortError::transient(format!("another Skep process holds the lock on {}", path.display()));
        let guard = tokio::time::timeout_at(deadline, lock.lock_owned()).await.map_err(|_| busy())?;
        let lock_error = |e: std::io::Error| PortError::transient(format!("cannot lock {}: {e}", path.display()));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(lock_error)?;
        }
        let file = File::options().create(true).truncate(false).write(true).open(path).map_err(lock_error)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(LockGuard { _file: file, _in_process: guard }),
                Err(TryLockError::Error(e)) => return Err(lock_error(e)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Err(busy()),
                // Another process holds it and cannot wake us, so poll.
                Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(25)).await,
            }
        }
    }
}
