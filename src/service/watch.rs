//! Watching a run: each row of its journal once, in order, without a gap, wherever the watcher resumes.
//!
//! Notifications only hurry the next read: they are lossy by design and do not cover what another process commits. The
//! journal is therefore read from the last row sent, on each notification and every few seconds.

use super::runs::find_id;
use super::{Caller, Right, ServiceResult, Services};
use crate::actors::{Notification, Printer};
use crate::domain::{AttemptId, Outcome, Run, RunId, status};
use crate::ports::PortResult;
use crate::ports::journal::JournalRow;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout_at};

/// Journal rows read at once.
const ROWS: u64 = 200;
/// Interval at which the journal is read without a notification.
const READ_EVERY: Duration = Duration::from_secs(3);

/// Item that a watcher receives.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Row of the journal.
    Row(JournalRow),
    /// Line of output of a running engine. Some may be lost.
    Output {
        /// Run.
        run: RunId,
        /// Attempt.
        attempt: AttemptId,
        /// Text, one line, from outside.
        text: String,
    },
    /// Line of output of a running check. Some may be lost.
    CheckOutput {
        /// Run.
        run: RunId,
        /// Name of the check.
        check: String,
        /// Text, one line, from outside.
        text: String,
    },
    /// The run has ended; nothing follows.
    End {
        /// Run.
        run: RunId,
        /// Status word.
        status: &'static str,
        /// Outcome.
        outcome: Option<Outcome>,
    },
}

/// Watcher of one run.
pub struct Watch {
    services: Services,
    run: RunId,
    notifications: broadcast::Receiver<Notification>,
    /// Last row sent.
    last: u64,
    ready: VecDeque<Seen>,
    /// Whether the journal may have rows that were not read.
    read_now: bool,
    /// When it is read without a notification.
    read_at: Instant,
    is_over: bool,
}

/// Starts watching a run after the row `after`.
///
/// # Errors
/// `no_run` or `several_runs`.
pub async fn watch(s: &Services, caller: &Caller, run: &str, after: u64) -> ServiceResult<Watch> {
    let run = find_id(s, caller, Right::Read, run).await?;
    Ok(Watch {
        // Subscribed before the first read: what is committed in between is notified and read once.
        notifications: s.notifications.subscribe(),
        services: s.clone(),
        run,
        // The store counts in signed numbers.
        last: after.min(i64::MAX as u64),
        ready: VecDeque::new(),
        read_now: true,
        read_at: Instant::now(),
        is_over: false,
    })
}

impl Watch {
    /// Waits for what comes next; `None` after the end.
    pub async fn next(&mut self) -> Option<Seen> {
        loop {
            if let Some(seen) = self.ready.pop_front() {
                return Some(seen);
            }
            if self.is_over {
                return None;
            }
            if std::mem::take(&mut self.read_now)
                && let Err(error) = self.read().await
            {
                // The watcher is not notified: the store may respond next time.
                tracing::debug!(%error, run = %self.run, "a watcher cannot read the journal");
            }
            if self.ready.is_empty() && !self.read_now && !self.is_over {
                self.wait().await;
            }
        }
    }

    /// Reads new rows, and detects the end.
    async fn read(&mut self) -> PortResult<()> {
        self.read_at = Instant::now() + READ_EVERY;
        let rows = self.services.store.events(self.run, self.last, ROWS).await?;
        let is_full = rows.len() as u64 == ROWS;
        for row in rows {
            self.last = row.seq;
            self.ready.push_back(Seen::Row(row));
        }
        if is_full {
            self.read_now = true;
            return Ok(());
        }
        // A run that cannot be read has no end to report; its rows still come.
        if let Ok(Some(run)) = self.services.store.load(self.run).await
            && run.ended()
        {
            if run.seq > self.last {
                self.read_now = true;
            } else {
                let status = status::of_run(&run).word();
                self.ready.push_back(Seen::End { run: run.id, status, outcome: run.outcome });
                self.is_over = true;
            }
        }
        Ok(())
    }

    async fn wait(&mut self) {
        match timeout_at(self.read_at, self.notifications.recv()).await {
            Ok(Ok(Notification::Output { run, attempt, text })) if run == self.run => {
                self.ready.push_back(Seen::Output { run, attempt, text });
            }
            Ok(Ok(Notification::Moved { run, seq })) => self.read_now = run == self.run && seq > self.last,
            Ok(Ok(Notification::CheckOutput { run, check, text })) if run == self.run => {
                self.ready.push_back(Seen::CheckOutput { run, check, text });
            }
            Ok(Ok(Notification::Output { .. } | Notification::CheckOutput { .. })) => {}
            Ok(Err(broadcast::error::RecvError::Closed)) => {
                tokio::time::sleep_until(self.read_at).await;
                self.read_now = true;
            }
            Ok(Err(broadcast::error::RecvError::Lagged(_))) | Err(_) => self.read_now = true,
        }
    }
}

/// That something moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// A run moved.
    Run {
        /// The run.
        run: RunId,
        /// Its last event.
        seq: u64,
    },
    /// Any run may have moved: the watcher was too slow.
    Unknown,
}

/// What happens to runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// One moved.
    Moved(Moved),
    /// One printed something.
    Printed(RunId),
}

/// Shortest time between two reports that a run printed something.
const PRINTED_INTERVAL: Duration = Duration::from_secs(2);

/// Watcher of all runs that this process drives. It hurries readers, and promises nothing: movements may be lost.
pub struct Moves {
    services: Services,
    caller: Caller,
    notifications: broadcast::Receiver<Notification>,
    /// The run that printed last, and when that was reported.
    printed: Option<(RunId, Instant)>,
}

/// Returns the last lines that the work in progress of a run has printed in this process.
pub fn recent_output(s: &Services, run: &Run) -> Vec<(Printer, String)> {
    let is_current = |printer: &Printer| match printer {
        Printer::Attempt(id) => run.attempt(*id).is_some_and(|attempt| attempt.ended.is_none()),
        Printer::Check(_) => run.blocks.is_empty(),
    };
    let lines = s.notifications.recent(run.id).into_iter();
    if run.ended() { Vec::new() } else { lines.filter(|(printer, _)| is_current(printer)).collect() }
}

/// Starts watching all runs that the caller can read.
///
/// # Errors
/// `missing_right` without [`Right::Read`].
pub fn moves(s: &Services, caller: &Caller) -> ServiceResult<Moves> {
    caller.require_somewhere(Right::Read)?;
    let notifications = s.notifications.subscribe();
    Ok(Moves { services: s.clone(), caller: caller.clone(), notifications, printed: None })
}

impl Moves {
    /// Waits for the next movement; `None` when the service stops.
    pub async fn next(&mut self) -> Option<Moved> {
        loop {
            if let News::Moved(moved) = self.news().await? {
                return Some(moved);
            }
        }
    }

    /// Waits for the next movement or output; `None` when the service stops.
    pub async fn news(&mut self) -> Option<News> {
        loop {
            match self.notifications.recv().await {
                Ok(Notification::Moved { run, seq }) if self.is_readable(run).await => {
                    return Some(News::Moved(Moved::Run { run, seq }));
                }
                Ok(Notification::Output { run, .. } | Notification::CheckOutput { run, .. })
                    if self.printed.is_none_or(|(last, at)| last != run || at.elapsed() >= PRINTED_INTERVAL)
                        && self.is_readable(run).await =>
                {
                    self.printed = Some((run, Instant::now()));
                    return Some(News::Printed(run));
                }
                Ok(Notification::Moved { .. } | Notification::Output { .. } | Notification::CheckOutput { .. }) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return Some(News::Moved(Moved::Unknown)),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    async fn is_readable(&self, run: RunId) -> bool {
        if self.caller.require(Right::Read).is_ok() {
            return true;
        }
        // A movement may be lost, but one of a project that the caller cannot read must not be reported.
        let project = self.services.store.project_of(run).await;
        project.ok().flatten().is_some_and(|project| self.caller.has(Right::Read, &project))
    }
}
