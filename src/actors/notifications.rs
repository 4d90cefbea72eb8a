//! Live notifications about runs: lossy by design, so that no sender ever waits for a listener.

use crate::domain::{AttemptId, RunId};
use tokio::sync::broadcast;

/// How many notifications a slow listener may lag behind before it loses some (it then reads the journal).
const DEPTH: usize = 1024;

/// One notification.
#[derive(Clone, Debug)]
pub enum Notification {
    /// A transition was committed: the journal can be read up to `seq`.
    Moved {
        /// The run.
        run: RunId,
        /// Its last event.
        seq: u64,
    },
    /// An engine produced output.
    Output {
        /// The run.
        run: RunId,
        /// The attempt.
        attempt: AttemptId,
        /// One line, capped; untrusted.
        text: String,
    },
    /// A check produced output.
    CheckOutput {
        /// The run.
        run: RunId,
        /// The name of the check.
        check: String,
        /// One line, capped; untrusted.
        text: String,
    },
}

/// The channel of all notifications of this process.
#[derive(Clone)]
pub struct Notifications(broadcast::Sender<Notification>);

impl Default for Notifications {
    fn default() -> Self {
        Self(broadcast::channel(DEPTH).0)
    }
}

impl Notifications {
    /// Sends to every listener.
    pub fn send(&self, notification: Notification) {
        // Having no listener is the usual case, not an error.
        let _no_listener = self.0.send(notification);
    }
    /// Receives what is sent from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Notification> {
        self.0.subscribe()
    }
}
