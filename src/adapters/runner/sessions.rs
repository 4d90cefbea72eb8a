//! Tracks which sessions on remote runners are live. Anything else that Skep left on a runner is swept.
//!
//! One mechanism covers a normal end, a lost connection and a killed process: a session that is no longer live is swept
//! immediately if possible, otherwise before the next session on that runner opens.

use super::RunnerSession;
use crate::ports::PortResult;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::RwLock;

/// A remote runner: the operations that each kind implements.
#[async_trait]
pub(super) trait RemoteRunner: Send + Sync {
    /// Returns the user and group id that own the files of a checkout there.
    fn file_owner(&self) -> (u32, u32);
    /// Ends and removes everything of `owner_id` whose session is not in `live`.
    async fn sweep(&self, owner_id: &str, live: &[String]) -> PortResult<()>;
    /// Checks that the runner is reachable and has the tools it needs, without lasting changes. Returns a one-line
    /// summary.
    async fn probe(&self, owner_id: &str) -> PortResult<String>;
    /// Unpacks a checkout into a new session. No sweep runs at the same time.
    async fn create_session(self: Arc<Self>, guard: SessionGuard, archive: File) -> PortResult<Box<dyn RunnerSession>>;
}

/// This process's sessions on all remote runners.
#[derive(Clone, Debug)]
pub struct RemoteSessions {
    owner_id: Arc<str>,
    by_runner: Arc<Mutex<BTreeMap<String, Arc<RunnerSessions>>>>,
}

impl RemoteSessions {
    /// Sessions of this owner: 32 hex digits that identify a data directory (one process at a time drives its runs), or
    /// a text that starts with `test-`.
    pub fn new(owner_id: &str) -> RemoteSessions {
        RemoteSessions { owner_id: owner_id.into(), by_runner: Arc::default() }
    }

    /// Returns the id that marks everything of this process on a runner.
    pub(super) fn owner_id(&self) -> &str {
        &self.owner_id
    }

    /// Returns the sessions on the runner with this key.
    pub(super) fn of_runner(&self, key: &str) -> Arc<RunnerSessions> {
        let mut by_runner = self.by_runner.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(RunnerSessions {
                owner_id: self.owner_id.clone(),
                // An earlier process may have left something there.
                dirty: AtomicBool::new(true),
                opening: RwLock::new(()),
                live: Mutex::default(),
            })
        };
        by_runner.entry(key.to_owned()).or_insert_with(new).clone()
    }
}

/// The sessions on one runner.
#[derive(Debug)]
pub(super) struct RunnerSessions {
    owner_id: Arc<str>,
    dirty: AtomicBool,
    opening: RwLock<()>,
    live: Mutex<BTreeSet<String>>,
}

impl RunnerSessions {
    /// Sweeps the runner if needed, then registers a new session.
    pub(super) async fn admit(self: Arc<Self>, remote: &Arc<dyn RemoteRunner>) -> PortResult<SessionGuard> {
        self.sweep(remote.as_ref()).await?;
        let id = uuid::Uuid::now_v7().simple().to_string();
        // A sweep has either finished, or sees this session as live.
        let _opening = self.opening.read().await;
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        Ok(SessionGuard { id, sessions: self.clone(), remote: remote.clone(), ended: false })
    }

    /// Removes what dead sessions left, if there may be something.
    pub(super) async fn sweep(&self, remote: &dyn RemoteRunner) -> PortResult<()> {
        if !self.dirty.load(Ordering::Acquire) {
            return Ok(());
        }
        let _exclusive = self.opening.write().await;
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let live: Vec<String> = self.live.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let mut rollback = DirtyOnDrop { dirty: &self.dirty, is_clean: false };
        remote.sweep(&self.owner_id, &live).await?;
        rollback.is_clean = true;
        Ok(())
    }
}

/// Marks the runner dirty again when a sweep fails or is cancelled.
struct DirtyOnDrop<'a> {
    dirty: &'a AtomicBool,
    is_clean: bool,
}

impl Drop for DirtyOnDrop<'_> {
    fn drop(&mut self) {
        if !self.is_clean {
            self.dirty.store(true, Ordering::Release);
        }
    }
}

/// Keeps a session live until it is closed or dropped.
pub(super) struct SessionGuard {
    /// Session id: 32 hex digits.
    pub(super) id: String,
    sessions: Arc<RunnerSessions>,
    remote: Arc<dyn RemoteRunner>,
    ended: bool,
}

impl SessionGuard {
    /// Returns the id that marks everything of this process on the runner.
    pub(super) fn owner_id(&self) -> &str {
        &self.sessions.owner_id
    }

    fn end(&mut self) {
        self.ended = true;
        self.sessions.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.sessions.dirty.store(true, Ordering::Release);
    }

    /// Ends and removes everything of the session, and waits for that. A failed sweep is repeated before the next use.
    pub(super) async fn close(mut self) {
        self.end();
        if let Err(error) = self.sessions.sweep(self.remote.as_ref()).await {
            tracing::warn!(%error, "cannot remove a finished session from its runner; retrying before the next use");
        }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.end();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (sessions, remote) = (self.sessions.clone(), self.remote.clone());
        runtime.spawn(async move {
            if let Err(error) = sessions.sweep(remote.as_ref()).await {
                tracing::debug!(%error, "cannot remove an aborted session from its runner; retrying before the next use");
            }
        });
    }
}
