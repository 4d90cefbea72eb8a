//! Locks that hold between tasks of this process and between processes.

use crate::ports::{PortError, PortResult};
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// The locks of one adapter, by path.
#[derive(Debug, Default)]
pub struct Locks {
    inside: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
}

/// A lock, held until dropped. The kernel lets go of the file lock when the process dies.
#[derive(Debug)]
pub struct LockGuard {
    _file: File,
    _inside: tokio::sync::OwnedMutexGuard<()>,
}

impl Locks {
    /// Waits for the lock on this path, at most so long.
    ///
    /// # Errors
    /// Transient when another process holds it all that time.
    pub async fn acquire(&self, path: &Path, wait: Duration) -> PortResult<LockGuard> {
        let until = Instant::now() + wait;
        let own = {
            let mut inside = self.inside.lock().map_err(|_| PortError::transient("a lock table is broken"))?;
            inside.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(inside.entry(path.to_owned()).or_default())
        };
        let busy = || PortError::transient(format!("another Skep process is at work on {}", path.display()));
        let held = tokio::time::timeout_at(until, own.lock_owned()).await.map_err(|_| busy())?;
        let cannot = |e: std::io::Error| PortError::transient(format!("cannot lock {}: {e}", path.display()));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(cannot)?;
        }
        let file = File::options().create(true).truncate(false).write(true).open(path).map_err(cannot)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(LockGuard { _file: file, _inside: held }),
                Err(TryLockError::Error(e)) => return Err(cannot(e)),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return Err(busy()),
                // Only another process can hold it here, and it cannot wake us.
                Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(25)).await,
            }
        }
    }
}
