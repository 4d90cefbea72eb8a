//! What workers wait for: runs that move.

use crate::actors::{Notification, Notifications};
use crate::domain::RunId;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Time in which further runs that move are gathered.
const SETTLE: Duration = Duration::from_millis(250);

/// Gathers the runs that moved since the last look.
pub struct MovedRuns {
    notifications: Receiver<Notification>,
    moved: BTreeSet<RunId>,
    has_lost: bool,
}

impl MovedRuns {
    /// Gathers from now on.
    pub fn new(notifications: &Notifications) -> Self {
        Self { notifications: notifications.subscribe(), moved: BTreeSet::new(), has_lost: false }
    }

    /// Waits until a run moves, and a moment longer for others. It may be cancelled without losing any.
    pub async fn wait(&mut self) {
        while self.moved.is_empty() && !self.has_lost {
            match self.notifications.recv().await {
                Ok(Notification::Moved { run, .. }) => {
                    self.moved.insert(run);
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => self.has_lost = true,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
        tokio::time::sleep(SETTLE).await;
    }

    /// Takes the runs that have moved; `None` if some were lost, so that any may have.
    pub fn take(&mut self) -> Option<BTreeSet<RunId>> {
        loop {
            match self.notifications.try_recv() {
                Ok(Notification::Moved { run, .. }) => {
                    self.moved.insert(run);
                }
                Ok(_) => {}
                Err(TryRecvError::Lagged(_)) => self.has_lost = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let moved = std::mem::take(&mut self.moved);
        (!std::mem::take(&mut self.has_lost)).then_some(moved)
    }
}
