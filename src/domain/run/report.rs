//! The typed message that ends an attempt: exactly one per attempt.

use crate::domain::artifact::ArtifactRef;
use crate::domain::budget::{BudgetKind, ModelUse, Usage};
use crate::domain::change::DiffStat;
use crate::domain::id::{AttemptId, Sha, Timestamp};
use crate::domain::plan::TaskSpec;
use serde::{Deserialize, Serialize};

/// A report with its usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The attempt that ended.
    pub attempt: AttemptId,
    /// How it ended.
    pub report: Report,
    /// Its usage; `None` = unknown, so the whole reservation is charged.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// The engine's session, if any.
    #[serde(default)]
    pub session: Option<String>,
    /// Its artifacts.
    #[serde(default)]
    pub artifacts: Vec<ArtifactRef>,
    /// Usage by model.
    #[serde(default)]
    pub usage_by_model: Vec<ModelUse>,
    /// Names of the vault secrets it received.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Version of the prompt it was given: the digest of its template files. `None` for an engine without a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_digest: Option<String>,
}

/// Result of an attempt, as reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The scout's findings.
    Explored {
        /// Notes for the manager, or for the step that asked.
        notes: String,
    },
    /// The manager's tasks.
    Planned {
        /// The tasks in plan order.
        tasks: Vec<TaskSpec>,
    },
    /// The dev's work, committed by Skep from the worktree. An empty diff is reported too, and refused.
    Developed {
        /// The commit; the order's head if nothing changed.
        head: Sha,
        /// The diff from the order's head.
        diff: DiffStat,
        /// The engine's own summary.
        summary: String,
    },
    /// The reviewer's verdict on exactly `head`.
    Reviewed {
        /// The commit reviewed.
        head: Sha,
        /// The verdict.
        verdict: Verdict,
        /// The findings.
        findings: Vec<Finding>,
        /// A sentence or two.
        summary: String,
        /// The verdicts on acceptance criteria.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        criteria: Vec<CriterionVerdict>,
    },
    /// The attempt needs an answer before the step can continue.
    Asked {
        /// The question.
        question: String,
        /// Who should answer.
        #[serde(default)]
        to: AskedTo,
    },
    /// The attempt failed: a fact about the work or the engine.
    Failed {
        /// The reason.
        why: String,
    },
    /// The reservation did not suffice for the next call. If an almost exhausted budget had cut it, more is requested
    /// and the try does not count; if it was the step's own limit, the attempt failed.
    BudgetExhausted {
        /// The part of the reservation that is used up.
        budget: BudgetKind,
        /// The reason.
        why: String,
        /// The unfinished work of a dev, committed by Skep from the worktree; `None` = nothing changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unfinished: Option<Sha>,
    },
    /// The engine is unavailable: quota, outage, a key or model that does not work. This says nothing about the work
    /// and costs no try.
    Unavailable {
        /// What happened, and to which engine.
        why: String,
        /// When the engine is available again, if known.
        until: Option<Timestamp>,
        /// What a person has to do first; `None` = waiting helps.
        fix: Option<String>,
    },
    /// The attempt is gone: a panic, a dead actor. Its metered usage is charged, else its whole reservation.
    Lost {
        /// What is known.
        why: String,
    },
    /// The attempt's session could not be resumed after its process was gone. The attempt is lost with that process.
    NotResumed {
        /// The reason.
        why: String,
    },
    /// The attempt was stopped.
    Stopped,
}

impl Report {
    /// Returns the name used in spans.
    pub fn name(&self) -> &'static str {
        match self {
            Report::Explored { .. } => "explored",
            Report::Planned { .. } => "planned",
            Report::Developed { .. } => "developed",
            Report::Reviewed { .. } => "reviewed",
            Report::Asked { .. } => "asked",
            Report::Failed { .. } => "failed",
            Report::BudgetExhausted { .. } => "budget_exhausted",
            Report::Unavailable { .. } => "unavailable",
            Report::Lost { .. } => "lost",
            Report::NotResumed { .. } => "not_resumed",
            Report::Stopped => "stopped",
        }
    }
}

/// The addressee of an attempt's question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedTo {
    /// A person: something has to be decided.
    #[default]
    Person,
    /// The scout: the answer has to be found in the repository. The question goes to a person if there is no scout or
    /// it finds nothing.
    Scout,
}

/// A reviewer's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The change may proceed.
    Approve,
    /// The findings must be addressed first.
    Rework,
}

/// A reviewer's verdict on one acceptance criterion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CriterionVerdict {
    /// The criterion's id.
    pub id: String,
    /// Whether it is met.
    pub met: bool,
    /// The reason: where it can be seen, or what is missing.
    #[serde(default)]
    pub why: String,
}

/// One finding of a review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file; empty = the change as a whole.
    #[serde(default)]
    pub path: String,
    /// The line, from 1; 0 = the file as a whole.
    #[serde(default)]
    pub line: u64,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.path.as_str(), self.line) {
            ("", _) => write!(f, "{}", self.text),
            (path, 0) => write!(f, "{path}: {}", self.text),
            (path, line) => write!(f, "{path}:{line}: {}", self.text),
        }
    }
}

impl Finding {
    /// Upper bound on the findings of one report.
    pub const MAX: usize = 50;
}
