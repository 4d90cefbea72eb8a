//! Runs that a command started and whose end it never reported: the same command, given again after a kill, reports
//! that end instead of starting the goal a second time.
//!
//! `<data-dir>/unreported/<run>` holds the order from when the run is followed until the command has reported its
//! state.

use crate::http::rest::wire::NewRun;
use std::path::{Path, PathBuf};

/// Maximum number of marks: a command that was killed and never repeated leaves its mark behind.
const MAX_MARKS: usize = 200;

/// Marks of a data directory.
pub struct UnreportedRuns {
    dir: PathBuf,
    /// Run reported by this command; its mark is removed when the command ends.
    reported: Option<String>,
}

impl UnreportedRuns {
    /// Opens the marks of a data directory.
    pub fn of(data_dir: &Path) -> UnreportedRuns {
        UnreportedRuns { dir: data_dir.join("unreported"), reported: None }
    }

    /// Returns the names of the marks, oldest first: a run's id begins with its time.
    fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// Finds the newest run of exactly this order whose end was not reported.
    pub fn find(&self, order: &NewRun) -> Option<String> {
        let order = serde_json::to_string(order).ok()?;
        let same = |name: &String| std::fs::read_to_string(self.dir.join(name)).is_ok_and(|text| text == order);
        self.names().into_iter().rev().take(MAX_MARKS).find(same)
    }

    /// Marks a run before it is followed. If the mark cannot be written, only a kill at the very end goes unnoticed, so
    /// this never fails.
    pub fn mark(&self, run: &str, order: &NewRun) {
        let names = self.names();
        for old in names.iter().take(names.len().saturating_sub(MAX_MARKS - 1)) {
            self.remove(old);
        }
        let written = std::fs::create_dir_all(&self.dir)
            .and_then(|()| std::fs::write(self.dir.join(run), serde_json::to_string(order).unwrap_or_default()));
        if let Err(error) = written {
            tracing::debug!(%error, run, "cannot mark the followed run");
        }
    }

    /// Records that the end of a run, or its state, was reported.
    pub fn set_reported(&mut self, run: &str) {
        self.reported = Some(run.to_owned());
    }

    /// Removes the mark of the reported run. This is the last thing a command does: if it is killed earlier, the end of
    /// the run counts as unreported.
    pub fn settle(&mut self) {
        if let Some(run) = self.reported.take() {
            self.remove(&run);
        }
    }

    /// Removes a mark.
    pub fn remove(&self, run: &str) {
        // A missing mark is fine.
        let _already_gone = std::fs::remove_file(self.dir.join(run));
    }
}
