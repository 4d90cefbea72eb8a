//! Recurring failures: what they have in common, what to change about them, and whether a change helped.
//!
//! | file | duty |
//! |---|---|
//! | `line`, `mask` | the line of an output that says what failed, without what differs from run to run |
//! | `record` | the ends of steps in a run's journal, each with the signatures of its failures |
//! | `symptom` | signatures that recur, and the threshold above which one is proposed |
//! | `rule` | heuristics: what a signature means, and what to change |
//! | `proposal` | a proposal, its states, and the measurement of its effect |
//! | `fisher` | Fisher's exact test |
//!
//! Invariant: a failure's text leaves this module only as a masked line of at most [`mask::MAX_CHARS`] characters.

pub mod fisher;
pub mod line;
pub mod mask;
pub mod proposal;
pub mod record;
pub mod rule;
pub mod symptom;

pub use proposal::{Measurement, Proposal, ProposalState, Rate};
pub use record::{RunRecord, StepEnd};
pub use rule::{ChangeKind, Rule, RuleMatch};
pub use symptom::{Symptom, Threshold, symptoms};

use serde::{Deserialize, Serialize};

/// What failures have in common: two failures with the same signature are the same problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signature {
    /// The step: `explore`, `plan`, `develop`, `review`, `check` (at the base or the head), `ci` or `ops`.
    pub step: String,
    /// How it ended: `failed`, `refused`, `red`, `timeout`, `network`, `exhausted_turns`, …
    pub ending: String,
    /// The check, CI job or engine.
    pub tool: String,
    /// The masked line that says what failed.
    pub line: String,
}

impl Signature {
    /// Returns a signature. Texts from outside are masked and shortened.
    pub fn new(step: &str, ending: impl Into<String>, tool: &str, line: &str) -> Signature {
        Signature {
            step: step.to_owned(),
            ending: ending.into(),
            tool: tool.chars().filter(|c| !c.is_control()).take(Self::MAX_TOOL_CHARS).collect(),
            line: mask::mask(line),
        }
    }

    /// Upper bound on the characters of `tool`.
    pub const MAX_TOOL_CHARS: usize = 80;

    /// Returns the text that identifies it.
    pub fn text(&self) -> String {
        format!("{} | {} | {} | {}", self.step, self.ending, self.tool, self.line)
    }
}

/// How recurring failures are found and proposed.
#[derive(Clone, Debug, PartialEq)]
pub struct ImproveSettings {
    /// How far back a pass reads, in milliseconds.
    pub window_ms: i64,
    /// When a symptom is proposed.
    pub threshold: Threshold,
    /// Maximum number of open proposals, and of new ones in a pass.
    pub most: u32,
    /// The rules; the first that matches applies.
    pub rules: Vec<Rule>,
}

impl Default for ImproveSettings {
    fn default() -> Self {
        Self { window_ms: 14 * 24 * 3_600_000, threshold: Threshold::default(), most: 3, rules: Vec::new() }
    }
}
