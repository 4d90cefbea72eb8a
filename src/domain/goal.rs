//! The goal of a run, in the asker's words.

use super::Principal;
use super::spec::Spec;
use serde::{Deserialize, Serialize};

/// Upper bound on the bytes of a goal.
pub const MAX_GOAL_BYTES: usize = 64 * 1024;

/// A goal. Its text is untrusted: it is shown to people and handed to engines, never interpreted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// The asker's words.
    pub text: String,
    /// Its source.
    pub source: GoalSource,
    /// The principal who asked.
    pub asked_by: Principal,
    /// Its spec, if it was given as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Box<Spec>>,
}

impl Goal {
    /// Returns what makes it the same goal as another one of its project: its words, or for a revert the run that is
    /// reverted, whatever the reason.
    pub fn key(&self) -> String {
        match &self.source {
            GoalSource::Revert { run } => format!("revert.{run}"),
            _ => self.text.clone(),
        }
    }

    /// Passes every text in natural language to `clean`. Commands are not included.
    pub fn clean_texts(&mut self, clean: &mut dyn FnMut(&mut String)) {
        clean(&mut self.text);
        self.spec.iter_mut().flat_map(|spec| &mut spec.acceptance).for_each(|criterion| clean(&mut criterion.text));
    }

    /// Returns the title: the first line, cut to 72 characters.
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

/// The source of a goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalSource {
    /// The command line or the REST interface.
    Manual,
    /// The demo.
    Demo,
    /// A retry of an earlier run.
    Retry {
        /// The earlier run.
        run: super::RunId,
    },
    /// A revert of what an earlier run has landed.
    Revert {
        /// The earlier run.
        run: super::RunId,
    },
    /// An issue on a forge. Its text may be anybody's; the asker is the person who had it started.
    Issue {
        /// The forge.
        forge: super::ForgeName,
        /// The repository, `OWNER/REPO`.
        repository: String,
        /// The number of the issue.
        number: u64,
    },
    /// A schedule of the configuration.
    Schedule {
        /// Its name.
        name: String,
    },
}
