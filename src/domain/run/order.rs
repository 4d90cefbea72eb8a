//! The typed message that starts an attempt. An order is complete: nothing is left to choose.

use crate::domain::attempt::Resumable;
use crate::domain::budget::Usage;
use crate::domain::change::DiffStat;
use crate::domain::check::{CheckResult, CheckSpec};
use crate::domain::id::{AttemptId, RunId, Sha, TaskId};
use crate::domain::plan::TaskSpec;
use crate::domain::spec::Criterion;
use serde::{Deserialize, Serialize};

/// Role that does a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Plans the tasks.
    Manager,
    /// Explores the repository and answers questions.
    Scout,
    /// Edits the code.
    Dev,
    /// Reviews changes it did not write.
    Reviewer,
    /// Acts on the world: git, checks, the forge.
    Ops,
}

impl Role {
    /// Returns the name used in configuration, spans and pages.
    pub fn name(self) -> &'static str {
        match self {
            Role::Manager => "manager",
            Role::Scout => "scout",
            Role::Dev => "dev",
            Role::Reviewer => "reviewer",
            Role::Ops => "ops",
        }
    }
}

/// Piece of work that a role does once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The scout's exploration.
    Explore,
    /// The manager's plan.
    Plan,
    /// The dev's work.
    Develop,
    /// The reviewer's verdict.
    Review,
}

impl Step {
    /// Returns the role that does the step.
    pub fn role(self) -> Role {
        match self {
            Step::Explore => Role::Scout,
            Step::Plan => Role::Manager,
            Step::Develop => Role::Dev,
            Step::Review => Role::Reviewer,
        }
    }
    /// Returns the name used in configuration, spans and pages.
    pub fn name(self) -> &'static str {
        match self {
            Step::Explore => "explore",
            Step::Plan => "plan",
            Step::Develop => "develop",
            Step::Review => "review",
        }
    }
}

/// An engine and its argument, written `KIND` or `KIND:ARG`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineSpec {
    /// The kind (`command`, `direct`, `script`).
    pub kind: String,
    /// The argument, interpreted by the kind (a command line, a script's path).
    #[serde(default)]
    pub arg: String,
}

impl EngineSpec {
    /// Returns whether it is a plain command. Without new information, a command does the same again.
    pub fn is_command(&self) -> bool {
        self.kind == "command"
    }

    /// Returns whether Skep itself does the work, by rules: it uses no tokens and costs nothing.
    pub fn is_free(&self) -> bool {
        self.kind == "direct"
    }

    /// Returns whether it calls models, so that model calls are among what it may have used.
    pub fn calls_models(&self) -> bool {
        !matches!(self.kind.as_str(), "command" | "direct" | "open" | "script")
    }

    /// Returns whether it offers its steps to outside agents, and waits for one.
    pub fn is_open(&self) -> bool {
        self.kind == "open"
    }

    /// Returns whether it can judge by reading, which takes a model, a program or a person.
    pub fn can_judge(&self) -> bool {
        self.kind != "direct"
    }

    /// Parses `KIND` or `KIND:ARG`.
    pub fn parse(text: &str) -> EngineSpec {
        let (kind, arg) = text.split_once(':').unwrap_or((text, ""));
        EngineSpec { kind: kind.trim().to_owned(), arg: arg.trim().to_owned() }
    }

    /// Returns the written form: `KIND` or `KIND:ARG`.
    pub fn text(&self) -> String {
        if self.arg.is_empty() { self.kind.clone() } else { format!("{}:{}", self.kind, self.arg) }
    }

    /// Returns the display name: with the model or agent where the kind names one, without a command line or a path.
    pub fn named(&self) -> String {
        match self.kind.as_str() {
            "llm" | "acp" | "cli" => self.text(),
            _ => self.kind.clone(),
        }
    }

    /// Returns the model it names: `provider/model`, or `agent/model` for an agent, which does not name the provider.
    pub fn model(&self) -> Option<&str> {
        let complete = |(first, model): (&str, &str)| !first.is_empty() && !model.is_empty();
        let names =
            matches!(self.kind.as_str(), "llm" | "acp" | "cli") && self.arg.split_once('/').is_some_and(complete);
        names.then_some(self.arg.as_str())
    }
}

/// Context for an attempt beyond its task: why the last one failed, an answer, findings. Data, not instructions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Where it comes from.
    pub source: NoteSource,
    /// The text, at most [`Note::MAX_TEXT_BYTES`].
    pub text: String,
    /// The only step that receives it; `None` = every step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Step>,
}

/// Source of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteSource {
    /// The manager's plan.
    Plan,
    /// The task that an inquiry is about.
    Task,
    /// An earlier attempt that failed.
    Attempt,
    /// A plan that was refused.
    Refused,
    /// Red checks.
    Checks,
    /// Checks that are red at the base, before any change.
    Base,
    /// A reviewer's findings.
    Review,
    /// A red status on the forge.
    Status,
    /// A conflict with other commits.
    Conflict,
    /// A person who asked for something different.
    Person,
    /// A person's answer to a block.
    Answer,
    /// The scout's findings.
    Scout,
}

impl NoteSource {
    /// Returns the name used in prompts and JSON.
    pub fn name(self) -> &'static str {
        match self {
            NoteSource::Plan => "plan",
            NoteSource::Task => "task",
            NoteSource::Attempt => "attempt",
            NoteSource::Refused => "refused",
            NoteSource::Checks => "checks",
            NoteSource::Base => "base",
            NoteSource::Review => "review",
            NoteSource::Status => "status",
            NoteSource::Conflict => "conflict",
            NoteSource::Person => "person",
            NoteSource::Answer => "answer",
            NoteSource::Scout => "scout",
        }
    }
}

impl Note {
    /// Upper bound on the bytes of a note.
    pub const MAX_TEXT_BYTES: usize = 8 * 1024;

    /// Returns a note. A longer text is cut at the front, because the end of a log is more informative.
    pub fn new(source: NoteSource, text: &str) -> Note {
        let start = text.ceil_char_boundary(text.len().saturating_sub(Self::MAX_TEXT_BYTES));
        Note { source, text: text[start..].to_owned(), only: None }
    }
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The run.
    pub run: RunId,
    /// The attempt this order starts.
    pub attempt: AttemptId,
    /// The try of the step, from 1.
    pub try_number: u32,
    /// The round of the run, from 1: one more than its rounds of rework so far.
    #[serde(default)]
    pub round: u32,
    /// The step.
    pub step: Step,
    /// The engine.
    pub engine: EngineSpec,
    /// The goal's text.
    pub goal: String,
    /// For `Explore`: the question to answer; `None` = explore before the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The task, for `Develop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskOrder>,
    /// The commit to start from (`Develop`, `Plan`, `Explore`) or to review (`Review`).
    pub head: Sha,
    /// For `Develop`: the unfinished work of an earlier attempt, a commit on `head`. The attempt finds its content in
    /// the worktree, uncommitted. `None` = it starts clean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Sha>,
    /// The base the run sits on.
    pub base: Sha,
    /// Further context.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// The project's checks, for information.
    #[serde(default)]
    pub checks: Vec<CheckSpec>,
    /// The acceptance criteria of the goal. Those without a command are for the reviewer to judge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<Criterion>,
    /// For `Review`: the check results at `head`. For `Develop`: the red ones at `base`, without their output.
    #[serde(default)]
    pub results: Vec<CheckResult>,
    /// For `Review`: names of the red checks that are not charged to the change: the base fails them alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excused: Vec<String>,
    /// For `Review`: size and paths of the diff from base to head.
    #[serde(default)]
    pub diff: DiffStat,
    /// For `Review`: the policy's concerns about that diff, in words.
    #[serde(default)]
    pub concerns: Vec<String>,
    /// The part of the policy that concerns the attempt, for information. It is enforced afterwards in any case.
    #[serde(default)]
    pub bounds: Bounds,
    /// The reservation, which caps the attempt. `wall_ms` is its deadline.
    pub caps: Usage,
    /// The engine session to resume. Its process is gone; its worktree and folders are as they were left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
}

impl Order {
    /// Returns the order that resumes the attempt, with its remaining time.
    pub fn resumed(mut self, resumable: &Resumable) -> Order {
        self.caps.wall_ms = self.caps.wall_ms.saturating_sub(resumable.elapsed_ms);
        self.resume = Some(resumable.session.clone());
        self
    }
}

/// The part of the policy that an attempt should know beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// Upper bound on the tasks of a plan; 0 = unknown.
    pub max_tasks: u32,
    /// Path patterns that may be changed; empty = all.
    pub allowed_paths: Vec<String>,
    /// Path patterns that must not be changed.
    pub forbidden_paths: Vec<String>,
    /// Path patterns whose change a person has to approve.
    pub protected_paths: Vec<String>,
}

/// The task of a `Develop` order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOrder {
    /// Its id.
    pub id: TaskId,
    /// Its specification.
    pub spec: TaskSpec,
}
