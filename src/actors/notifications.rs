//! Live notifications about runs: lossy by design, so that no sender ever waits for a listener.

use crate::domain::{AttemptId, RunId};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// How many notifications a slow listener may lag behind before it loses some (it then reads the journal).
const DEPTH: usize = 1024;
/// How many lines of output are kept of a run, and of how many runs: those that printed something last.
const MAX_LINES: usize = 200;
const MAX_RUNS: usize = 32;

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

/// What printed a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Printer {
    /// The engine of an attempt.
    Attempt(AttemptId),
    /// A check.
    Check(String),
}

/// The last lines of runs, those that printed last at the end.
type Recent = VecDeque<(RunId, VecDeque<(Printer, String)>)>;

/// The channel of all notifications of this process, and the last lines of output that were sent.
#[derive(Clone)]
pub struct Notifications {
    sender: broadcast::Sender<Notification>,
    recent: Arc<Mutex<Recent>>,
}

impl Default for Notifications {
    fn default() -> Self {
        Self { sender: broadcast::channel(DEPTH).0, recent: Arc::default() }
    }
}

impl Notifications {
    /// Sends to every listener.
    pub fn send(&self, notification: Notification) {
        match &notification {
            Notification::Moved { .. } => {}
            Notification::Output { run, attempt, text } => self.keep(*run, Printer::Attempt(*attempt), text),
            Notification::CheckOutput { run, check, text } => self.keep(*run, Printer::Check(check.clone()), text),
        }
        // Having no listener is the usual case, not an error.
        let _no_listener = self.sender.send(notification);
    }
    /// Receives what is sent from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Notification> {
        self.sender.subscribe()
    }
    /// Returns the last lines of output of a run, oldest first; nothing if it printed long ago, or elsewhere.
    pub fn recent(&self, run: RunId) -> Vec<(Printer, String)> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().find(|(of, _)| *of == run).map(|(_, lines)| lines.iter().cloned().collect()).unwrap_or_default()
    }
    fn keep(&self, run: RunId, printer: Printer, text: &str) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.iter().position(|(of, _)| *of == run);
        let mut lines = at.and_then(|at| recent.remove(at)).map(|(_, lines)| lines).unwrap_or_default();
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back((printer, text.to_owned()));
        recent.push_back((run, lines));
        if recent.len() > MAX_RUNS {
            recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: u8) -> RunId {
        RunId::try_from(format!("0192f0c1aaaa7bbb8ccc0123456789{n:02x}")).unwrap()
    }

    #[test]
    fn the_last_lines_of_the_runs_that_printed_last_are_kept() {
        let notifications = Notifications::default();
        let print = |of: u8, text: String| {
            notifications.send(Notification::CheckOutput { run: run(of), check: "unit".into(), text });
        };
        for n in 0..MAX_LINES + 5 {
            print(0, format!("line {n}"));
        }
        let lines = notifications.recent(run(0));
        assert_eq!((lines.len(), lines[0].1.as_str()), (MAX_LINES, "line 5"));
        assert_eq!(lines[0].0, Printer::Check("unit".into()));
        for of in 1..=u8::try_from(MAX_RUNS).unwrap() {
            print(of, "x".to_owned());
        }
        assert!(notifications.recent(run(0)).is_empty(), "others printed later");
        assert_eq!(notifications.recent(run(1)).len(), 1);
    }
}
