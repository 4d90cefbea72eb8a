//! News of runs for people who watch: lossy by design, never waited for.

use crate::domain::{AttemptId, RunId};
use tokio::sync::broadcast;

/// How many pieces of news a slow watcher may be behind before it loses some (it then reads the journal).
const DEPTH: usize = 1024;

/// A piece of news.
#[derive(Clone, Debug)]
pub enum News {
    /// A transition was committed: read the journal up to `seq`.
    Moved {
        /// The run.
        run: RunId,
        /// Its last event.
        seq: u64,
    },
    /// An engine gave a sign of life.
    Said {
        /// The run.
        run: RunId,
        /// The attempt.
        attempt: AttemptId,
        /// A line, capped, hostile.
        text: String,
    },
}

/// The feed.
#[derive(Clone)]
pub struct Notifications(broadcast::Sender<News>);

impl Default for Notifications {
    fn default() -> Self {
        Self(broadcast::channel(DEPTH).0)
    }
}

impl Notifications {
    /// Tells whoever listens.
    pub fn tell(&self, news: News) {
        // No listener is the usual case, not an error.
        let _nobody = self.0.send(news);
    }
    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<News> {
        self.0.subscribe()
    }
}
