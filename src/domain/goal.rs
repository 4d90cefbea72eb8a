//! What was asked, in the asker's words.

use super::Principal;
use serde::{Deserialize, Serialize};

/// The longest goal text accepted, in bytes.
pub const GOAL_BYTES_MAX: usize = 64 * 1024;

/// A goal: hostile text until a gate says otherwise. It is shown and handed to engines, never interpreted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// The asker's words.
    pub text: String,
    /// Where it came from.
    pub source: GoalSource,
    /// Who asked.
    pub asked_by: Principal,
}

impl Goal {
    /// The first line, cut to 72 characters: a title.
    pub fn title(&self) -> String {
        let clean = |l: &str| l.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned();
        let line = self.text.lines().map(clean).find(|l| !l.is_empty()).unwrap_or_else(|| "untitled goal".to_owned());
        if line.chars().count() <= 72 {
            return line;
        }
        let cut: String = line.chars().take(71).collect();
        format!("{}…", cut.trim_end())
    }
}

/// Where a goal came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalSource {
    /// The command line or the REST interface.
    Manual,
    /// The demo.
    Demo,
    /// An earlier run, tried again.
    Retry { run: super::RunId },
}
