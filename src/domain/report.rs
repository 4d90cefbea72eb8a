//! The typed message that ends an attempt: exactly one each.

use super::artifact::ArtifactRef;
use super::budget::{ModelUse, Usage};
use super::change::DiffStat;
use super::id::{AttemptId, Sha, Timestamp};
use super::plan::TaskSpec;
use serde::{Deserialize, Serialize};

/// A report with what it cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The attempt that ends.
    pub attempt: AttemptId,
    /// How.
    pub report: Report,
    /// What was used; `None` = not known, the whole reservation is charged.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// The engine's session, where there is one.
    #[serde(default)]
    pub session: Option<String>,
    /// What it left.
    #[serde(default)]
    pub artifacts: Vec<ArtifactRef>,
    /// Which models it used for what.
    #[serde(default)]
    pub bill: Vec<ModelUse>,
    /// The secrets of the vault it was given, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The scout's findings.
    Explored {
        /// For the manager.
        notes: String,
    },
    /// The manager's tasks.
    Planned {
        /// In plan order.
        tasks: Vec<TaskSpec>,
    },
    /// The dev's work, committed by Skep from what the worktree held. An empty diff is reported too, and refused.
    Developed {
        /// The commit; the order's head when nothing changed.
        head: Sha,
        /// Against the order's head.
        diff: DiffStat,
        /// What it says it did.
        summary: String,
    },
    /// The reviewer's verdict on exactly `head`.
    Reviewed {
        /// The commit judged.
        head: Sha,
        /// The verdict.
        verdict: Verdict,
        /// What was found.
        findings: Vec<Finding>,
        /// In a sentence or two.
        summary: String,
    },
    /// It needs an answer before it can go on.
    Asked {
        /// What it needs to know.
        question: String,
        /// Who should answer.
        #[serde(default)]
        to: AskedTo,
    },
    /// It failed: a fact about the work or the engine.
    Failed {
        /// Why.
        why: String,
    },
    /// What was set aside for it did not suffice for its next call. Where that was cut short by what is left of a budget, more of it is
    /// asked for and no try counts; where it was the step's own limit, it failed.
    SpentOut {
        /// Of what: `tokens`, `money`, `turns`.
        what: String,
        /// In words.
        why: String,
    },
    /// The engine cannot be used now: quota, outage, a key or model that does not work. Says nothing about the work, costs no try.
    Unavailable {
        /// What happened, to which engine.
        why: String,
        /// When it can be used again, where that is known.
        until: Option<Timestamp>,
        /// What a person has to do first; `None` = waiting helps.
        fix: Option<String>,
    },
    /// It is gone: a panic, a dead actor. Charged what was counted of it, else in full.
    Lost {
        /// What is known.
        why: String,
    },
    /// It was to be taken up again after its process was gone, and could not be. It is lost with that process.
    NotResumed {
        /// Why.
        why: String,
    },
    /// It was told to stop.
    Stopped,
}

impl Report {
    /// Its name, for spans.
    pub fn name(&self) -> &'static str {
        match self {
            Report::Explored { .. } => "explored",
            Report::Planned { .. } => "planned",
            Report::Developed { .. } => "developed",
            Report::Reviewed { .. } => "reviewed",
            Report::Asked { .. } => "asked",
            Report::Failed { .. } => "failed",
            Report::SpentOut { .. } => "spent_out",
            Report::Unavailable { .. } => "unavailable",
            Report::Lost { .. } => "lost",
            Report::NotResumed { .. } => "not_resumed",
            Report::Stopped => "stopped",
        }
    }
}

/// Whom an attempt asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedTo {
    /// A person: something has to be decided.
    #[default]
    Person,
    /// The scout: something has to be looked up. A person, where there is no scout or it finds nothing.
    Scout,
}

/// A reviewer's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Good to go on.
    Approve,
    /// The findings must be worked on first.
    Rework,
}

/// One finding of a review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Where; empty = the change as a whole.
    #[serde(default)]
    pub path: String,
    /// The line there, from 1; 0 = the file.
    #[serde(default)]
    pub line: u64,
    /// What is wrong and what would be right.
    pub text: String,
}

impl Finding {
    /// The most findings one report keeps.
    pub const MOST: usize = 50;
}
