//! One piece of the plan: ends integrated on the run's branch, or dropped.

use super::change::{Concern, DiffStat};
use super::check::CheckResult;
use super::id::{Sha, TaskId};
use super::order::Note;
use super::plan::TaskSpec;
use serde::{Deserialize, Serialize};

/// A task of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its number, in plan order.
    pub id: TaskId,
    /// What the plan (or Skep, for rework) says.
    pub spec: TaskSpec,
    /// Why there is such a task.
    pub origin: Origin,
    /// Where it is.
    pub stage: Stage,
    /// Tries counted against the step's limit.
    pub tries: u32,
    /// Tries allowed; a person's unblock adds to it.
    pub tries_allowed: u32,
    /// Attempts lost in a row to dead processes.
    #[serde(default)]
    pub losses: u32,
    /// The commit it is developed on, while developing and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Sha>,
    /// The commit it produced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Sha>,
    /// Against `base`.
    #[serde(default)]
    pub diff: DiffStat,
    /// Concerns a person has already accepted for it.
    #[serde(default)]
    pub accepted: Vec<Concern>,
    /// What the next attempt is told.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// What the checks found last.
    #[serde(default)]
    pub results: Vec<CheckResult>,
}

/// Why a task exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The manager's plan.
    Plan,
    /// Red checks at the head.
    Checks,
    /// A reviewer's findings.
    Review,
    /// A red status on the forge.
    Status,
    /// The base moved in a way that needs hands.
    Conflict,
    /// A person said "not like this".
    Person,
}

impl Origin {
    /// Its name, as the source of the task's first note.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Plan => "plan",
            Origin::Checks => "checks",
            Origin::Review => "review",
            Origin::Status => "status",
            Origin::Conflict => "conflict",
            Origin::Person => "person",
        }
    }
}

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Needs are missing.
    Waiting,
    /// May start.
    Ready,
    /// A dev is at it.
    Developing,
    /// Its commit is being checked.
    Checking,
    /// Its commit waits for its turn on the run's branch, or is being put there.
    Integrating,
    /// On the run's branch.
    Integrated,
    /// Given up.
    Dropped,
}

impl Stage {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting",
            Stage::Ready => "ready",
            Stage::Developing => "developing",
            Stage::Checking => "checking",
            Stage::Integrating => "integrating",
            Stage::Integrated => "integrated",
            Stage::Dropped => "dropped",
        }
    }
}

impl Task {
    /// The most notes kept for the next attempt; older ones go first.
    pub const NOTES_MAX: usize = 6;

    /// A task nothing has happened to yet.
    pub fn new(id: TaskId, spec: TaskSpec, origin: Origin, stage: Stage, tries_allowed: u32) -> Task {
        Task {
            id,
            spec,
            origin,
            stage,
            tries: 0,
            tries_allowed,
            losses: 0,
            base: None,
            head: None,
            diff: DiffStat::default(),
            accepted: Vec::new(),
            notes: Vec::new(),
            results: Vec::new(),
        }
    }

    /// Whether nothing more happens to it.
    pub fn over(&self) -> bool {
        matches!(self.stage, Stage::Integrated | Stage::Dropped)
    }

    /// Adds a note for the next attempt.
    pub fn note(&mut self, from: &str, text: &str) {
        self.notes.push(Note::new(from, text));
        if self.notes.len() > Self::NOTES_MAX {
            self.notes.remove(0);
        }
    }

    /// Back to the start line, told why.
    pub fn again(&mut self, from: &str, why: &str) {
        self.stage = Stage::Ready;
        self.head = None;
        self.note(from, why);
    }
}
