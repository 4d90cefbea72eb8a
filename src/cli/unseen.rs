//! Which runs were ordered here and never seen to their end: the same command, given again after a kill, tells that end instead
//! of ordering the goal a second time.
//!
//! `<data-dir>/unseen/<run>` holds the order from when the run is followed until the command has told how it stands.

use crate::http::view::NewRun;
use std::path::PathBuf;

/// The most marks kept: a command that was killed and never given again leaves its mark behind.
const MARKS_MAX: usize = 200;

/// The marks of a data directory.
pub struct Unseen {
    dir: PathBuf,
    /// Told by this command; its mark goes when the command is through.
    told: Option<String>,
}

impl Unseen {
    /// Those of this data directory.
    pub fn of(data_dir: &std::path::Path) -> Unseen {
        Unseen { dir: data_dir.join("unseen"), told: None }
    }

    /// The names of the marks, oldest first: a run's id begins with its time.
    fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// The last run of exactly this order whose end was not told.
    pub fn find(&self, wanted: &NewRun) -> Option<String> {
        let order = serde_json::to_string(wanted).ok()?;
        let same = |name: &String| std::fs::read_to_string(self.dir.join(name)).is_ok_and(|text| text == order);
        self.names().into_iter().rev().take(MARKS_MAX).find(same)
    }

    /// Marks a run before it is followed. Without a mark a kill at the very end is not noticed, which is no reason to refuse.
    pub fn put(&self, run: &str, wanted: &NewRun) {
        let names = self.names();
        for old in names.iter().take(names.len().saturating_sub(MARKS_MAX - 1)) {
            self.remove(old);
        }
        let written = std::fs::create_dir_all(&self.dir)
            .and_then(|()| std::fs::write(self.dir.join(run), serde_json::to_string(wanted).unwrap_or_default()));
        if let Err(error) = written {
            tracing::debug!(%error, run, "could not note that this run is followed");
        }
    }

    /// Its end, or where it stands, was told.
    pub fn told(&mut self, run: &str) {
        self.told = Some(run.to_owned());
    }

    /// The last thing a command does: until then a kill is one that nobody saw the end of.
    pub fn settle(&mut self) {
        if let Some(run) = self.told.take() {
            self.remove(&run);
        }
    }

    /// Takes a mark away.
    pub fn remove(&self, run: &str) {
        // Gone already is as good.
        let _gone = std::fs::remove_file(self.dir.join(run));
    }
}
