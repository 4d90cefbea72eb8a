//! The lock on the index of a person's working copy, as git takes it, with the name of the landing that holds it.

use super::local::WorkingCopy;
use crate::ports::{PortError, PortResult};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Maximum wait for a lock that a person's git holds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Upper bound on the content of a lock of Skep's.
const MAX_CONTENT_BYTES: u64 = 200;

/// The lock on a working copy's index, held by a landing.
#[derive(Debug)]
pub struct IndexLock {
    path: PathBuf,
    token: String,
    kept: bool,
}

impl IndexLock {
    /// Locks the index, waiting for a person's git for a while. `token` names the landing: a lock that it left before is
    /// taken over.
    ///
    /// # Errors
    /// Permanent when another lock stays; it is named.
    pub async fn acquire(copy: &WorkingCopy, token: &str) -> PortResult<Self> {
        let deadline = tokio::time::Instant::now() + LOCK_TIMEOUT;
        let (path, head) = (copy.git_dir.join("index.lock"), copy.git_dir.join("HEAD.lock"));
        loop {
            let mut in_the_way = &path;
            // A lock that was left protects a move that is not finished: only its end removes it.
            let kept = Self::is_held(copy, token);
            if kept || create_lock(&path, token)? {
                let lock = Self { path: path.clone(), token: token.to_owned(), kept };
                // A person's git that is about to check out another branch holds this one.
                if !head.exists() {
                    return Ok(lock);
                }
                in_the_way = &head;
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(locked(copy, in_the_way));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns whether this landing holds the lock, perhaps in a process that was killed.
    pub fn is_held(copy: &WorkingCopy, token: &str) -> bool {
        let path = copy.git_dir.join("index.lock");
        let small = std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() < MAX_CONTENT_BYTES);
        small && std::fs::read_to_string(&path).is_ok_and(|text| text == content(token))
    }

    /// Makes the lock outlive this process: from now on only the finished move removes it.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Removes the lock.
    pub fn release(mut self) {
        self.kept = false;
    }
}

impl Drop for IndexLock {
    fn drop(&mut self) {
        if !self.kept && std::fs::read_to_string(&self.path).is_ok_and(|text| text == content(&self.token)) {
            // If it cannot be removed, the next landing recognizes it.
            let _left = std::fs::remove_file(&self.path);
        }
    }
}

fn content(token: &str) -> String {
    format!("skep {token}\n")
}

/// Creates the lock with its content in one step. Returns whether it did; `false` = there is one already.
fn create_lock(path: &Path, token: &str) -> PortResult<bool> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let create = || -> std::io::Result<bool> {
        let mut file = tempfile::Builder::new().prefix("index.skep.").tempfile_in(dir)?;
        file.write_all(content(token).as_bytes())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Ok(_) => {
                // Without it, a power failure may only lose the lock together with all that follows it.
                let _synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
                Ok(true)
            }
            Err(e) if e.error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e.error),
        }
    };
    create().map_err(|e| match e.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => PortError::permanent(
            format!("cannot create {}: {e}", path.display()),
            "give the user Skep runs as write access to the repository",
        ),
        _ => PortError::transient(format!("cannot create {}: {e}", path.display())),
    })
}

fn locked(copy: &WorkingCopy, lock: &Path) -> PortError {
    PortError::permanent(
        format!(
            "{} exists: another git is at work in {}, or one was killed there; nothing was landed",
            lock.display(),
            copy.dir.display()
        ),
        format!("wait for that git, or remove {} if none is running, then run `skep unblock`", lock.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_of_the_same_landing_is_taken_over_and_another_one_is_named() {
        tokio::time::pause();
        let tmp = tempfile::tempdir().unwrap();
        let copy = WorkingCopy { dir: tmp.path().to_owned(), git_dir: tmp.path().to_owned() };
        let mut lock = IndexLock::acquire(&copy, "t1").await.unwrap();
        let error = IndexLock::acquire(&copy, "t2").await.unwrap_err();
        assert!(error.to_string().contains("index.lock") && error.fix().contains("skep unblock"), "{error}");
        // A kept lock outlives its holder, and the same landing finds it.
        lock.keep();
        drop(lock);
        assert!(IndexLock::is_held(&copy, "t1") && !IndexLock::is_held(&copy, "t2"));
        drop(IndexLock::acquire(&copy, "t1").await.unwrap());
        assert!(IndexLock::is_held(&copy, "t1"), "only the end of the move removes it");
        IndexLock::acquire(&copy, "t1").await.unwrap().release();
        assert!(!tmp.path().join("index.lock").exists());
        std::fs::write(tmp.path().join("HEAD.lock"), "").unwrap();
        let error = IndexLock::acquire(&copy, "t1").await.unwrap_err();
        assert!(error.to_string().contains("HEAD.lock"), "{error}");
        assert!(!tmp.path().join("index.lock").exists());
    }
}
