//! Whose sessions at a place are still wanted: everything else of Skep's there was left behind and is swept.
//!
//! One mechanism for an end, a lost connection and a killed process: a session that is not live any more is swept, at once where
//! that is possible, else before the next one is opened.

use super::RunnerSession;
use crate::ports::PortResult;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::RwLock;

/// The other side of a place.
#[async_trait]
pub trait RemoteRunner: Send + Sync {
    /// Whom files there belong to.
    fn owner(&self) -> (u32, u32);
    /// Ends and removes everything of `owner_id` whose session is not in `live`.
    async fn sweep(&self, owner_id: &str, live: &[String]) -> PortResult<()>;
    /// Looks whether everything needed is there; changes nothing that lasts.
    async fn probe(&self, owner_id: &str) -> PortResult<String>;
    /// Makes room for a session. Quick: no other is swept meanwhile.
    async fn create_session(self: Arc<Self>, guard: SessionGuard, archive: File) -> PortResult<Box<dyn RunnerSession>>;
}

/// The places of a process.
#[derive(Clone, Debug)]
pub struct RemoteSessions {
    owner_id: Arc<str>,
    all: Arc<Mutex<BTreeMap<String, Arc<RunnerSessions>>>>,
}

impl RemoteSessions {
    /// For a process of this house: 32 hex digits for a data directory, of which one process at a time carries runs on; anything
    /// else starts with `test-`.
    pub fn new(owner_id: &str) -> RemoteSessions {
        RemoteSessions { owner_id: owner_id.into(), all: Arc::default() }
    }

    /// Whose things at places are this process's.
    pub fn owner_id(&self) -> &str {
        &self.owner_id
    }

    /// The one with this key: a place that is configured in another way is another one.
    pub(crate) fn of(&self, key: &str) -> Arc<RunnerSessions> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(RunnerSessions {
                owner_id: self.owner_id.clone(),
                // An earlier process may have left something.
                dirty: AtomicBool::new(true),
                opening: RwLock::new(()),
                live: Mutex::default(),
            })
        };
        all.entry(key.to_owned()).or_insert_with(new).clone()
    }
}

/// What is known of one place.
#[derive(Debug)]
pub struct RunnerSessions {
    owner_id: Arc<str>,
    dirty: AtomicBool,
    opening: RwLock<()>,
    live: Mutex<BTreeSet<String>>,
}

impl RunnerSessions {
    /// A new session; what was left behind is swept first.
    pub(super) async fn admit(self: Arc<Self>, remote: &Arc<dyn RemoteRunner>) -> PortResult<SessionGuard> {
        self.sweep(remote.as_ref()).await?;
        let id = uuid::Uuid::now_v7().simple().to_string();
        // A sweep is over, or sees this one as live.
        let _opening = self.opening.read().await;
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        Ok(SessionGuard { id, sessions: self.clone(), remote: remote.clone(), over: false })
    }

    /// Sweeps where something was left.
    pub(crate) async fn sweep(&self, remote: &dyn RemoteRunner) -> PortResult<()> {
        if !self.dirty.load(Ordering::Acquire) {
            return Ok(());
        }
        let _alone = self.opening.write().await;
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let live: Vec<String> = self.live.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let mut unsure = Unsure { dirty: &self.dirty, is_clean: false };
        remote.sweep(&self.owner_id, &live).await?;
        unsure.is_clean = true;
        Ok(())
    }
}

/// A sweep that does not come to its end leaves the place as it was.
struct Unsure<'a> {
    dirty: &'a AtomicBool,
    is_clean: bool,
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if !self.is_clean {
            self.dirty.store(true, Ordering::Release);
        }
    }
}

/// A session at a place, live until dropped.
pub struct SessionGuard {
    /// Its id: 32 hex digits.
    pub id: String,
    sessions: Arc<RunnerSessions>,
    remote: Arc<dyn RemoteRunner>,
    over: bool,
}

impl SessionGuard {
    /// Whose it is.
    pub fn owner_id(&self) -> &str {
        &self.sessions.owner_id
    }

    fn end(&mut self) {
        self.over = true;
        self.sessions.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.sessions.dirty.store(true, Ordering::Release);
    }

    /// Has everything of it ended and removed, and waits for that. What cannot be done now is done before the next use.
    pub async fn leave(mut self) {
        self.end();
        if let Err(error) = self.sessions.sweep(self.remote.as_ref()).await {
            tracing::warn!(%error, "what checks left at a place is swept before it is used again");
        }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.end();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (sessions, remote) = (self.sessions.clone(), self.remote.clone());
        runtime.spawn(async move {
            if let Err(error) = sessions.sweep(remote.as_ref()).await {
                tracing::debug!(%error, "what checks left at a place is swept before it is used again");
            }
        });
    }
}
