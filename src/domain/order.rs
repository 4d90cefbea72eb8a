//! The typed message that starts an attempt: complete, nothing left to choose.

use super::attempt::Resumable;
use super::budget::Usage;
use super::change::DiffStat;
use super::check::{CheckResult, CheckSpec};
use super::id::{AttemptId, RunId, Sha, TaskId};
use super::plan::TaskSpec;
use serde::{Deserialize, Serialize};

/// Who does a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Plans.
    Manager,
    /// Looks around and answers questions.
    Scout,
    /// Edits.
    Dev,
    /// Judges what it did not write.
    Reviewer,
    /// Acts on the world: git, checks, the forge.
    Ops,
}

impl Role {
    /// Its name in configuration, spans and pages.
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

/// What a role does once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The scout's look.
    Explore,
    /// The manager's plan.
    Plan,
    /// The dev's work.
    Develop,
    /// The reviewer's verdict.
    Review,
}

impl Step {
    /// Who does it.
    pub fn role(self) -> Role {
        match self {
            Step::Explore => Role::Scout,
            Step::Plan => Role::Manager,
            Step::Develop => Role::Dev,
            Step::Review => Role::Reviewer,
        }
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Step::Explore => "explore",
            Step::Plan => "plan",
            Step::Develop => "develop",
            Step::Review => "review",
        }
    }
}

/// Which engine, and its argument: written `KIND` or `KIND:ARG`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineSpec {
    /// The kind (`command`, `direct`, `script`).
    pub kind: String,
    /// What the kind makes of it (a command line, a script's path).
    #[serde(default)]
    pub arg: String,
}

impl EngineSpec {
    /// Reads `KIND` or `KIND:ARG`.
    pub fn parse(text: &str) -> EngineSpec {
        let (kind, arg) = text.split_once(':').unwrap_or((text, ""));
        EngineSpec { kind: kind.trim().to_owned(), arg: arg.trim().to_owned() }
    }

    /// As it is written: `KIND` or `KIND:ARG`.
    pub fn text(&self) -> String {
        if self.arg.is_empty() { self.kind.clone() } else { format!("{}:{}", self.kind, self.arg) }
    }

    /// What people call it: with its model or agent where the kind names one, without a command line or a path.
    pub fn named(&self) -> String {
        match self.kind.as_str() {
            "llm" | "acp" | "cli" => self.text(),
            _ => self.kind.clone(),
        }
    }
}

impl EngineSpec {
    /// The model it names: `provider/model`, or `agent/model` of a driven agent, which says nothing of the provider.
    pub fn model(&self) -> Option<&str> {
        let named = |(first, model): (&str, &str)| !first.is_empty() && !model.is_empty();
        let names = matches!(self.kind.as_str(), "llm" | "acp" | "cli") && self.arg.split_once('/').is_some_and(named);
        names.then_some(self.arg.as_str())
    }
}

/// Something an attempt is told besides its task: why the last one failed, an answer, findings. Data, not instructions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Where it comes from (`checks`, `review`, `conflict`, `answer`, `refused`, `scout`).
    pub from: String,
    /// What it says, at most [`Note::TEXT_MAX`] bytes.
    pub text: String,
    /// The one step that is told it; `None` = everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Step>,
}

impl Note {
    /// The most bytes a note keeps.
    pub const TEXT_MAX: usize = 8 * 1024;

    /// A note, its text cut to the cap from the front (the end of a log tells more).
    pub fn new(from: &str, text: &str) -> Note {
        let mut start = text.len().saturating_sub(Self::TEXT_MAX);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        Note { from: from.to_owned(), text: text[start..].to_owned(), only: None }
    }
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The run.
    pub run: RunId,
    /// The attempt this order starts.
    pub attempt: AttemptId,
    /// The try of its step this is, from 1.
    pub try_number: u32,
    /// The round of the run, from 1: one more than its goings-back so far.
    #[serde(default)]
    pub round: u32,
    /// The step.
    pub step: Step,
    /// The engine.
    pub engine: EngineSpec,
    /// The goal's text.
    pub goal: String,
    /// For `Explore`: what somebody wants to know; `None` = a look around before the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The task, for `Develop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskOrder>,
    /// The commit it starts from (`Develop`, `Plan`, `Explore`) or judges (`Review`).
    pub head: Sha,
    /// The base the run sits on.
    pub base: Sha,
    /// What it is told besides.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// The project's checks, for its information.
    #[serde(default)]
    pub checks: Vec<CheckSpec>,
    /// For `Review`: what the checks found at `head`.
    #[serde(default)]
    pub results: Vec<CheckResult>,
    /// For `Review`: the diff's size and paths from base to head.
    #[serde(default)]
    pub diff: DiffStat,
    /// For `Review`: the policy's concerns about that diff, in words.
    #[serde(default)]
    pub concerns: Vec<String>,
    /// What the policy lets it do, for its information: enforced afterwards, whatever it does.
    #[serde(default)]
    pub bounds: Bounds,
    /// What was set aside: its caps. `wall_ms` is its deadline.
    pub caps: Usage,
    /// The engine's conversation to take up again: the process that began it is gone, its worktree and folders are as they were left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
}

impl Order {
    /// The same order for an attempt that is taken up again: with what is left of its time.
    pub fn again(mut self, resumable: &Resumable) -> Order {
        self.caps.wall_ms = self.caps.wall_ms.saturating_sub(resumable.before_ms);
        self.resume = Some(resumable.session.clone());
        self
    }
}

/// The part of the policy that whoever plans or edits should know beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// The most tasks a plan may have; 0 = not told.
    pub max_tasks: u32,
    /// Path patterns that may be changed; empty = all.
    pub allowed: Vec<String>,
    /// Path patterns that must not be changed.
    pub forbidden: Vec<String>,
    /// Path patterns whose change a person has to approve.
    pub protected: Vec<String>,
}

/// The task of a `Develop` order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOrder {
    /// Its id.
    pub id: TaskId,
    /// What the plan says.
    pub spec: TaskSpec,
}
