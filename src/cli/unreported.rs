//! Orders whose outcome no command has reported: the same command, given again after a kill, gets the same run instead of
//! starting the goal a second time.
//!
//! `<data-dir>/unreported/<key>` holds the order from before it is sent until a command has reported the run's state. The
//! key is the order's idempotency key, so that the service returns the run it opened, whether or not the run has ended.

use crate::http::rest::wire::NewRun;
use std::path::{Path, PathBuf};

/// Maximum number of marks: a command that was killed and never repeated leaves its mark behind.
const MAX_MARKS: usize = 200;

/// Marks of a data directory.
pub struct UnreportedOrders {
    dir: PathBuf,
    /// Key of the order that was reported by this command; its mark is removed when the command ends.
    reported: Option<String>,
}

impl UnreportedOrders {
    /// Opens the marks of a data directory.
    pub fn of(data_dir: &Path) -> UnreportedOrders {
        UnreportedOrders { dir: data_dir.join("unreported"), reported: None }
    }

    /// Returns the names of the marks, oldest first: a key begins with its time.
    fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// Returns the key of exactly this order if its outcome was not reported yet.
    pub fn find(&self, order: &NewRun) -> Option<String> {
        let order = serde_json::to_string(order).ok()?;
        let same = |name: &String| std::fs::read_to_string(self.dir.join(name)).is_ok_and(|text| text == order);
        self.names().into_iter().rev().take(MAX_MARKS).find(same)
    }

    /// Marks an order before it is sent and returns its key. If the mark cannot be written, only a kill goes unnoticed,
    /// so this never fails.
    pub fn mark(&self, order: &NewRun) -> String {
        let names = self.names();
        for old in names.iter().take(names.len().saturating_sub(MAX_MARKS - 1)) {
            self.remove(old);
        }
        let key = uuid::Uuid::now_v7().simple().to_string();
        let written = std::fs::create_dir_all(&self.dir)
            .and_then(|()| std::fs::write(self.dir.join(&key), serde_json::to_string(order).unwrap_or_default()));
        if let Err(error) = written {
            tracing::debug!(%error, key, "cannot mark the order");
        }
        key
    }

    /// Records that the state of the order's run was reported.
    pub fn set_reported(&mut self, key: &str) {
        self.reported = Some(key.to_owned());
    }

    /// Removes the mark of the reported order. This is the last thing a command does: if it is killed earlier, the end of
    /// the run counts as unreported.
    pub fn settle(&mut self) {
        if let Some(key) = self.reported.take() {
            self.remove(&key);
        }
    }

    /// Removes a mark.
    pub fn remove(&self, key: &str) {
        // A missing mark is fine.
        let _already_gone = std::fs::remove_file(self.dir.join(key));
    }
}
