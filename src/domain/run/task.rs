//! One piece of the plan. A task ends integrated on the run's branch, or dropped.

use crate::domain::change::{Concern, DiffStat, FileChange};
use crate::domain::check::CheckResult;
use crate::domain::id::{Sha, TaskId};
use crate::domain::order::{Note, NoteSource};
use crate::domain::plan::TaskSpec;
use serde::{Deserialize, Serialize};

/// A task of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its number, in plan order.
    pub id: TaskId,
    /// Its specification by the plan (or by Skep, for rework).
    pub spec: TaskSpec,
    /// Why the task exists.
    pub origin: Origin,
    /// Its stage.
    pub stage: Stage,
    /// Tries counted against the step's limit.
    pub tries: u32,
    /// Tries allowed; a person's answer adds to it.
    pub tries_allowed: u32,
    /// Attempts in a row lost to dead processes.
    #[serde(default)]
    pub losses: u32,
    /// The commit it is developed on, while developing and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Sha>,
    /// The commit it produced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Sha>,
    /// Unfinished work on `base` that the next attempt may continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Sha>,
    /// The diff from `base` to `head`.
    #[serde(default)]
    pub diff: DiffStat,
    /// Concerns a person has already accepted for it.
    #[serde(default)]
    pub accepted: Vec<Concern>,
    /// The files that these concerns were about, as they were then: other content is a new question.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted_files: Vec<FileChange>,
    /// Notes for the next attempt.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// The most recent check results.
    #[serde(default)]
    pub results: Vec<CheckResult>,
}

/// Reason why a task exists.
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
    /// The base moved and the change conflicts with it.
    Conflict,
    /// A person asked for something different.
    Person,
}

impl Origin {
    /// Returns the name used in JSON and pages.
    pub fn name(self) -> &'static str {
        self.note_source().name()
    }

    /// Returns the source of the task's first note.
    pub fn note_source(self) -> NoteSource {
        match self {
            Origin::Plan => NoteSource::Plan,
            Origin::Checks => NoteSource::Checks,
            Origin::Review => NoteSource::Review,
            Origin::Status => NoteSource::Status,
            Origin::Conflict => NoteSource::Conflict,
            Origin::Person => NoteSource::Person,
        }
    }
}

/// The stage of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its needs are missing.
    Waiting,
    /// It may start.
    Ready,
    /// A dev is working on it.
    Developing,
    /// Its commit is being checked.
    Checking,
    /// Its commit waits for its turn on the run's branch, or is being put there.
    Integrating,
    /// It is on the run's branch.
    Integrated,
    /// It was given up.
    Dropped,
}

impl Stage {
    /// Returns the name used in JSON and pages.
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
    /// Upper bound on notes for the next attempt; the oldest are dropped first.
    pub const MAX_NOTES: usize = 6;

    /// Accepts concerns about its diff.
    pub fn accept(&mut self, concerns: &[Concern]) {
        for concern in concerns {
            for file in concern.files(&self.diff) {
                self.accepted_files.retain(|known| known.path != file.path);
                self.accepted_files.push(file.clone());
            }
            if !self.accepted.contains(concern) {
                self.accepted.push(concern.clone());
            }
        }
    }

    /// Returns whether a person accepted this concern about exactly this content. Files that are not listed may be
    /// different ones.
    pub fn has_accepted(&self, concern: &Concern, diff: &DiffStat) -> bool {
        self.accepted.contains(concern)
            && diff.files_total == diff.files.len() as u64
            && concern.files(diff).into_iter().all(|file| self.accepted_files.contains(file))
    }

    /// Returns a fresh task.
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
            unfinished: None,
            diff: DiffStat::default(),
            accepted: Vec::new(),
            accepted_files: Vec::new(),
            notes: Vec::new(),
            results: Vec::new(),
        }
    }

    /// Returns whether the task has ended: integrated or dropped.
    pub fn over(&self) -> bool {
        matches!(self.stage, Stage::Integrated | Stage::Dropped)
    }

    /// Adds a note for the next attempt.
    pub fn note(&mut self, source: NoteSource, text: &str) {
        self.notes.push(Note::new(source, text));
        if self.notes.len() > Self::MAX_NOTES {
            self.notes.remove(0);
        }
    }

    /// Returns the task to `Ready` with a note that says why. The next attempt starts clean.
    pub fn restart(&mut self, source: NoteSource, why: &str) {
        self.restart_with(None, source, why);
    }

    /// Returns the task to `Ready` with a note that says why, and with the unfinished work to continue, if any.
    pub fn restart_with(&mut self, unfinished: Option<Sha>, source: NoteSource, why: &str) {
        self.stage = Stage::Ready;
        self.head = None;
        self.unfinished = unfinished;
        self.note(source, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::change::FileKind;

    #[test]
    fn an_accepted_concern_holds_for_the_content_that_was_shown() {
        let file = |path: &str, blob: &str| FileChange {
            path: path.to_owned(),
            kind: FileKind::Modified,
            added: 1,
            removed: 1,
            binary: false,
            blob: Some(Sha::from(blob.repeat(40).as_str())),
        };
        let diff = |files: &[FileChange]| DiffStat {
            files: files.to_vec(),
            files_total: files.len() as u64,
            ..DiffStat::default()
        };
        let concern = Concern::Protected { paths: vec!["ci.yml".to_owned()] };
        let shown = diff(&[file("ci.yml", "a"), file("a.txt", "b")]);
        let [name, title, text] = [const { String::new() }; 3];
        let spec = TaskSpec { name, title, text, needs: Vec::new(), paths: Vec::new() };
        let mut task = Task { diff: shown.clone(), ..Task::new(TaskId(1), spec, Origin::Plan, Stage::Checking, 3) };
        assert!(!task.has_accepted(&concern, &shown));
        task.accept(std::slice::from_ref(&concern));
        assert!(task.has_accepted(&concern, &shown));
        assert!(task.has_accepted(&concern, &diff(&[file("ci.yml", "a"), file("a.txt", "c")])), "another file");
        assert!(!task.has_accepted(&concern, &diff(&[file("ci.yml", "c"), file("a.txt", "b")])), "other content");
        let deleted = FileChange { kind: FileKind::Deleted, blob: None, ..file("ci.yml", "a") };
        assert!(!task.has_accepted(&concern, &diff(&[deleted])), "its deletion");
        let unlisted = DiffStat { files_total: 3, ..shown.clone() };
        assert!(!task.has_accepted(&concern, &unlisted), "a file that is not listed may be any");
        let of_an_earlier_version = Task { accepted_files: Vec::new(), ..task.clone() };
        assert!(!of_an_earlier_version.has_accepted(&concern, &shown));
    }
}
